package health

import (
	"context"
	"runtime"
	"sync"
)

// budget is how many bytes of matrices are in work at once. What needs more alone is worked
// on alone.
const budget = 256 << 20

// each calls do for 0 … n−1 from as many goroutines as there are processors, while what the
// calls need together fits the budget, and returns the error of the first that fails.
func each(ctx context.Context, n int, budget int64, need func(i int) int64, do func(i int) error) error {
	var (
		mu       sync.Mutex
		freed    = sync.NewCond(&mu)
		used     int64
		next     int
		failedAt = n
		failed   error
		wg       sync.WaitGroup
	)
	take := func() (i int, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		for {
			if next >= n || failed != nil || ctx.Err() != nil {
				return 0, false
			}
			if want := need(next); used == 0 || used+want <= budget {
				used += want
				next++
				return next - 1, true
			}
			freed.Wait()
		}
	}
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				err := do(i)
				mu.Lock()
				used -= need(i)
				if err != nil && i < failedAt {
					failedAt, failed = i, err
				}
				freed.Broadcast()
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if failed == nil {
		return ctx.Err()
	}
	return failed
}

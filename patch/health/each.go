package health

import (
	"context"
	"runtime"
	"sync"

	"github.com/seed-b982eded/graft/internal/budget"
)

// factorBudget is how many bytes of factors are in work at once. A module that needs more
// alone is worked on alone.
const factorBudget = 256 << 20

// each calls do for 0 … n−1 from as many goroutines as there are processors, while what the
// calls need together is within a total, and returns the error of the first that fails.
func each(ctx context.Context, n int, total int64, need func(i int) int64, do func(i int) error) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	next, failedAt := 0, n
	var failed error
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next >= n || failed != nil || ctx.Err() != nil {
			return 0, false
		}
		next++
		return next - 1, true
	}
	b := budget.New(total)
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				b.Take(need(i))
				err := do(i)
				b.Give(need(i))
				if err != nil {
					mu.Lock()
					if i < failedAt {
						failedAt, failed = i, err
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if failed == nil {
		return ctx.Err()
	}
	return failed
}

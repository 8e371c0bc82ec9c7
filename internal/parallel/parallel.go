// Package parallel does many things at once, and no more of them than there is room for.
package parallel

import (
	"context"
	"runtime"
	"sync"
)

// Each calls do for 0 … n−1 from several goroutines, as many as there are processors where
// workers is 0, and returns the error of the first of those that fail. What has begun when one
// fails is brought to its end.
func Each(ctx context.Context, n, workers int, do func(i int) error) error {
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
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
	for range min(workers, n) {
		wg.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				if err := do(i); err != nil {
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

// Within is [Each] for calls that need memory: those in work need no more than a total
// together. A call that needs more alone is made alone.
func Within(ctx context.Context, n int, total int64, need func(i int) int64, do func(i int) error) error {
	room := newRoom(total)
	return Each(ctx, n, 0, func(i int) error {
		bytes := need(i)
		room.take(bytes)
		defer room.give(bytes)
		return do(i)
	})
}

// room is an amount of something that is lent.
type room struct {
	total int64

	mu    sync.Mutex
	given sync.Cond
	used  int64
}

func newRoom(total int64) *room {
	r := &room{total: total}
	r.given.L = &r.mu
	return r
}

// take waits until n fits, or nobody else has any.
func (r *room) take(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.used > 0 && r.used+n > r.total {
		r.given.Wait()
	}
	r.used += n
}

func (r *room) give(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= n
	r.given.Broadcast()
}

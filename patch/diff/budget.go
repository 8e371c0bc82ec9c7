package diff

import "sync"

// budget bounds what is in use at once. Who needs more than all of it waits for everybody
// else.
type budget struct {
	total int64

	mu    sync.Mutex
	given sync.Cond
	used  int64
}

func newBudget(total int64) *budget {
	b := &budget{total: total}
	b.given.L = &b.mu
	return b
}

func (b *budget) take(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.used > 0 && b.used+n > b.total {
		b.given.Wait()
	}
	b.used += n
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	b.given.Broadcast()
}

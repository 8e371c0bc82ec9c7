// Package budget bounds what several goroutines hold at once, such as memory.
package budget

import "sync"

// Budget is an amount of something that is lent. Who needs more than all of it waits for
// everybody else, and has it alone.
type Budget struct {
	total int64

	mu    sync.Mutex
	given sync.Cond
	used  int64
}

// New returns a budget of a total amount.
func New(total int64) *Budget {
	b := &Budget{total: total}
	b.given.L = &b.mu
	return b
}

// Take waits until n fits. A goroutine that holds some must not take more.
func (b *Budget) Take(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.used > 0 && b.used+n > b.total {
		b.given.Wait()
	}
	b.used += n
}

// Give returns what was taken.
func (b *Budget) Give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	b.given.Broadcast()
}

package publish

import (
	"context"
	"sync"

	"github.com/seed-b982eded/graft/formats"
)

// block is a piece of work: a literal to write, a range of a tensor to make, or a range of
// a file to copy.
type block struct {
	literal []byte
	tensor  formats.Tensor // of a copy only where it takes bytes of no other
	off, n  int64          // in the tensor, or for a copy in src
	dst     int64          // in the file
	src     formats.SourceFile
}

// pool has a buffer for each worker: who has taken one may work on a block. Files that are
// written at the same time share it, and it outlives each of them.
type pool chan []byte

func newPool(workers int) pool {
	p := make(pool, workers)
	for range workers {
		p <- nil
	}
	return p
}

// inParallel lets workers do the blocks that produce sends. do gets a buffer that it may
// use, and returns it or a larger one. After a failure no more blocks are sent; of several
// the one of the earliest block is returned.
func inParallel(ctx context.Context, workers pool, produce func(ctx context.Context, send func(block) error) error, do func(b block, buf []byte) ([]byte, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var first firstError
	var wg sync.WaitGroup
	n := 0
	err := produce(ctx, func(b block) error {
		var buf []byte
		select {
		case buf = <-workers:
		case <-ctx.Done():
			return ctx.Err()
		}
		number := n
		n++
		wg.Go(func() {
			buf, err := do(b, buf)
			workers <- buf
			if err != nil {
				first.set(number, err)
				cancel()
			}
		})
		return nil
	})
	wg.Wait()
	if first.err != nil {
		return first.err
	}
	return err
}

// firstError keeps the error of the earliest block. Blocks are handed out in order,
// so every earlier one has been handed out and will report.
type firstError struct {
	mu  sync.Mutex
	n   int
	err error
}

func (e *firstError) set(n int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil || n < e.n {
		e.n, e.err = n, err
	}
}

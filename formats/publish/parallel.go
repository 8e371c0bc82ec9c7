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

type numbered struct {
	n int
	block
}

// inParallel lets workers do the blocks that produce sends. do gets the buffer that it
// returned for the worker's block before. After a failure no more blocks are sent; of
// several the one of the earliest block is returned.
func inParallel(ctx context.Context, workers int, produce func(ctx context.Context, send func(block) error) error, do func(b block, buf []byte) ([]byte, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work := make(chan numbered)
	var first firstError
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			var buf []byte
			for b := range work {
				var err error
				if buf, err = do(b.block, buf); err != nil {
					first.set(b.n, err)
					cancel()
				}
			}
		})
	}
	n := 0
	err := produce(ctx, func(b block) error {
		select {
		case work <- numbered{n, b}:
			n++
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	close(work)
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

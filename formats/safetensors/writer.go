package safetensors

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/filecopy"
)

// WriteOptions of [Write]. The zero value is good.
type WriteOptions struct {
	// Workers is how many blocks are made at once; GOMAXPROCS when 0.
	Workers int
	// BlockBytes is the most that one worker holds of a tensor that has to be made,
	// unless the tensor's grain is larger; 2 MiB when 0.
	BlockBytes int64
	// Progress, if set, is called with the bytes written since the last call, from
	// several goroutines.
	Progress func(n int64)
	// Observe, if set, is called with every block of every tensor that does not lie in
	// a file already, after it was written, from several goroutines. block is only
	// valid during the call. An error stops the writing.
	Observe func(t formats.Tensor, off int64, block []byte) error
}

const (
	defaultBlock = 2 << 20  // stays in the second-level cache of two workers
	copySpan     = 32 << 20 // how much one file-to-file copy takes before others get a turn
)

// Write streams a shard into the file at path, which is created or overwritten: it
// should lie in a staging place. Bytes that lie in a file are copied file to file;
// others are made block by block on all workers. Memory is workers × block, whatever
// the tensors' sizes. The file's content does not depend on the options.
//
// Failures of the destination are [formats.ErrOutput], of a source
// [formats.ErrInput] unless the source says otherwise. Of several failures the one
// that comes first in the file is returned.
func Write(ctx context.Context, path string, s formats.Shard, opts WriteOptions) error {
	if opts.Workers <= 0 {
		opts.Workers = runtime.GOMAXPROCS(0)
	}
	if opts.BlockBytes <= 0 {
		opts.BlockBytes = defaultBlock
	}
	head, err := encodeHeader(s)
	if err != nil {
		return formats.Outputf(path, err, "")
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o666)
	if err != nil {
		return formats.Outputf(path, pathCause(err), "")
	}
	w := &writer{f: f, path: path, opts: opts}
	err = w.run(ctx, head, s)
	if err2 := f.Close(); err == nil && err2 != nil {
		err = formats.Outputf(path, pathCause(err2), "")
	}
	return err
}

type writer struct {
	f    *os.File
	path string
	opts WriteOptions
}

// block is a piece of work: a range of a tensor to make, or a range of a file to copy.
type block struct {
	tensor formats.Tensor // of a copy only where it takes bytes of no other
	off, n int64          // in the tensor, or for a copy in src
	dst    int64          // in the file
	src    *os.File
}

func (w *writer) run(ctx context.Context, head []byte, s formats.Shard) error {
	total := int64(len(head)) + s.Size()
	if err := w.f.Truncate(total); err != nil {
		return formats.Outputf(w.path, pathCause(err), "")
	}
	if _, err := w.f.WriteAt(head, 0); err != nil {
		return formats.Outputf(w.path, pathCause(err), "")
	}
	w.progress(int64(len(head)))

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work := make(chan numbered)
	var first firstError
	var wg sync.WaitGroup
	for range w.opts.Workers {
		wg.Go(func() {
			var buf []byte
			for b := range work {
				var err error
				if buf, err = w.do(b.block, buf); err != nil {
					first.set(b.n, err)
					cancel()
				}
			}
		})
	}
	err := w.blocks(ctx, int64(len(head)), s, work)
	close(work)
	wg.Wait()
	if first.err != nil {
		return first.err
	}
	if err != nil {
		return err
	}
	info, err := w.f.Stat()
	if err != nil {
		return formats.Outputf(w.path, pathCause(err), "")
	}
	if info.Size() != total {
		return formats.Outputf(w.path, nil, "wrong length (got %d bytes, want %d)", info.Size(), total)
	}
	return nil
}

type numbered struct {
	n int
	block
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

// blocks cuts the shard into blocks and sends them in order of their place in the
// file, preparing each tensor before its first block.
func (w *writer) blocks(ctx context.Context, dst int64, s formats.Shard, work chan<- numbered) error {
	n := 0
	var pending block // a copy that the next tensor may extend
	send := func(b block) error {
		select {
		case work <- numbered{n, b}:
			n++
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	flush := func() error {
		for pending.n > 0 {
			b := pending
			b.n = min(b.n, copySpan)
			if err := send(b); err != nil {
				return err
			}
			pending.off, pending.dst, pending.n = pending.off+b.n, pending.dst+b.n, pending.n-b.n
		}
		return nil
	}
	for _, t := range s.Tensors {
		size := t.Size()
		if r, ok := t.Data.(formats.FileRanger); ok {
			if src, off, length, ok := r.FileRange(); ok && length == size {
				goesOn := pending.src == src && pending.off+pending.n == off && pending.dst+pending.n == dst && pending.n < copySpan
				if !goesOn {
					if err := flush(); err != nil {
						return err
					}
					pending = block{tensor: t, src: src, off: off, dst: dst}
				} else if size > 0 {
					pending.tensor = formats.Tensor{} // a failure may be in any of several
				}
				pending.n += size
				dst += size
				continue
			}
		}
		if err := flush(); err != nil {
			return err
		}
		if p, ok := t.Data.(formats.Preparer); ok {
			if err := p.Prepare(ctx); err != nil {
				return sourceError(t, err)
			}
		}
		step := formats.BlockStep(t, w.opts.BlockBytes)
		for off := int64(0); off < size; off += step {
			b := block{tensor: t, off: off, n: min(step, size-off), dst: dst + off}
			if err := send(b); err != nil {
				return err
			}
		}
		dst += size
	}
	return flush()
}

// do makes or copies one block, and returns the buffer for the next.
func (w *writer) do(b block, buf []byte) ([]byte, error) {
	need := b.n
	if b.src != nil { // where the kernel does not copy: in pieces, of any size
		need = min(w.opts.BlockBytes, defaultBlock)
	}
	if int64(len(buf)) < need {
		buf = make([]byte, need)
	}
	if b.src != nil {
		err := filecopy.Range(w.f, b.dst, b.src, b.off, b.n, buf)
		var read *filecopy.ReadError
		if errors.As(err, &read) {
			return buf, &formats.Error{Class: formats.ErrInput, File: b.src.Name(), Tensor: b.tensor.Name, Err: pathCause(read.Err)}
		}
		if err != nil {
			return buf, formats.Outputf(w.path, pathCause(err), "")
		}
		w.progress(b.n)
		return buf, nil
	}
	p := buf[:b.n]
	if err := formats.ReadFullAt(b.tensor.Data, p, b.off); err != nil {
		return buf, sourceError(b.tensor, err)
	}
	if _, err := w.f.WriteAt(p, b.dst); err != nil {
		return buf, formats.Outputf(w.path, pathCause(err), "")
	}
	if w.opts.Observe != nil {
		if err := w.opts.Observe(b.tensor, b.off, p); err != nil {
			return buf, err
		}
	}
	w.progress(b.n)
	return buf, nil
}

func (w *writer) progress(n int64) {
	if w.opts.Progress != nil {
		w.opts.Progress(n)
	}
}

// sourceError makes a failed read of a tensor an error that names it.
func sourceError(t formats.Tensor, err error) error {
	var e *formats.Error
	if errors.As(err, &e) || errors.Is(err, context.Canceled) {
		return err
	}
	return &formats.Error{Class: formats.ErrInput, Tensor: t.Name, Detail: "reading", Err: fmt.Errorf("%w", pathCause(err))}
}

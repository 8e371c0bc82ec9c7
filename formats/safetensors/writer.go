package safetensors

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
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

func (o WriteOptions) withDefaults() WriteOptions {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.BlockBytes <= 0 {
		o.BlockBytes = defaultBlock
	}
	return o
}

// Write streams a shard into the file at path, which is created or overwritten: it
// should lie in a staging place. Bytes that lie in a file are copied file to file;
// others are made block by block on all workers. Memory is workers × block, whatever
// the tensors' sizes. The file's content does not depend on the options.
//
// Failures of the destination are [formats.ErrOutput], of a source
// [formats.ErrInput] unless the source says otherwise. Of several failures the one
// that comes first in the file is returned.
func Write(ctx context.Context, path string, s formats.Shard, opts WriteOptions) error {
	opts = opts.withDefaults()
	head, err := encodeHeader(s)
	if err != nil {
		return formats.Outputf(path, err, "")
	}
	f, err := fault.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR)
	if err != nil {
		return formats.Outputf(path, pathCause(err), "")
	}
	w := &writer{f: f, path: path, opts: opts}
	err = w.run(ctx, head, s)
	if err2 := fault.Close(f); err == nil && err2 != nil {
		err = formats.Outputf(path, pathCause(err2), "")
	}
	return err
}

type writer struct {
	f    *os.File
	path string
	opts WriteOptions
}

func (w *writer) run(ctx context.Context, head []byte, s formats.Shard) error {
	total := int64(len(head)) + s.Size()
	if err := fault.Truncate(w.f, total); err != nil {
		return formats.Outputf(w.path, pathCause(err), "")
	}
	if _, err := fault.WriteAt(w.f, head, 0); err != nil {
		return formats.Outputf(w.path, pathCause(err), "")
	}
	w.progress(int64(len(head)))
	err := inParallel(ctx, w.opts.Workers, func(ctx context.Context, send func(block) error) error {
		return w.blocks(ctx, int64(len(head)), s, send)
	}, w.do)
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

// blocks cuts the shard into blocks and sends them in order of their place in the
// file, preparing each tensor before its first block.
func (w *writer) blocks(ctx context.Context, dst int64, s formats.Shard, send func(block) error) error {
	var pending block // a copy that the next tensor may extend
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
		if src, off, ok := inFile(t); ok {
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
		if err := flush(); err != nil {
			return err
		}
		if p, ok := t.Data.(formats.Preparer); ok {
			if err := p.Prepare(ctx); err != nil {
				return sourceError(t, err)
			}
		}
		if err := w.cut(t, dst, send); err != nil {
			return err
		}
		dst += size
	}
	return flush()
}

// cut sends the blocks of a tensor that has to be made.
func (w *writer) cut(t formats.Tensor, dst int64, send func(block) error) error {
	size := t.Size()
	step := formats.BlockStep(t, w.opts.BlockBytes)
	for off := int64(0); off < size; off += step {
		if err := send(block{tensor: t, off: off, n: min(step, size-off), dst: dst + off}); err != nil {
			return err
		}
	}
	return nil
}

// inFile returns where a tensor's bytes lie in a file as they are.
func inFile(t formats.Tensor) (src formats.SourceFile, off int64, ok bool) {
	r, ok := t.Data.(formats.FileRanger)
	if !ok {
		return nil, 0, false
	}
	src, off, n, ok := r.FileRange()
	return src, off, ok && n == t.Size()
}

// do makes or copies one block, and returns the buffer for the next.
func (w *writer) do(b block, buf []byte) ([]byte, error) {
	need := b.n
	if b.src != nil { // where the kernel does not copy: in pieces, of any size
		need = min(b.n, w.opts.BlockBytes, defaultBlock)
	}
	if int64(len(buf)) < need {
		buf = make([]byte, need)
	}
	if b.src != nil {
		if err := w.copy(b, buf); err != nil {
			return buf, err
		}
		w.progress(b.n)
		return buf, nil
	}
	p := buf[:b.n]
	if err := formats.ReadFullAt(b.tensor.Data, p, b.off); err != nil {
		return buf, sourceError(b.tensor, err)
	}
	if _, err := fault.WriteAt(w.f, p, b.dst); err != nil {
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

func (w *writer) copy(b block, buf []byte) error {
	return b.src.Use(func(src *os.File) error {
		err := filecopy.Range(w.f, b.dst, src, b.off, b.n, buf)
		var read *filecopy.ReadError
		switch {
		case errors.As(err, &read):
			return readError(b.src.Name(), b.tensor.Name, read.Err)
		case err != nil:
			return formats.Outputf(w.path, pathCause(err), "")
		}
		return nil
	})
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

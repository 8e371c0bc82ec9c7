package publish

import (
	"context"
	"errors"
	"os"
	"runtime"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
	"github.com/seed-b982eded/graft/internal/filecopy"
)

// Part is a run of bytes of a file: a literal or a tensor's data, never both. A range of
// an input file that is no tensor is a part too: a tensor of U8 whose data is the range.
type Part struct {
	Literal []byte
	Tensor  formats.Tensor // of a literal its Data is nil
}

// Size returns the bytes of the part.
func (p Part) Size() int64 {
	if p.Tensor.Data == nil {
		return int64(len(p.Literal))
	}
	return p.Tensor.Size()
}

// BlockOptions say how the bytes of a file are made. The zero value is good.
type BlockOptions struct {
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

	pool pool
}

const (
	defaultBlock = 2 << 20  // stays in the second-level cache of two workers
	copySpan     = 32 << 20 // how much one file-to-file copy takes before others get a turn
)

func (o BlockOptions) withDefaults() BlockOptions {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.BlockBytes <= 0 {
		o.BlockBytes = defaultBlock
	}
	if o.pool == nil {
		o.pool = newPool(o.Workers)
	}
	return o
}

// WriteFile streams parts into the file at path, which is created or overwritten: it
// should lie in a staging place. Bytes that lie in a file are copied file to file;
// others are made block by block on all workers. Memory is workers × block, whatever
// the tensors' sizes. The file's content does not depend on the options.
//
// Failures of the destination are [formats.ErrOutput], of a source
// [formats.ErrInput] unless the source says otherwise. Of several failures the one
// that comes first in the file is returned.
func WriteFile(ctx context.Context, path string, parts []Part, opts BlockOptions) error {
	return writeFile(ctx, path, os.O_TRUNC, parts, opts)
}

// writeFile is WriteFile with os.O_TRUNC or os.O_EXCL for a file that exists.
func writeFile(ctx context.Context, path string, flag int, parts []Part, opts BlockOptions) error {
	f, err := fault.OpenFile(path, os.O_CREATE|flag|os.O_RDWR)
	if err != nil {
		return formats.Outputf(path, formats.Cause(err), "")
	}
	w := &fileWriter{f: f, path: path, opts: opts.withDefaults()}
	err = w.run(ctx, parts)
	if err2 := fault.Close(f); err == nil && err2 != nil {
		err = formats.Outputf(path, formats.Cause(err2), "")
	}
	return err
}

// sizeOf returns the bytes of all parts.
func sizeOf(parts []Part) (n int64) {
	for _, p := range parts {
		n += p.Size()
	}
	return n
}

// fileWriter is a file being written or read back.
type fileWriter struct {
	f    *os.File
	path string
	opts BlockOptions
}

func (w *fileWriter) run(ctx context.Context, parts []Part) error {
	total := sizeOf(parts)
	if err := fault.Truncate(w.f, total); err != nil {
		return formats.Outputf(w.path, formats.Cause(err), "")
	}
	err := inParallel(ctx, w.opts.pool, func(ctx context.Context, send func(block) error) error {
		return w.blocks(ctx, parts, send)
	}, w.do)
	if err != nil {
		return err
	}
	info, err := w.f.Stat()
	if err != nil {
		return formats.Outputf(w.path, formats.Cause(err), "")
	}
	if info.Size() != total {
		return formats.Outputf(w.path, nil, "wrong length (got %d bytes, want %d)", info.Size(), total)
	}
	return nil
}

// blocks cuts the parts into blocks and sends them in order of their place in the file,
// preparing each tensor before its first block.
func (w *fileWriter) blocks(ctx context.Context, parts []Part, send func(block) error) error {
	var dst int64
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
	for _, p := range parts {
		t, size := p.Tensor, p.Size()
		if src, off, ok := inFile(p); ok {
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
		if err := w.make(ctx, p, dst, send); err != nil {
			return err
		}
		dst += size
	}
	return flush()
}

// make sends the blocks of a part that does not lie in a file.
func (w *fileWriter) make(ctx context.Context, p Part, dst int64, send func(block) error) error {
	if p.Tensor.Data == nil {
		if len(p.Literal) == 0 {
			return nil
		}
		return send(block{literal: p.Literal, dst: dst})
	}
	if x, ok := p.Tensor.Data.(formats.Preparer); ok {
		if err := x.Prepare(ctx); err != nil {
			return sourceError(p.Tensor, err)
		}
	}
	return w.cut(p.Tensor, dst, send)
}

// cut sends the blocks of a tensor that has to be made.
func (w *fileWriter) cut(t formats.Tensor, dst int64, send func(block) error) error {
	size := t.Size()
	step := formats.BlockStep(t, w.opts.BlockBytes)
	for off := int64(0); off < size; off += step {
		if err := send(block{tensor: t, off: off, n: min(step, size-off), dst: dst + off}); err != nil {
			return err
		}
	}
	return nil
}

// inFile returns where a part's bytes lie in a file as they are.
func inFile(p Part) (src formats.SourceFile, off int64, ok bool) {
	r, ok := p.Tensor.Data.(formats.FileRanger)
	if !ok {
		return nil, 0, false
	}
	src, off, n, ok := r.FileRange()
	return src, off, ok && n == p.Tensor.Size()
}

// do writes, makes or copies one block, and returns the buffer for the next.
func (w *fileWriter) do(b block, buf []byte) ([]byte, error) {
	if b.literal != nil {
		if _, err := fault.WriteAt(w.f, b.literal, b.dst); err != nil {
			return buf, formats.Outputf(w.path, formats.Cause(err), "")
		}
		w.progress(int64(len(b.literal)))
		return buf, nil
	}
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
		return buf, formats.Outputf(w.path, formats.Cause(err), "")
	}
	if w.opts.Observe != nil {
		if err := w.opts.Observe(b.tensor, b.off, p); err != nil {
			return buf, err
		}
	}
	w.progress(b.n)
	return buf, nil
}

func (w *fileWriter) copy(b block, buf []byte) error {
	return b.src.Use(func(src *os.File) error {
		err := filecopy.Range(w.f, b.dst, src, b.off, b.n, buf)
		var read *filecopy.ReadError
		switch {
		case errors.As(err, &read):
			return formats.ReadError(b.src.Name(), b.tensor.Name, read.Err)
		case err != nil:
			return formats.Outputf(w.path, formats.Cause(err), "")
		}
		return nil
	})
}

func (w *fileWriter) progress(n int64) {
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
	return &formats.Error{Class: formats.ErrInput, Tensor: t.Name, Detail: "reading", Err: formats.Cause(err)}
}

package publish

import (
	"context"
	"os"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
)

// Replay calls Observe with the blocks with which [WriteFile] called it, read from the
// file at path that WriteFile made of parts before. The tensors' own data is not read.
// Progress is not called. Failures to read are [formats.ErrOutput], as the file is one's
// own.
func Replay(ctx context.Context, path string, parts []Part, opts BlockOptions) error {
	if opts.Observe == nil {
		return nil
	}
	f, err := fault.Open(path)
	if err != nil {
		return formats.Outputf(path, formats.Cause(err), "")
	}
	defer f.Close()
	w := &fileWriter{f: f, path: path, opts: opts.withDefaults()}
	return inParallel(ctx, w.opts.pool, func(_ context.Context, send func(block) error) error {
		var dst int64
		for _, p := range parts {
			if _, _, ok := inFile(p); !ok && p.Tensor.Data != nil {
				if err := w.cut(p.Tensor, dst, send); err != nil {
					return err
				}
			}
			dst += p.Size()
		}
		return nil
	}, w.show)
}

// show reads a block back and shows it to Observe.
func (w *fileWriter) show(b block, buf []byte) ([]byte, error) {
	if int64(len(buf)) < b.n {
		buf = make([]byte, b.n)
	}
	p := buf[:b.n]
	if err := formats.ReadFullAt(own{w.f}, p, b.dst); err != nil {
		return buf, formats.Outputf(w.path, formats.Cause(err), "reading it back")
	}
	return buf, w.opts.Observe(b.tensor, b.off, p)
}

// own is a file of the output that is read where a test may let that fail.
type own struct{ *os.File }

func (f own) ReadAt(p []byte, off int64) (int, error) { return fault.ReadAt(f.File, p, off) }

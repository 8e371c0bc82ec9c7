package safetensors

import (
	"context"
	"os"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
)

// Replay calls Observe with the blocks with which [Write] called it, read from the file
// at path that Write made of s before. The tensors' own data is not read. Progress is
// not called. Failures to read are [formats.ErrOutput], as the file is one's own.
func Replay(ctx context.Context, path string, s formats.Shard, opts WriteOptions) error {
	if opts.Observe == nil {
		return nil
	}
	opts = opts.withDefaults()
	head, err := encodeHeader(s)
	if err != nil {
		return formats.Outputf(path, err, "")
	}
	f, err := fault.Open(path)
	if err != nil {
		return formats.Outputf(path, pathCause(err), "")
	}
	defer f.Close()
	w := &writer{f: f, path: path, opts: opts}
	return inParallel(ctx, opts.Workers, func(_ context.Context, send func(block) error) error {
		dst := int64(len(head))
		for _, t := range s.Tensors {
			if _, _, ok := inFile(t); !ok {
				if err := w.cut(t, dst, send); err != nil {
					return err
				}
			}
			dst += t.Size()
		}
		return nil
	}, w.show)
}

// show reads a block back and shows it to Observe.
func (w *writer) show(b block, buf []byte) ([]byte, error) {
	if int64(len(buf)) < b.n {
		buf = make([]byte, b.n)
	}
	p := buf[:b.n]
	if err := formats.ReadFullAt(reader{w.f}, p, b.dst); err != nil {
		return buf, formats.Outputf(w.path, pathCause(err), "reading it back")
	}
	return buf, w.opts.Observe(b.tensor, b.off, p)
}

// reader reads from a file where a test may let that fail.
type reader struct{ *os.File }

func (r reader) ReadAt(p []byte, off int64) (int, error) { return fault.ReadAt(r.File, p, off) }

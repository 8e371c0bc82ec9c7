package patch

import (
	"io"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch/kernel"
)

// cast is a tensor's data in another float type, rounded once.
type cast struct {
	src  formats.Tensor
	to   formats.DType
	path string
}

// newCast returns data of value as dtype; value's own where that is its dtype, so that
// it is copied as it lies.
func newCast(value formats.Tensor, to formats.DType, path string) io.ReaderAt {
	if value.DType == to {
		return value.Data
	}
	return &cast{value, to, path}
}

// Grain implements [formats.Grainer]: an element can be made alone.
func (c *cast) Grain() (rows, cols int64) { return 1, 1 }

func (c *cast) ReadAt(p []byte, off int64) (int, error) {
	size := c.to.Bits() / 8
	total := c.src.Elements() * size
	if off < 0 || off >= total {
		return 0, io.EOF
	}
	want := len(p)
	if left := total - off; int64(want) > left {
		p = p[:left]
	}
	first, last := off/size, (off+int64(len(p))-1)/size
	v := make([]float64, last-first+1)
	if _, err := decode(v, c.src, first, nil); err != nil {
		return 0, &formats.Error{Class: formats.ErrInput, File: c.path, Tensor: c.src.Name, Err: err}
	}
	raw := make([]byte, int64(len(v))*size)
	if c.to == formats.F64 {
		formats.EncodeFloat64(raw, v)
	} else {
		// float32 holds F16 and BF16 exactly, and an F64 source rounds to odd on the way so
		// that it is rounded once in effect.
		narrow := make([]float32, len(v))
		for i, x := range v {
			narrow[i] = kernel.RoundOdd32(x, c.to)
		}
		formats.EncodeFloat32(raw, narrow, c.to)
	}
	copy(p, raw[off-first*size:])
	if len(p) < want {
		return len(p), io.EOF
	}
	return len(p), nil
}

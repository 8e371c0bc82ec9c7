package patch

import (
	"io"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch/kernel"
)

// merged is the data of a target: rows are computed when they are read.
type merged struct {
	t     *Target
	start formats.Tensor // what is added to
	cache *factorCache
	cols  int64
	size  int64 // of an element, in bytes
	total int64
}

func newMerged(t *Target, cache *factorCache) *merged {
	_, cols := t.Tensor.Matrix()
	return &merged{t: t, start: t.start(), cache: cache, cols: cols, size: t.Tensor.DType.Bits() / 8, total: t.Tensor.Size()}
}

// Grain implements [formats.Grainer]: rows are made whole.
func (m *merged) Grain() (rows, cols int64) { return 1, m.cols }

// ReadAt computes the rows that the range touches.
func (m *merged) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= m.total {
		return 0, io.EOF
	}
	want := len(p)
	if left := m.total - off; int64(want) > left {
		p = p[:left]
	}
	rowBytes := m.cols * m.size
	first, last := off/rowBytes, (off+int64(len(p))-1)/rowBytes
	if off == first*rowBytes && int64(len(p)) == (last-first+1)*rowBytes {
		if err := m.rows(p, first, last-first+1); err != nil {
			return 0, err
		}
	} else {
		buf := make([]byte, (last-first+1)*rowBytes)
		if err := m.rows(buf, first, last-first+1); err != nil {
			return 0, err
		}
		copy(p, buf[off-first*rowBytes:])
	}
	if len(p) < want {
		return len(p), io.EOF
	}
	return len(p), nil
}

// rows computes whole rows into p.
func (m *merged) rows(p []byte, row, n int64) error {
	base := m.start
	if err := formats.ReadFullAt(base.Data, p, row*m.cols*m.size); err != nil {
		return &formats.Error{Class: formats.ErrInput, Tensor: base.Name, Detail: "reading the base", Err: err}
	}
	bad, err := m.merge(p, row, n)
	if err != nil || bad < 0 {
		return err
	}
	return m.notFinite(row+int64(bad)/m.cols, int64(bad)%m.cols)
}

func (m *merged) merge(p []byte, row, n int64) (bad int, err error) {
	if m.t.Tensor.DType == formats.F64 {
		updates := make([]kernel.Update64, 0, len(m.t.parts))
		for _, part := range m.t.parts {
			l, r, err := factors[float64](m.cache, part, row, n)
			if err != nil {
				return -1, err
			}
			updates = append(updates, kernel.Update64{Left: l, Right: r, R: int(part.rank()), Scale: part.scale})
		}
		return kernel.Merge64(p, p, int(m.cols), updates), nil
	}
	updates := make([]kernel.Update32, 0, len(m.t.parts))
	for _, part := range m.t.parts {
		l, r, err := factors[float32](m.cache, part, row, n)
		if err != nil {
			return -1, err
		}
		updates = append(updates, kernel.Update32{Left: l, Right: r, R: int(part.rank()), Scale: float32(part.scale)})
	}
	return kernel.Merge32(p, p, m.t.Tensor.DType, int(m.cols), updates), nil
}

func factors[T number](c *factorCache, p *part, row, n int64) (l, r []T, err error) {
	if r, err = right[T](c, p); err != nil {
		return nil, nil, err
	}
	l, err = readLeft[T](p, row, n)
	return l, r, err
}

// notFinite says whose fault an element is that came out infinite or NaN.
func (m *merged) notFinite(row, col int64) error {
	base := m.start
	var raw [8]byte
	var w [1]float64
	if err := formats.ReadFullAt(base.Data, raw[:m.size], (row*m.cols+col)*m.size); err == nil {
		formats.DecodeFloat64(w[:], raw[:m.size], base.DType)
	}
	if w[0]-w[0] != 0 {
		return formats.Rejectf("", base.Name, "the base's weight is %v at row %d, column %d", w[0], row, col)
	}
	return formats.Unfitf(m.t.parts[0].path, base.Name, "the merged weight is not finite in %s at row %d, column %d", base.DType, row, col)
}

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

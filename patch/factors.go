package patch

import (
	"container/list"
	"sync"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch/kernel"
)

// part is one low-rank update of a target. Seen from the rows of the stored weight,
// each row is a combination of the rows of the right factor: A for a weight stored as
// (out, in), and Bᵀ for one stored as (in, out). The left factor holds the
// coefficients: B, or Aᵀ.
type part struct {
	path      string // of the adapter
	a, b      formats.Tensor
	scale     float64
	inOut     bool
	magnitude *formats.Tensor // DoRA's vector over the layer's outputs; nil if none

	magnitudeOnce sync.Once
	magnitudeRow  *part
}

// magnitudePart dresses the magnitude as a right factor of one row, so that it is
// cached like one.
func (p *part) magnitudePart() *part {
	p.magnitudeOnce.Do(func() {
		row := *p.magnitude
		row.Shape = []int64{1, row.Elements()}
		p.magnitudeRow = &part{path: p.path, a: row}
	})
	return p.magnitudeRow
}

// readMagnitude reads the magnitude whole.
func readMagnitude[T kernel.Number](p *part) ([]T, error) { return readRight[T](p.magnitudePart()) }

func (p *part) rank() int64 { return p.a.Shape[0] }

// decode reads elements of a tensor from element off on.
func decode[T kernel.Number](dst []T, t formats.Tensor, off int64, buf []byte) ([]byte, error) {
	size := t.DType.Bits() / 8
	need := int64(len(dst)) * size
	if int64(len(buf)) < need {
		buf = make([]byte, need)
	}
	if err := formats.ReadFullAt(t.Data, buf[:need], off*size); err != nil {
		return buf, err
	}
	switch dst := any(dst).(type) {
	case []float32:
		formats.DecodeFloat32(dst, buf, t.DType)
	case []float64:
		formats.DecodeFloat64(dst, buf, t.DType)
	}
	return buf, nil
}

// readElementsAtOnce bounds the encoded bytes that are held beside the decoded ones.
const readElementsAtOnce = 256 << 10

// readRight reads the right factor whole: r rows of as many elements as the weight's
// rows have.
func readRight[T kernel.Number](p *part) ([]T, error) {
	src := p.a
	if p.inOut {
		src = p.b
	}
	v := make([]T, src.Elements())
	var buf []byte
	for at := 0; at < len(v); at += readElementsAtOnce {
		var err error
		if buf, err = decode(v[at:min(at+readElementsAtOnce, len(v))], src, int64(at), buf); err != nil {
			return nil, p.readError(src, err)
		}
	}
	if i, n := notFinite(v); n > 0 {
		return nil, p.notFinite(src, i, n)
	}
	if p.inOut {
		rows, cols := src.Matrix()
		v = transpose(v, int(rows), int(cols))
	}
	return v, nil
}

// readLeft reads the coefficients of some rows of the weight, row after row.
func readLeft[T kernel.Number](p *part, row, rows int64) ([]T, error) {
	r := p.rank()
	v := make([]T, rows*r)
	src := p.b
	if !p.inOut {
		if _, err := decode(v, src, row*r, nil); err != nil {
			return nil, p.readError(src, err)
		}
	} else {
		src = p.a
		_, cols := src.Matrix()
		column := make([]T, rows)
		var buf []byte
		for k := range r {
			var err error
			if buf, err = decode(column, src, k*cols+row, buf); err != nil {
				return nil, p.readError(src, err)
			}
			for i, x := range column {
				v[int64(i)*r+k] = x
			}
		}
	}
	if _, n := notFinite(v); n > 0 {
		// Name the place in the file: look through the factor as it is stored.
		all := make([]T, src.Elements())
		if _, err := decode(all, src, 0, nil); err != nil {
			return nil, p.readError(src, err)
		}
		i, n := notFinite(all)
		return nil, p.notFinite(src, i, n)
	}
	return v, nil
}

func transpose[T kernel.Number](v []T, rows, cols int) []T {
	out := make([]T, len(v))
	for i := range rows {
		for j := range cols {
			out[j*rows+i] = v[i*cols+j]
		}
	}
	return out
}

// notFinite returns the index of the first infinity or NaN, and how many there are.
func notFinite[T kernel.Number](v []T) (first, count int) {
	for i, x := range v {
		if x-x != 0 {
			if count == 0 {
				first = i
			}
			count++
		}
	}
	return first, count
}

func (p *part) readError(t formats.Tensor, err error) error {
	return &formats.Error{Class: formats.ErrInput, File: p.path, Tensor: t.Name, Err: err}
}

func (p *part) notFinite(t formats.Tensor, first, count int) error {
	_, cols := t.Matrix()
	return formats.Unfitf(p.path, t.Name, "%d values are NaN or infinite, the first at row %d, column %d", count, int64(first)/cols, int64(first)%cols)
}

// maxCached is how many bytes of right factors are kept for the next block. Those of
// targets in work are held by the workers in any case.
const maxCached = 64 << 20

// factorCache keeps the right factors of the targets in work, so that each is read
// once and not once a block.
type factorCache struct {
	mu      sync.Mutex
	entries map[*part]*list.Element
	order   *list.List // least recently used first
	bytes   int64
}

type cached struct {
	p    *part
	once sync.Once
	v    any
	size int64
	err  error
}

func newFactorCache() *factorCache {
	return &factorCache{entries: map[*part]*list.Element{}, order: list.New()}
}

// right returns a part's right factor as []T.
func right[T kernel.Number](c *factorCache, p *part) ([]T, error) {
	e := c.entry(p)
	e.once.Do(func() {
		v, err := readRight[T](p)
		e.v, e.err = v, err
	})
	if e.err != nil {
		return nil, e.err
	}
	return e.v.([]T), nil
}

func (c *factorCache) entry(p *part) *cached {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[p]; ok {
		c.order.MoveToBack(el)
		return el.Value.(*cached)
	}
	src := p.a
	if p.inOut {
		src = p.b
	}
	e := &cached{p: p, size: src.Elements() * 8}
	c.entries[p] = c.order.PushBack(e)
	c.bytes += e.size
	for c.bytes > maxCached && c.order.Len() > 1 {
		old := c.order.Remove(c.order.Front()).(*cached)
		delete(c.entries, old.p)
		c.bytes -= old.size
	}
	return e
}

package patch

import (
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
}

func (p *part) rank() int64 { return p.a.Shape[0] }

// rightCols is how many columns the right factor has: as many as the weight.
func (p *part) rightCols() int64 {
	if p.inOut {
		return p.b.Shape[0]
	}
	_, cols := p.a.Matrix()
	return cols
}

// scratch is what reading needs for a call and keeps for the next one.
type scratch[T kernel.Number] struct {
	raw   []byte
	piece []T
	left  [][]T // of each update
}

var scratch32, scratch64 = sync.Pool{New: func() any { return new(scratch[float32]) }}, sync.Pool{New: func() any { return new(scratch[float64]) }}

func scratchPool[T kernel.Number]() *sync.Pool {
	if size[T]() == 8 {
		return &scratch64
	}
	return &scratch32
}

// size is how many bytes a number takes.
func size[T kernel.Number]() int64 {
	var x T
	if _, ok := any(x).(float64); ok {
		return 8
	}
	return 4
}

// grown returns a slice of length n, of the old one's memory where it is large enough.
func grown[T any](s []T, n int64) []T {
	if int64(cap(s)) < n {
		return make([]T, n)
	}
	return s[:n]
}

// readElementsAtOnce bounds the encoded elements that are held beside the decoded ones.
const readElementsAtOnce = 64 << 10

// read decodes consecutive elements of one of the part's tensors. Elements that are NaN
// or infinite are an error.
func read[T kernel.Number](p *part, t formats.Tensor, dst []T, first int64, s *scratch[T]) error {
	bytes := t.DType.Bits() / 8
	for len(dst) > 0 {
		n := min(readElementsAtOnce, len(dst))
		s.raw = grown(s.raw, int64(n)*bytes)
		if err := formats.ReadFullAt(t.Data, s.raw, first*bytes); err != nil {
			return p.readError(t, err)
		}
		decode(dst[:n], s.raw, t.DType)
		if _, bad := notFinite(dst[:n]); bad > 0 {
			return notFiniteIn(p, t, s)
		}
		dst, first = dst[n:], first+int64(n)
	}
	return nil
}

func decode[T kernel.Number](dst []T, src []byte, dtype formats.DType) {
	switch dst := any(dst).(type) {
	case []float32:
		formats.DecodeFloat32(dst, src, dtype)
	case []float64:
		formats.DecodeFloat64(dst, src, dtype)
	}
}

// readRight reads n columns of the right factor from one on, as (r, n).
func readRight[T kernel.Number](p *part, first, n int64, s *scratch[T]) ([]T, error) {
	r, cols := p.rank(), p.rightCols()
	v := make([]T, r*n)
	if !p.inOut {
		if n == cols {
			return v, read(p, p.a, v, 0, s)
		}
		for k := range r {
			if err := read(p, p.a, v[k*n:(k+1)*n], k*cols+first, s); err != nil {
				return nil, err
			}
		}
		return v, nil
	}
	// Transposed piece by piece, so that the factor is held once.
	some := max(1, readElementsAtOnce/max(1, r))
	for at := int64(0); at < n; at += some {
		s.piece = grown(s.piece, min(some, n-at)*r)
		if err := read(p, p.b, s.piece, (first+at)*r, s); err != nil {
			return nil, err
		}
		for i := range int64(len(s.piece)) / max(1, r) {
			for k, x := range s.piece[i*r : (i+1)*r] {
				v[int64(k)*n+at+i] = x
			}
		}
	}
	return v, nil
}

// readLeft reads the coefficients of rows of the weight from one on into v, row after
// row.
func readLeft[T kernel.Number](p *part, v []T, row int64, s *scratch[T]) error {
	r := p.rank()
	if !p.inOut {
		return read(p, p.b, v, row*r, s)
	}
	_, cols := p.a.Matrix()
	s.piece = grown(s.piece, int64(len(v))/max(1, r))
	for k := range r {
		if err := read(p, p.a, s.piece, k*cols+row, s); err != nil {
			return err
		}
		for i, x := range s.piece {
			v[int64(i)*r+k] = x
		}
	}
	return nil
}

// readMagnitude reads the magnitude whole.
func readMagnitude[T kernel.Number](p *part, s *scratch[T]) ([]T, error) {
	row := *p.magnitude
	row.Shape = []int64{1, row.Elements()}
	v := make([]T, row.Elements())
	return v, read(p, row, v, 0, s)
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

// notFiniteIn looks through a tensor, one of whose elements is NaN or infinite, and says
// how many are and where.
func notFiniteIn[T kernel.Number](p *part, t formats.Tensor, s *scratch[T]) error {
	bytes, total := t.DType.Bits()/8, t.Elements()
	first, count := int64(0), 0
	piece := make([]T, min(readElementsAtOnce, total))
	for at := int64(0); at < total; at += int64(len(piece)) {
		piece = piece[:min(int64(len(piece)), total-at)]
		s.raw = grown(s.raw, int64(len(piece))*bytes)
		if err := formats.ReadFullAt(t.Data, s.raw, at*bytes); err != nil {
			return p.readError(t, err)
		}
		decode(piece, s.raw, t.DType)
		i, n := notFinite(piece)
		if count == 0 {
			first = at + int64(i)
		}
		count += n
	}
	_, cols := t.Matrix()
	return formats.Unfitf(p.path, t.Name, "%d values are NaN or infinite, the first at row %d, column %d", count, first/cols, first%cols)
}

func (p *part) readError(t formats.Tensor, err error) error {
	return formats.ReadError(p.path, t.Name, err)
}

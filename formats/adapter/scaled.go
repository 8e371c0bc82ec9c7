package adapter

import (
	"math"
	"sync"

	"github.com/seed-b982eded/graft/formats"
)

// Scaled returns a tensor times a number, of a float type of its own. The exact product is
// rounded once, to nearest even; an element that was finite and is not any more is a
// [formats.ErrUnfit] when it is read. All types are those of [formats.DType.IsFloat].
func Scaled(t formats.Tensor, scale float64, dtype formats.DType) formats.Tensor {
	if scale == 1 && dtype == t.DType {
		return t
	}
	out := t
	out.DType = dtype
	out.Data = &scaled{t, scale, out}
	return out
}

type scaled struct {
	src   formats.Tensor
	scale float64
	out   formats.Tensor // its type and shape
}

func (s *scaled) ReadAt(p []byte, off int64) (int, error) {
	return readElements(p, off, s.out, s.elements)
}

// scaledAtOnce is how many elements are worked on at a time: enough that a transposed
// source is read in long strips.
const scaledAtOnce = 32 << 10

// workspace holds elements as they are stored, exactly, multiplied, and rounded.
type workspace struct {
	raw                [8 * scaledAtOnce]byte
	wide, product, now [scaledAtOnce]float64
	narrow             [scaledAtOnce]float32
}

var workspaces = sync.Pool{New: func() any { return new(workspace) }}

func (s *scaled) elements(p []byte, first int64) error {
	from, to := s.src.DType.Bits()/8, s.out.DType.Bits()/8
	w := workspaces.Get().(*workspace)
	defer workspaces.Put(w)
	for len(p) > 0 {
		n := min(int64(len(p))/to, scaledAtOnce)
		raw, wide, narrow := w.raw[:n*from], w.wide[:n], w.narrow[:n]
		if err := formats.ReadFullAt(s.src.Data, raw, first*from); err != nil {
			return err
		}
		formats.DecodeFloat64(wide, raw, s.src.DType)
		part := p[:n*to]
		if s.out.DType == formats.F64 {
			for i, x := range wide {
				w.product[i] = x * s.scale
			}
			formats.EncodeFloat64(part, w.product[:n])
		} else {
			for i, x := range wide {
				narrow[i] = toFloat32(product(x, s.scale), s.out.DType != formats.F32)
			}
			formats.EncodeFloat32(part, narrow, s.out.DType)
		}
		if err := s.checkFinite(part, w.now[:n], wide, first); err != nil {
			return err
		}
		p, first = p[n*to:], first+n
	}
	return nil
}

// checkFinite fails where a number became infinite that was not: was are the numbers
// before. What was not finite is for the reader of the factor to judge.
func (s *scaled) checkFinite(part []byte, now, was []float64, first int64) error {
	formats.DecodeFloat64(now, part, s.out.DType)
	for i, x := range now {
		if math.IsInf(x, 0) && !math.IsInf(was[i], 0) {
			return formats.Unfitf("", s.src.Name, "element %d is too large for %s with the scale in it (%g times %g)", first+int64(i), s.out.DType, was[i], s.scale)
		}
	}
	return nil
}

// product returns a·b rounded to odd: where it is not exact, the neighbour whose last bit
// is 1. Rounding that to nearest in a type with at least two bits less is the same as
// rounding the exact product (Boldo and Melquiond, Emulation of FMA and correctly rounded
// sums, 2008).
func product(a, b float64) float64 {
	p := a * b
	rest := math.FMA(a, b, -p)
	if rest == 0 || math.IsNaN(rest) || math.Float64bits(p)&1 == 1 {
		return p
	}
	if (rest > 0) == (p > 0) {
		return math.Float64frombits(math.Float64bits(p) + 1)
	}
	return math.Float64frombits(math.Float64bits(p) - 1)
}

// toFloat32 rounds to nearest even, or to odd for a type that is narrower still.
func toFloat32(x float64, odd bool) float32 {
	f := float32(x)
	if !odd || float64(f) == x || math.IsNaN(x) || math.Float32bits(f)&1 == 1 {
		return f
	}
	if math.Abs(float64(f)) > math.Abs(x) {
		return math.Float32frombits(math.Float32bits(f) - 1)
	}
	return math.Float32frombits(math.Float32bits(f) + 1)
}

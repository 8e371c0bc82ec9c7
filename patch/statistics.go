package patch

import (
	"math"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch/kernel"
)

// Statistics says how much a merge changed a target.
type Statistics struct {
	Elements int64   // of the tensor
	Changed  int64   // elements whose stored value differs from the base's
	Max      float64 // largest |W' − W|
	Mean     float64 // of |W' − W|
	// Survived is how much of the update is in the stored change W' − W: its projection on
	// Δ over ‖Δ‖, 1 without rounding. NaN where Δ is zero or not a sum of low-rank updates.
	Survived float64

	sum, along, delta2 float64
}

func (s *Statistics) add(o Statistics) {
	s.Elements += o.Elements
	s.Changed += o.Changed
	s.Max = max(s.Max, o.Max)
	s.sum += o.sum
	s.along += o.along
	s.delta2 += o.delta2
}

func (s *Statistics) finish() {
	s.Mean = s.sum / float64(max(s.Elements, 1))
	s.Survived = math.NaN()
	if s.delta2 > 0 {
		s.Survived = s.along / s.delta2
	}
}

// measure compares a block of a merged weight with the base and with the exact delta.
func (t *Target) measure(cache *factorCache, off int64, block, old []byte) (Statistics, error) {
	dtype := t.Tensor.DType
	size := dtype.Bits() / 8
	n := int64(len(block)) / size
	x, y := make([]float64, n), make([]float64, n)
	formats.DecodeFloat64(x, block, dtype)
	formats.DecodeFloat64(y, old, dtype)
	delta, err := t.delta(cache, off/size, n)
	if err != nil {
		return Statistics{}, err
	}
	s := Statistics{Elements: n}
	for i := range x {
		d := x[i] - y[i]
		if d != 0 {
			s.Changed++
			s.Max = max(s.Max, math.Abs(d))
			s.sum += math.Abs(d)
		}
		if delta != nil {
			s.along += d * delta[i]
			s.delta2 += delta[i] * delta[i]
		}
	}
	return s, nil
}

// delta returns Σ s·B·A in float64 for n elements from one on, which must be whole
// rows; nil where the update is not such a sum.
func (t *Target) delta(cache *factorCache, first, n int64) ([]float64, error) {
	_, cols := t.Tensor.Matrix()
	if t.replaced != nil || first%cols != 0 || n%cols != 0 {
		return nil, nil
	}
	out := make([]float64, n)
	for _, p := range t.scaledParts() {
		if p.magnitude != nil {
			return nil, nil
		}
		add := addDelta[float32]
		if t.Tensor.DType == formats.F64 { // as the cache holds the factors
			add = addDelta[float64]
		}
		if err := add(out, cache, p, first/cols, cols); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func addDelta[T kernel.Number](out []float64, cache *factorCache, p *part, row, cols int64) error {
	l, err := readLeft[T](p, row, int64(len(out))/cols)
	if err != nil {
		return err
	}
	r, err := right[T](cache, p)
	if err != nil {
		return err
	}
	kernel.AddProduct(out, l, r, int(p.rank()), int(cols), p.scale)
	return nil
}

package patch

import (
	"math"
	"slices"
	"sync"

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

// rowsMeasured is what comparing some rows needs, and keeps for the next ones.
type rowsMeasured struct {
	old         []byte
	x, y, delta []float64
}

var rowsMeasuredPool = sync.Pool{New: func() any { return new(rowsMeasured) }}

// measure compares some rows of a merged weight with the base's in w.old and with the
// exact delta.
func (t *Target) measure(cache *factorCache, off int64, block []byte, w *rowsMeasured) (Statistics, error) {
	dtype := t.Tensor.DType
	size := dtype.Bits() / 8
	n := int64(len(block)) / size
	w.x, w.y, w.delta = grown(w.x, n), grown(w.y, n), grown(w.delta, n)
	x, y := w.x, w.y
	formats.DecodeFloat64(x, block, dtype)
	formats.DecodeFloat64(y, w.old, dtype)
	delta, err := t.delta(w.delta, cache, off/size)
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

// delta computes Σ s·B·A in float64 into out, for elements from one on, which must be
// whole rows. It returns nil where the update is not such a sum.
func (t *Target) delta(out []float64, cache *factorCache, first int64) ([]float64, error) {
	_, cols := t.Tensor.Matrix()
	n := int64(len(out))
	if t.replaced != nil || first%cols != 0 || n%cols != 0 {
		return nil, nil
	}
	for _, p := range t.scaledParts() {
		if p.magnitude != nil {
			return nil, nil
		}
	}
	clear(out)
	add := addDelta[float32]
	if t.Tensor.DType == formats.F64 { // as the cache holds the factors
		add = addDelta[float64]
	}
	for _, stage := range t.stages {
		if !slices.ContainsFunc(stage, func(p *part) bool { return p.scale != 0 }) {
			continue
		}
		if err := add(out, cache, stage, first/cols, cols); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func addDelta[T kernel.Number](out []float64, cache *factorCache, stage []*part, row, cols int64) error {
	pool := scratchPool[T]()
	s := pool.Get().(*scratch[T])
	defer pool.Put(s)
	return withFactors(cache, stage, func(f factors[T]) error {
		u, err := updates(stage, f, row, int64(len(out))/cols, s)
		if err != nil {
			return err
		}
		addProducts(out, stage, u, int(cols))
		return nil
	})
}

func addProducts[T kernel.Number](out []float64, stage []*part, u []kernel.Update[T], cols int) {
	for i, p := range stage {
		if p.scale != 0 {
			kernel.AddProduct(out, u[i].Left, u[i].Right, u[i].R, cols, p.scale)
		}
	}
}

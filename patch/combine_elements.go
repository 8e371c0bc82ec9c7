package patch

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/patch/lowrank"
)

// masker says which of n elements of an adapter's factor ("A", "B", or "delta" for the full
// update) a dare method keeps. part is the adapter's place in the list.
type masker func(module, factor string, part, n int) []bool

// bernoulli keeps each element with the probability density.
func bernoulli(seed uint64, density float64) masker {
	return func(module, factor string, part, n int) []bool {
		rng := rand.New(rand.NewPCG(seed, pathHash(fmt.Sprintf("%s\x00%s\x00%d", module, factor, part))))
		keep := make([]bool, n)
		for i := range keep {
			keep[i] = rng.Float64() < density
		}
		return keep
	}
}

// factors combines the factors one by one: A with the weights ±√|ws|, B with √|ws|.
func (c *combiner) factors(m *combineModule, products []*lowrank.Product) *lowrank.Product {
	n := len(products)
	as, bs, wa, wb := make([][]float64, n), make([][]float64, n), make([]float64, n), make([]float64, n)
	for i, p := range products {
		as[i], bs[i] = p.A.RawMatrix().Data, p.B.RawMatrix().Data
		ws := m.parts[i].weight * p.S
		wb[i] = math.Sqrt(math.Abs(ws))
		wa[i] = math.Copysign(wb[i], ws)
	}
	out, in := products[0].Dims()
	r := products[0].Rank()
	return &lowrank.Product{B: mat.NewDense(out, r, c.elements(m, "B", bs, wb)), A: mat.NewDense(r, in, c.elements(m, "A", as, wa)), S: 1}
}

// elements combines arrays of one size, element by element. It may change the arrays.
func (c *combiner) elements(m *combineModule, factor string, values [][]float64, weights []float64) []float64 {
	method, density := c.opts.Method, c.opts.Density
	if method.prunes() && density < 1 {
		mask := c.opts.mask
		if mask == nil {
			mask = bernoulli(c.opts.Seed, density)
		}
		for i, v := range values {
			if method.dare() {
				keepRescaled(v, mask(m.module, factor, m.parts[i].place, len(v)), density)
			} else {
				keepLargest(v, int(density*float64(len(v))))
			}
		}
	}
	if method.ties() {
		return disjointMerge(values, weights, c.opts.MajoritySign)
	}
	out := make([]float64, len(values[0]))
	for i, v := range values {
		for j, x := range v {
			out[j] += weights[i] * x
		}
	}
	return out
}

// keepRescaled zeroes what is not kept and divides the rest by the density, so that the
// expectation stays.
func keepRescaled(v []float64, keep []bool, density float64) {
	for i := range v {
		if keep[i] {
			v[i] /= density
		} else {
			v[i] = 0
		}
	}
}

// keepLargest zeroes all but the n elements that are largest in size; of equal ones the
// first are kept.
func keepLargest(v []float64, n int) {
	if n >= len(v) {
		return
	}
	size := make([]float64, len(v))
	for i, x := range v {
		size[i] = math.Abs(x)
	}
	slices.Sort(size)
	limit, equal := math.Inf(1), 0 // all above the limit stay, and that many of those on it
	if n > 0 {
		limit = size[len(size)-n]
		for equal < n && size[len(size)-n+equal] == limit {
			equal++
		}
	}
	for i, x := range v {
		switch x = math.Abs(x); {
		case x > limit:
		case x == limit && equal > 0:
			equal--
		default:
			v[i] = 0
		}
	}
}

// disjointMerge is TIES after trimming: a sign is elected for each element, zero counting
// as positive, and the weighted elements of that sign are averaged over their number.
func disjointMerge(values [][]float64, weights []float64, majority string) []float64 {
	out := make([]float64, len(values[0]))
	for j := range out {
		vote := 0.0
		for _, v := range values {
			if majority == MajorityFrequency {
				vote += sign(v[j])
			} else {
				vote += v[j]
			}
		}
		elected := 1.0
		if vote < 0 {
			elected = -1
		}
		sum, count := 0.0, 0.0
		for i, v := range values {
			if sign(v[j]) == elected {
				sum += weights[i] * v[j]
				count++
			}
		}
		out[j] = sum / max(count, 1)
	}
	return out
}

// sign returns −1, 0 or 1.
func sign(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return 0
}

// peftBoost is what PEFT's kept use_rslora makes of the scale 1: r/√r for the rank that it
// gives the result, which is padded with zeros up to that.
func peftBoost(method CombineMethod, rank, largest, sum int64) float64 {
	r := largest
	switch {
	case method == CombineCat:
		r = sum
	case method.bySVD():
		r = rank
	}
	return math.Sqrt(float64(r))
}

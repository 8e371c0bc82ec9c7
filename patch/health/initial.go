package health

import (
	"math"
	"slices"

	"github.com/seed-b982eded/graft/formats"
)

const (
	// leastDrawn is how many numbers there must be to say how they were drawn.
	leastDrawn = 64
	// mostDrawn bounds those that are sorted; of more, every so-manyth is.
	mostDrawn = 1 << 16
	// surprise is the distance of distributions, times √n, that one sample in a thousand
	// exceeds (Kolmogorov: 2·exp(−2·1.95²) = 0.001).
	surprise = 1.95
)

// looksDrawn reports whether numbers look like those that LoRA's factors begin with: uniform
// in ±1/√fanIn, as torch.nn.init.kaiming_uniform_ draws with a = √5. Three things must hold:
//
//   - none is outside, which training that moves numbers by more than a few thousandths of
//     the bound soon breaks;
//   - the largest is as near to the bound as that of n drawn numbers, but for one sample in
//     e²⁰: max ≥ bound·(1 − 20/n);
//   - the Kolmogorov–Smirnov test does not refuse the distribution at the level 0.001.
//
// The rounding of the type is allowed for.
func looksDrawn(v []float64, fanIn int, dtype formats.DType) bool {
	n := len(v)
	if n < leastDrawn {
		return false
	}
	bound, eps := 1/math.Sqrt(float64(fanIn)), spacing(dtype)
	largest := 0.0
	for _, x := range v {
		if largest = max(largest, math.Abs(x)); largest > bound*(1+eps) {
			return false
		}
	}
	if largest < bound*(1-20/float64(n)-eps) {
		return false
	}
	step := (n + mostDrawn - 1) / mostDrawn
	some := make([]float64, 0, n/step+1)
	for i := 0; i < n; i += step {
		some = append(some, v[i])
	}
	slices.Sort(some)
	distance, count := 0.0, float64(len(some))
	for i, x := range some {
		p := (x/bound + 1) / 2
		distance = max(distance, p-float64(i)/count, float64(i+1)/count-p)
	}
	// A number that is rounded moves by at most ε/2 of the bound, which is ε/4 of the width.
	return distance <= surprise/math.Sqrt(count)+eps/4
}

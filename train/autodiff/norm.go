package autodiff

import (
	"fmt"
	"math"
)

// RMS says what a root-mean-square norm is beside its weight.
type RMS struct {
	Eps float64 // is added to the mean square
	// Offset is added to the weight: 1 for Gemma's norms, whose weights are around 0.
	Offset float32
}

// RMSNorm returns (offset+w)∘(x·rsqrt(mean(x²)+eps)) for each group of d successive
// columns in each row of x, for w of 1×d, where d is the width of x or, for queries
// and keys that are normed head by head, divides it (Zhang, Sennrich, "Root mean
// square layer normalization", 2019). The mean is taken in float64 and each group's
// factor rounded to float32 once.
func (t *Tape) RMSNorm(x, w *Value, rms RMS) *Value {
	d := w.Cols
	if w.Rows != 1 || d == 0 || x.Cols%d != 0 {
		panic(fmt.Sprintf("autodiff: a norm's weight of %d×%d on %d columns", w.Rows, d, x.Cols))
	}
	y := t.newValue(x.Rows, x.Cols, x, w)
	groups := len(x.Data) / d
	inverse := t.newValue(1, groups) // 1/rms of each group
	eachRows(groups, d, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			in, out := x.Data[i*d:(i+1)*d], y.Data[i*d:(i+1)*d]
			var sum float64
			for _, v := range in {
				sum += float64(v) * float64(v)
			}
			r := float32(1 / math.Sqrt(sum/float64(d)+rms.Eps))
			inverse.Data[i] = r
			for j, v := range in {
				out[j] = (rms.Offset + w.Data[j]) * (v * r)
			}
		}
	})
	if !y.needs {
		return y
	}
	keep(x, w)
	t.record(func() {
		dy := t.gradOf(y)
		if x.needs {
			dx := t.gradOf(x)
			eachRows(groups, d, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					at, end := i*d, (i+1)*d
					normGrad(dx[at:end], x.Data[at:end], dy[at:end], w.Data, rms.Offset, inverse.Data[i])
				}
			})
		}
		if w.needs {
			dw := t.gradOf(w)
			eachColumns(d, func(lo, hi int) {
				for i, r := range inverse.Data {
					for j := lo; j < hi; j++ {
						dw[j] += dy[i*d+j] * (x.Data[i*d+j] * r)
					}
				}
			})
		}
	}, y, inverse)
	return y
}

// normGrad adds r·g − x·r³·mean(g∘x) to dx, with g = (offset+w)∘dy.
func normGrad(dx, x, dy, w []float32, offset, r float32) {
	var dot float64
	for j, v := range x {
		dot += float64((offset+w[j])*dy[j]) * float64(v)
	}
	c := float32(dot / float64(len(x)) * float64(r) * float64(r) * float64(r))
	for j, v := range x {
		dx[j] += r*((offset+w[j])*dy[j]) - v*c
	}
}

package autodiff

import "math"

// RMSNorm returns w∘(x·rsqrt(mean(x²)+eps)) row by row, for x of n×d and w of 1×d
// (Zhang, Sennrich, "Root mean square layer normalization", 2019). The mean is
// taken in float64 and each row's factor rounded to float32 once.
func (t *Tape) RMSNorm(x, w *Value, eps float64) *Value {
	w.mustMatch("the norm's weight", 1, x.Cols)
	y := t.newValue(x.Rows, x.Cols, x, w)
	inverse := t.newValue(1, x.Rows) // 1/rms of each row
	eachRows(x.Rows, x.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			in, out := x.row(i), y.row(i)
			var sum float64
			for _, v := range in {
				sum += float64(v) * float64(v)
			}
			r := float32(1 / math.Sqrt(sum/float64(len(in))+eps))
			inverse.Data[i] = r
			for j, v := range in {
				out[j] = w.Data[j] * (v * r)
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
			eachRows(x.Rows, x.Cols, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					at := i * x.Cols
					normGrad(dx[at:at+x.Cols], x.row(i), dy[at:at+x.Cols], w.Data, inverse.Data[i])
				}
			})
		}
		if w.needs {
			dw := t.gradOf(w)
			eachColumns(x.Cols, func(lo, hi int) {
				for i, r := range inverse.Data {
					for j := lo; j < hi; j++ {
						dw[j] += dy[i*x.Cols+j] * (x.Data[i*x.Cols+j] * r)
					}
				}
			})
		}
	}, y, inverse)
	return y
}

// normGrad adds r·g − x·r³·mean(g∘x) to dx, with g = w∘dy.
func normGrad(dx, x, dy, w []float32, r float32) {
	var dot float64
	for j, v := range x {
		dot += float64(w[j]*dy[j]) * float64(v)
	}
	c := float32(dot / float64(len(x)) * float64(r) * float64(r) * float64(r))
	for j, v := range x {
		dx[j] += r*(w[j]*dy[j]) - v*c
	}
}

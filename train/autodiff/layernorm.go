package autodiff

import "math"

// LayerNorm returns w∘(x−mean)·rsqrt(var+eps) + b row by row, for x of n×d and w and b
// of 1×d, with var the mean of (x−mean)² (Ba et al., "Layer normalization", 2016). Mean
// and variance are taken in float64, in two passes.
func (t *Tape) LayerNorm(x, w, b *Value, eps float64) *Value {
	w.mustMatch("the norm's weight", 1, x.Cols)
	b.mustMatch("the norm's bias", 1, x.Cols)
	y := t.newValue(x.Rows, x.Cols, x, w, b)
	normed := t.newValue(x.Rows, x.Cols) // (x−mean)·rsqrt(var+eps)
	inverse := t.newValue(1, x.Rows)     // rsqrt(var+eps) of each row
	eachRows(x.Rows, x.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			in, mid, out := x.row(i), normed.row(i), y.row(i)
			var sum, squares float64
			for _, v := range in {
				sum += float64(v)
			}
			mean := sum / float64(len(in))
			for _, v := range in {
				d := float64(v) - mean
				squares += d * d
			}
			r := 1 / math.Sqrt(squares/float64(len(in))+eps)
			inverse.Data[i] = float32(r)
			for j, v := range in {
				mid[j] = float32((float64(v) - mean) * r)
				out[j] = w.Data[j]*mid[j] + b.Data[j]
			}
		}
	})
	if !y.needs {
		t.arena.put(normed.buf)
		t.arena.put(inverse.buf)
		return y
	}
	keep(w)
	t.record(func() {
		dy := t.gradOf(y)
		if x.needs {
			dx := t.gradOf(x)
			eachRows(x.Rows, x.Cols, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					at := i * x.Cols
					layerNormGrad(dx[at:at+x.Cols], normed.row(i), dy[at:at+x.Cols], w.Data, inverse.Data[i])
				}
			})
		}
		if w.needs {
			dw := t.gradOf(w)
			eachColumns(x.Cols, func(lo, hi int) {
				for i := range x.Rows {
					for j := lo; j < hi; j++ {
						dw[j] += dy[i*x.Cols+j] * normed.Data[i*x.Cols+j]
					}
				}
			})
		}
		if b.needs {
			addColumnSums(t.gradOf(b), t.gradMatrix(y))
		}
	}, y, normed, inverse)
	return y
}

// layerNormGrad adds r·(g − mean(g) − n·mean(g∘n)) to dx, with g = w∘dy and n the normed
// row.
func layerNormGrad(dx, n, dy, w []float32, r float32) {
	var sum, dot float64
	for j, v := range n {
		g := float64(w[j] * dy[j])
		sum += g
		dot += g * float64(v)
	}
	mean, slope := float32(sum/float64(len(n))), float32(dot/float64(len(n)))
	for j, v := range n {
		dx[j] += r * (w[j]*dy[j] - mean - v*slope)
	}
}

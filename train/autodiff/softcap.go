package autodiff

import "math"

// SoftCap replaces the elements x of y by limit·tanh(x/limit) in place.
func (t *Tape) SoftCap(y *Value, limit float32) {
	change(y, "SoftCap")
	eachRows(y.Rows, y.Cols, func(lo, hi int) {
		softCap(y.Data[lo*y.Cols:hi*y.Cols], limit)
	})
	if !t.wants(y) {
		return
	}
	keep(y)
	t.record(func() {
		dy := t.gradOf(y)
		eachRows(y.Rows, y.Cols, func(lo, hi int) {
			capGrad(dy[lo*y.Cols:hi*y.Cols], y.Data[lo*y.Cols:hi*y.Cols], limit)
		})
	})
}

// softCap bends x to limit·tanh(x/limit).
func softCap(x []float32, limit float32) {
	for i, v := range x {
		x[i] = limit * float32(math.Tanh(float64(v/limit)))
	}
}

// capGrad multiplies d by the slope of softCap where it gave y.
func capGrad(d, y []float32, limit float32) {
	for i, v := range y {
		s := v / limit
		d[i] *= 1 - s*s
	}
}

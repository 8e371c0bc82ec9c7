package autodiff

import "math"

// UnitRows returns the rows of x divided by their length, or by eps where they are
// shorter. Lengths are in float64.
func (t *Tape) UnitRows(x *Value, eps float64) *Value {
	y := t.newValue(x.Rows, x.Cols, x)
	inverse := t.newValue(1, x.Rows) // 1/max(length, eps), negative where that is 1/eps
	eachRows(x.Rows, x.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			length := math.Sqrt(dot(x.row(i), x.row(i)))
			r := float32(1 / max(length, eps))
			for j, v := range x.row(i) {
				y.Data[i*x.Cols+j] = v * r
			}
			if length < eps {
				r = -r
			}
			inverse.Data[i] = r
		}
	})
	if !y.needs {
		t.arena.put(inverse.buf)
		return y
	}
	keep(y)
	t.record(func() {
		dx, dy := t.gradOf(x), t.gradOf(y)
		eachRows(x.Rows, x.Cols, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				in, out, unit := dy[i*x.Cols:(i+1)*x.Cols], dx[i*x.Cols:(i+1)*x.Cols], y.row(i)
				// r·(dy − y·(y·dy)), and r·dy where the divisor is a constant.
				r, along := inverse.Data[i], float32(dot(unit, in))
				if r < 0 {
					r, along = -r, 0
				}
				for j, d := range in {
					out[j] += r * (d - along*unit[j])
				}
			}
		})
	}, y, inverse)
	return y
}

// RowDots returns the products of the rows of a with those of b, pair by pair, as n×1.
// Sums are in float64.
func (t *Tape) RowDots(a, b *Value) *Value {
	b.mustMatch("the second factor", a.Rows, a.Cols)
	y := t.newValue(a.Rows, 1, a, b)
	eachRows(a.Rows, a.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			y.Data[i] = float32(dot(a.row(i), b.row(i)))
		}
	})
	if !y.needs {
		return y
	}
	keep(a, b)
	t.record(func() {
		dy := t.gradOf(y)
		for _, side := range [][2]*Value{{a, b}, {b, a}} {
			if !side[0].needs {
				continue
			}
			d, other := t.gradOf(side[0]), side[1]
			eachRows(a.Rows, a.Cols, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					for j, v := range other.row(i) {
						d[i*a.Cols+j] += dy[i] * v
					}
				}
			})
		}
	}, y)
	return y
}

func dot(a, b []float32) (sum float64) {
	for i, x := range a {
		sum += float64(x) * float64(b[i])
	}
	return sum
}

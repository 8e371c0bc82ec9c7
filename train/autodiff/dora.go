package autodiff

import "math"

// ScaleColumns returns x with column j multiplied by m[j]/norms[j], for m and norms of as
// many elements as x has columns: the magnitudes of DoRA over the norms of what they
// scale, which are constants (Liu et al., "DoRA", 2024, section 4.3). Gradients flow to
// those of x and m that need one.
func (t *Tape) ScaleColumns(x, m *Value, norms []float32) *Value {
	m.mustMatch("the magnitudes", 1, x.Cols)
	if len(norms) != x.Cols {
		panic("autodiff: ScaleColumns needs a norm for each column")
	}
	y := t.newValue(x.Rows, x.Cols, x, m)
	eachRows(y.Rows, y.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			in, out := x.row(i), y.row(i)
			for j, n := range norms {
				out[j] = m.Data[j] / n * in[j]
			}
		}
	})
	if !y.needs {
		return y
	}
	if m.needs {
		keep(x)
	}
	t.record(func() {
		dy := t.gradOf(y)
		if x.needs {
			dx := t.gradOf(x)
			eachRows(y.Rows, y.Cols, func(lo, hi int) {
				for i := lo; i < hi; i++ {
					at := i * y.Cols
					for j, n := range norms {
						dx[at+j] += m.Data[j] / n * dy[at+j]
					}
				}
			})
		}
		if m.needs {
			dm := t.gradOf(m)
			eachColumns(y.Cols, func(lo, hi int) {
				for j := lo; j < hi; j++ {
					var sum float64
					for i := range y.Rows {
						sum += float64(dy[i*y.Cols+j]) * float64(x.Data[i*y.Cols+j])
					}
					dm[j] += float32(sum / float64(norms[j]))
				}
			})
		}
	}, y)
	return y
}

// normBlock is how many elements of W + s·B·A exist at a time on each processor.
const normBlock = 1 << 16

// RowNorms returns ‖W + scale·B·A‖ row by row, for W of out×in, A of r×in and B of out×r.
// The sum is made in float32 and a few rows at a time; squares are summed in float64. No
// gradient flows: to DoRA these norms are constants.
func RowNorms(w, a, b *Value, scale float32) []float32 {
	a.mustMatch("RowNorms' A", a.Rows, w.Cols)
	b.mustMatch("RowNorms' B", w.Rows, a.Rows)
	norms := NewBuffer(w.Rows)
	eachSum(w, func(sum []float32, lo, hi int) {
		product(asIs, asIs, scale, part(b.general(), lo, 0, hi-lo, b.Cols), a.general(), 1, general(hi-lo, w.Cols, sum))
		for i := lo; i < hi; i++ {
			var squares float64
			for _, x := range sum[(i-lo)*w.Cols : (i-lo+1)*w.Cols] {
				squares += float64(x) * float64(x)
			}
			norms[i] = float32(math.Sqrt(squares))
		}
	})
	return norms
}

// ColumnNorms returns ‖T + scale·Aᵀ·Bᵀ‖ column by column, for a table T of rows×width, A of
// r×rows and B of width×r, as [RowNorms] does for a layer.
func ColumnNorms(table, a, b *Value, scale float32) []float32 {
	a.mustMatch("ColumnNorms' A", a.Rows, table.Rows)
	b.mustMatch("ColumnNorms' B", table.Cols, a.Rows)
	width := table.Cols
	step := blockRows(table)
	partial := make([]float64, (table.Rows+step-1)/step*width)
	eachSum(table, func(sum []float32, lo, hi int) {
		product(flipped, flipped, scale, part(a.general(), 0, lo, a.Rows, hi-lo), b.general(), 1, general(hi-lo, width, sum))
		squares := partial[lo/step*width:][:width]
		for i := range hi - lo {
			for j, x := range sum[i*width : (i+1)*width] {
				squares[j] += float64(x) * float64(x)
			}
		}
	})
	norms := NewBuffer(width)
	for j := range norms {
		var squares float64
		for at := j; at < len(partial); at += width { // in order, whoever made them
			squares += partial[at]
		}
		norms[j] = float32(math.Sqrt(squares))
	}
	return norms
}

// blockRows returns how many rows of w are worked on at a time, which depends on its shape
// alone.
func blockRows(w *Value) int { return max(1, normBlock/max(1, w.Cols)) }

// eachSum calls f for blocks of rows [lo, hi) of w, each with a copy of them to add to.
func eachSum(w *Value, f func(copied []float32, lo, hi int)) {
	step := blockRows(w)
	n := (w.Rows + step - 1) / step
	buffers := make([][]float32, workers(n))
	parallel(n, func(worker, i int) {
		if buffers[worker] == nil {
			buffers[worker] = NewBuffer(step * w.Cols)
		}
		lo, hi := i*step, min((i+1)*step, w.Rows)
		copied := buffers[worker][:(hi-lo)*w.Cols]
		w.readRows(copied, lo, hi)
		f(copied, lo, hi)
	})
}

// readRows copies rows [lo, hi) to dst.
func (v *Value) readRows(dst []float32, lo, hi int) {
	copy(dst, v.Data[lo*v.Cols:hi*v.Cols])
}

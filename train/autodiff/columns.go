package autodiff

// Columns returns a copy of the columns from … from+n−1 of x: one of several layers
// that were computed as one.
func (t *Tape) Columns(x *Value, from, n int) *Value {
	if from < 0 || n < 0 || from+n > x.Cols {
		panic("autodiff: columns that are not there")
	}
	y := t.newValue(x.Rows, n, x)
	eachRows(y.Rows, n, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			copy(y.row(i), x.row(i)[from:])
		}
	})
	if !y.needs {
		return y
	}
	t.record(func() {
		dx, dy := t.gradOf(x), t.gradOf(y)
		eachRows(y.Rows, n, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				add(dx[i*x.Cols+from:][:n], dy[i*n:][:n])
			}
		})
	}, y)
	return y
}

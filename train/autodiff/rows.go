package autodiff

// Rows returns the rows of x that index names, in its order and as often as it names
// them: the look-up in an embedding, or a choice of positions. index must stay as it
// is until Backward.
func (t *Tape) Rows(x *Value, index []int32) *Value {
	y := t.newValue(len(index), x.Cols, x)
	eachRows(y.Rows, y.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			copy(y.row(i), x.row(int(index[i])))
		}
	})
	if !y.needs {
		return y
	}
	t.record(func() {
		dx, dy := t.gradOf(x), t.gradOf(y)
		// A row may be named twice, so the split is over columns.
		eachColumns(y.Cols, func(lo, hi int) {
			for i, r := range index {
				at := int(r) * x.Cols
				add(dx[at+lo:at+hi], dy[i*y.Cols+lo:i*y.Cols+hi])
			}
		})
	}, y)
	return y
}

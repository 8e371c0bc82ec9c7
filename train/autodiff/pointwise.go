package autodiff

// Add adds x to y in place; the shapes are the same.
func (t *Tape) Add(y, x *Value) {
	x.mustMatch("the summand", y.Rows, y.Cols)
	change(y, "Add")
	eachRows(y.Rows, y.Cols, func(lo, hi int) {
		add(y.Data[lo*y.Cols:hi*y.Cols], x.Data[lo*y.Cols:hi*y.Cols])
	})
	if !t.wants(x) {
		return
	}
	y.needs = true
	t.record(func() {
		dy := t.gradOf(y)
		dx, first := t.startGrad(x)
		eachRows(y.Rows, y.Cols, func(lo, hi int) {
			lo, hi = lo*y.Cols, hi*y.Cols
			if first {
				copy(dx[lo:hi], dy[lo:hi])
				return
			}
			add(dx[lo:hi], dy[lo:hi])
		})
	})
}

// Sub subtracts x from y in place; the shapes are the same. x may change in place afterwards.
func (t *Tape) Sub(y, x *Value) {
	x.mustMatch("what is subtracted", y.Rows, y.Cols)
	change(y, "Sub")
	eachRows(y.Rows, y.Cols, func(lo, hi int) {
		subtract(y.Data[lo*y.Cols:hi*y.Cols], x.Data[lo*y.Cols:hi*y.Cols])
	})
	if !t.wants(x) {
		return
	}
	y.needs = true
	t.record(func() {
		dx, dy := t.gradOf(x), t.gradOf(y)
		eachRows(y.Rows, y.Cols, func(lo, hi int) {
			subtract(dx[lo*y.Cols:hi*y.Cols], dy[lo*y.Cols:hi*y.Cols])
		})
	})
}

// AddRow adds scale·row to each row of y in place, for a row of 1×y.Cols: a bias.
func (t *Tape) AddRow(y, row *Value, scale float32) {
	row.mustMatch("the row", 1, y.Cols)
	change(y, "AddRow")
	eachRows(y.Rows, y.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			axpy(y.row(i), row.Data, scale)
		}
	})
	if !t.wants(row) {
		return
	}
	y.needs = true
	t.record(func() {
		sums := make([]float32, y.Cols)
		addColumnSums(sums, t.gradMatrix(y))
		axpy(t.gradOf(row), sums, scale)
	})
}

// Scale multiplies y by s in place.
func (t *Tape) Scale(y *Value, s float32) {
	change(y, "Scale")
	eachRows(y.Rows, y.Cols, func(lo, hi int) {
		scale(y.Data[lo*y.Cols:hi*y.Cols], s)
	})
	if !t.wants(y) {
		return
	}
	t.record(func() {
		dy := t.gradOf(y)
		eachRows(y.Rows, y.Cols, func(lo, hi int) {
			scale(dy[lo*y.Cols:hi*y.Cols], s)
		})
	})
}

func add(dst, src []float32) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] += src[i]
	}
}

func subtract(dst, src []float32) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] -= src[i]
	}
}

// axpy adds s·src to dst.
func axpy(dst, src []float32, s float32) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] += s * src[i]
	}
}

func scale(dst []float32, s float32) {
	for i := range dst {
		dst[i] *= s
	}
}

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

func scale(dst []float32, s float32) {
	for i := range dst {
		dst[i] *= s
	}
}

package autodiff

import "fmt"

// Split takes the columns of x apart: what several layers made that were computed as one.
// It returns matrices of the given widths, from the left, which add up to that of x. The
// data of x is free for other values at once and must not be used again.
func (t *Tape) Split(x *Value, widths ...int) []*Value {
	change(x, "Split")
	parts, from := make([]*Value, len(widths)), 0
	for p, n := range widths {
		y := t.newValue(x.Rows, n, x)
		at := from
		eachRows(y.Rows, n, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				copy(y.row(i), x.row(i)[at:])
			}
		})
		parts[p], from = y, from+n
	}
	if from != x.Cols {
		panic(fmt.Sprintf("autodiff: splitting %d columns into %v", x.Cols, widths))
	}
	t.arena.put(x.buf)
	x.buf, x.Data = nil, nil
	if !x.needs || t.NoGrad {
		return parts
	}
	t.record(func() {
		dx, from := t.gradMatrix(x), 0
		for _, y := range parts {
			if dy := y.grad; dy != nil {
				at := from
				eachRows(y.Rows, y.Cols, func(lo, hi int) {
					for i := lo; i < hi; i++ {
						add(part(dx, i, at, 1, y.Cols).Data, dy[i*y.Cols:(i+1)*y.Cols])
					}
				})
			}
			from += y.Cols
		}
	}, parts...)
	return parts
}

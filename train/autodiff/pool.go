package autodiff

import "fmt"

// MeanRows returns one row for each sequence: the mean of its rows in x. Sequences
// follow one another and each has a row at least; their numbers of rows must stay as
// they are until Backward. Sums are in float64.
func (t *Tape) MeanRows(x *Value, lens []int) *Value {
	mustCover(x, lens)
	y := t.newValue(len(lens), x.Cols, x)
	starts := startsOf(lens)
	eachRows(y.Rows, x.Cols, func(lo, hi int) {
		for s := lo; s < hi; s++ {
			for j := range x.Cols {
				var sum float64
				for i := range lens[s] {
					sum += float64(x.Data[(starts[s]+i)*x.Cols+j])
				}
				y.Data[s*x.Cols+j] = float32(sum / float64(lens[s]))
			}
		}
	})
	if !y.needs {
		return y
	}
	t.record(func() {
		dx, dy := t.gradOf(x), t.gradOf(y)
		eachRows(y.Rows, x.Cols, func(lo, hi int) {
			for s := lo; s < hi; s++ {
				share := 1 / float32(lens[s])
				for i := range lens[s] {
					at := (starts[s] + i) * x.Cols
					for j, d := range dy[s*x.Cols : (s+1)*x.Cols] {
						dx[at+j] += share * d
					}
				}
			}
		})
	}, y)
	return y
}

// MaxRows returns one row for each sequence: the largest of each column in its rows. Of
// equal ones the first gets the gradient. See [Tape.MeanRows] for the sequences.
func (t *Tape) MaxRows(x *Value, lens []int) *Value {
	mustCover(x, lens)
	y := t.newValue(len(lens), x.Cols, x)
	starts := startsOf(lens)
	from := make([]int32, len(y.Data)) // the row that each element is from
	eachRows(y.Rows, x.Cols, func(lo, hi int) {
		for s := lo; s < hi; s++ {
			for j := range x.Cols {
				best := starts[s]
				for i := best + 1; i < starts[s]+lens[s]; i++ {
					// A NaN wins and stays.
					if v := x.Data[i*x.Cols+j]; v > x.Data[best*x.Cols+j] || v != v {
						best = i
					}
				}
				y.Data[s*x.Cols+j], from[s*x.Cols+j] = x.Data[best*x.Cols+j], int32(best)
			}
		}
	})
	if !y.needs {
		return y
	}
	t.record(func() {
		dx, dy := t.gradOf(x), t.gradOf(y)
		for at, row := range from {
			dx[int(row)*x.Cols+at%x.Cols] += dy[at]
		}
	}, y)
	return y
}

func startsOf(lens []int) []int {
	starts, at := make([]int, len(lens)), 0
	for i, n := range lens {
		starts[i], at = at, at+n
	}
	return starts
}

// mustCover panics unless the sequences are the rows of x.
func mustCover(x *Value, lens []int) {
	sum := 0
	for _, n := range lens {
		if n < 1 {
			panic("autodiff: pooling a sequence of no rows")
		}
		sum += n
	}
	if sum != x.Rows {
		panic(fmt.Sprintf("autodiff: pooling sequences of %d rows in all on %d", sum, x.Rows))
	}
}

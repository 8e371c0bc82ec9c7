package autodiff

// Lookup returns the rows of a table that ids name, as [Tape.Rows] does, but that the row
// called padding gets no gradient, as the embedding of a padding token in PyTorch; a
// negative padding is none.
func (t *Tape) Lookup(table *Value, ids []int32, padding int32) *Value {
	y := t.newValue(len(ids), table.Cols, table)
	eachRows(y.Rows, y.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			copy(y.row(i), table.row(int(ids[i])))
		}
	})
	if !y.needs {
		return y
	}
	t.record(func() {
		dt, dy := t.gradOf(table), t.gradOf(y)
		// A row may be named twice, so the split is over columns.
		eachColumns(y.Cols, func(lo, hi int) {
			for i, id := range ids {
				if id != padding {
					at := int(id) * table.Cols
					add(dt[at+lo:at+hi], dy[i*y.Cols+lo:i*y.Cols+hi])
				}
			}
		})
	}, y)
	return y
}

// LookupLoRA adds scale times the rows that ids name of the table Aᵀ·Bᵀ to y in place, for
// A of r×rows, B of width×r and y of n×width: low-rank factors beside a table that is
// looked up. In A the column called padding gets no gradient. The product is never formed.
func (t *Tape) LookupLoRA(y *Value, ids []int32, a, b *Value, scale float32, padding int32) {
	rank := a.Rows
	b.mustMatch("LookupLoRA's B", y.Cols, rank)
	if len(ids) != y.Rows {
		panic("autodiff: LookupLoRA needs an id for each row")
	}
	change(y, "LookupLoRA")
	inner := t.newValue(len(ids), rank)
	eachRows(inner.Rows, rank, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			for k := range rank {
				inner.Data[i*rank+k] = a.Data[k*a.Cols+int(ids[i])]
			}
		}
	})
	product(asIs, flipped, scale, inner.general(), b.general(), 1, y.general())
	if !t.wants(a, b) {
		t.arena.put(inner.buf)
		return
	}
	y.needs, inner.needs = true, true
	keep(b)
	t.record(func() {
		dy := t.gradMatrix(y)
		if b.needs {
			t.addProduct(b, flipped, asIs, scale, dy, inner.general())
		}
		if !a.needs {
			return
		}
		t.addProduct(inner, asIs, asIs, scale, dy, b.general())
		dInner, da := t.gradMatrix(inner), t.gradOf(a)
		parallel(rank, func(_, k int) {
			row := da[k*a.Cols : (k+1)*a.Cols]
			for i, id := range ids {
				if id != padding {
					row[id] += dInner.Data[i*rank+k]
				}
			}
		})
	}, inner)
}

// TurnedLoRA adds scale·(x·B)·A to y in place, for x of n×width, A of r×rows, B of width×r
// and y of n×rows: what [Tape.LookupLoRA]'s factors are to a layer whose weight is the
// table, as the head of a model that is tied to its embedding.
func (t *Tape) TurnedLoRA(y, x, a, b *Value, scale float32) {
	b.mustMatch("TurnedLoRA's B", x.Cols, a.Rows)
	y.mustMatch("TurnedLoRA's output", x.Rows, a.Cols)
	change(y, "TurnedLoRA")
	t.throughRank(y, x, b, a, asIs, scale)
}

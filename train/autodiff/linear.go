package autodiff

import "fmt"

// Linear returns x·Wᵀ + bias for x of n×in, W of out×in and a bias of 1×out, which
// may be nil. Gradients flow to those of the three that need one.
func (t *Tape) Linear(x, w, bias *Value) *Value {
	if x.Cols != w.Cols {
		panic(fmt.Sprintf("autodiff: a linear layer of %d inputs on %d columns", w.Cols, x.Cols))
	}
	y := t.newValue(x.Rows, w.Rows, x, w, bias)
	beta := float32(0)
	if bias != nil {
		beta = 1
		bias.mustMatch("bias", 1, w.Rows)
		eachRows(y.Rows, y.Cols, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				copy(y.row(i), bias.Data)
			}
		})
	}
	product(asIs, flipped, 1, x.general(), w.general(), beta, y.general())
	if !y.needs {
		return y
	}
	if w.needs {
		keep(x)
	}
	if x.needs {
		keep(w)
	}
	t.record(func() {
		dy := t.gradMatrix(y)
		if x.needs {
			t.addProduct(x, asIs, asIs, 1, dy, w.general())
		}
		if w.needs {
			t.addProduct(w, flipped, asIs, 1, dy, x.general())
		}
		if bias != nil && bias.needs {
			addColumnSums(t.gradOf(bias), dy)
		}
	}, y)
	return y
}

// LoRA adds scale·(x·Aᵀ)·Bᵀ to y in place, for x of n×in, A of r×in, B of out×r and
// y of n×out (Hu et al., "LoRA", 2021, section 4.1). Gradients flow to those of y, x,
// A and B that need one; a rank of r costs 2·r·(in+out) operations a row, and the
// delta B·A is never formed.
func (t *Tape) LoRA(y, x, a, b *Value, scale float32) {
	rank := a.Rows
	x.mustMatch("LoRA's input", y.Rows, a.Cols)
	b.mustMatch("LoRA's B", y.Cols, rank)
	change(y, "LoRA")
	inner := t.newValue(x.Rows, rank)
	product(asIs, flipped, 1, x.general(), a.general(), 0, inner.general())
	product(asIs, flipped, scale, inner.general(), b.general(), 1, y.general())
	if !t.wants(x, a, b) {
		t.arena.put(inner.buf)
		return
	}
	y.needs, inner.needs = true, true
	if a.needs {
		keep(x)
	}
	keep(a, b)
	t.record(func() {
		dy := t.gradMatrix(y)
		if b.needs {
			t.addProduct(b, flipped, asIs, scale, dy, inner.general())
		}
		if !a.needs && !x.needs {
			return
		}
		t.addProduct(inner, asIs, asIs, scale, dy, b.general())
		dInner := t.gradMatrix(inner)
		if a.needs {
			t.addProduct(a, flipped, asIs, 1, dInner, x.general())
		}
		if x.needs {
			t.addProduct(x, asIs, asIs, 1, dInner, a.general())
		}
	}, inner)
}

// addColumnSums adds the sums down m's columns to sums, each row after row.
func addColumnSums(sums []float32, m matrix) {
	eachColumns(m.Cols, func(lo, hi int) {
		for i := range m.Rows {
			add(sums[lo:hi], m.Data[i*m.Stride+lo:i*m.Stride+hi])
		}
	})
}

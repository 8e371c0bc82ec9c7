package autodiff

import (
	"fmt"

	"gonum.org/v1/gonum/blas"
)

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
	x.mustMatch("LoRA's input", y.Rows, a.Cols)
	b.mustMatch("LoRA's B", y.Cols, a.Rows)
	change(y, "LoRA")
	t.throughRank(y, x, a, b, flipped, scale)
}

// throughRank adds scale·(x·op(p))·op(q) to y in place. op is one for both: it is flipped for
// factors as they lie beside a layer, and asIs for those of a layer that is turned.
func (t *Tape) throughRank(y, x, p, q *Value, op blas.Transpose, scale float32) {
	rank, back := p.Rows, asIs
	if op == asIs {
		rank, back = p.Cols, flipped
	}
	inner := t.newValue(x.Rows, rank)
	product(asIs, op, 1, x.general(), p.general(), 0, inner.general())
	product(asIs, op, scale, inner.general(), q.general(), 1, y.general())
	if !t.wants(x, p, q) {
		t.arena.put(inner.buf)
		return
	}
	y.needs, inner.needs = true, true
	if p.needs {
		keep(x)
	}
	keep(p, q)
	t.record(func() {
		dy := t.gradMatrix(y)
		if q.needs {
			t.addFactorGrad(q, op, scale, inner.general(), dy)
		}
		if !p.needs && !x.needs {
			return
		}
		t.addProduct(inner, asIs, back, scale, dy, q.general())
		dInner := t.gradMatrix(inner)
		if p.needs {
			t.addFactorGrad(p, op, 1, x.general(), dInner)
		}
		if x.needs {
			t.addProduct(x, asIs, back, 1, dInner, p.general())
		}
	}, inner)
}

// addFactorGrad adds what a factor f gets of out = scale·in·op(f).
func (t *Tape) addFactorGrad(f *Value, op blas.Transpose, scale float32, in, dOut matrix) {
	if op == flipped {
		in, dOut = dOut, in
	}
	t.addProduct(f, flipped, asIs, scale, in, dOut)
}

// addColumnSums adds the sums down m's columns to sums, each row after row.
func addColumnSums(sums []float32, m matrix) {
	eachColumns(m.Cols, func(lo, hi int) {
		for i := range m.Rows {
			add(sums[lo:hi], m.Data[i*m.Stride+lo:i*m.Stride+hi])
		}
	})
}

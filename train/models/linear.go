package models

import "github.com/seed-b982eded/graft/train/autodiff"

// linear is a frozen linear layer with the factor pairs that lie on it.
type linear struct {
	weight   *autodiff.Value // out × in
	bias     *autodiff.Value // 1 × out, or nil
	branches []branch
}

// branch is one factor pair: scale·B·A beside the weight.
type branch struct {
	a, b   *autodiff.Value // r × in, out × r
	scale  float32
	number uint64 // tells the dropout masks of trained branches apart; 0 where not trained
}

// dropout is what LossGrad asks of trained branches; the zero value is none.
type dropout struct {
	p    float64
	seed uint64
}

// apply returns the layer's output for the rows of x.
func (l *linear) apply(t *autodiff.Tape, x *autodiff.Value, drop dropout) *autodiff.Value {
	y := t.Linear(x, l.weight, l.bias)
	for _, b := range l.branches {
		in := x
		if b.number != 0 {
			// An odd factor keeps the seeds of neighbouring branches and batches apart.
			in = t.Dropout(x, drop.p, drop.seed+b.number*0xd1342543de82ef95)
		}
		t.LoRA(y, in, b.a, b.b, b.scale)
	}
	return y
}

// findLinear looks up a linear layer.
func (h *host) findLinear(w *weights, path string, l *linear, out, in int, bias bool) {
	w.matrix(&l.weight, path+".weight", out, in)
	if bias {
		w.vector(&l.bias, path+".bias", out)
	}
	h.addLinear(path, l, out, in)
}

// findTable looks up an embedding.
func (h *host) findTable(w *weights, path string, into **autodiff.Value, rows, width int) {
	w.matrix(into, path+".weight", rows, width)
	h.add(path, "weight", into)
}

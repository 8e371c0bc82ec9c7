package models

import "github.com/seed-b982eded/graft/train/autodiff"

// linear is a linear layer with the factor pairs that lie on it.
type linear struct {
	weight   *autodiff.Value // out × in
	bias     *autodiff.Value // 1 × out, or nil
	branches []*branch
}

// dropout is what LossGrad asks of trained branches; the zero value is none.
type dropout struct {
	p    float64
	seed uint64
}

// apply returns the layer's output for the rows of x.
func (l *linear) apply(t *autodiff.Tape, x *autodiff.Value, drop dropout) *autodiff.Value {
	if !scaled(l.branches) {
		y := t.Linear(x, l.weight, l.bias)
		for _, b := range l.branches {
			b.addTo(t, y, b.input(t, x, drop))
		}
		return y
	}
	// Magnitudes scale what the layer makes of x without its bias.
	y := t.Linear(x, l.weight, nil)
	for _, b := range l.branches {
		in := b.input(t, x, drop)
		switch {
		case b.magnitude == nil:
			b.addTo(t, y, in)
		case in == x:
			b.addTo(t, y, x)
			y = t.ScaleColumns(y, b.magnitude, b.rowNorms(l.weight))
		default:
			// Under dropout only what comes of the elements that are left is scaled, as in
			// PEFT (tuners/lora/variants.py): y + (m/n − 1)·W·x' + m/n·s·B·A·x'.
			u := t.Linear(in, l.weight, nil)
			t.Sub(y, u)
			b.addTo(t, u, in)
			t.Add(y, t.ScaleColumns(u, b.magnitude, b.rowNorms(l.weight)))
		}
	}
	if l.bias != nil {
		t.AddRow(y, l.bias, 1)
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

package models

import "github.com/seed-b982eded/graft/train/autodiff"

// norm is the weight and bias of a layer norm.
type norm struct{ weight, bias *autodiff.Value }

func (n *norm) apply(t *autodiff.Tape, x *autodiff.Value, eps float64) *autodiff.Value {
	return t.LayerNorm(x, n.weight, n.bias, eps)
}

// findNorm looks up a layer norm.
func (h *host) findNorm(w *weights, path string, n *norm, width int) {
	w.vector(&n.weight, path+".weight", width)
	w.vector(&n.bias, path+".bias", width)
	h.add(path, "weight", &n.weight)
	h.add(path, "bias", &n.bias)
}

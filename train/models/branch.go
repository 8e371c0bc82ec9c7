package models

import "github.com/seed-b982eded/graft/train/autodiff"

// branch is one factor pair: scale·B·A beside a weight.
type branch struct {
	a, b   *autodiff.Value // r × in, out × r
	scale  float32
	number uint64 // tells the dropout masks of trained branches apart; 0 where not trained

	// turned says that the factors are those of the embedding that the layer, the head, is
	// tied to: its a is r × out and its b in × r.
	turned bool

	bias      *autodiff.Value // of B, 1 × out, times biasScale; nil where there is none
	biasScale float32

	// magnitude, 1 × out and nil without DoRA, is what the norms of the outputs' weights
	// become.
	magnitude *autodiff.Value
	norms     []float32       // once they are known, of factors that are not trained
	normsOf   *autodiff.Value // the weight that they are of
}

// scaled reports whether there is a branch with a magnitude.
func scaled(branches []*branch) bool {
	for _, b := range branches {
		if b.magnitude != nil {
			return true
		}
	}
	return false
}

// input returns what the factors see of x.
func (b *branch) input(t *autodiff.Tape, x *autodiff.Value, drop dropout) *autodiff.Value {
	if b.number == 0 {
		return x
	}
	// An odd factor keeps the seeds of neighbouring branches and batches apart.
	return t.Dropout(x, drop.p, drop.seed+b.number*0xd1342543de82ef95)
}

// addTo adds what the branch makes of x to y.
func (b *branch) addTo(t *autodiff.Tape, y, x *autodiff.Value) {
	if b.turned {
		t.TurnedLoRA(y, x, b.a, b.b, b.scale)
	} else {
		t.LoRA(y, x, b.a, b.b, b.scale)
	}
	if b.bias != nil {
		t.AddRow(y, b.bias, b.biasScale)
	}
}

// rowNorms returns ‖W + s·B·A‖ of each output of a layer.
func (b *branch) rowNorms(w *autodiff.Value) []float32 { return b.normsBy(autodiff.RowNorms, w) }

// columnNorms returns ‖T + s·Aᵀ·Bᵀ‖ of each column of a table.
func (b *branch) columnNorms(w *autodiff.Value) []float32 {
	return b.normsBy(autodiff.ColumnNorms, w)
}

func (b *branch) normsBy(compute func(w, a, b *autodiff.Value, scale float32) []float32, w *autodiff.Value) []float32 {
	if b.norms != nil && b.normsOf == w {
		return b.norms
	}
	norms := compute(w, b.a, b.b, b.scale)
	if !b.a.NeedsGrad() && !w.NeedsGrad() {
		b.norms, b.normsOf = norms, w
	}
	return norms
}

package models

import (
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// adapterMutations are adapters or models with one thing left out: then outputs, or where
// grad is set the gradients, must be wrong, or the goldens could not see it.
var adapterMutations = []struct {
	run, what string
	adapter   func(ad *adapter.Adapter)
	model     func(h *host)
	attached  func(h *host)
	grad      bool
}{
	{run: "dora-llama", what: "magnitudes", adapter: func(ad *adapter.Adapter) { eachEntry(ad, plainLoRA) }},
	{run: "dora-gpt2", what: "magnitudes", adapter: func(ad *adapter.Adapter) { eachEntry(ad, plainLoRA) }},
	{run: "dora-gpt2", what: "a bias that is not scaled", attached: biasIntoBranches},
	{run: "dora-bert", what: "a bias that is not scaled", attached: biasIntoBranches},
	{run: "dora-embeddings", what: "magnitudes of the embedding", attached: func(h *host) { h.tables[0].branches[0].magnitude = nil }},
	{run: "embeddings-bert", what: "positions", attached: func(h *host) { h.tables[1].branches = nil }},
	{run: "embeddings-tied", what: "the head's factors", attached: func(h *host) { h.byPath[headPath].branches = nil }},
	{run: "embeddings-tied", what: "the head's scale", attached: func(h *host) { h.byPath[headPath].branches[0].scale = h.tables[0].branches[0].scale }},
	{run: "embeddings-gpt2", what: "a head that is apart", adapter: func(ad *adapter.Adapter) { ad.Tied = true }},
	{run: "biases-qwen2", what: "biases", adapter: withoutEntries(".bias")},
	{run: "biases-bert", what: "biases of norms", adapter: withoutEntries("LayerNorm.bias")},
	{run: "bias-deltas-qwen2", what: "biases of B", attached: func(h *host) { eachBranch(h, func(b *branch) { b.bias = nil }) }},
	{run: "bias-deltas-gpt2", what: "the scale of biases of B", attached: func(h *host) { eachBranch(h, func(b *branch) { b.biasScale = 1 }) }},
	{run: "saved-llama", what: "a norm", adapter: withoutEntries("model.norm.weight")},
	{run: "saved-llama", what: "a whole layer", adapter: withoutEntries("down_proj.weight")},
	{run: "saved-apart", what: "a head that is apart", adapter: func(ad *adapter.Adapter) { ad.Tied = true }},
	{run: "embeddings-mistral", what: "padding", model: func(h *host) { h.tables[0].padding = noPadding }, grad: true},
	{run: "embeddings-bert", what: "padding", model: func(h *host) { h.tables[0].padding = noPadding }, grad: true},
	{run: "saved-llama", what: "padding", model: func(h *host) { h.tables[0].padding = noPadding }, grad: true},
}

func eachEntry(ad *adapter.Adapter, change func(adapter.Update) adapter.Update) {
	for i, e := range ad.Entries {
		ad.Entries[i].Update = change(e.Update)
	}
}

func plainLoRA(u adapter.Update) adapter.Update {
	if m, ok := u.(*adapter.Magnitude); ok {
		return m.Inner
	}
	return u
}

func withoutEntries(end string) func(*adapter.Adapter) {
	return func(ad *adapter.Adapter) {
		ad.Entries = slices.DeleteFunc(ad.Entries, func(e adapter.Entry) bool {
			u, ok := e.Update.(*adapter.Replace)
			return ok && strings.HasSuffix("."+e.Module+"."+u.Param, end)
		})
	}
}

func eachBranch(h *host, change func(b *branch)) {
	for _, l := range h.byPath {
		for _, b := range l.branches {
			change(b)
		}
	}
}

// biasIntoBranches has magnitudes scale the bias of the layer too.
func biasIntoBranches(h *host) {
	for _, l := range h.byPath {
		if len(l.branches) > 0 && l.bias != nil {
			l.branches[0].bias, l.branches[0].biasScale, l.bias = l.bias, 1, nil
		}
	}
}

func hostOf(m Adaptable) *host {
	switch m := m.(type) {
	case *decoder:
		return &m.host
	case *gpt2:
		return &m.host
	case *Classifier:
		return m.host
	}
	return nil
}

func TestAdapterMutationsAreSeen(t *testing.T) {
	for _, c := range adapterMutations {
		t.Run(c.run+" without "+c.what, func(t *testing.T) {
			r := openAdapterRun(t, c.run)
			m, outputs, err := r.load(r.base)
			if err != nil {
				t.Fatal(err)
			}
			if c.adapter != nil {
				c.adapter(r.init)
			}
			if c.model != nil {
				c.model(hostOf(m))
			}
			if err := m.Train(r.init, TrainOptions{}); err != nil {
				t.Fatal(err)
			}
			if c.attached != nil {
				c.attached(hostOf(m))
			}
			first := r.batch(t, 0)
			if !c.grad {
				got, err := outputs(first)
				if err != nil {
					t.Fatal(err)
				}
				if off := r.compare(first, got, goldenFloats(t, r.golden, "adapter")); off < 100*adapterBound {
					t.Errorf("the outputs are off by %g of the rms only", off)
				}
				return
			}
			if _, _, err := m.LossGrad(first, 1/float32(first.Count())); err != nil {
				t.Fatal(err)
			}
			worst := 0.
			for _, p := range m.Params() {
				if want := goldenFloats(t, r.golden, "grad."+p.Name); len(want) == len(p.Grad) {
					worst = max(worst, frobenius(p.Grad, want))
				}
			}
			if worst < 10*matrixBound {
				t.Errorf("gradients are off by %g only", worst)
			}
		})
	}
}

// Under dropout DoRA scales what is left of the input and lets the rest pass:
// W·x + v + (m/n − 1)·W·x' + m/n·s·B·A·x', with x' what is left of x.
func TestDropoutOfMagnitudes(t *testing.T) {
	r := openAdapterRun(t, "dora-gpt2")
	m, _, err := r.load(r.base)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Train(r.init, TrainOptions{}); err != nil {
		t.Fatal(err)
	}
	l := hostOf(m).byPath["transformer.h.1.mlp.c_fc"]
	b, drop := l.branches[0], dropout{p: 0.4, seed: 9}
	var tape autodiff.Tape
	x := autodiff.Frozen(5, l.weight.Cols, autodiff.NewBuffer(5*l.weight.Cols))
	for i := range x.Data {
		x.Data[i] = float32(i%11-5) / 3
	}
	got := l.apply(&tape, x, drop).Data
	left := b.input(&tape, x, drop)
	if slices.Equal(left.Data, x.Data) {
		t.Fatal("nothing is dropped")
	}
	all, some := tape.Linear(x, l.weight, l.bias), tape.Linear(left, l.weight, nil)
	factors := autodiff.Frozen(5, l.weight.Rows, autodiff.NewBuffer(5*l.weight.Rows))
	low := tape.Linear(tape.Linear(left, b.a, nil), b.b, nil)
	norms := b.rowNorms(l.weight)
	for i := range factors.Data {
		c := b.magnitude.Data[i%len(norms)] / norms[i%len(norms)]
		factors.Data[i] = all.Data[i] + (c-1)*some.Data[i] + c*b.scale*low.Data[i]
	}
	// Numbers up to 10 in another order of sums.
	if d := largestDifference(got, factors.Data); !(d <= 1e-5) {
		t.Errorf("the layer is off by %g", d)
	}
}

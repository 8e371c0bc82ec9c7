package models

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// host is what adapters lie on and are trained in: a model's modules by their paths, and
// its loss. Every architecture embeds one and fills it with add and addLinear.
type host struct {
	linears  []Module
	byPath   map[string]*linear
	tables   []*table
	tied     *table                      // whose weight is that of the head, lm_head, too
	slots    map[string]**autodiff.Value // parameters by "path.name", nil pointers where absent
	flipped  map[string]bool             // of slots: stored as in × out
	replaced map[string]bool
	prefix   string // the first segment of the body's paths, with a dot
	size     Size
	trained  *training // nil until Train

	// objective returns the loss that the model learns from as LossGrad does, and what it
	// is computed of, nil where there is nothing to learn.
	objective func(t *autodiff.Tape, b Batch, drop dropout, scale float32) (y *autodiff.Value, sum float64, labels int, err error)
	// Training and evaluation keep buffers of different sizes.
	training, evaluation autodiff.Tape
}

// training is the adapter being trained.
type training struct {
	source *adapter.Adapter
	params []Param
	parts  [][]part // by entry
	drop   float64
}

// add makes a parameter known.
func (h *host) add(path, name string, slot **autodiff.Value) {
	if h.slots == nil {
		h.slots, h.replaced = map[string]**autodiff.Value{}, map[string]bool{}
	}
	h.slots[path+"."+name] = slot
}

// addLinear makes a linear layer of out×in and its parameters known.
func (h *host) addLinear(path string, l *linear, out, in int) {
	if h.byPath == nil {
		h.byPath = map[string]*linear{}
	}
	h.byPath[path] = l
	h.linears = append(h.linears, Module{path, out, in})
	h.add(path, "weight", &l.weight)
	h.add(path, "bias", &l.bias)
}

// flip notes that the checkpoint stores a parameter as in × out.
func (h *host) flip(path, name string) {
	if h.flipped == nil {
		h.flipped = map[string]bool{}
	}
	h.flipped[path+"."+name] = true
}

// spellings returns the names that a module may have in the model: as it is given, and
// with the body's prefix put before it or taken off.
func (h *host) spellings(module string) []string {
	return []string{module, h.prefix + module, strings.TrimPrefix(module, h.prefix)}
}

// countBase counts the base's parameters once all are read.
func (h *host) countBase() {
	seen := map[*autodiff.Value]bool{}
	for _, slot := range h.slots {
		if v := *slot; v != nil && !seen[v] {
			seen[v] = true
			h.size.Base += int64(len(v.Data))
		}
	}
}

// Modules returns the linear layers in the order of the model.
func (h *host) Modules() []Module { return append([]Module(nil), h.linears...) }

// Paths returns the modules that have parameters, sorted.
func (h *host) Paths() []string {
	seen := map[string]bool{}
	for name, slot := range h.slots {
		if *slot != nil {
			seen[name[:strings.LastIndexByte(name, '.')]] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// Size counts parameters.
func (h *host) Size() Size { return h.size }

// Params returns the factors and whole parameters being trained.
func (h *host) Params() []Param {
	if h.trained == nil {
		return nil
	}
	return append([]Param(nil), h.trained.params...)
}

// Attach puts an adapter on the model, its deltas multiplied by weight.
func (h *host) Attach(ad *adapter.Adapter, weight float64) error {
	p, err := h.plan(ad, weight, false)
	if err != nil {
		return err
	}
	p.apply()
	return nil
}

// Train attaches an adapter whose factors, and parameters that it replaces, are trained
// from their present values.
func (h *host) Train(ad *adapter.Adapter, opts TrainOptions) error {
	if h.trained != nil {
		return formats.Usagef("the model is training an adapter already")
	}
	if !(opts.Dropout >= 0 && opts.Dropout < 1) {
		return formats.Usagef("dropout must be at least 0 and below 1 (got %g)", opts.Dropout)
	}
	if len(ad.Entries) == 0 {
		return formats.Unfitf(ad.Path, "", "the adapter has no factors to train")
	}
	p, err := h.plan(ad, 1, true)
	if err != nil {
		return err
	}
	p.apply()
	h.training.Checkpointing = opts.GradientCheckpointing
	h.trained = &training{source: ad, params: p.params, parts: p.parts, drop: opts.Dropout}
	for _, param := range p.params {
		h.size.Trainable += int64(len(param.Data))
	}
	return nil
}

// LossGrad adds the derivatives of scale · Σ loss to the parameters' Grad.
func (h *host) LossGrad(b Batch, scale float32) (sum float64, labels int, err error) {
	if h.trained == nil {
		return 0, 0, formats.Usagef("the model is training no adapter")
	}
	h.training.Reset()
	_, sum, labels, err = h.objective(&h.training, b, dropout{h.trained.drop, b.Seed}, scale)
	h.training.Backward()
	return sum, labels, err
}

// Loss returns what LossGrad returns, without gradients and without dropout.
func (h *host) Loss(b Batch) (sum float64, labels int, err error) {
	_, sum, labels, err = h.objective(h.forward(), b, dropout{}, 1)
	return sum, labels, err
}

// forward returns the tape of evaluations, empty.
func (h *host) forward() *autodiff.Tape {
	h.evaluation.NoGrad = true
	h.evaluation.Reset()
	return &h.evaluation
}

// Export returns the trained adapter with the present factors.
func (h *host) Export() (*adapter.Adapter, error) {
	if h.trained == nil {
		return nil, formats.Usagef("the model is training no adapter")
	}
	out := *h.trained.source
	out.Closer = nil
	out.Entries = slices.Clone(out.Entries)
	for i, parts := range h.trained.parts {
		out.Entries[i].Update = withParts(out.Entries[i].Update, parts)
	}
	return &out, nil
}

// withParts returns an update of the present values of what its tensors were trained in.
func withParts(update adapter.Update, parts []part) adapter.Update {
	if len(parts) == 0 { // not trained
		return update
	}
	switch u := update.(type) {
	case *adapter.LowRank:
		u2 := *u
		u2.A, u2.B = parts[0].tensor(u.A), parts[1].tensor(u.B)
		return &u2
	case *adapter.Magnitude:
		inner := withParts(u.Inner, parts[:2]).(*adapter.LowRank)
		return &adapter.Magnitude{Inner: inner, Vector: parts[2].tensor(u.Vector)}
	case *adapter.BiasDelta:
		u2 := *u
		u2.Vector = parts[0].tensor(u.Vector)
		return &u2
	case *adapter.Replace:
		u2 := *u
		u2.Value = parts[0].tensor(u.Value)
		return &u2
	}
	return update
}

// tensor returns t with the part's present elements.
func (p part) tensor(t formats.Tensor) formats.Tensor {
	data := p.data
	if p.turned {
		data = transposed(data, p.rows, p.cols)
	}
	return inMemory(t, data)
}

// inMemory returns t with a copy of data as its elements.
func inMemory(t formats.Tensor, data []float32) formats.Tensor {
	raw := make([]byte, 4*len(data))
	formats.EncodeFloat32(raw, data, formats.F32)
	t.DType, t.Data = formats.F32, bytes.NewReader(raw)
	return t
}

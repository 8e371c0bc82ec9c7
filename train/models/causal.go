package models

import (
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// trunk is a model without its head.
type trunk interface {
	// find looks up the weights.
	find(w *weights)
	// hidden returns the output of the last block for the rows that are wanted of in, as a
	// head takes it.
	hidden(t *autodiff.Tape, in packed, drop dropout) *autodiff.Value
	// width returns how many columns hidden has.
	width() int
	Vocabulary() int
	MaxPositions() int
}

// causal is what makes a causal language model of a trunk, which embeds it: a head that
// scores the next token, and what is done with the scores.
type causal struct {
	host
	trunk    trunk
	turning  []*turning // by rope
	head     linear
	logitCap float32 // limit·tanh(x/limit) of the logits; 0 for none
	ends     []int32
}

// load reads the weights of a trunk and of its head, which is the embedding where they are
// tied.
func (m *causal) load(ckpt *formats.Checkpoint, doc *strictjson.Object, t trunk, embedding *table, tied bool) (err error) {
	m.trunk, m.objective = t, m.loss
	if m.ends, err = generationEnds(ckpt, doc); err != nil {
		return err
	}
	w := findWeights(ckpt, m.prefix)
	t.find(w)
	m.addLinear("lm_head", &m.head, t.Vocabulary(), t.width())
	if _, ok := ckpt.Tensor("lm_head.weight"); ok || !tied {
		w.matrix(&m.head.weight, "lm_head.weight", t.Vocabulary(), t.width())
	}
	if err := w.read(); err != nil {
		return err
	}
	if tied {
		if stored := m.head.weight; stored != nil && !slices.Equal(stored.Data, embedding.weight.Data) {
			return formats.Rejectf(ckpt.Path(), "lm_head.weight", "differs from the embedding although config.json ties them (tie_word_embeddings)")
		}
		m.head.weight, m.tied = embedding.weight, embedding
	}
	m.countBase()
	return nil
}

// EndTokens returns eos_token_id of generation_config.json, else of config.json.
func (m *causal) EndTokens() []int32 { return slices.Clone(m.ends) }

// scores returns the logits of the rows that are wanted.
func (m *causal) scores(t *autodiff.Tape, in packed, drop dropout) *autodiff.Value {
	y := m.head.apply(t, m.trunk.hidden(t, in, drop), drop)
	if m.logitCap != 0 {
		t.SoftCap(y, m.logitCap)
	}
	return y
}

func (m *causal) loss(t *autodiff.Tape, b Batch, drop dropout, scale float32) (y *autodiff.Value, sum float64, counted int, err error) {
	vocabulary := m.trunk.Vocabulary()
	in, err := b.pack(vocabulary, m.trunk.MaxPositions())
	if err != nil {
		return nil, 0, 0, err
	}
	// The head, often the largest product, runs over labelled tokens only.
	var labels []int32
	if in.rows, labels, err = b.labelled(in, vocabulary); err != nil || len(in.rows) == 0 {
		return nil, 0, 0, err
	}
	y = m.scores(t, in, drop)
	sum, counted = t.CrossEntropy(y, labels, scale)
	return y, sum, counted, nil
}

// Logits returns Rows·Cols × vocabulary scores, zeros at padding.
func (m *causal) Logits(b Batch) ([]float32, error) {
	n := m.trunk.Vocabulary()
	in, err := b.pack(n, m.trunk.MaxPositions())
	if err != nil {
		return nil, err
	}
	out := make([]float32, len(b.IDs)*n)
	if len(in.ids) == 0 {
		return out, nil
	}
	y := m.scores(m.forward(), in, dropout{})
	for row, place := range in.places {
		copy(out[place*n:(place+1)*n], y.Data[row*n:])
	}
	return out, nil
}

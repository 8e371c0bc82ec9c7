package models

import (
	"fmt"
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// llama is LlamaForCausalLM: pre-norm blocks of rotary grouped-query attention and a
// SwiGLU layer (Touvron et al., "LLaMA", 2023).
type llama struct {
	host
	cfg    llamaConfig
	ends   []int32
	rotary *autodiff.Rotary

	embedding *autodiff.Value
	blocks    []*llamaBlock
	norm      *autodiff.Value
	head      linear

	// Training and evaluation keep buffers of different sizes.
	training, evaluation autodiff.Tape
}

type llamaBlock struct {
	inputNorm, postNorm *autodiff.Value
	q, k, v, o          linear
	gate, up, down      linear
}

func loadLlama(ckpt *formats.Checkpoint, doc *strictjson.Object) (*llama, error) {
	cfg, err := parseLlama(ckpt.Path(), doc)
	if err != nil {
		return nil, err
	}
	// Every block has weights, so this bounds the work before the first look-up.
	if cfg.layers > ckpt.Len() {
		return nil, formats.Rejectf(ckpt.Path(), "", "config.json: %d layers, but there are %d tensors", cfg.layers, ckpt.Len())
	}
	m := &llama{cfg: cfg, ends: endTokens(doc), rotary: autodiff.NewRotary(cfg.headDim, cfg.theta)}
	if _, ok := ckpt.SideFile("generation_config.json"); ok {
		generation, err := readConfig(ckpt, "generation_config.json")
		if err != nil {
			return nil, err
		}
		if ends := endTokens(generation); ends != nil {
			m.ends = ends
		}
	}
	if err := m.load(ckpt); err != nil {
		return nil, err
	}
	m.countBase()
	return m, nil
}

func (m *llama) load(ckpt *formats.Checkpoint) error {
	cfg, w := m.cfg, findWeights(ckpt)
	matrix := func(path string, into **autodiff.Value, rows, cols int) {
		w.matrix(into, path+".weight", rows, cols)
		m.add(path, "weight", into)
	}
	norm := func(path string, into **autodiff.Value) {
		w.vector(into, path+".weight", cfg.hidden)
		m.add(path, "weight", into)
	}
	layer := func(path string, l *linear, out, in int, bias bool) {
		w.matrix(&l.weight, path+".weight", out, in)
		if bias {
			w.vector(&l.bias, path+".bias", out)
		}
		m.addLinear(path, l, out, in)
	}
	matrix("model.embed_tokens", &m.embedding, cfg.vocabulary, cfg.hidden)
	queries, keys := cfg.heads*cfg.headDim, cfg.keyValueHeads*cfg.headDim
	for i := range cfg.layers {
		b, path := new(llamaBlock), fmt.Sprintf("model.layers.%d.", i)
		m.blocks = append(m.blocks, b)
		norm(path+"input_layernorm", &b.inputNorm)
		layer(path+"self_attn.q_proj", &b.q, queries, cfg.hidden, cfg.attentionBias)
		layer(path+"self_attn.k_proj", &b.k, keys, cfg.hidden, cfg.attentionBias)
		layer(path+"self_attn.v_proj", &b.v, keys, cfg.hidden, cfg.attentionBias)
		layer(path+"self_attn.o_proj", &b.o, cfg.hidden, queries, cfg.attentionBias)
		norm(path+"post_attention_layernorm", &b.postNorm)
		layer(path+"mlp.gate_proj", &b.gate, cfg.intermediate, cfg.hidden, cfg.mlpBias)
		layer(path+"mlp.up_proj", &b.up, cfg.intermediate, cfg.hidden, cfg.mlpBias)
		layer(path+"mlp.down_proj", &b.down, cfg.hidden, cfg.intermediate, cfg.mlpBias)
	}
	norm("model.norm", &m.norm)
	m.addLinear("lm_head", &m.head, cfg.vocabulary, cfg.hidden)
	if _, ok := ckpt.Tensor("lm_head.weight"); ok || !cfg.tied {
		w.matrix(&m.head.weight, "lm_head.weight", cfg.vocabulary, cfg.hidden)
	}
	if err := w.read(); err != nil {
		return err
	}
	if cfg.tied {
		if stored := m.head.weight; stored != nil && !slices.Equal(stored.Data, m.embedding.Data) {
			return formats.Rejectf(ckpt.Path(), "lm_head.weight", "differs from the embedding although config.json ties them (tie_word_embeddings)")
		}
		m.head.weight = m.embedding
	}
	return nil
}

// Vocabulary returns the number of tokens that the model scores.
func (m *llama) Vocabulary() int { return m.cfg.vocabulary }

// MaxPositions returns max_position_embeddings.
func (m *llama) MaxPositions() int { return m.cfg.maxPositions }

// EndTokens returns eos_token_id of generation_config.json, else of config.json.
func (m *llama) EndTokens() []int32 { return slices.Clone(m.ends) }

// pass is one run of the blocks over packed tokens.
type pass struct {
	tape      *autodiff.Tape
	positions []int32
	seqs      []autodiff.Seq
	drop      dropout
	cache     *cache // nil but in a session
}

// hidden returns the last block's output, one row a token.
func (m *llama) hidden(p pass, ids []int32) *autodiff.Value {
	m.rotary.Grow(int(slices.Max(p.positions)) + 1)
	h := p.tape.Rows(m.embedding, ids)
	for i, b := range m.blocks {
		h = p.tape.Scope(func() *autodiff.Value {
			return m.feedForward(p, b, m.attend(p, b, i, h))
		})
	}
	return h
}

// attend returns h + attention(norm(h)).
func (m *llama) attend(p pass, b *llamaBlock, i int, h *autodiff.Value) *autodiff.Value {
	t := p.tape
	x := t.RMSNorm(h, b.inputNorm, m.cfg.eps)
	q, k, v := b.q.apply(t, x, p.drop), b.k.apply(t, x, p.drop), b.v.apply(t, x, p.drop)
	t.Rotate(q, m.rotary, p.positions)
	t.Rotate(k, m.rotary, p.positions)
	if p.cache != nil {
		k, v = p.cache.extend(i, k, v)
	}
	heads := autodiff.Heads{Query: m.cfg.heads, KeyValue: m.cfg.keyValueHeads, Dim: m.cfg.headDim}
	y := b.o.apply(t, t.Attention(q, k, v, heads, p.seqs), p.drop)
	t.Add(y, h)
	return y
}

// feedForward returns h + mlp(norm(h)).
func (m *llama) feedForward(p pass, b *llamaBlock, h *autodiff.Value) *autodiff.Value {
	t := p.tape
	x := t.RMSNorm(h, b.postNorm, m.cfg.eps)
	y := t.SwiGLU(b.gate.apply(t, x, p.drop), b.up.apply(t, x, p.drop))
	y = b.down.apply(t, y, p.drop)
	t.Add(y, h)
	return y
}

// scores returns the logits of the rows of h.
func (m *llama) scores(p pass, h *autodiff.Value) *autodiff.Value {
	return m.head.apply(p.tape, p.tape.RMSNorm(h, m.norm, m.cfg.eps), p.drop)
}

// LossGrad adds the derivatives of scale · Σ loss to the parameters' Grad.
func (m *llama) LossGrad(b Batch, scale float32) (sum float64, labels int, err error) {
	if m.trained == nil {
		return 0, 0, formats.Usagef("the model is training no adapter")
	}
	sum, labels, err = m.loss(&m.training, b, dropout{m.trained.drop, b.Seed}, scale)
	m.training.Backward()
	return sum, labels, err
}

// Loss returns the summed cross-entropy and the number of labels.
func (m *llama) Loss(b Batch) (sum float64, labels int, err error) {
	m.evaluation.NoGrad = true
	return m.loss(&m.evaluation, b, dropout{}, 1)
}

func (m *llama) loss(t *autodiff.Tape, b Batch, drop dropout, scale float32) (sum float64, counted int, err error) {
	t.Reset()
	in, err := b.pack(m.cfg.vocabulary, m.cfg.maxPositions)
	if err != nil {
		return 0, 0, err
	}
	rows, labels, err := b.labelled(in, m.cfg.vocabulary)
	if err != nil || len(rows) == 0 {
		return 0, 0, err
	}
	p := pass{tape: t, positions: in.positions, seqs: in.seqs, drop: drop}
	h := m.hidden(p, in.ids)
	if len(rows) < h.Rows {
		// The head, often the largest product, runs over labelled tokens only.
		h = t.Rows(h, rows)
	}
	sum, counted = t.CrossEntropy(m.scores(p, h), labels, scale)
	return sum, counted, nil
}

// Logits returns Rows·Cols × vocabulary scores, zeros at padding.
func (m *llama) Logits(b Batch) ([]float32, error) {
	in, err := b.pack(m.cfg.vocabulary, m.cfg.maxPositions)
	if err != nil {
		return nil, err
	}
	n := m.cfg.vocabulary
	out := make([]float32, len(b.IDs)*n)
	if len(in.ids) == 0 {
		return out, nil
	}
	t := &m.evaluation
	t.NoGrad = true
	t.Reset()
	p := pass{tape: t, positions: in.positions, seqs: in.seqs}
	y := m.scores(p, m.hidden(p, in.ids))
	for row, place := range in.places {
		copy(out[place*n:(place+1)*n], y.Data[row*n:])
	}
	return out, nil
}

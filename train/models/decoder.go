package models

import (
	"fmt"
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// decoder is a causal language model of blocks of rotary grouped-query attention and a
// gated layer, in all the forms that a spec has.
type decoder struct {
	host
	spec    spec
	ends    []int32
	turning []*turning // by rope

	embedding *autodiff.Value
	blocks    []*block
	norm      *autodiff.Value
	head      linear

	// Training and evaluation keep buffers of different sizes.
	training, evaluation autodiff.Tape
}

// block is one layer's weights. Norms that the spec has not are nil, and of the linear
// layers it has the fused or the single ones.
type block struct {
	attentionIn, attentionOut, mlpIn, mlpOut *autodiff.Value
	queryNorm, keyNorm                       *autodiff.Value
	q, k, v, qkv, o                          linear
	gate, up, gateUp, down                   linear
}

// loadDecoder makes the decoder of a spec with the weights of a checkpoint, whose
// config.json is doc.
func loadDecoder(ckpt *formats.Checkpoint, doc *strictjson.Object, s spec) (*decoder, error) {
	m := &decoder{spec: s, ends: endTokens(doc)}
	for _, r := range s.ropes {
		m.turning = append(m.turning, newTurning(r))
	}
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

func (m *decoder) load(ckpt *formats.Checkpoint) error {
	s, w := m.spec, findWeights(ckpt)
	norm := func(path string, into **autodiff.Value, n int) {
		w.vector(into, path+".weight", n)
		m.add(path, "weight", into)
	}
	layer := func(path string, l *linear, out, in int, bias bool) {
		w.matrix(&l.weight, path+".weight", out, in)
		if bias {
			w.vector(&l.bias, path+".bias", out)
		}
		m.addLinear(path, l, out, in)
	}
	w.matrix(&m.embedding, "model.embed_tokens.weight", s.vocabulary, s.hidden)
	m.add("model.embed_tokens", "weight", &m.embedding)
	queries, keys := s.heads*s.headDim, s.keyValueHeads*s.headDim
	for i := range s.layers {
		b, path := new(block), fmt.Sprintf("model.layers.%d.", i)
		m.blocks = append(m.blocks, b)
		for _, n := range []struct {
			name string
			into **autodiff.Value
		}{
			{s.norms.attentionIn, &b.attentionIn}, {s.norms.attentionOut, &b.attentionOut},
			{s.norms.mlpIn, &b.mlpIn}, {s.norms.mlpOut, &b.mlpOut},
		} {
			if n.name != "" {
				norm(path+n.name, n.into, s.hidden)
			}
		}
		if s.fused {
			layer(path+"self_attn.qkv_proj", &b.qkv, queries+2*keys, s.hidden, s.biases.qkv)
		} else {
			layer(path+"self_attn.q_proj", &b.q, queries, s.hidden, s.biases.qkv)
			layer(path+"self_attn.k_proj", &b.k, keys, s.hidden, s.biases.qkv)
			layer(path+"self_attn.v_proj", &b.v, keys, s.hidden, s.biases.qkv)
		}
		if s.headNorms {
			norm(path+"self_attn.q_norm", &b.queryNorm, s.headDim)
			norm(path+"self_attn.k_norm", &b.keyNorm, s.headDim)
		}
		layer(path+"self_attn.o_proj", &b.o, s.hidden, queries, s.biases.output)
		if s.fused {
			layer(path+"mlp.gate_up_proj", &b.gateUp, 2*s.intermediate, s.hidden, s.biases.mlp)
		} else {
			layer(path+"mlp.gate_proj", &b.gate, s.intermediate, s.hidden, s.biases.mlp)
			layer(path+"mlp.up_proj", &b.up, s.intermediate, s.hidden, s.biases.mlp)
		}
		layer(path+"mlp.down_proj", &b.down, s.hidden, s.intermediate, s.biases.mlp)
	}
	norm("model.norm", &m.norm, s.hidden)
	m.addLinear("lm_head", &m.head, s.vocabulary, s.hidden)
	if _, ok := ckpt.Tensor("lm_head.weight"); ok || !s.tied {
		w.matrix(&m.head.weight, "lm_head.weight", s.vocabulary, s.hidden)
	}
	if err := w.read(); err != nil {
		return err
	}
	if s.tied {
		if stored := m.head.weight; stored != nil && !slices.Equal(stored.Data, m.embedding.Data) {
			return formats.Rejectf(ckpt.Path(), "lm_head.weight", "differs from the embedding although config.json ties them (tie_word_embeddings)")
		}
		m.head.weight = m.embedding
	}
	return nil
}

// Vocabulary returns the number of tokens that the model scores.
func (m *decoder) Vocabulary() int { return m.spec.vocabulary }

// MaxPositions returns max_position_embeddings, or what the scaling of positions reaches.
func (m *decoder) MaxPositions() int { return m.spec.maxPositions }

// EndTokens returns eos_token_id of generation_config.json, else of config.json.
func (m *decoder) EndTokens() []int32 { return slices.Clone(m.ends) }

// pass is one run of the blocks over packed tokens.
type pass struct {
	tape  *autodiff.Tape
	seqs  []autodiff.Seq
	turns [][]autodiff.Span // by rope
	drop  dropout
	cache *cache // nil but in a session
}

func (m *decoder) pass(t *autodiff.Tape, seqs []autodiff.Seq) pass {
	p := pass{tape: t, seqs: seqs}
	for _, r := range m.turning {
		p.turns = append(p.turns, r.spans(seqs))
	}
	return p
}

// hidden returns the last block's output, one row a token.
func (m *decoder) hidden(p pass, ids []int32) *autodiff.Value {
	h := p.tape.Rows(m.embedding, ids)
	if m.spec.embedScale != 1 {
		p.tape.Scale(h, m.spec.embedScale)
	}
	for i, b := range m.blocks {
		h = p.tape.Scope(func() *autodiff.Value {
			return m.feedForward(p, b, m.attend(p, b, i, h))
		})
	}
	return h
}

// normed returns the norm of x, and x itself where there is none.
func (m *decoder) normed(t *autodiff.Tape, x, w *autodiff.Value) *autodiff.Value {
	if w == nil {
		return x
	}
	return t.RMSNorm(x, w, m.spec.norm)
}

// attend returns h + attention(norm(h)), with the attention normed again where the spec
// says so.
func (m *decoder) attend(p pass, b *block, i int, h *autodiff.Value) *autodiff.Value {
	t, s, layer := p.tape, &m.spec, m.spec.layers[i]
	q, k, v := m.project(p, b, m.normed(t, h, b.attentionIn))
	q, k = m.normed(t, q, b.queryNorm), m.normed(t, k, b.keyNorm)
	t.Rotate(q, s.headDim, p.turns[layer.rope])
	t.Rotate(k, s.headDim, p.turns[layer.rope])
	seqs := p.seqs
	if p.cache != nil {
		k, v = p.cache.extend(i, k, v, layer.window)
		seqs = []autodiff.Seq{{Queries: q.Rows, Keys: k.Rows}}
	}
	heads := autodiff.Heads{
		Query: s.heads, KeyValue: s.keyValueHeads, Dim: s.headDim,
		Scale: s.scoreScale, Cap: s.scoreCap, Window: layer.window,
	}
	y := b.o.apply(t, t.Attention(q, k, v, heads, seqs), p.drop)
	y = m.normed(t, y, b.attentionOut)
	t.Add(y, h)
	return y
}

// project returns the queries, keys and values of the rows of x.
func (m *decoder) project(p pass, b *block, x *autodiff.Value) (q, k, v *autodiff.Value) {
	t := p.tape
	if !m.spec.fused {
		return b.q.apply(t, x, p.drop), b.k.apply(t, x, p.drop), b.v.apply(t, x, p.drop)
	}
	queries, keys := m.spec.heads*m.spec.headDim, m.spec.keyValueHeads*m.spec.headDim
	parts := t.Split(b.qkv.apply(t, x, p.drop), queries, keys, keys)
	return parts[0], parts[1], parts[2]
}

// feedForward returns h + mlp(norm(h)), with the layer's output normed again where the
// spec says so.
func (m *decoder) feedForward(p pass, b *block, h *autodiff.Value) *autodiff.Value {
	t := p.tape
	x := m.normed(t, h, b.mlpIn)
	var gate, up *autodiff.Value
	if m.spec.fused {
		parts := t.Split(b.gateUp.apply(t, x, p.drop), m.spec.intermediate, m.spec.intermediate)
		gate, up = parts[0], parts[1]
	} else {
		gate, up = b.gate.apply(t, x, p.drop), b.up.apply(t, x, p.drop)
	}
	y := b.down.apply(t, m.spec.glu(t, gate, up), p.drop)
	y = m.normed(t, y, b.mlpOut)
	t.Add(y, h)
	return y
}

// scores returns the logits of the rows of h.
func (m *decoder) scores(p pass, h *autodiff.Value) *autodiff.Value {
	y := m.head.apply(p.tape, m.normed(p.tape, h, m.norm), p.drop)
	if m.spec.logitCap != 0 {
		p.tape.SoftCap(y, m.spec.logitCap)
	}
	return y
}

// LossGrad adds the derivatives of scale · Σ loss to the parameters' Grad.
func (m *decoder) LossGrad(b Batch, scale float32) (sum float64, labels int, err error) {
	if m.trained == nil {
		return 0, 0, formats.Usagef("the model is training no adapter")
	}
	sum, labels, err = m.loss(&m.training, b, dropout{m.trained.drop, b.Seed}, scale)
	m.training.Backward()
	return sum, labels, err
}

// Loss returns the summed cross-entropy and the number of labels.
func (m *decoder) Loss(b Batch) (sum float64, labels int, err error) {
	m.evaluation.NoGrad = true
	return m.loss(&m.evaluation, b, dropout{}, 1)
}

func (m *decoder) loss(t *autodiff.Tape, b Batch, drop dropout, scale float32) (sum float64, counted int, err error) {
	t.Reset()
	in, err := b.pack(m.spec.vocabulary, m.spec.maxPositions)
	if err != nil {
		return 0, 0, err
	}
	rows, labels, err := b.labelled(in, m.spec.vocabulary)
	if err != nil || len(rows) == 0 {
		return 0, 0, err
	}
	p := m.pass(t, in.seqs)
	p.drop = drop
	h := m.hidden(p, in.ids)
	if len(rows) < h.Rows {
		// The head, often the largest product, runs over labelled tokens only.
		h = t.Rows(h, rows)
	}
	sum, counted = t.CrossEntropy(m.scores(p, h), labels, scale)
	return sum, counted, nil
}

// Logits returns Rows·Cols × vocabulary scores, zeros at padding.
func (m *decoder) Logits(b Batch) ([]float32, error) {
	in, err := b.pack(m.spec.vocabulary, m.spec.maxPositions)
	if err != nil {
		return nil, err
	}
	n := m.spec.vocabulary
	out := make([]float32, len(b.IDs)*n)
	if len(in.ids) == 0 {
		return out, nil
	}
	t := &m.evaluation
	t.NoGrad = true
	t.Reset()
	p := m.pass(t, in.seqs)
	y := m.scores(p, m.hidden(p, in.ids))
	for row, place := range in.places {
		copy(out[place*n:(place+1)*n], y.Data[row*n:])
	}
	return out, nil
}

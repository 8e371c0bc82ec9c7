package models

import (
	"fmt"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// decoder is a causal language model of blocks of rotary grouped-query attention and a
// gated layer, in all the forms that a spec has.
type decoder struct {
	causal
	spec spec

	embedding table
	blocks    []*block
	norm      *autodiff.Value
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
	m := &decoder{spec: s}
	m.prefix, m.logitCap = "model.", s.logitCap
	for _, r := range s.ropes {
		m.turning = append(m.turning, newTurning(r))
	}
	if err := m.load(ckpt, doc, m, &m.embedding, s.tied); err != nil {
		return nil, err
	}
	return m, nil
}

// find looks up the weights of the blocks, the embedding and the last norm.
func (m *decoder) find(w *weights) {
	s := m.spec
	norm := func(path string, into **autodiff.Value, n int) {
		w.vector(into, path+".weight", n)
		m.add(path, "weight", into)
	}
	m.findTable(w, "model.embed_tokens", &m.embedding, s.vocabulary, s.hidden, s.padding)
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
			m.findLinear(w, path+"self_attn.qkv_proj", &b.qkv, queries+2*keys, s.hidden, s.biases.qkv)
		} else {
			m.findLinear(w, path+"self_attn.q_proj", &b.q, queries, s.hidden, s.biases.qkv)
			m.findLinear(w, path+"self_attn.k_proj", &b.k, keys, s.hidden, s.biases.qkv)
			m.findLinear(w, path+"self_attn.v_proj", &b.v, keys, s.hidden, s.biases.qkv)
		}
		if s.headNorms {
			norm(path+"self_attn.q_norm", &b.queryNorm, s.headDim)
			norm(path+"self_attn.k_norm", &b.keyNorm, s.headDim)
		}
		m.findLinear(w, path+"self_attn.o_proj", &b.o, s.hidden, queries, s.biases.output)
		if s.fused {
			m.findLinear(w, path+"mlp.gate_up_proj", &b.gateUp, 2*s.intermediate, s.hidden, s.biases.mlp)
		} else {
			m.findLinear(w, path+"mlp.gate_proj", &b.gate, s.intermediate, s.hidden, s.biases.mlp)
			m.findLinear(w, path+"mlp.up_proj", &b.up, s.intermediate, s.hidden, s.biases.mlp)
		}
		m.findLinear(w, path+"mlp.down_proj", &b.down, s.hidden, s.intermediate, s.biases.mlp)
	}
	norm("model.norm", &m.norm, s.hidden)
}

// Vocabulary returns the number of tokens that the model scores.
func (m *decoder) Vocabulary() int { return m.spec.vocabulary }

// MaxPositions returns max_position_embeddings, or what the scaling of positions reaches.
func (m *decoder) MaxPositions() int { return m.spec.maxPositions }

// width returns how many columns hidden has.
func (m *decoder) width() int { return m.spec.hidden }

// pass is one run of the blocks over packed tokens.
type pass struct {
	packed
	tape  *autodiff.Tape
	turns [][]autodiff.Span // by rope
	drop  dropout
}

// hidden returns the normed output of the last block.
func (m *decoder) hidden(t *autodiff.Tape, in packed, drop dropout) *autodiff.Value {
	p := pass{packed: in, tape: t, drop: drop}
	for _, r := range m.turning {
		p.turns = append(p.turns, r.spans(in.seqs))
	}
	h := m.embedding.apply(t, in.ids)
	if m.spec.embedScale != 1 {
		t.Scale(h, m.spec.embedScale)
	}
	for i, b := range m.blocks {
		h = t.Scope(h, func(h *autodiff.Value) *autodiff.Value {
			return m.feedForward(p, b, m.attend(p, b, i, h))
		})
	}
	return m.normed(t, in.wanted(t, h), m.norm)
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
	k, v, seqs := p.attended(i, k, v, layer.window)
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

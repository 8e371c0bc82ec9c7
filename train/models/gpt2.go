package models

import (
	"fmt"
	"math"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// gpt2 is GPT2LMHeadModel: pre-norm blocks with learned positions (Radford et al.,
// "Language models are unsupervised multitask learners", 2019).
type gpt2 struct {
	causal
	spec gpt2Spec

	tokens, positions table
	blocks            []*gpt2Block
	norm              norm
}

type gpt2Block struct {
	attentionIn, mlpIn norm
	qkv, o, up, down   linear
}

// gpt2Spec is what config.json says about a GPT-2, with the defaults of transformers'
// GPT2Config.
type gpt2Spec struct {
	vocabulary, hidden, intermediate int
	layers, heads, maxPositions      int
	eps                              float64
	activation                       autodiff.Activation
	scaled, scaledByLayer            bool // scores: by 1/√dim, and by 1/(layer+1)
	tied                             bool
	initRange                        float64
}

var gpt2Classes = []any{"GPT2LMHeadModel", "GPT2Model"}

// readGPT2 reads a GPT2Config. The dropouts of training are passed over, and so is
// reorder_and_upcast_attn, which makes no difference in float32.
func readGPT2(o *options, classes []any) gpt2Spec {
	s := gpt2Spec{
		vocabulary: o.size("vocab_size", 50257), hidden: o.size("n_embd", 768),
		layers: o.size("n_layer", 12), heads: o.size("n_head", 12), maxPositions: o.size("n_positions", 1024),
		eps:        o.positive("layer_norm_epsilon", 1e-5),
		activation: o.activation("activation_function", "gelu_new"),
		scaled:     o.flag("scale_attn_weights", true), scaledByLayer: o.flag("scale_attn_by_inverse_layer_idx", false),
		tied: o.flag("tie_word_embeddings", true), initRange: o.positive("initializer_range", 0.02),
	}
	s.intermediate = o.size("n_inner", min(4*s.hidden, maxDimension))
	if s.hidden%s.heads != 0 {
		o.reject("n_head", "must divide n_embd (got %d and %d)", s.heads, s.hidden)
	}
	s.layers = o.boundedLayers(s.layers)
	o.mustBe("add_cross_attention", "false", false)
	o.mustBeEmpty("quantization_config")
	o.mustBeEmpty("pruned_heads")
	o.architectures(classes)
	return s
}

// gpt2Body is the first segment of GPT-2's paths.
const gpt2Body = "transformer."

func loadGPT2(ckpt *formats.Checkpoint, doc *strictjson.Object) (Model, error) {
	o := &options{file: ckpt.Path(), doc: doc, tensors: ckpt.Len()}
	m := newGPT2(readGPT2(o, gpt2Classes))
	if err := o.problems.Err(); err != nil {
		return nil, err
	}
	if err := m.load(ckpt, doc, m, &m.tokens, m.spec.tied); err != nil {
		return nil, err
	}
	return m, nil
}

func newGPT2(s gpt2Spec) *gpt2 {
	m := &gpt2{spec: s}
	m.prefix = gpt2Body
	return m
}

// find looks up the body's weights. GPT-2 stores those of its layers as in × out.
func (m *gpt2) find(w *weights) {
	s := m.spec
	w.leave = func(name string) bool { // masks that old versions saved
		return strings.HasSuffix(name, ".attn.bias") || strings.HasSuffix(name, ".attn.masked_bias")
	}
	layer := func(path string, l *linear, out, in int) {
		w.flippedMatrix(&l.weight, path+".weight", out, in)
		w.vector(&l.bias, path+".bias", out)
		m.addLinear(path, l, out, in)
		m.flip(path, "weight")
	}
	m.findTable(w, gpt2Body+"wte", &m.tokens, s.vocabulary, s.hidden, noPadding)
	m.findTable(w, gpt2Body+"wpe", &m.positions, s.maxPositions, s.hidden, noPadding)
	for i := range s.layers {
		b, path := new(gpt2Block), fmt.Sprintf("%sh.%d.", gpt2Body, i)
		m.blocks = append(m.blocks, b)
		m.findNorm(w, path+"ln_1", &b.attentionIn, s.hidden)
		layer(path+"attn.c_attn", &b.qkv, 3*s.hidden, s.hidden)
		layer(path+"attn.c_proj", &b.o, s.hidden, s.hidden)
		m.findNorm(w, path+"ln_2", &b.mlpIn, s.hidden)
		layer(path+"mlp.c_fc", &b.up, s.intermediate, s.hidden)
		layer(path+"mlp.c_proj", &b.down, s.hidden, s.intermediate)
	}
	m.findNorm(w, gpt2Body+"ln_f", &m.norm, s.hidden)
}

// Vocabulary returns the number of tokens that the model scores.
func (m *gpt2) Vocabulary() int { return m.spec.vocabulary }

// MaxPositions returns n_positions.
func (m *gpt2) MaxPositions() int { return m.spec.maxPositions }

// width returns how many columns hidden has.
func (m *gpt2) width() int { return m.spec.hidden }

// hidden returns the normed output of the last block.
func (m *gpt2) hidden(t *autodiff.Tape, in packed, drop dropout) *autodiff.Value {
	h := m.tokens.apply(t, in.ids)
	t.Add(h, m.positions.apply(t, positionsOf(in.seqs)))
	for i, b := range m.blocks {
		h = t.Scope(h, func(h *autodiff.Value) *autodiff.Value {
			x := b.attentionIn.apply(t, h, m.spec.eps)
			y := b.o.apply(t, m.attend(t, i, b.qkv.apply(t, x, drop), in), drop)
			t.Add(y, h)
			x = t.Activate(b.up.apply(t, b.mlpIn.apply(t, y, m.spec.eps), drop), m.spec.activation)
			z := b.down.apply(t, x, drop)
			t.Add(z, y)
			return z
		})
	}
	return m.norm.apply(t, in.wanted(t, h), m.spec.eps)
}

// attend returns the attention of layer i on its fused queries, keys and values.
func (m *gpt2) attend(t *autodiff.Tape, i int, qkv *autodiff.Value, in packed) *autodiff.Value {
	n := m.spec.hidden
	parts := t.Split(qkv, n, n, n)
	k, v, seqs := in.attended(i, parts[1], parts[2], 0)
	heads := autodiff.Heads{Query: m.spec.heads, KeyValue: m.spec.heads, Dim: n / m.spec.heads, Scale: 1}
	if m.spec.scaled {
		heads.Scale = float32(1 / math.Sqrt(float64(heads.Dim)))
	}
	if m.spec.scaledByLayer {
		heads.Scale /= float32(i + 1)
	}
	return t.Attention(parts[0], k, v, heads, seqs)
}

// positionsOf returns the place of each query in its sequence.
func positionsOf(seqs []autodiff.Seq) (positions []int32) {
	for _, s := range seqs {
		for i := s.Keys - s.Queries; i < s.Keys; i++ {
			positions = append(positions, int32(i))
		}
	}
	return positions
}

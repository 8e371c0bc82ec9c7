package models

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// gpt2 is GPT2LMHeadModel: pre-norm blocks with learned positions (Radford et al.,
// "Language models are unsupervised multitask learners", 2019).
type gpt2 struct {
	host
	spec gpt2Spec
	ends []int32

	tokens, positions *autodiff.Value
	blocks            []*gpt2Block
	norm              norm
	head              linear

	training, evaluation autodiff.Tape
}

type gpt2Block struct {
	attentionIn, mlpIn norm
	qkv, o, up, down   linear
}

// norm is the weight and bias of a layer norm.
type norm struct{ weight, bias *autodiff.Value }

func (n *norm) apply(t *autodiff.Tape, x *autodiff.Value, eps float64) *autodiff.Value {
	return t.LayerNorm(x, n.weight, n.bias, eps)
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

// boundedLayers refuses more layers than there are tensors, before anything is made for
// each.
func (o *options) boundedLayers(layers int) int {
	if layers > o.tensors {
		o.problems.Add(formats.Rejectf(o.file, "", "config.json: %d layers, but there are %d tensors", layers, o.tensors))
		return 1
	}
	return layers
}

// activation reads an activation by the names that transformers has for it.
func (o *options) activation(name, fallback string) autodiff.Activation {
	v := o.doc.Get(name)
	if v == nil {
		v = fallback
	}
	switch v {
	case "gelu", "gelu_python":
		return autodiff.GELU
	case "gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh":
		return autodiff.GELUTanh
	case "relu":
		return autodiff.ReLU
	case "tanh":
		return autodiff.Tanh
	}
	o.refuse(name, `"gelu", "gelu_new", "relu" or "tanh"`)
	return 0
}

// gpt2Body is the first segment of GPT-2's paths.
const gpt2Body = "transformer."

func loadGPT2(ckpt *formats.Checkpoint, doc *strictjson.Object) (*gpt2, error) {
	o := &options{file: ckpt.Path(), doc: doc, tensors: ckpt.Len()}
	m := newGPT2(readGPT2(o, gpt2Classes))
	if err := o.problems.Err(); err != nil {
		return nil, err
	}
	var err error
	if m.ends, err = generationEnds(ckpt, doc); err != nil {
		return nil, err
	}
	w := findWeightsUnder(ckpt, gpt2Body)
	m.find(w)
	m.addLinear("lm_head", &m.head, m.spec.vocabulary, m.spec.hidden)
	if _, ok := ckpt.Tensor("lm_head.weight"); ok || !m.spec.tied {
		w.matrix(&m.head.weight, "lm_head.weight", m.spec.vocabulary, m.spec.hidden)
	}
	if err := w.read(); err != nil {
		return nil, err
	}
	if m.spec.tied {
		if stored := m.head.weight; stored != nil && !slices.Equal(stored.Data, m.tokens.Data) {
			return nil, formats.Rejectf(ckpt.Path(), "lm_head.weight", "differs from the embedding although config.json ties them (tie_word_embeddings)")
		}
		m.head.weight = m.tokens
	}
	m.countBase()
	return m, nil
}

// generationEnds returns eos_token_id of generation_config.json, else of config.json.
func generationEnds(ckpt *formats.Checkpoint, doc *strictjson.Object) ([]int32, error) {
	if _, ok := ckpt.SideFile("generation_config.json"); ok {
		generation, err := readConfig(ckpt, "generation_config.json")
		if err != nil {
			return nil, err
		}
		if ends := endTokens(generation); ends != nil {
			return ends, nil
		}
	}
	return endTokens(doc), nil
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
	table := func(path string, into **autodiff.Value, rows int) {
		w.matrix(into, path+".weight", rows, s.hidden)
		m.add(path, "weight", into)
	}
	table(gpt2Body+"wte", &m.tokens, s.vocabulary)
	table(gpt2Body+"wpe", &m.positions, s.maxPositions)
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

// findNorm looks up a layer norm.
func (h *host) findNorm(w *weights, path string, n *norm, width int) {
	w.vector(&n.weight, path+".weight", width)
	w.vector(&n.bias, path+".bias", width)
	h.add(path, "weight", &n.weight)
	h.add(path, "bias", &n.bias)
}

// Vocabulary returns the number of tokens that the model scores.
func (m *gpt2) Vocabulary() int { return m.spec.vocabulary }

// MaxPositions returns n_positions.
func (m *gpt2) MaxPositions() int { return m.spec.maxPositions }

// EndTokens returns eos_token_id of generation_config.json, else of config.json.
func (m *gpt2) EndTokens() []int32 { return slices.Clone(m.ends) }

// width returns how many columns hidden has.
func (m *gpt2) width() int { return m.spec.hidden }

// hidden returns the normed output of the last block, one row a token.
func (m *gpt2) hidden(t *autodiff.Tape, in packed, drop dropout) *autodiff.Value {
	return m.run(t, in.ids, in.seqs, drop, nil)
}

// run is hidden for sequences whose first tokens may be in a cache.
func (m *gpt2) run(t *autodiff.Tape, ids []int32, seqs []autodiff.Seq, drop dropout, c *cache) *autodiff.Value {
	h := t.Rows(m.tokens, ids)
	t.Add(h, t.Rows(m.positions, positionsOf(seqs)))
	for i, b := range m.blocks {
		h = t.Scope(func() *autodiff.Value {
			x := b.attentionIn.apply(t, h, m.spec.eps)
			y := b.o.apply(t, m.attend(t, i, b.qkv.apply(t, x, drop), seqs, c), drop)
			t.Add(y, h)
			x = t.Activate(b.up.apply(t, b.mlpIn.apply(t, y, m.spec.eps), drop), m.spec.activation)
			z := b.down.apply(t, x, drop)
			t.Add(z, y)
			return z
		})
	}
	return m.norm.apply(t, h, m.spec.eps)
}

// attend returns the attention of layer i on its fused queries, keys and values.
func (m *gpt2) attend(t *autodiff.Tape, i int, qkv *autodiff.Value, seqs []autodiff.Seq, c *cache) *autodiff.Value {
	n := m.spec.hidden
	parts := t.Split(qkv, n, n, n)
	q, k, v := parts[0], parts[1], parts[2]
	if c != nil {
		k, v = c.extend(i, k, v, 0)
	}
	heads := autodiff.Heads{Query: m.spec.heads, KeyValue: m.spec.heads, Dim: n / m.spec.heads, Scale: 1}
	if m.spec.scaled {
		heads.Scale = float32(1 / math.Sqrt(float64(heads.Dim)))
	}
	if m.spec.scaledByLayer {
		heads.Scale /= float32(i + 1)
	}
	return t.Attention(q, k, v, heads, seqs)
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

// LossGrad adds the derivatives of scale · Σ loss to the parameters' Grad.
func (m *gpt2) LossGrad(b Batch, scale float32) (sum float64, labels int, err error) {
	if m.trained == nil {
		return 0, 0, formats.Usagef("the model is training no adapter")
	}
	sum, labels, err = m.loss(&m.training, b, dropout{m.trained.drop, b.Seed}, scale)
	m.training.Backward()
	return sum, labels, err
}

// Loss returns the summed cross-entropy and the number of labels.
func (m *gpt2) Loss(b Batch) (sum float64, labels int, err error) {
	m.evaluation.NoGrad = true
	return m.loss(&m.evaluation, b, dropout{}, 1)
}

func (m *gpt2) loss(t *autodiff.Tape, b Batch, drop dropout, scale float32) (sum float64, counted int, err error) {
	t.Reset()
	in, err := b.pack(m.spec.vocabulary, m.spec.maxPositions)
	if err != nil {
		return 0, 0, err
	}
	rows, labels, err := b.labelled(in, m.spec.vocabulary)
	if err != nil || len(rows) == 0 {
		return 0, 0, err
	}
	h := m.hidden(t, in, drop)
	if len(rows) < h.Rows {
		h = t.Rows(h, rows)
	}
	sum, counted = t.CrossEntropy(m.head.apply(t, h, drop), labels, scale)
	return sum, counted, nil
}

// Logits returns Rows·Cols × vocabulary scores, zeros at padding.
func (m *gpt2) Logits(b Batch) ([]float32, error) {
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
	y := m.head.apply(t, m.hidden(t, in, dropout{}), dropout{})
	for row, place := range in.places {
		copy(out[place*n:(place+1)*n], y.Data[row*n:])
	}
	return out, nil
}

// gpt2Session is a session of a GPT-2.
type gpt2Session struct {
	model *gpt2
	tape  autodiff.Tape
	cache cache
}

// NewSession begins a sequence. Adapters attached later affect the tokens after that
// only, so attach them first.
func (m *gpt2) NewSession() Session {
	s := &gpt2Session{model: m}
	s.cache.layers = make([]struct{ keys, values rowBuffer }, len(m.blocks))
	s.tape.NoGrad = true
	return s
}

// Len returns the number of tokens so far.
func (s *gpt2Session) Len() int { return s.cache.tokens }

// Step appends tokens and returns the scores of the next one.
func (s *gpt2Session) Step(ids []int32) ([]float32, error) {
	m, all := s.model, s.cache.tokens+len(ids)
	if len(ids) == 0 {
		return nil, formats.Usagef("a step of a session needs a token")
	}
	if all > m.spec.maxPositions {
		return nil, formats.Usagef("%d tokens, but the model has %d positions", all, m.spec.maxPositions)
	}
	for _, id := range ids {
		if err := checkToken(id, m.spec.vocabulary); err != nil {
			return nil, formats.Usagef("%v", err)
		}
	}
	s.tape.Reset()
	h := m.run(&s.tape, ids, []autodiff.Seq{{Queries: len(ids), Keys: all}}, dropout{}, &s.cache)
	s.cache.tokens = all
	last := s.tape.Rows(h, []int32{int32(len(ids) - 1)})
	return m.head.apply(&s.tape, last, dropout{}).Data, nil
}

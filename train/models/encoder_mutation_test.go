package models

import (
	"bytes"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// taskMutation is a run with one thing changed, whose outputs or first loss must then be
// wrong: else the goldens could not see that it is implemented.
type taskMutation struct {
	model, run, option string
	config             map[string]any
	weights            func(name string, values []float32)
	change             func(m Adaptable)    // a change of the loaded model
	batch              func(b *Batch)       // of the inputs
	plan               func(plan *taskPlan) // of the task
}

var taskMutations = []taskMutation{
	{model: "gpt2", run: "lm", option: "activation_function", config: map[string]any{"activation_function": "gelu"}},
	{model: "gpt2", run: "lm", option: "layer_norm_epsilon", config: map[string]any{"layer_norm_epsilon": 1e-5}},
	{model: "gpt2", run: "lm", option: "scale_attn_weights", config: map[string]any{"scale_attn_weights": false}},
	{model: "gpt2", run: "lm", option: "positions", weights: fill("wpe.weight", 0.1)},
	{model: "gpt2", run: "lm", option: "bias of c_attn", weights: fill("c_attn.bias", 0)},
	{model: "gpt2", run: "lm", option: "bias of attn.c_proj", weights: fill("attn.c_proj.bias", 0)},
	{model: "gpt2", run: "lm", option: "bias of c_fc", weights: fill("c_fc.bias", 0)},
	{model: "gpt2", run: "lm", option: "ln_1", weights: fill("ln_1.weight", 1)},
	{model: "gpt2", run: "lm", option: "bias of ln_2", weights: fill("ln_2.bias", 0)},
	{model: "gpt2-odd", run: "lm", option: "activation_function", config: map[string]any{"activation_function": missing}},
	{model: "gpt2-odd", run: "lm", option: "scale_attn_weights", config: map[string]any{"scale_attn_weights": true}},
	{model: "gpt2-odd", run: "lm", option: "scale_attn_by_inverse_layer_idx", config: map[string]any{"scale_attn_by_inverse_layer_idx": false}},
	{model: "gpt2-odd", run: "lm", option: "its own head", change: func(m Adaptable) { m.(*gpt2).head.weight = m.(*gpt2).tokens.weight }},
	{model: "gpt2-score", run: "classes", option: "activation_function", config: map[string]any{"activation_function": "gelu_new"}},
	{model: "gpt2-score", run: "classes", option: "the last token", change: func(m Adaptable) { m.(*Classifier).head.last = false }},
	{model: "bert", run: "classes", option: "hidden_act", config: map[string]any{"hidden_act": "gelu_new"}},
	{model: "bert", run: "classes", option: "layer_norm_eps", config: map[string]any{"layer_norm_eps": 1e-12}},
	{model: "bert", run: "classes", option: "token types", batch: func(b *Batch) { b.Types = nil }},
	{model: "bert", run: "classes", option: "both ways", batch: func(b *Batch) { b.Lens[0]-- }},
	{model: "bert", run: "classes", option: "the pooler's activation", change: func(m Adaptable) { m.(*Classifier).head.activation = autodiff.ReLU }},
	{model: "bert", run: "classes", option: "bias of the pooler", weights: fill("pooler.dense.bias", 0)},
	{model: "bert", run: "classes", option: "bias of query", weights: fill("query.bias", 0)},
	{model: "bert", run: "classes", option: "bias of value", weights: fill("value.bias", 0)},
	{model: "bert", run: "classes", option: "norm of embeddings", weights: fill("embeddings.LayerNorm.weight", 1)},
	{model: "bert-old", run: "multi-label", option: "hidden_act", config: map[string]any{"hidden_act": "gelu"}},
	{model: "bert-old", run: "multi-label", option: "beta", weights: fill("attention.output.LayerNorm.beta", 0)},
	{model: "roberta", run: "regression", option: "pad_token_id", config: map[string]any{"pad_token_id": missing}},
	{model: "roberta", run: "regression", option: "the only token type", weights: fill("token_type_embeddings.weight", 0)},
	{model: "roberta", run: "regression", option: "padding inside a text", change: func(m Adaptable) { m.(*Classifier).trunk.(*encoder).spec.pad = 46 }},
	{model: "distilbert", run: "regression", option: "activation", config: map[string]any{"activation": missing}},
	{model: "distilbert", run: "regression", option: "the head's activation", change: func(m Adaptable) { m.(*Classifier).head.activation = autodiff.Tanh }},
	{model: "distilbert", run: "regression", option: "problem_type", config: map[string]any{"problem_type": "multi_label_classification"}, batch: func(b *Batch) {
		for i := range b.Targets {
			b.Targets[i] = 0.5
		}
	}},
	{model: "minilm", run: "pairs", option: "pooling", plan: func(p *taskPlan) { p.Pooling = "max" }},
	{model: "minilm", run: "pairs", option: "normalize", plan: func(p *taskPlan) { *p.Normalize = false }},
	{model: "minilm", run: "pairs", option: "scale", plan: func(p *taskPlan) { p.Scale = 19 }},
	{model: "minilm", run: "triples", option: "scale's default", plan: func(p *taskPlan) { p.Scale = 0 }},
	{model: "minilm", run: "triples", option: "pooling", plan: func(p *taskPlan) { p.Pooling = "mean" }},
	{model: "minilm", run: "cosine", option: "pooling", plan: func(p *taskPlan) { p.Pooling = "mean" }},
	{model: "minilm", run: "cosine", option: "loss", plan: func(p *taskPlan) { p.Task = "contrastive" }},
}

func TestEveryTaskOptionMatters(t *testing.T) {
	for _, c := range taskMutations {
		t.Run(c.model+" "+c.run+" "+c.option, func(t *testing.T) {
			r := openRun(t, c.model, c.run)
			if r.Normalize == nil {
				r.Normalize = new(bool)
				*r.Normalize = true // the changed checkpoint has no modules.json
			}
			want := r.Loss[0]
			if c.plan != nil {
				c.plan(&r.taskPlan)
			}
			base := changed(t, c.model, c.config, func(x formats.Tensor) (formats.Tensor, bool) {
				if c.weights == nil || !x.DType.IsFloat() {
					return x, true
				}
				values, err := x.Float32s()
				if err != nil {
					t.Fatal(err)
				}
				c.weights(x.Name, values)
				encoded := make([]byte, x.Size())
				formats.EncodeFloat32(encoded, values, x.DType)
				x.Data = bytes.NewReader(encoded)
				return x, true
			})
			m, outputs, err := r.load(base)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Train(r.init, TrainOptions{}); err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				c.change(m)
			}
			b := r.batch(t, 0)
			if c.batch != nil {
				c.batch(&b)
			}
			got, err := outputs(b)
			if err != nil {
				t.Fatal(err)
			}
			sum, n, err := m.Loss(b)
			if err != nil {
				t.Fatal(err)
			}
			off, loss := r.compare(b, got, goldenFloats(t, r.golden, "adapter")), sum/float64(n)-want
			t.Logf("outputs are off by %.1e of their rms, the loss by %.1e", off, loss)
			if !(off > 10*outputBound) && !(loss*loss > 1e-6) {
				t.Errorf("outputs are off by %g of their rms only, the loss by %g", off, loss)
			}
		})
	}
}

// GPT-2's first token must not see what follows, and an encoder's must.
func TestWhoSeesWhom(t *testing.T) {
	for _, c := range []struct {
		model, run string
		ahead      bool
	}{{"gpt2-odd", "lm", false}, {"bert", "classes", true}} {
		r := openRun(t, c.model, c.run)
		_, outputs, err := r.load(r.base)
		if err != nil {
			t.Fatal(err)
		}
		b := r.batch(t, 0)
		before, err1 := outputs(b)
		b.IDs[12] = (b.IDs[12] + 1) % 40
		after, err2 := outputs(b)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if moved := largestDifference(before[:3], after[:3]) > 0; moved != c.ahead {
			t.Errorf("%s: the first token's outputs moved with the last token: %v", c.model, moved)
		}
	}
}

// A session's scores are those of the full forward, however the tokens are fed.
func TestGPT2Session(t *testing.T) {
	for _, model := range []string{"gpt2", "gpt2-odd"} {
		r := openRun(t, model, "lm")
		m, err := Load(r.base)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Attach(r.init, 1); err != nil {
			t.Fatal(err)
		}
		ids := r.batch(t, 0).IDs[:13]
		want, err := m.Logits(Batch{Rows: 1, Cols: 13, IDs: ids})
		if err != nil {
			t.Fatal(err)
		}
		s, n := m.NewSession(), m.Vocabulary()
		for _, size := range []int{4, 1, 1, 5, 2} {
			scores, err := s.Step(ids[s.Len() : s.Len()+size])
			if err != nil {
				t.Fatal(err)
			}
			// Other shapes sum in another order.
			if d := largestDifference(scores, want[(s.Len()-1)*n:s.Len()*n]); !(d < 2e-5) {
				t.Errorf("%s: after %d tokens the scores are off by %g", model, s.Len(), d)
			}
		}
		_, err = s.Step(make([]int32, 7))
		checkError(t, err, formats.ErrUsage, "20 tokens, but the model has 19 positions")
		_, err = s.Step(nil)
		checkError(t, err, formats.ErrUsage, "needs a token")
		_, err = s.Step([]int32{47})
		checkError(t, err, formats.ErrUsage, "token 47 is not in a vocabulary of 47")
		if ends := m.EndTokens(); len(ends) != 1 || ends[0] != 3 || !strings.HasPrefix(m.Modules()[0].Path, "transformer.h.0.attn.c_attn") {
			t.Errorf("end tokens %v, modules %v", ends, m.Modules())
		}
	}
}

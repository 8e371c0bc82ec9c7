package patch_test

import (
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch"
)

// TestOrientationOfSquareWeights: shapes tell nothing here, and a wrong guess is a silent
// one.
func TestOrientationOfSquareWeights(t *testing.T) {
	a := typed("", formats.F32, []int64{1, 2}, 1, 2)  // (r, in)
	b := typed("", formats.F32, []int64{2, 1}, 10, 1) // (out, r)
	zero := make([]float32, 4)
	asStored := []float32{10, 20, 1, 2}   // (out, in)
	transposed := []float32{10, 1, 20, 2} // (in, out)
	for _, c := range []struct {
		name, config, module   string
		embedding, fanInFanOut bool
		want                   []float32
	}{
		{"linear", `{"model_type":"llama"}`, "layers.0.q_proj", false, false, asStored},
		{"a linear layer with an embedding's name", `{"model_type":"x"}`, "embed_state", false, false, asStored},
		{"an embedding", `{"model_type":"x"}`, "embed_state", true, false, transposed},
		{"an embedding with another name", `{"model_type":"x"}`, "tokens", true, false, transposed},
		{"Conv1D of a known family", `{"model_type":"gpt2","architectures":["GPT2Model"]}`, "h.0.attn.c_proj", false, false, transposed},
		{"Conv1D of a relative", `{"model_type":"decision_transformer"}`, "encoder.h.0.attn.c_proj", false, false, transposed},
		{"linear in a family with Conv1D", `{"model_type":"gpt2","architectures":["GPT2Model"]}`, "score", false, true, asStored},
		{"the config's word where the family is not known", `{"model_type":"x"}`, "c_proj", false, true, transposed},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := fakeBase(t, c.config, typed(c.module+".weight", formats.F32, []int64{2, 2}, zero...))
			e := lora(c.module, 1, a, b)
			u := e.Update.(*adapter.LowRank)
			u.Embedding, u.FanInFanOut = c.embedding, c.fanInFanOut
			m, _ := plan(t, base, weigh(1, e)).Merge().Tensor(c.module + ".weight")
			got, err := m.Float32s()
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Fatalf("got %v, want %v", got, c.want)
				}
			}
		})
	}
}

// TestTiedUnlessStored: a language model that stores no head uses its input embedding,
// whatever its config leaves out; a model without a head has nothing to tie.
func TestTiedUnlessStored(t *testing.T) {
	embed := whole("tok.embed_tokens.weight", formats.F32, 1, 3, 2)
	head := whole("lm_head.weight", formats.F32, 1, 3, 2)
	for _, c := range []struct {
		config string
		head   bool
		tied   bool
	}{
		{`{"model_type":"x","architectures":["XForCausalLM"]}`, false, true},
		{`{"model_type":"x","architectures":["XForCausalLM"]}`, true, false},
		{`{"model_type":"x","architectures":["XForCausalLM"],"tie_word_embeddings":false}`, false, false},
		{`{"model_type":"x","architectures":["XForCausalLM"],"tie_word_embeddings":true}`, true, true},
		{`{"model_type":"x","architectures":["XForSequenceClassification"],"tie_word_embeddings":true}`, false, false},
		{`{"model_type":"x","architectures":["XModel"],"tie_word_embeddings":true}`, false, false},
	} {
		tensors := []formats.Tensor{embed}
		if c.head {
			tensors = append(tensors, head)
		}
		e := wholeLora("tok.embed_tokens", 1, 1, 3, 2)
		e.Update.(*adapter.LowRank).Embedding = true
		_, err := patch.NewPlan(fakeBase(t, c.config, tensors...), weigh(1, e))
		if (err != nil) != c.tied {
			t.Errorf("%s, head %v: got %v, want refused %v", c.config, c.head, err, c.tied)
		}
	}
}

package patch_test

import (
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch"
)

// TestModulePaths has bases that were saved with and without a head around them, and
// adapters trained in either.
func TestModulePaths(t *testing.T) {
	const (
		llamaLM   = `{"model_type":"llama","architectures":["LlamaForCausalLM"]}`
		llamaBody = `{"model_type":"llama","architectures":["LlamaModel"]}`
		bertLM    = `{"model_type":"bert","architectures":["BertForMaskedLM"],"tie_word_embeddings":false}`
		bertBody  = `{"model_type":"bert","architectures":["BertModel"]}`
		gptBody   = `{"model_type":"gpt2","architectures":["GPT2Model"]}`
	)
	for _, c := range []struct {
		config, stored, module string
		fits                   bool
	}{
		{llamaLM, "model.layers.0.q_proj", "model.layers.0.q_proj", true},
		{llamaLM, "model.layers.0.q_proj", "layers.0.q_proj", true}, // trained on the body
		{llamaLM, "layers.0.q_proj", "model.layers.0.q_proj", true}, // saved from the body
		{llamaLM, "layers.0.q_proj", "layers.0.q_proj", true},       // both
		{llamaLM, "lm_head", "lm_head", true},
		{llamaBody, "layers.0.q_proj", "layers.0.q_proj", true},
		{llamaBody, "layers.0.q_proj", "model.layers.0.q_proj", true},
		{llamaBody, "model.layers.0.q_proj", "layers.0.q_proj", true},
		{bertLM, "bert.encoder.layer.0.query", "bert.encoder.layer.0.query", true},
		{bertLM, "bert.encoder.layer.0.query", "encoder.layer.0.query", true},
		{bertLM, "encoder.layer.0.query", "bert.encoder.layer.0.query", true},
		{bertBody, "encoder.layer.0.query", "bert.encoder.layer.0.query", true},
		{gptBody, "h.0.mlp.fc", "transformer.h.0.mlp.fc", true},
		{"", "layers.0.q_proj", "layers.0.q_proj", true},
		{"", "layers.0.q_proj", "model.layers.0.q_proj", true},
		{"", "a.b", "c.a.b", false},
		{llamaLM, "model.layers.0.q_proj", "model.layers.0", false},
		{llamaLM, "model.layers.0.q_proj", "q_proj", false}, // a suffix is not a path
		{llamaLM, "model.layers.0.q_proj", "model.model.layers.0.q_proj", true},
		{llamaLM, "model.layers.0.q_proj", "", false},
	} {
		base := fakeBase(t, c.config, whole(c.stored+".weight", formats.F32, 1, 5, 4))
		plan, err := patch.NewPlan(base, patch.Weighted{Adapter: fakeAdapter(wholeLora(c.module, 1, 2, 4, 5)), Weight: 1})
		if !c.fits {
			checkClass(t, err, formats.ErrUnfit, "has no module")
			continue
		}
		if err != nil {
			t.Errorf("%s of %s in %s: %v", c.module, c.stored, c.config, err)
			continue
		}
		if x := plan.Targets(); len(x) != 1 || x[0].Tensor.Name != c.stored+".weight" || x[0].Shard != "model.safetensors" {
			t.Errorf("%s: got %+v", c.module, x)
		}
	}
}

// TestPathsAreNotMixed has an adapter of which one half fits one reading of the paths
// and the other half another.
func TestPathsAreNotMixed(t *testing.T) {
	base := fakeBase(t, "", whole("a.weight", formats.F32, 1, 5, 4), whole("model.b.weight", formats.F32, 1, 5, 4))
	_, err := patch.NewPlan(base, patch.Weighted{Adapter: fakeAdapter(wholeLora("a", 1, 2, 4, 5), wholeLora("b", 1, 2, 4, 5)), Weight: 1})
	checkClass(t, err, formats.ErrUnfit, `has no module "b"`)
}

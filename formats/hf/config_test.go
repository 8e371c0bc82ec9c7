package hf

import (
	"reflect"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

func TestReadConfig(t *testing.T) {
	for _, c := range []struct {
		text string
		want Config
	}{
		{`{}`, Config{}},
		{`{"model_type":"llama","architectures":["LlamaForCausalLM"],"tie_word_embeddings":true}`, Config{ModelType: "llama", Architectures: []string{"LlamaForCausalLM"}, TiedHead: true}},
		{`{"model_type":"llama"}`, Config{ModelType: "llama"}},
		{`{"model_type":"gpt2"}`, Config{ModelType: "gpt2", TiedHead: true}}, // tied unless it says otherwise
		{`{"model_type":"gpt2","tie_word_embeddings":false}`, Config{ModelType: "gpt2", Untied: true}},
		{`{"model_type":"gpt2","tie_word_embeddings":null}`, Config{ModelType: "gpt2", TiedHead: true}},
		{`{"quantization_config":{"quant_method":"gptq"}}`, Config{Quantization: "gptq"}},
		{`{"quantization_config":{}}`, Config{Quantization: "unnamed"}},
		{`{"quantization_config":null}`, Config{}},
		{`{"model_type":5,"architectures":"x","tie_word_embeddings":"yes"}`, Config{}}, // not ours to judge
		{`{"architectures":["A",1,"B"]}`, Config{Architectures: []string{"A", "B"}}},
	} {
		ckpt := mustOpen(t, tree(t, map[string]string{"model.safetensors": weights(t, "a"), "config.json": c.text}))
		if got, err := ReadConfig(ckpt); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v; want %+v", c.text, got, err, c.want)
		}
	}
	none := mustOpen(t, tree(t, map[string]string{"model.safetensors": weights(t, "a")}))
	if got, err := ReadConfig(none); err != nil || !reflect.DeepEqual(got, Config{}) {
		t.Errorf("no config: got %+v, %v", got, err)
	}
	for text, want := range map[string]string{
		"":                                       "unexpected end",
		"[]":                                     "must be an object",
		`{"a":NaN}`:                              "want a value",
		`{"model_type":"a","model_type":"b"}`:    "duplicate name",
		strings.Repeat(`{"a":`, 1000):            "nested deeper than 64",
		strings.Repeat(" ", 8<<20) + `{"a": {}}`: "too large (got 8388617 bytes, want at most 8388608)",
	} {
		ckpt := mustOpen(t, tree(t, map[string]string{"model.safetensors": weights(t, "a"), "config.json": text}))
		_, err := ReadConfig(ckpt)
		checkError(t, err, formats.ErrInput, "config.json", want)
	}
}

func TestKindsOfModules(t *testing.T) {
	for _, c := range []struct {
		module               string
		head, output, embeds bool
	}{
		{"model.layers.0.self_attn.q_proj", false, false, false},
		{"model.embed_tokens", false, false, true},
		{"transformer.wte", false, false, true},
		{"bert.embeddings.word_embeddings", false, false, true},
		{"lm_head", true, true, false},
		{"embed_out", true, true, false},
		{"cls.predictions.decoder", true, true, false},
		{"cls.predictions.transform.dense", true, false, false},
		{"score", true, false, false},
		{"classifier.dense", true, false, false},
		{"model.score", false, false, false},
		{"my_score", false, false, false},
	} {
		if IsHead(c.module) != c.head || IsOutputHead(c.module) != c.output || IsEmbedding(c.module) != c.embeds {
			t.Errorf("%s: head %v, output %v, embedding %v", c.module, IsHead(c.module), IsOutputHead(c.module), IsEmbedding(c.module))
		}
	}
	for arch, want := range map[string]bool{
		"LlamaForCausalLM": true, "LlamaModel": false, "GPT2LMHeadModel": true, "BertModel": false, "BertForSequenceClassification": true, "GPT2Model": false,
	} {
		if got := (Config{Architectures: []string{arch}}).HasHead(); got != want {
			t.Errorf("%s: HasHead is %v", arch, got)
		}
	}
	if f := FamilyOf("gpt2"); f.Prefix != "transformer" || len(f.Conv1D) != 4 {
		t.Errorf("gpt2: %+v", f)
	}
	if f := FamilyOf("a model of tomorrow"); f.Prefix != "model" || f.Conv1D != nil {
		t.Errorf("unknown: %+v", f)
	}
}

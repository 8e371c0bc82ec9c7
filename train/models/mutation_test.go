package models

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// mutation is a model with one option changed, whose logits must then be wrong: else the
// goldens could not see that the option is implemented.
type mutation struct {
	model, option string
	config        map[string]any                      // options to set or, with missing, to take away
	spec          func(s *spec)                       // for what no option says
	weights       func(name string, values []float32) // for parameters
	without       string                              // parameters that the changed model has not, by their names' end
}

// inner is a change of an object's options, in a copy of the config.
type inner map[string]any

func fill(end string, value float32) func(string, []float32) {
	return func(name string, values []float32) {
		if strings.HasSuffix(name, end) {
			for i := range values {
				values[i] = value
			}
		}
	}
}

var mutations = []mutation{
	{model: "mistral", option: "sliding_window", config: map[string]any{"sliding_window": nil}},
	{model: "mistral", option: "sliding_window by one", config: map[string]any{"sliding_window": 8}},
	{model: "mistral", option: "sliding_window's default", config: map[string]any{"sliding_window": missing}},
	{model: "mistral", option: "rope_theta", config: map[string]any{"rope_theta": 60.0}},
	{model: "mistral", option: "rms_norm_eps", config: map[string]any{"rms_norm_eps": 1e-4}},
	{model: "mistral", option: "hidden_act", config: map[string]any{"hidden_act": "gelu_pytorch_tanh"}},
	{model: "mistral", option: "scale of scores", spec: func(s *spec) { s.scoreScale = 0.5 }},
	{model: "qwen2", option: "use_sliding_window", config: map[string]any{"use_sliding_window": false}},
	{model: "qwen2", option: "sliding_window", config: map[string]any{"sliding_window": 10}},
	{model: "qwen2", option: "max_window_layers up", config: map[string]any{"max_window_layers": 2}},
	{model: "qwen2", option: "max_window_layers down", config: map[string]any{"max_window_layers": 0}},
	{model: "qwen2", option: "q bias", weights: fill("q_proj.bias", 0)},
	{model: "qwen2", option: "k bias", weights: fill("k_proj.bias", 0)},
	{model: "qwen2", option: "v bias", weights: fill("v_proj.bias", 0)},
	{model: "qwen3", option: "layer_types", config: map[string]any{"layer_types": []string{full, sliding, full}}},
	{model: "qwen3", option: "sliding_window", config: map[string]any{"sliding_window": 6}},
	{model: "qwen3", option: "attention_bias", config: map[string]any{"attention_bias": false}, without: ".bias"},
	{model: "qwen3", option: "o bias", weights: fill("o_proj.bias", 0)},
	{model: "qwen3", option: "norms by head", spec: func(s *spec) { s.headNorms = false }, without: "_norm.weight"},
	{model: "qwen3", option: "q_norm", weights: fill("q_norm.weight", 1)},
	{model: "qwen3", option: "k_norm", weights: fill("k_norm.weight", 1)},
	{model: "llama-linear", option: "scaling", config: map[string]any{"rope_scaling": nil}},
	{model: "llama-linear", option: "factor", config: map[string]any{"rope_scaling": inner{"factor": 4.0}}},
	{model: "llama-dynamic", option: "scaling", config: map[string]any{"rope_scaling": nil, "max_position_embeddings": 96}},
	{model: "llama-dynamic", option: "factor", config: map[string]any{"rope_scaling": inner{"factor": 3.5}}},
	{model: "llama-dynamic", option: "max_position_embeddings", config: map[string]any{"max_position_embeddings": 34}},
	{model: "llama-llama3", option: "scaling", config: map[string]any{"rope_parameters": map[string]any{"rope_theta": 50.0}}},
	{model: "llama-llama3", option: "factor", config: map[string]any{"rope_parameters": inner{"factor": 6.0}}},
	{model: "llama-llama3", option: "low_freq_factor", config: map[string]any{"rope_parameters": inner{"low_freq_factor": 0.6}}},
	{model: "llama-llama3", option: "high_freq_factor", config: map[string]any{"rope_parameters": inner{"high_freq_factor": 3.0}}},
	{model: "llama-llama3", option: "original_max_position_embeddings", config: map[string]any{"rope_parameters": inner{"original_max_position_embeddings": missing}}},
	{model: "llama-yarn", option: "scaling", config: map[string]any{"rope_scaling": nil}},
	{model: "llama-yarn", option: "factor", config: map[string]any{"rope_scaling": inner{"factor": 6.0}}},
	{model: "llama-yarn", option: "original_max_position_embeddings", config: map[string]any{"rope_scaling": inner{"original_max_position_embeddings": missing}}},
	{model: "llama-yarn", option: "length of queries and keys", config: map[string]any{"rope_scaling": inner{"attention_factor": 1.0}}},
	{model: "llama-yarn-mscale", option: "truncate", config: map[string]any{"rope_parameters": inner{"truncate": true}}},
	{model: "llama-yarn-mscale", option: "beta_fast", config: map[string]any{"rope_parameters": inner{"beta_fast": missing}}},
	{model: "llama-yarn-mscale", option: "beta_slow", config: map[string]any{"rope_parameters": inner{"beta_slow": missing}}},
	{model: "llama-yarn-mscale", option: "mscale", config: map[string]any{"rope_parameters": inner{"mscale": missing}}},
	{model: "llama-yarn-mscale", option: "mscale_all_dim", config: map[string]any{"rope_parameters": inner{"mscale_all_dim": 1.0}}},
	{model: "llama-yarn-attention", option: "attention_factor", config: map[string]any{"rope_parameters": inner{"attention_factor": missing}}},
	{model: "gemma2", option: "sliding_window", config: map[string]any{"sliding_window": 8}},
	{model: "gemma2", option: "layers that slide", config: map[string]any{"layer_types": []string{full, sliding, full}}},
	{model: "gemma2", option: "query_pre_attn_scalar", config: map[string]any{"query_pre_attn_scalar": 6}},
	{model: "gemma2", option: "attn_logit_softcapping", config: map[string]any{"attn_logit_softcapping": nil}},
	{model: "gemma2", option: "attn_logit_softcapping's default", config: map[string]any{"attn_logit_softcapping": missing}},
	{model: "gemma2", option: "final_logit_softcapping", config: map[string]any{"final_logit_softcapping": nil}},
	{model: "gemma2", option: "final_logit_softcapping's default", config: map[string]any{"final_logit_softcapping": missing}},
	{model: "gemma2", option: "hidden_activation", config: map[string]any{"hidden_activation": "silu"}},
	{model: "gemma2", option: "1+w", spec: func(s *spec) { s.norm.Offset = 0 }},
	{model: "gemma2", option: "scale of embeddings", spec: func(s *spec) { s.embedScale = 1 }},
	{model: "gemma2", option: "norm of the attention's output", spec: func(s *spec) { s.norms.attentionOut = "" }, without: "post_attention_layernorm.weight"},
	{model: "gemma2", option: "norm of the layer's output", spec: func(s *spec) { s.norms.mlpOut = "" }, without: "post_feedforward_layernorm.weight"},
	{model: "gemma3", option: "sliding_window", config: map[string]any{"sliding_window": 8}},
	{model: "gemma3", option: "layer_types", config: map[string]any{"layer_types": missing}},
	{model: "gemma3", option: "query_pre_attn_scalar", config: map[string]any{"query_pre_attn_scalar": missing}},
	{model: "gemma3", option: "rope of the others", config: map[string]any{"rope_parameters": inner{full: map[string]any{"rope_theta": 50.0}}}},
	{model: "gemma3", option: "rope of sliding layers", config: map[string]any{"rope_parameters": inner{sliding: missing}}},
	{model: "gemma3", option: "norms by head", spec: func(s *spec) { s.headNorms = false }, without: "self_attn.q_norm.weight self_attn.k_norm.weight"},
	{model: "gemma3-old", option: "sliding_window_pattern", config: map[string]any{"sliding_window_pattern": 3}},
	{model: "gemma3-old", option: "rope_local_base_freq", config: map[string]any{"rope_local_base_freq": missing}},
	{model: "gemma3-old", option: "rope_theta", config: map[string]any{"rope_theta": missing}},
	{model: "gemma3-old", option: "rope_scaling", config: map[string]any{"rope_scaling": nil}},
	{model: "gemma3-old", option: "attention_bias", config: map[string]any{"attention_bias": false}, without: ".bias"},
	{model: "gemma3-old", option: "final_logit_softcapping", config: map[string]any{"final_logit_softcapping": nil}},
	{model: "phi3", option: "sliding_window", config: map[string]any{"sliding_window": nil}},
	{model: "phi3", option: "partial_rotary_factor", config: map[string]any{"rope_parameters": inner{"partial_rotary_factor": missing}}},
	{model: "phi3", option: "gate and up", spec: func(s *spec) {
		s.glu = func(t *autodiff.Tape, gate, up *autodiff.Value) *autodiff.Value { return t.SwiGLU(up, gate) }
	}},
	{model: "phi3-longrope", option: "scaling", config: map[string]any{"rope_scaling": nil}},
	{model: "phi3-longrope", option: "long_factor", config: map[string]any{"rope_scaling": inner{"long_factor": []float64{3, 5, 11}}}},
	{model: "phi3-longrope", option: "original_max_position_embeddings", config: map[string]any{"original_max_position_embeddings": 75}},
	{model: "phi3-longrope", option: "attention_factor", config: map[string]any{"rope_scaling": inner{"attention_factor": 1.0}}},
}

func TestEveryOptionMatters(t *testing.T) {
	for _, c := range mutations {
		t.Run(c.model+" "+c.option, func(t *testing.T) {
			off := offBy(t, c.load(t), "long_ids", goldenFloats(t, openReference(t, c.model), "base"))
			t.Logf("logits are off by %.1e of their rms", off)
			if !(off > mutated) {
				t.Errorf("logits are off by %g of their rms only", off)
			}
		})
	}
	t.Run("phi3-longrope short_factor", func(t *testing.T) {
		c := mutation{model: "phi3-longrope", config: map[string]any{"rope_scaling": inner{"short_factor": []float64{1, 1.25, 2.5}}}}
		m := c.load(t)
		if err := m.Attach(decoderAdapter(t, c.model), 1); err != nil {
			t.Fatal(err)
		}
		if off := offBy(t, m, "short_ids", goldenFloats(t, openReference(t, c.model), "short")); !(off > mutated) {
			t.Errorf("logits are off by %g of their rms only", off)
		}
	})
}

// load makes the changed model.
func (c mutation) load(t *testing.T) *decoder {
	t.Helper()
	ends := strings.Fields(c.without)
	ckpt := changed(t, c.model, c.config, func(x formats.Tensor) (formats.Tensor, bool) {
		if slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(x.Name, end) }) {
			return x, false
		}
		if c.weights != nil {
			values, err := x.Float32s()
			if err != nil {
				t.Fatal(err)
			}
			c.weights(x.Name, values)
			encoded := make([]byte, x.Size())
			formats.EncodeFloat32(encoded, values, x.DType)
			x.Data = bytes.NewReader(encoded)
		}
		return x, true
	})
	doc, err := readConfig(ckpt, "config.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := readSpec(c.model, doc, families[doc.Get("model_type").(string)], ckpt.Len())
	if err != nil {
		t.Fatal(err)
	}
	if c.spec != nil {
		c.spec(&s)
	}
	m, err := loadDecoder(ckpt, doc, s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// changed returns a model's checkpoint with a changed config, and the tensors that each
// returns.
func changed(t *testing.T, model string, config map[string]any, each func(formats.Tensor) (formats.Tensor, bool)) *formats.Checkpoint {
	t.Helper()
	source := openDecoder(t, model)
	raw, err := source.ReadSideFile("config.json", formats.MaxConfigBytes)
	if err != nil {
		t.Fatal(err)
	}
	var cfg map[string]any
	if err := json.Unmarshal(raw, &cfg); err != nil {
		t.Fatal(err)
	}
	change(t, cfg, config)
	var tensors []formats.Tensor
	for x := range source.Tensors() {
		if x, ok := each(x); ok {
			tensors = append(tensors, x)
		}
	}
	return inMemoryCheckpoint(t, cfg, tensors)
}

func inMemoryCheckpoint(t *testing.T, cfg map[string]any, tensors []formats.Tensor) *formats.Checkpoint {
	t.Helper()
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c, err := formats.NewCheckpoint("small", formats.Directory, []formats.Shard{{Name: "model.safetensors", Tensors: tensors}},
		[]formats.SideFile{{Name: "config.json", Size: int64(len(text)), Data: bytes.NewReader(text)}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// change sets options; inner changes those of an object, which must be there.
func change(t *testing.T, cfg map[string]any, changes map[string]any) {
	t.Helper()
	for key, v := range changes {
		switch v := v.(type) {
		case inner:
			object, ok := cfg[key].(map[string]any)
			if !ok {
				t.Fatalf("no object %s", key)
			}
			change(t, object, v)
		default:
			cfg[key] = v
			if v == missing {
				delete(cfg, key)
			}
		}
	}
}

package models

import (
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// Where a config says nothing, the defaults are those of transformers' classes.
func TestDefaultsOfFamilies(t *testing.T) {
	small := map[string]any{"vocab_size": 23, "hidden_size": 24, "intermediate_size": 19, "num_hidden_layers": 30, "num_attention_heads": 12}
	for kind, want := range map[string]struct {
		maxPositions, headDim, keyValueHeads int
		eps, theta                           float64
		windows                              [2]int // of layers 0 and 29
		tied                                 bool
		scoreScale, scoreCap, logitCap       float32
	}{
		"llama":       {2048, 2, 12, 1e-6, 1e4, [2]int{}, false, 0, 0, 0},
		"mistral":     {131072, 2, 8, 1e-6, 1e4, [2]int{4096, 4096}, false, 0, 0, 0},
		"qwen2":       {32768, 2, 32, 1e-6, 1e4, [2]int{}, false, 0, 0, 0},
		"qwen3":       {32768, 128, 32, 1e-6, 1e4, [2]int{}, false, 0, 0, 0},
		"gemma2":      {8192, 256, 4, 1e-6, 1e4, [2]int{4096, 0}, true, 1. / 16, 50, 30},
		"gemma3_text": {131072, 256, 4, 1e-6, 1e6, [2]int{4096, 0}, true, 1. / 16, 0, 0},
		"phi3":        {4096, 2, 12, 1e-5, 1e4, [2]int{}, false, 0, 0, 0},
	} {
		t.Run(kind, func(t *testing.T) {
			cfg := map[string]any{"model_type": kind}
			change(t, cfg, small)
			if want.keyValueHeads == 32 {
				cfg["num_attention_heads"], cfg["hidden_size"] = 64, 128
			}
			if want.keyValueHeads == 8 {
				cfg["num_attention_heads"], cfg["hidden_size"] = 16, 32
			}
			doc, err := readConfig(inMemoryCheckpoint(t, cfg, nil), "config.json")
			if err != nil {
				t.Fatal(err)
			}
			s, err := readSpec(kind, doc, families[kind], 1000)
			if err != nil {
				t.Fatal(err)
			}
			got := [2]int{s.layers[0].window, s.layers[29].window}
			if s.maxPositions != want.maxPositions || s.headDim != want.headDim || s.keyValueHeads != want.keyValueHeads ||
				s.norm.Eps != want.eps || got != want.windows || s.tied != want.tied ||
				s.scoreScale != want.scoreScale || s.scoreCap != want.scoreCap || s.logitCap != want.logitCap {
				t.Errorf("spec is %+v", s)
			}
			theta := ropeBase{s.headDim, want.theta}.frequencies()
			if !slices.Equal(s.ropes[s.layers[29].rope].frequencies, theta) {
				t.Errorf("theta is not %g", want.theta)
			}
		})
	}
}

// What the configs of published models say, with the options that decide something and
// those that have misled readers.
func TestPublishedConfigs(t *testing.T) {
	longRope := func(short, long float64, n int) string {
		list := func(x float64) string {
			return "[" + strings.TrimSuffix(strings.Repeat(strconv.FormatFloat(x, 'g', -1, 64)+",", n), ",") + "]"
		}
		return `{"type": "longrope", "short_factor": ` + list(short) + `, "long_factor": ` + list(long) + `}`
	}
	for _, c := range []struct {
		name, config         string
		maxPositions, turned int    // elements of a head that turn
		windows              string // of the first layers: s or f
		tied                 bool
		ropeScale            float64
	}{
		{"Mistral-7B-v0.1", `{"model_type": "mistral", "architectures": ["MistralForCausalLM"], "hidden_act": "silu", "hidden_size": 4096,
			"intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
			"rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": false, "vocab_size": 32000}`,
			32768, 128, "ssssssss", false, 1},
		{"Mistral-7B-v0.3", `{"model_type": "mistral", "attention_dropout": 0.0, "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
			"max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
			"rope_theta": 1000000.0, "sliding_window": null, "vocab_size": 32768}`, 32768, 128, "ffffffff", false, 1},
		{"Qwen2-7B", `{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "hidden_size": 3584, "intermediate_size": 18944,
			"max_position_embeddings": 131072, "max_window_layers": 28, "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4,
			"rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072, "use_sliding_window": false, "vocab_size": 152064}`,
			131072, 128, "ffffffff", false, 1},
		{"Qwen3-0.6B in yarn", `{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "head_dim": 128, "hidden_act": "silu",
			"hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28, "num_attention_heads": 16,
			"num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_theta": 1000000, "sliding_window": null,
			"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, "tie_word_embeddings": true,
			"use_sliding_window": false, "vocab_size": 151936}`, 131072, 128, "ffffffff", true, 1.1386294},
		{"Llama-3.1-8B", `{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "attention_bias": false, "hidden_act": "silu", "hidden_size": 4096,
			"intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": false, "num_attention_heads": 32, "num_hidden_layers": 32,
			"num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "vocab_size": 128256, "rope_scaling":
			{"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}}`,
			131072, 128, "ffffffff", false, 1},
		{"gemma-2-2b", `{"model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"], "attention_bias": false, "attn_logit_softcapping": 50.0,
			"cache_implementation": "hybrid", "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
			"hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304, "intermediate_size": 9216, "max_position_embeddings": 8192,
			"num_attention_heads": 8, "num_hidden_layers": 26, "num_key_value_heads": 4, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
			"rope_theta": 10000.0, "sliding_window": 4096, "sliding_window_size": 4096, "vocab_size": 256000}`, 8192, 256, "sfsfsfsf", true, 1},
		{"gemma-3-1b", `{"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"], "attention_bias": false, "attn_logit_softcapping": null,
			"cache_implementation": "hybrid", "eos_token_id": [1, 106], "final_logit_softcapping": null, "head_dim": 256,
			"hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "intermediate_size": 6912, "max_position_embeddings": 32768,
			"num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
			"rope_local_base_freq": 10000, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6,
			"vocab_size": 262144}`, 32768, 256, "sssssfss", true, 1},
		{"Phi-3-mini-4k", `{"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "attention_bias": false, "auto_map": {"AutoConfig": "x.Phi3Config"},
			"embd_pdrop": 0.0, "hidden_act": "silu", "hidden_size": 3072, "intermediate_size": 8192, "max_position_embeddings": 4096,
			"num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "original_max_position_embeddings": 4096,
			"resid_pdrop": 0.0, "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000.0, "sliding_window": 2047,
			"tie_word_embeddings": false, "vocab_size": 32064}`, 4096, 96, "ssssssss", false, 1},
		{"Phi-4-mini", `{"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "hidden_act": "silu", "hidden_size": 3072, "intermediate_size": 8192,
			"interpolate_factor": 1, "lm_head_bias": false, "max_position_embeddings": 131072, "num_attention_heads": 24, "num_hidden_layers": 32,
			"num_key_value_heads": 8, "original_max_position_embeddings": 4096, "partial_rotary_factor": 0.75, "rms_norm_eps": 1e-05,
			"rope_scaling": ` + longRope(1, 32, 48) + `, "rope_theta": 10000.0, "sliding_window": 262144, "tie_word_embeddings": true,
			"vocab_size": 200064}`, 131072, 96, "ssssssss", true, 1.1902381},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc, err := strictjson.ParseObject([]byte(c.config), formats.MaxJSONDepth)
			if err != nil {
				t.Fatal(err)
			}
			s, err := readSpec(c.name, doc, families[doc.Get("model_type").(string)], 1000)
			if err != nil {
				t.Fatal(err)
			}
			windows := ""
			for _, l := range s.layers[:8] {
				windows += map[bool]string{false: "f", true: "s"}[l.window > 0]
			}
			r := s.ropes[s.layers[0].rope]
			if s.maxPositions != c.maxPositions || 2*len(r.frequencies) != c.turned || windows != c.windows || s.tied != c.tied || math.Abs(float64(r.scale)-c.ropeScale) > 1e-6 {
				t.Errorf("%d positions, %d turn, %s, tied %v, scale %v", s.maxPositions, 2*len(r.frequencies), windows, s.tied, r.scale)
			}
		})
	}
}

// At the sizes of published models the frequencies are those of transformers: far positions
// see every bit. PyTorch's power is off by a unit in the last place now and then, and its
// inverse by two.
func TestFrequenciesOfTransformers(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(decoders, "frequencies.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases map[string]struct {
		Config      json.RawMessage
		Tokens      int
		Frequencies []float64
		Scale       float64
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, kind := range slices.Sorted(maps.Keys(ropeKinds)) {
		t.Run(kind, func(t *testing.T) {
			c := cases[kind]
			doc, err := strictjson.ParseObject(c.Config, formats.MaxJSONDepth)
			if err != nil {
				t.Fatal(err)
			}
			s, err := readSpec(kind, doc, families[doc.Get("model_type").(string)], 1000)
			if err != nil {
				t.Fatal(err)
			}
			r := s.ropes[0]
			got := r.frequencies
			if r.longer != nil && c.Tokens > r.length {
				got = r.longer(c.Tokens)
			}
			if len(got) != len(c.Frequencies) || math.Abs(float64(r.scale)-c.Scale) > 1e-7 {
				t.Fatalf("%d frequencies and a scale of %v, want %d and %v", len(got), r.scale, len(c.Frequencies), c.Scale)
			}
			same := 0
			for i, f := range got {
				want := float32(c.Frequencies[i])
				if f == want {
					same++
				} else if math.Abs(float64(f-want)) > 0x1p-22*float64(want) {
					t.Errorf("frequency %d is %v, want %v", i, f, want)
				}
			}
			if t.Logf("%d of %d are the same", same, len(got)); same < len(got)*9/10 {
				t.Errorf("%d of %d are the same only", same, len(got))
			}
		})
	}
}

func TestFamilyRefusals(t *testing.T) {
	for _, c := range []struct {
		model   string
		changes map[string]any
		want    string
	}{
		{"mistral", map[string]any{"layer_types": []string{full, full}}, `layer_types "full_attention" is not implemented for this model type (want "sliding_attention")`},
		{"mistral", map[string]any{"sliding_window": 0}, "sliding_window must be a whole number from 1"},
		{"mistral", map[string]any{"architectures": []string{"MistralForTokenClassification"}}, `architectures ["MistralForTokenClassification"] is not implemented (want MistralForCausalLM or MistralModel)`},
		{"mistral", map[string]any{"quantization_config": map[string]any{"quant_method": "awq"}}, "quantization_config an object is not implemented"},
		{"mistral", map[string]any{"quantization": map[string]any{"bits": 4, "group_size": 64}}, "quantization an object is not implemented (want none)"},
		{"mistral", map[string]any{"model_type": "mixtral"}, `model_type "mixtral" cannot be trained or run`},
		{"qwen2", map[string]any{"sliding_window": nil, "layer_types": []string{full, full, sliding}}, "layer_types has sliding layers, but there is no sliding_window"},
		{"qwen3", map[string]any{"layer_types": []string{full}}, "layer_types must have a word for each of 3 layers (got 1)"},
		{"qwen3", map[string]any{"layer_types": []any{full, 3, full}}, "layer_types 3 is not implemented"},
		{"qwen3", map[string]any{"layer_types": []string{full, "chunked_attention", full}}, `layer_types "chunked_attention" is not implemented (want "full_attention" or "sliding_attention")`},
		{"qwen3", map[string]any{"layer_types": "full"}, `layer_types must be a list or null (got "full")`},
		{"gemma2", map[string]any{"use_bidirectional_attention": true}, "use_bidirectional_attention true is not implemented (want false)"},
		{"gemma2", map[string]any{"hidden_activation": "relu"}, `hidden_activation "relu" is not implemented`},
		{"gemma2", map[string]any{"sliding_window": nil}, "layer_types has sliding layers, but there is no sliding_window"},
		{"gemma2", map[string]any{"final_logit_softcapping": 0}, "final_logit_softcapping must be a positive number (got 0)"},
		{"gemma3", map[string]any{"attn_logit_softcapping": 50.0}, "attn_logit_softcapping 50 is not implemented (want null)"},
		{"gemma3", map[string]any{"model_type": "gemma3"}, `model_type "gemma3" cannot be trained or run`},
		{"gemma3", map[string]any{"rope_parameters": map[string]any{"rope_type": "linear"}}, `rope_parameters "rope_type" is not implemented (want "full_attention" and "sliding_attention")`},
		{"gemma3", map[string]any{"rope_parameters": inner{sliding: map[string]any{"rope_type": "dynamic", "factor": 2}}}, `sliding_attention rope_type "dynamic" is not implemented for this model type`},
		{"gemma3", map[string]any{"rope_scaling": map[string]any{"rope_type": "linear", "factor": 2}}, "rope_parameters stands beside rope_scaling"},
		{"gemma3", map[string]any{"rope_theta": 51.0}, "full_attention has a rope_theta of 50 beside one of 51"},
		{"gemma3", map[string]any{"rope_parameters": 4}, "rope_parameters must be an object or null (got 4)"},
		{"phi3", map[string]any{"rope_parameters": inner{"rope_type": "linear", "factor": 2}}, `rope_type "linear" is not implemented for this model type (want "default" or "longrope")`},
		{"phi3", map[string]any{"rope_parameters": inner{"partial_rotary_factor": 1.5}}, "partial_rotary_factor must turn some of the 10 elements of a head (got 1.5)"},
		{"phi3", map[string]any{"rope_parameters": inner{"partial_rotary_factor": 0.5}}, "head_dim must be even for rotary embeddings (got 5 elements that turn)"},
		{"phi3", map[string]any{"partial_rotary_factor": 0.8}, "partial_rotary_factor of 0.6 beside one of 0.8"},
		{"phi3", map[string]any{"resid_pdrop": 0.1}, "resid_pdrop 0.1 is not implemented (want 0)"},
		{"phi3-longrope", map[string]any{"partial_rotary_factor": missing}, "rope_scaling short_factor must be a list of 4 positive numbers"},
		{"phi3-longrope", map[string]any{"rope_scaling": inner{"short_mscale": 1.2}}, `rope_scaling "short_mscale" is not implemented for rope_type "longrope"`},
	} {
		t.Run(c.model, func(t *testing.T) {
			ckpt := changed(t, c.model, c.changes, func(x formats.Tensor) (formats.Tensor, bool) {
				x.Data = noReads{t}
				return x, true
			})
			_, err := Load(ckpt)
			checkError(t, err, formats.ErrInput, c.want)
		})
	}
}

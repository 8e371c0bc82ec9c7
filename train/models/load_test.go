package models

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// smallConfig is a Llama of two layers in which no two sizes are equal.
func smallConfig(changes map[string]any) map[string]any {
	cfg := map[string]any{
		"model_type": "llama", "vocab_size": 23, "hidden_size": 12, "intermediate_size": 19,
		"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
		"max_position_embeddings": 40,
	}
	for k, v := range changes {
		cfg[k] = v
		if v == missing {
			delete(cfg, k)
		}
	}
	return cfg
}

// missing as a change takes an option or tensor away.
const missing = "\x00missing"

type raw struct {
	dtype formats.DType
	shape []int64
}

// smallWeights are the shapes that smallConfig needs.
func smallWeights(changes map[string]raw) map[string]raw {
	w := map[string]raw{}
	add := func(name string, shape ...int64) { w[name] = raw{formats.F32, shape} }
	add("lm_head.weight", 23, 12)
	add("model.embed_tokens.weight", 23, 12)
	add("model.norm.weight", 12)
	for _, l := range []string{"model.layers.0.", "model.layers.1."} {
		add(l+"input_layernorm.weight", 12)
		add(l+"post_attention_layernorm.weight", 12)
		add(l+"self_attn.q_proj.weight", 24, 12)
		add(l+"self_attn.k_proj.weight", 12, 12)
		add(l+"self_attn.v_proj.weight", 12, 12)
		add(l+"self_attn.o_proj.weight", 12, 24)
		add(l+"mlp.gate_proj.weight", 19, 12)
		add(l+"mlp.up_proj.weight", 19, 12)
		add(l+"mlp.down_proj.weight", 12, 19)
	}
	for name, r := range changes {
		w[name] = r
		if r.shape == nil {
			delete(w, name)
		}
	}
	return w
}

// noReads fails the test when a weight is read.
type noReads struct{ t *testing.T }

func (r noReads) ReadAt([]byte, int64) (int, error) {
	r.t.Error("a weight was read")
	return 0, io.ErrUnexpectedEOF
}

// smallCheckpoint makes a checkpoint in memory. Weights are random by name, so that the
// same name has the same elements in every checkpoint; without data they must not be read.
func smallCheckpoint(t *testing.T, cfg map[string]any, weights map[string]raw, rename func(string) string, data bool) *formats.Checkpoint {
	t.Helper()
	var tensors []formats.Tensor
	for name, r := range weights {
		x := formats.Tensor{Name: name, DType: r.dtype, Shape: r.shape, Data: noReads{t}}
		if data {
			rng := rand.New(rand.NewPCG(uint64(len(name)), uint64(name[len(name)/2])))
			values := make([]float32, x.Elements())
			for i := range values {
				values[i] = float32(rng.NormFloat64()) * 0.3
			}
			encoded := make([]byte, x.Size())
			formats.EncodeFloat32(encoded, values, r.dtype)
			x.Data = bytes.NewReader(encoded)
		}
		if rename != nil {
			x.Name = rename(name)
		}
		tensors = append(tensors, x)
	}
	return inMemoryCheckpoint(t, cfg, tensors)
}

func TestConfigRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		changes map[string]any
		want    string // part of the message
	}{
		"no type":            {map[string]any{"model_type": missing}, "no model_type"},
		"other type":         {map[string]any{"model_type": "mixtral"}, `model_type "mixtral" cannot be trained or run (known: gemma2, gemma3_text, gpt2, llama, mistral, phi3, qwen2, qwen3)`},
		"missing size":       {map[string]any{"hidden_size": missing}, "hidden_size is missing"},
		"negative size":      {map[string]any{"vocab_size": -3}, "vocab_size must be a whole number from 1 to 1073741824 (got -3)"},
		"huge size":          {map[string]any{"vocab_size": 1e30}, "vocab_size must be"},
		"fraction":           {map[string]any{"head_dim": 6.5}, "head_dim must be a whole number from 1 to 1073741824 (got 6.5)"},
		"text":               {map[string]any{"num_attention_heads": "four"}, `num_attention_heads must be a whole number from 1 to 1073741824 (got "four")`},
		"many layers":        {map[string]any{"num_hidden_layers": 1 << 30}, "1073741824 layers, but there are 21 tensors"},
		"groups":             {map[string]any{"num_key_value_heads": 3}, "num_key_value_heads must divide num_attention_heads (got 3 and 4)"},
		"odd head":           {map[string]any{"head_dim": 5}, "head_dim must be even"},
		"no head_dim":        {map[string]any{"head_dim": nil, "hidden_size": 14}, "num_attention_heads must divide hidden_size"},
		"activation":         {map[string]any{"hidden_act": "gelu"}, `hidden_act "gelu" is not implemented (want "silu" or "gelu_pytorch_tanh")`},
		"tensor parallel":    {map[string]any{"pretraining_tp": 2}, "pretraining_tp 2 is not implemented (want 1)"},
		"dropout":            {map[string]any{"attention_dropout": 0.1}, "attention_dropout 0.1 is not implemented (want 0)"},
		"quantized":          {map[string]any{"quantization_config": map[string]any{"quant_method": "fp8"}}, "quantization_config an object is not implemented (want none)"},
		"quantized flag":     {map[string]any{"quantization_config": true}, "quantization_config true is not implemented (want none)"},
		"quantized text":     {map[string]any{"quantization_config": "fp8"}, `quantization_config "fp8" is not implemented (want none)`},
		"pruned list":        {map[string]any{"pruned_heads": []int{3}}, "pruned_heads an array is not implemented (want none)"},
		"pruned":             {map[string]any{"pruned_heads": map[string]any{"0": []int{1}}}, "pruned_heads an object is not implemented"},
		"interleaved":        {map[string]any{"rope_interleaved": true}, "rope_interleaved true is not implemented (want false)"},
		"partial rotary":     {map[string]any{"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not implemented (want 1)"},
		"scaling":            {map[string]any{"rope_scaling": map[string]any{"rope_type": "axial", "factor": 8.0}}, `rope_scaling rope_type "axial" is not implemented (known: default, dynamic, linear, llama3, longrope, yarn)`},
		"scaling word":       {map[string]any{"rope_scaling": map[string]any{"type": 3}}, "rope_scaling type must be a word (got 3)"},
		"no factor":          {map[string]any{"rope_scaling": map[string]any{"type": "linear"}}, "rope_scaling factor is missing"},
		"scaling factor":     {map[string]any{"rope_scaling": map[string]any{"factor": 2.0}}, `rope_scaling "factor" is not implemented for rope_type "default"`},
		"negative factor":    {map[string]any{"rope_scaling": map[string]any{"type": "dynamic", "factor": -2.0}}, "rope_scaling factor must be a positive number (got -2)"},
		"dynamic key":        {map[string]any{"rope_scaling": map[string]any{"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 9}}, `"original_max_position_embeddings" is not implemented for rope_type "dynamic"`},
		"short dynamic":      {map[string]any{"head_dim": 2, "rope_scaling": map[string]any{"type": "dynamic", "factor": 2.0}}, `rope_type "dynamic" cannot be computed for heads of 2`},
		"llama3 bands":       {map[string]any{"rope_scaling": map[string]any{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4, "high_freq_factor": 4}}, "high_freq_factor must be above low_freq_factor (got 4 and 4)"},
		"llama3 missing":     {map[string]any{"rope_scaling": map[string]any{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1}}, "high_freq_factor is missing"},
		"original":           {map[string]any{"rope_scaling": map[string]any{"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 4.5}}, "has original_max_position_embeddings of 4.5"},
		"two originals":      {map[string]any{"original_max_position_embeddings": 9, "rope_scaling": map[string]any{"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8}}, "rope_scaling has original_max_position_embeddings of 8 beside 9"},
		"bad original":       {map[string]any{"original_max_position_embeddings": "9", "rope_scaling": map[string]any{"rope_type": "yarn", "factor": 8.0}}, `original_max_position_embeddings must be a whole number from 1 to 1073741824 (got "9")`},
		"truncate":           {map[string]any{"rope_scaling": map[string]any{"rope_type": "yarn", "factor": 8.0, "truncate": "no"}}, `truncate must be true or false (got "no")`},
		"yarn base":          {map[string]any{"rope_theta": 1, "rope_scaling": map[string]any{"rope_type": "yarn", "factor": 8.0}}, `rope_theta must be above 1 for "yarn" (got 1)`},
		"longrope lists":     {map[string]any{"rope_scaling": map[string]any{"rope_type": "longrope", "short_factor": []any{1, 2}, "long_factor": []any{1, 2, -3}}}, "short_factor must be a list of 3 positive numbers"},
		"scaling kind":       {map[string]any{"rope_scaling": 2}, "rope_scaling must be an object or null (got 2)"},
		"both scalings":      {map[string]any{"rope_scaling": map[string]any{"type": "linear", "factor": 2}, "rope_parameters": map[string]any{"rope_theta": 1e4}}, "rope_parameters stands beside rope_scaling"},
		"scaling by kind":    {map[string]any{"rope_parameters": map[string]any{"full_attention": map[string]any{"rope_theta": 1e4}}}, `rope_parameters "full_attention" is not implemented for rope_type "default"`},
		"new partial rotary": {map[string]any{"rope_parameters": map[string]any{"partial_rotary_factor": 0.25}}, "rope_parameters partial_rotary_factor 0.25 is not implemented"},
		"huge head":          {map[string]any{"head_dim": 1 << 30}, "head_dim is above 65536 (got 1073741824)"},
		"layer types":        {map[string]any{"layer_types": []string{"sliding_attention", "full_attention"}}, `layer_types "sliding_attention" is not implemented for this model type (want "full_attention")`},
		"two bases":          {map[string]any{"rope_theta": 500.0, "rope_parameters": map[string]any{"rope_theta": 600.0}}, "rope_parameters has a rope_theta of 600 beside one of 500"},
		"bad base":           {map[string]any{"rope_parameters": map[string]any{"rope_theta": -1}}, "rope_theta must be a positive number (got -1)"},
		"bad eps":            {map[string]any{"rms_norm_eps": 0}, "rms_norm_eps must be a positive number (got 0)"},
		"bad flag":           {map[string]any{"tie_word_embeddings": "yes"}, `tie_word_embeddings must be true or false (got "yes")`},
		"other head":         {map[string]any{"architectures": []string{"LlamaForSequenceClassification"}}, `architectures ["LlamaForSequenceClassification"] is not implemented`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(smallCheckpoint(t, smallConfig(c.changes), smallWeights(nil), nil, false))
			checkError(t, err, formats.ErrInput, `reading "small": `, c.want)
		})
	}
}

func checkError(t *testing.T, err, class error, want ...string) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Fatalf("error %v, want one of class %q", err, class)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error is\n%v\nwant\n%s", err, w)
		}
	}
}

func TestSeveralProblemsAreListed(t *testing.T) {
	cfg := smallConfig(map[string]any{"hidden_act": "gelu", "pretraining_tp": 2})
	_, err := Load(smallCheckpoint(t, cfg, smallWeights(nil), nil, false))
	checkError(t, err, formats.ErrInput, "hidden_act", "pretraining_tp")
	_, err = Load(smallCheckpoint(t, smallConfig(nil), smallWeights(map[string]raw{"model.norm.weight": {}, "lm_head.weight": {}}), nil, false))
	checkError(t, err, formats.ErrInput, `tensor "model.norm.weight": is missing`, `tensor "lm_head.weight": is missing`)
}

func TestWeightRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		weights map[string]raw
		want    string
	}{
		"missing":  {map[string]raw{"model.layers.1.mlp.up_proj.weight": {}}, `tensor "model.layers.1.mlp.up_proj.weight": is missing`},
		"shape":    {map[string]raw{"model.layers.1.mlp.up_proj.weight": {formats.F32, []int64{12, 19}}}, "shape does not fit config.json (got [12 19], want [19 12])"},
		"rank":     {map[string]raw{"model.norm.weight": {formats.F32, []int64{1, 12}}}, "got [1 12], want [12]"},
		"dtype":    {map[string]raw{"model.norm.weight": {formats.F8E4M3, []int64{12}}}, "cannot compute with its dtype (got F8_E4M3"},
		"left":     {map[string]raw{"model.layers.2.input_layernorm.weight": {formats.F32, []int64{12}}}, `tensor "model.layers.2.input_layernorm.weight": the model that config.json describes has no such parameter`},
		"bias":     {map[string]raw{"model.layers.0.self_attn.q_proj.bias": {formats.F32, []int64{24}}}, "has no such parameter"},
		"mixed up": {map[string]raw{"layers.0.input_layernorm.weight": {formats.F32, []int64{12}}}, "has no such parameter"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(smallCheckpoint(t, smallConfig(nil), smallWeights(c.weights), nil, false))
			checkError(t, err, formats.ErrInput, c.want)
		})
	}
}

func TestUnreadableWeight(t *testing.T) {
	c := smallCheckpoint(t, smallConfig(nil), smallWeights(nil), nil, true)
	c = c.MapTensors(func(x formats.Tensor) formats.Tensor {
		if x.Name == "model.norm.weight" {
			x.Data = bytes.NewReader(make([]byte, 20))
		}
		return x
	})
	_, err := Load(c)
	checkError(t, err, formats.ErrInput, `reading "small": tensor "model.norm.weight": unexpected EOF`)
}

func TestUnreadableConfig(t *testing.T) {
	for text, want := range map[string]string{
		"":                                      "config.json: ",
		"[1]":                                   "config.json: must be an object (got an array)",
		`{"model_type": "llama",`:               "config.json: ",
		`{"vocab_size": 2, "vocab_size": 3}`:    `config.json: duplicate name "vocab_size"`,
		`{"model_type": ["llama"]}`:             "no model_type",
		strings.Repeat("[", 100):                "config.json: nested deeper than 64",
		`{"model_type": "` + "\x00" + `llama"}`: "config.json: ",
	} {
		c, err := formats.NewCheckpoint("small", formats.Directory, nil,
			[]formats.SideFile{{Name: "config.json", Size: int64(len(text)), Data: strings.NewReader(text)}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Load(c)
		checkError(t, err, formats.ErrInput, want)
	}
	c, err := formats.NewCheckpoint("small", formats.Directory, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Load(c)
	checkError(t, err, formats.ErrInput, "there is no config.json")
}

func TestHarmlessOptionsAndTensors(t *testing.T) {
	cfg := smallConfig(map[string]any{
		"torch_dtype": "float32", "use_cache": false, "_name_or_path": "x", "auto_map": map[string]any{"a": "b"},
		"rope_scaling": map[string]any{"type": "default"}, "pretraining_tp": 1, "hidden_act": nil,
		"architectures": []string{"LlamaModel"}, "eos_token_id": []int{7, 9}, "attention_dropout": 0,
		"quantization_config": false, "pruned_heads": []int{}, "something_new": 5,
	})
	weights := smallWeights(map[string]raw{"model.layers.0.self_attn.rotary_emb.inv_freq": {formats.F32, []int64{3}}})
	m, err := Load(smallCheckpoint(t, cfg, weights, nil, true))
	if err != nil {
		t.Fatal(err)
	}
	if ends := m.EndTokens(); len(ends) != 2 || ends[1] != 9 {
		t.Errorf("end tokens are %v", ends)
	}
	s := m.(*decoder).spec
	if theta := math.Pow(float64(s.ropes[0].frequencies[2]), -6./4); s.norm.Eps != 1e-6 || math.Abs(theta-10000) > 0.01 || s.tied || s.biases != (biases{}) {
		t.Errorf("defaults are %+v", s)
	}
}

func TestDefaultsOfHeads(t *testing.T) {
	cfg := smallConfig(map[string]any{"num_key_value_heads": missing, "head_dim": nil, "num_attention_heads": 3, "max_position_embeddings": missing})
	changes := map[string]raw{}
	for _, l := range []string{"model.layers.0.", "model.layers.1."} {
		for _, p := range []string{"q", "k", "v", "o"} {
			changes[l+"self_attn."+p+"_proj.weight"] = raw{formats.F32, []int64{12, 12}}
		}
	}
	m, err := Load(smallCheckpoint(t, cfg, smallWeights(changes), nil, true))
	if err != nil {
		t.Fatal(err)
	}
	if m.MaxPositions() != 2048 || m.(*decoder).spec.keyValueHeads != 3 {
		t.Errorf("config is %+v", m.(*decoder).spec)
	}
}

func TestTiedHead(t *testing.T) {
	cfg := smallConfig(map[string]any{"tie_word_embeddings": true})
	b := Batch{Rows: 1, Cols: 3, IDs: []int32{4, 20, 1}}
	logits := func(weights map[string]raw) []float32 {
		t.Helper()
		m, err := Load(smallCheckpoint(t, cfg, weights, func(name string) string { return strings.TrimPrefix(name, "model.") }, true))
		if err != nil {
			t.Fatal(err)
		}
		if want := int64(23*12 + 12 + 2*(24+24*12*2+12*12*2+19*12*3)); m.Size().Base != want {
			t.Errorf("%d parameters, want %d", m.Size().Base, want)
		}
		out, err := m.Logits(b)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	logits(smallWeights(map[string]raw{"lm_head.weight": {}}))

	// A head of its own that is not the embedding cannot be meant.
	_, err := Load(smallCheckpoint(t, cfg, smallWeights(nil), nil, true))
	checkError(t, err, formats.ErrInput, `tensor "lm_head.weight": differs from the embedding`)
}

func TestPrefixMakesNoDifference(t *testing.T) {
	b := Batch{Rows: 1, Cols: 3, IDs: []int32{4, 20, 1}}
	with, err := Load(smallCheckpoint(t, smallConfig(nil), smallWeights(nil), nil, true))
	if err != nil {
		t.Fatal(err)
	}
	without, err := Load(smallCheckpoint(t, smallConfig(nil), smallWeights(nil), func(name string) string { return strings.TrimPrefix(name, "model.") }, true))
	if err != nil {
		t.Fatal(err)
	}
	if with.Modules()[0].Path != "model.layers.0.self_attn.q_proj" || without.Modules()[0] != with.Modules()[0] {
		t.Errorf("modules are %v and %v", with.Modules()[0], without.Modules()[0])
	}
	x, err1 := with.Logits(b)
	y, err2 := without.Logits(b)
	if err1 != nil || err2 != nil || largestDifference(x, y) != 0 {
		t.Errorf("logits differ: %v, %v", err1, err2)
	}
}

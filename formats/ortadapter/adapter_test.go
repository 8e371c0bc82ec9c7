package ortadapter

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

func TestParseName(t *testing.T) {
	for name, want := range map[string]struct {
		module string
		f      factor
	}{
		"model.layers.0.self_attn.q_proj.lora_A.weight":                          {"model.layers.0.self_attn.q_proj", factorA},
		"model.layers.0.self_attn.q_proj.lora_B.weight":                          {"model.layers.0.self_attn.q_proj", factorB},
		"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight":         {"model.layers.0.self_attn.q_proj", factorB},
		"base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight": {"model.layers.0.self_attn.q_proj", factorA},
		"model.layers.11.attn.q_proj.lora_A.MatMul.weight":                       {"model.layers.11.self_attn.q_proj", factorA},
		"model.layers.11.mlp.up_proj.lora_B.MatMul.weight":                       {"model.layers.11.mlp.up_proj", factorB},
		"transformer.h.0.attn.c_attn.lora_A.weight":                              {"transformer.h.0.attn.c_attn", factorA},
		"transformer.h.0.attn.c_attn.lora_A.MatMul.weight":                       {"transformer.h.0.attn.c_attn", factorA},
		"model.layers.3.attn.q_proj.lora_A.weight":                               {"model.layers.3.attn.q_proj", factorA},
		"model.embed_tokens.lora_embedding_A":                                    {"model.embed_tokens", embeddingA},
		"model.embed_tokens.lora_embedding_B.default":                            {"model.embed_tokens", embeddingB},
		"quant_conv.lora_A.weight":                                               {"quant_conv", factorA},
	} {
		module, f, err := parseName(name)
		if err != nil || module != want.module || f != want.f {
			t.Errorf("%s: got %q, %d, %v", name, module, f, err)
		}
	}
	for name, want := range map[string]string{
		"":                                    "it is no LoRA factor by its name",
		"w":                                   "it is no LoRA factor by its name",
		"lora_A.weight":                       "it is no LoRA factor by its name",
		"base_model.model.lora_A.weight":      "it is no LoRA factor by its name",
		"m.q_proj.lora_A":                     "it is no LoRA factor by its name",
		"m.q_proj.lora_A.bias":                "it is no LoRA factor by its name",
		"m.q_proj.lora_B.default.bias":        "it is no LoRA factor by its name",
		"m.q_proj.lora_A.a.b.weight":          "it is no LoRA factor by its name",
		"m.q_proj.lora_A.MatMul.weight_Q4":    "it is no LoRA factor by its name",
		"m.e.lora_embedding_A.a.b":            "it is no LoRA factor by its name",
		"m.q_proj.lora_magnitude_vector":      "DoRA",
		"m.q_proj.lora_A.quant.weight":        "quantised factors",
		"m.q_proj.lora_A.quant.scale":         "quantised factors",
		"m.q_proj.hada_w1_a":                  "LoHa",
		"m.q_proj.lokr_w1":                    "LoKr",
		"m.lm_head.modules_to_save.x.weight":  "saved modules",
		"m.q_proj.lora_dropout.lora_C.weight": "it is no LoRA factor by its name",
	} {
		if module, _, err := parseName(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %q, %v, want %q", name, module, err, want)
		}
	}
}

// TestNames: all namings are read as the module that was meant.
func TestNames(t *testing.T) {
	for _, n := range []Names{Olive, PEFT, GenAI} {
		if got, err := ParseNames(string(n)); got != n || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		for f := factorA; f <= embeddingB; f++ {
			const module = "model.layers.0.self_attn.q_proj"
			if got, g, err := parseName(n.name(module, f)); got != module || g != f || err != nil {
				t.Errorf("%s: got %q, %d, %v", n.name(module, f), got, g, err)
			}
		}
	}
	if _, err := ParseNames("Olive"); err == nil || !strings.Contains(err.Error(), `naming "Olive" is not known (want olive, peft or genai)`) {
		t.Errorf("got %v", err)
	}
}

func zeroed(name string, d formats.DType, shape ...int64) formats.Tensor {
	return formats.Tensor{Name: name, DType: d, Shape: shape, Data: zeros{}}
}

func f32(name string, shape ...int64) formats.Tensor { return zeroed(name, formats.F32, shape...) }

func TestReadRefuses(t *testing.T) {
	for _, c := range []struct {
		params []formats.Tensor
		want   []string
	}{
		{nil, []string{"it holds no parameters"}},
		{[]formats.Tensor{f32("m.q.lora_A.weight", 4, 2)}, []string{"m.q.lora_A.weight", "its B is missing"}},
		{[]formats.Tensor{f32("m.q.lora_B.weight", 2, 4)}, []string{"m.q.lora_B.weight", "its A is missing"}},
		{[]formats.Tensor{f32("m.q.weight", 2, 4)}, []string{`tensor "m.q.weight"`, "unexpected parameter"}},
		{[]formats.Tensor{f32("m.q.lora_A.weight", 4, 2), f32("m.q.lora_B.weight", 3, 5)}, []string{"disagree on the rank (A is [4 2], B is [3 5]"}},
		{[]formats.Tensor{f32("m.q.lora_A.weight", 2, 4), f32("m.q.lora_B.weight", 5, 2)}, []string{"disagree on the rank"}},
		{[]formats.Tensor{f32("m.q.lora_A.weight", 4, 0), f32("m.q.lora_B.weight", 0, 5)}, []string{"rank 0"}},
		{[]formats.Tensor{f32("m.q.lora_A.weight", 4), f32("m.q.lora_B.weight", 4)}, []string{"factors must both be matrices"}},
		{[]formats.Tensor{f32("m.q.lora_A.weight", 2, 3, 1, 1), f32("m.q.lora_B.weight", 2, 5)}, []string{"factors must both be matrices"}},
		{[]formats.Tensor{f32("m.q.lora_A.weight", 2, 3, 1, 1), f32("m.q.lora_B.weight", 5, 3, 1, 1)}, []string{"disagree on the rank"}},
		{[]formats.Tensor{f32("m.q.lora_A.weight", 4, 2), f32("m.q.lora_A.default.weight", 4, 2), f32("m.q.lora_B.weight", 2, 5)}, []string{"a second factor for the same place"}},
		{[]formats.Tensor{f32("m.q.lora_A.weight", 4, 2), f32("m.q.lora_embedding_B", 2, 5)}, []string{"an embedding and of a linear layer"}},
		{[]formats.Tensor{f32("m.q.lora_A.weight", 1, 1<<20+1), f32("m.q.lora_B.weight", 1<<20+1, 1)}, []string{"rank 1048577 is too large"}},
		{[]formats.Tensor{zeroed("m.q.lora_A.weight", formats.I8, 4, 2), f32("m.q.lora_B.weight", 2, 5)}, []string{"factors must be F64, F32, F16 or BF16 (got I8)"}},
		{[]formats.Tensor{f32("m.q.lora_A.weight", 4, 2), f32("m.q.lora_B.weight", 2, 5), f32("m.q.lora_magnitude_vector", 5)}, []string{"DoRA's magnitudes are not supported"}},
	} {
		path := save(t, encode(t, c.params...))
		a, err := Read(path)
		if err == nil {
			a.Close()
		}
		checkError(t, err, formats.ErrUnfit, append(c.want, path)...)
	}
}

// TestEmbedding has the orientation of a table of rows that are looked up.
func TestEmbedding(t *testing.T) {
	u := &adapter.LowRank{
		A:     formats.FromFloat32s("a", []int64{2, 3}, []float32{1, 2, 3, 4, 5, 6}),
		B:     formats.FromFloat32s("b", []int64{4, 2}, []float32{1, 2, 3, 4, 5, 6, 7, 8}),
		Scale: 2, Embedding: true,
	}
	a := &adapter.Adapter{Path: "p", Entries: []adapter.Entry{{Module: "m.embed", Update: u}}}
	out := filepath.Join(t.TempDir(), "out")
	if err := Write(t.Context(), a, out, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, out)
	for i, want := range []struct {
		name   string
		shape  []int64
		values []float32
	}{
		{"m.embed.lora_embedding_A", []int64{3, 2}, []float32{1, 4, 2, 5, 3, 6}},
		{"m.embed.lora_embedding_B", []int64{2, 4}, []float32{2, 6, 10, 14, 4, 8, 12, 16}},
	} {
		x := f.Parameters[i]
		got, err := x.Float32s()
		if err != nil || x.Name != want.name || !slices.Equal(x.Shape, want.shape) || !slices.Equal(got, want.values) {
			t.Errorf("got %s %v %v, %v", x.Name, x.Shape, got, err)
		}
	}
	back := mustRead(t, out)
	checkSameDelta(t, "m.embed", u, back.Entries[0].Update.(*adapter.LowRank))
	if e := back.Entries[0]; e.Module != "m.embed" || !e.Update.(*adapter.LowRank).Embedding {
		t.Errorf("got %+v", e)
	}
}

func TestWriteRefuses(t *testing.T) {
	low := func() *adapter.LowRank { return &adapter.LowRank{A: f32("a", 2, 4), B: f32("b", 5, 2), Scale: 1} }
	entry := func(module string, u adapter.Update) []adapter.Entry {
		return []adapter.Entry{{Module: module, Update: u, Keys: []string{"key"}}}
	}
	mixed := low()
	mixed.B = f32("b", 5, 2, 1)
	for _, c := range []struct {
		entries []adapter.Entry
		names   Names
		class   error
		want    string
	}{
		{entry("m.q", &adapter.Magnitude{Inner: low(), Vector: f32("v", 5)}), "", formats.ErrUnfit, `tensor "key": an .onnx_adapter file has no form for DoRA: module "m.q" has magnitudes`},
		{entry("m.head", &adapter.Replace{Param: "weight", Value: f32("v", 5)}), "", formats.ErrUnfit, `(modules_to_save): "weight" of module "m.head"`},
		{entry("m.q", mixed), "", formats.ErrUnfit, "factors must both be matrices"},
		{entry("model.layers.0.attn.q", low()), GenAI, formats.ErrUnfit, `has no name of the kind "genai" that can be read again`},
		{entry("", low()), "", formats.ErrUnfit, "has no name of the kind"},
		{entry("m.q", low()), "other", formats.ErrUsage, `naming "other" is not known`},
		{append(entry("m.q", low()), entry("m.q", low())...), "", formats.ErrOutput, "it would be there twice"},
	} {
		dir := t.TempDir()
		a := &adapter.Adapter{Path: "p", Entries: c.entries}
		opts := WriteOptions{Names: c.names}
		err := Write(t.Context(), a, filepath.Join(dir, "out"), opts)
		if again := Check(a, filepath.Join(dir, "out"), opts); again == nil || strings.Split(again.Error(), "\n")[0] != strings.Split(err.Error(), "\n")[0] {
			t.Errorf("Check says %v", again)
		}
		if c.class == formats.ErrOutput { // both factors are named
			err = err.(interface{ Unwrap() []error }).Unwrap()[0]
		}
		checkError(t, err, c.class, c.want)
		checkEmpty(t, dir)
	}
}

// TestWriteNamesAllProblems reads adapters that PEFT made and that have no form here.
func TestWriteNamesAllProblems(t *testing.T) {
	for dir, want := range map[string]string{"dora-f32": "DoRA", "save-classifier": "modules_to_save"} {
		a := readPEFT(t, filepath.Join(peftTD, dir, "adapter"))
		err := Write(t.Context(), a, filepath.Join(t.TempDir(), "out"), WriteOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", dir, err)
		}
	}
}

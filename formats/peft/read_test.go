package peft

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

const (
	at  = "base_model.model.m.q_proj"
	at2 = "base_model.model.n.q_proj"
)

// good are the factors of one module that a plain config fits: 5 out, 4 in.
func good() []shape { return []shape{f32(at+".lora_A.weight", 3, 4), f32(at+".lora_B.weight", 5, 3)} }

func TestFactorsRefused(t *testing.T) {
	saved := plainConfig("modules_to_save", `["head"]`)
	for _, c := range []struct {
		name    string
		config  string
		tensors []shape
		want    []string
	}{
		{"nothing", plainConfig(), nil, []string{"it holds no tensors"}},
		{"31 no B", plainConfig(), good()[:1], []string{`tensor "` + at + `.lora_A.weight": its B is missing`}},
		{"31 no A", plainConfig(), good()[1:], []string{`tensor "` + at + `.lora_B.weight": its A is missing`}},
		{"31 halves of two", plainConfig(), []shape{f32(at+".lora_A.weight", 3, 4), f32(at2+".lora_B.weight", 5, 3)}, []string{at + `.lora_A.weight": its B`, at2 + `.lora_B.weight": its A`}},
		{"rank of the config", plainConfig("r", "4"), good(), []string{"rank does not match the config (got A [3 4], want 4 rows)"}},
		{"rank of a pattern", plainConfig("rank_pattern", `{"q_proj":2}`), good(), []string{"rank does not match the config (got A [3 4], want 2 rows)"}},
		{"32 swapped", plainConfig(), []shape{f32(at+".lora_A.weight", 5, 3), f32(at+".lora_B.weight", 3, 4)}, []string{"A and B disagree on the rank (A is [5 3], B is [3 4])"}},
		{"32 swapped and square", plainConfig(), []shape{f32(at+".lora_A.weight", 4, 3), f32(at+".lora_B.weight", 3, 4)}, []string{"[4 3]", "want 3 rows"}},
		{"32 A transposed", plainConfig(), []shape{f32(at+".lora_A.weight", 4, 3), f32(at+".lora_B.weight", 5, 3)}, []string{"A and B disagree on the rank (A is [4 3], B is [5 3])"}},
		{"32 vectors", plainConfig(), []shape{f32(at+".lora_A.weight", 3), f32(at+".lora_B.weight", 3)}, []string{"factors must be matrices (A is [3], B is [3])"}},
		{"32 scalars", plainConfig(), []shape{f32(at + ".lora_A.weight"), f32(at + ".lora_B.weight")}, []string{"factors must be matrices"}},
		{"empty", plainConfig(), []shape{f32(at+".lora_A.weight", 0, 4), f32(at+".lora_B.weight", 5, 0)}, []string{"rank", "[0 4]"}},
		{"35 whole numbers", plainConfig(), []shape{{at + ".lora_A.weight", formats.I8, []int64{3, 4}}, f32(at+".lora_B.weight", 5, 3)}, []string{`.lora_A.weight": factors must be F64, F32, F16 or BF16 (got I8)`}},
		{"35 FP8", plainConfig(), []shape{f32(at+".lora_A.weight", 3, 4), {at + ".lora_B.weight", formats.F8E4M3, []int64{5, 3}}}, []string{`.lora_B.weight": factors must be F64, F32, F16 or BF16 (got F8_E4M3)`}},
		{"not a target", plainConfig("target_modules", `["v_proj"]`), good(), []string{`target_modules do not select module "m.q_proj"`}},
		{"excluded", plainConfig("exclude_modules", `["m.q_proj"]`), good(), []string{`target_modules do not select module "m.q_proj"`}},
		{"not the regex", plainConfig("target_modules", `"m"`), good(), []string{`do not select`}},
		{"two adapters in a file", plainConfig(), append(good(), f32(at+".lora_A.default.weight", 3, 4)), []string{"a second factor for the same place"}},
		{"two spellings", plainConfig(), append(good(), f32("m.q_proj.lora_A.weight", 3, 4)), []string{"a second factor for the same place"}},
		{"an embedding and a layer", plainConfig(), []shape{f32(at+".lora_A.weight", 3, 4), f32(at+".lora_embedding_B", 5, 3)}, []string{"factors of an embedding and of a linear layer on one module"}},
		{"magnitude without use_dora", plainConfig(), append(good(), f32(at+".lora_magnitude_vector", 5)), []string{"a magnitude, but the config's use_dora is not set"}},
		{"magnitude missing", plainConfig("use_dora", "true"), good(), []string{"use_dora is set and its magnitude is missing"}},
		{"magnitude of another size", plainConfig("use_dora", "true"), append(good(), f32(at+".lora_magnitude_vector", 6)), []string{"magnitude and B disagree on the outputs"}},
		{"magnitude alone", plainConfig("use_dora", "true"), append(good(), f32("base_model.model.m.k_proj.lora_magnitude_vector", 5)), []string{"its A and B are missing"}},
		{"a bias without lora_bias", plainConfig(), append(good(), f32(at+".lora_B.bias", 5)), []string{`.lora_B.bias": a bias on B, but the config's lora_bias is not set`}},
		{"bias missing", plainConfig("lora_bias", "true"), good(), []string{`.lora_B.weight": lora_bias is set and its bias is missing`}},
		{"bias of another size", plainConfig("lora_bias", "true"), append(good(), f32(at+".lora_B.bias", 4)), []string{"bias and B disagree on the outputs (bias is [4], B is [5 3])"}},
		{"bias of a matrix", plainConfig("lora_bias", "true"), append(good(), f32(at+".lora_B.bias", 5, 1)), []string{"bias and B disagree on the outputs"}},
		{"bias of whole numbers", plainConfig("lora_bias", "true"), append(good(), shape{at + ".lora_B.bias", formats.I32, []int64{5}}), []string{`.lora_B.bias": factors must be F64, F32, F16 or BF16 (got I32)`}},
		{"bias twice", plainConfig("lora_bias", "true"), append(good(), f32(at+".lora_B.bias", 5), f32(at+".lora_B.default.bias", 5)), []string{"a second bias for the same place"}},
		{"bias alone", plainConfig("lora_bias", "true"), append(good(), f32(at+".lora_B.bias", 5), f32(at2+".lora_B.bias", 5)), []string{at2 + `.lora_B.bias": its A and B are missing`}},
		{"bias of a DoRA", plainConfig("lora_bias", "true", "use_dora", "true"), append(good(), f32(at+".lora_B.bias", 5), f32(at+".lora_magnitude_vector", 5)), []string{"PEFT has no bias for DoRA and embeddings"}},
		{"bias of an embedding", plainConfig("lora_bias", "true"), []shape{f32(at+".lora_embedding_A", 3, 4), f32(at+".lora_embedding_B", 5, 3)}, []string{"PEFT has no bias for DoRA and embeddings"}},
		{"a bare factor", plainConfig(), append(good(), f32(at2+".lora_A", 3, 4)), []string{`"lora_A" is not supported`}},
		{"LoHa", plainConfig(), []shape{f32(at+".hada_w1_a", 3, 4)}, []string{`"hada_w1_a" is not supported`}},
		{"another parameter", plainConfig(), append(good(), f32(at+".base_layer.bias", 5)), []string{"unexpected tensor: it is no LoRA factor"}},
		{"a layer not listed", plainConfig(), append(good(), f32("base_model.model.norm.weight", 5)), []string{`tensor "base_model.model.norm.weight": unexpected tensor`}},
		{"a name without a dot", plainConfig(), append(good(), f32("weight", 5)), []string{"unexpected tensor"}},
		{"a bias along", plainConfig(), append(good(), f32("base_model.model.lm_head.bias", 5)), []string{"unexpected tensor"}},
		{"only begins like a saved one", saved, append(good(), f32("base_model.model.head2.weight", 5)), []string{"unexpected tensor"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := save(t, c.config, c.tensors...)
			_, err := Read(dir)
			checkError(t, err, formats.ErrUnfit, append(c.want, formats.Quote(filepath.Join(dir, WeightsName)))...)
			var e *formats.Error
			if strings.HasPrefix(c.name, "32 swapped") || strings.HasPrefix(c.name, "32 A") {
				if !errors.As(err, &e) || !strings.Contains(e.Hint, "transposed or swapped") {
					t.Errorf("no hint in %#v", err)
				}
			}
		})
	}
}

func TestKeyForms(t *testing.T) {
	for _, c := range []struct {
		a, b   string
		module string
	}{
		{"base_model.model.m.q_proj.lora_A.weight", "base_model.model.m.q_proj.lora_B.weight", "m.q_proj"},
		{"base_model.model.model.m.q_proj.lora_A.weight", "base_model.model.model.m.q_proj.lora_B.weight", "model.m.q_proj"},
		{"base_model.m.q_proj.lora_A.weight", "base_model.m.q_proj.lora_B.weight", "m.q_proj"},
		{"m.q_proj.lora_A.weight", "m.q_proj.lora_B.weight", "m.q_proj"},
		{"base_model.model.m.q_proj.lora_A.default.weight", "base_model.model.m.q_proj.lora_B.default.weight", "m.q_proj"},
		{"m.q_proj.lora_A.my adapter.weight", "base_model.model.m.q_proj.lora_B.weight", "m.q_proj"},
		{"base_model.model._orig_mod.m.q_proj.lora_A.weight", "base_model.model._orig_mod.m.q_proj.lora_B.weight", "m.q_proj"},
		{"_orig_mod.base_model.model.m.q_proj.lora_A.weight", "_orig_mod.base_model.model.m.q_proj.lora_B.weight", "m.q_proj"},
		{"base_model.model.m._orig_mod.q_proj.lora_A.weight", "base_model.model.m.q_proj.lora_B.weight", "m.q_proj"},
		{"base_model.model.q_proj.lora_embedding_A", "base_model.model.q_proj.lora_embedding_B", "q_proj"},
		{"base_model.model.q_proj.lora_embedding_A.default", "base_model.model.q_proj.lora_embedding_B.default", "q_proj"},
	} {
		a := mustRead(t, save(t, plainConfig(), f32(c.b, 5, 3), f32(c.a, 3, 4)))
		if len(a.Entries) != 1 {
			t.Fatalf("%s: got %+v", c.a, a.Entries)
		}
		e := a.Entries[0]
		u := e.Update.(*adapter.LowRank)
		if e.Module != c.module || !slices.Equal(e.Keys, []string{c.a, c.b}) || u.A.Name != c.a || u.B.Name != c.b || u.Embedding != strings.Contains(c.a, "embedding") {
			t.Errorf("%s: got module %s, keys %q", c.a, e.Module, e.Keys)
		}
		if u.Rank() != 3 || u.RankBound() != 3 || !slices.Equal(u.Shape(), []int64{5, 4}) || u.Scale != 7.0/3 || !u.Additive() {
			t.Errorf("%s: got rank %d, shape %v, scale %v", c.a, u.Rank(), u.Shape(), u.Scale)
		}
	}
}

func TestSavedModules(t *testing.T) {
	for _, c := range []struct{ key, module, param string }{
		{"base_model.model.score.weight", "score", "weight"},
		{"base_model.model.score.bias", "score", "bias"},
		{"base_model.model.score.modules_to_save.default.weight", "score", "weight"},
		{"base_model.model.score.dense.weight", "score.dense", "weight"},
		{"base_model.model.a.score.weight", "a.score", "weight"},
		{"base_model.model.my_score.weight", "my_score", "weight"}, // PEFT saves what ends alike
		{"base_model.model.lm_head.weight", "lm_head", "weight"},   // a resized vocabulary
		{"base_model.model.model.embed_tokens.base_layer.weight", "model.embed_tokens", "weight"},
	} {
		a := mustRead(t, save(t, plainConfig("modules_to_save", `["score"]`), append(good(), f32(c.key, 2, 3))...))
		e := a.Entries[len(a.Entries)-1]
		if i := slices.IndexFunc(a.Entries, func(e adapter.Entry) bool { return e.Keys[0] == c.key }); i >= 0 {
			e = a.Entries[i]
		}
		u, ok := e.Update.(*adapter.Replace)
		if !ok || e.Module != c.module || u.Param != c.param || u.Value.Name != c.key || u.Additive() || u.RankBound() != 2 {
			t.Errorf("%s: got %s %+v", c.key, e.Module, e.Update)
		}
	}
}

// TestNothingIsDropped has a saved parameter whose key is the path of a target.
func TestNothingIsDropped(t *testing.T) {
	a := mustRead(t, save(t, plainConfig("modules_to_save", `["m"]`, "target_modules", "null"), append(good(), f32("m.q_proj", 2, 3))...))
	if len(a.Entries) != 2 || a.Entries[0].Update.Kind() == a.Entries[1].Update.Kind() {
		t.Errorf("got %+v", a.Entries)
	}
}

// TestProblemsAreListed has thirty orphans.
func TestProblemsAreListed(t *testing.T) {
	var tensors []shape
	for i := range 30 {
		tensors = append(tensors, f32(fmt.Sprintf("m.%d.q_proj.lora_A.weight", i), 3, 4))
	}
	_, err := Read(save(t, plainConfig(), tensors...))
	checkError(t, err, formats.ErrUnfit, "m.0.q_proj", "m.19.q_proj", "and 10 more")
	if strings.Contains(err.Error(), "m.20.q_proj") {
		t.Errorf("got %v", err)
	}
}

// TestSlowExpression has many modules for an expression that takes too long.
func TestSlowExpression(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a time-out")
	}
	t.Parallel()
	var tensors []shape
	for i := range 20 {
		m := fmt.Sprintf("m.%d.%sc", i, strings.Repeat("a", 60))
		tensors = append(tensors, f32(m+".lora_A.weight", 3, 4), f32(m+".lora_B.weight", 5, 3))
	}
	start := time.Now()
	_, err := Read(save(t, plainConfig("target_modules", `".*((a+)+)+b"`), tensors...))
	checkError(t, err, formats.ErrInput, "target_modules")
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("it took %v", d)
	}
}

package patch_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch"
)

// Each entry has its place, or what a plan says against it; those that only cannot be merged
// have both.
func TestFit(t *testing.T) {
	tied := `{"model_type":"llama","architectures":["LlamaForCausalLM"],"tie_word_embeddings":true}`
	base := fakeBase(t, tied, whole("model.embed_tokens.weight", formats.F32, 1, 7, 4), whole("model.q.weight", formats.F32, 1, 5, 4),
		whole("model.p.weight", formats.F32, 1, 5, 4), whole("model.p.bias", formats.F32, 1, 5), whole("model.i.weight", formats.F32, 1, 4, 4))
	bias := func(module string, size int64) adapter.Entry {
		return adapter.Entry{Module: module, Keys: []string{module + ".b"}, Update: &adapter.BiasDelta{Vector: whole(module+".b", formats.F32, 2, size), Scale: 1}}
	}
	saved := func(module string, shape ...int64) adapter.Entry {
		return adapter.Entry{Module: module, Keys: []string{module + ".s"}, Update: &adapter.Replace{Param: "weight", Value: whole(module+".s", formats.F32, 2, shape...)}}
	}
	dora := wholeLora("model.p", 1, 2, 4, 5)
	dora.Update = &adapter.Magnitude{Inner: dora.Update.(*adapter.LowRank), Vector: whole("m", formats.F32, 3, 5)}
	embedding := wholeLora("model.embed_tokens", 1, 2, 7, 4)
	embedding.Update.(*adapter.LowRank).Embedding = true
	a := fakeAdapter(
		wholeLora("model.q", 1, 2, 4, 5), bias("model.q", 5), dora, bias("model.p", 5), saved("model.q", 5, 4), // 0 to 4
		embedding, wholeLora("lm_head", 1, 2, 4, 7), saved("lm_head", 7, 4), saved("lm_head", 8, 4), // 5 to 8
		wholeLora("model.none", 1, 2, 4, 5), bias("model.none", 5), wholeLora("model.q", 1, 2, 4, 6), saved("model.q", 6, 4), saved("model.n", 1), // 9 to 13
	)
	a.Selection = &adapter.Selection{TargetModules: []string{"p", "q", "embed_tokens", "i"}, ModulesToSave: []string{"p"}}
	m := modelOf(t, base)
	places, misfits, err := patch.Fit(m, a)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range places {
		got = append(got, fmt.Sprint(strings.TrimPrefix(p.Tensor.Name, "model."), p.InOut))
	}
	want := []string{"q.weightfalse", "false", "p.weightfalse", "p.biasfalse", "q.weightfalse",
		"embed_tokens.weighttrue", "embed_tokens.weightfalse", "embed_tokens.weightfalse", "false",
		"false", "false", "false", "false", "false"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("places: (-want +got)\n%s", d)
	}
	got = nil
	for _, x := range misfits {
		var e *formats.Error
		if !errors.As(x.Err, &e) || !errors.Is(e, formats.ErrUnfit) {
			t.Errorf("%v", x.Err)
			continue
		}
		got = append(got, fmt.Sprint(x.Entry, x.Found, " ", e.Detail))
	}
	want = []string{
		`1 true module "model.q" has no bias in the base that it could be added to`,
		`5 true module "model.embed_tokens" shares its weight with another (tie_word_embeddings): changing one would change both`,
		`6 true the base "the base" has no module "lm_head"`,
		`7 true the base "the base" has no module "lm_head"`,
		`8 false the base "the base" has no module "lm_head"`,
		`9 false the base "the base" has no module "model.none"`,
		`11 false shapes do not fit "model.q.weight": ΔW would be [6 4] (got A [2 4], B [6 2], want [5 4])`,
		`12 false shape differs from "model.q.weight" (got [6 4], want [5 4])`,
		`13 false the base "the base" has no module "model.n"`,
		`-1 false factors are missing for modules that the config targets: "model.i"`,
		`-1 false weights are missing for modules that the config's modules_to_save names: "p"`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("misfits: (-want +got)\n%s", d)
	}
	if _, err := patch.Places(m, a); err == nil || strings.Count(err.Error(), "\n") < len(want)-1 {
		t.Errorf("got %v", err)
	}
	if _, err := patch.NewModelPlan(m, patch.RoundOnce, patch.Weighted{Adapter: a, Weight: 1}); err == nil {
		t.Error("a plan takes it")
	} else if _, places := patch.Places(m, a); places.Error() != err.Error() {
		t.Errorf("places say\n%v\nand a plan\n%v", places, err)
	}
}

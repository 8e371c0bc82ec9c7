package peft

import (
	"path/filepath"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/safetensors"
)

func floats(name string, values ...float32) formats.Tensor {
	return formats.FromFloat32s(name, []int64{int64(len(values))}, values)
}

// With bias "all" PEFT writes the biases in saved modules again, under names of its wrapper.
func TestBiasesSavedAgain(t *testing.T) {
	const in = "base_model.model."
	file := func(t *testing.T, tensors ...formats.Tensor) *formats.Checkpoint {
		path := filepath.Join(t.TempDir(), WeightsName)
		if err := safetensors.Write(t.Context(), path, formats.Shard{Tensors: tensors}, safetensors.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		c, err := safetensors.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for name, c := range map[string]struct {
		own, again string
		other      bool
		bias       string
		want       bool
		err        string
	}{
		"flat":       {own: "head.bias", again: "head.modules_to_save.bias", bias: BiasAll, want: true},
		"nested":     {own: "pooler.dense.bias", again: "pooler.modules_to_save.default.dense.bias", bias: BiasAll, want: true},
		"original":   {own: "head.bias", again: "head.original_module.bias", bias: BiasAll, other: true, want: true},
		"inside":     {own: "pooler.dense.bias", again: "pooler.original_module.dense.bias", bias: BiasAll, other: true, want: true},
		"other":      {own: "pooler.dense.bias", again: "pooler.modules_to_save.default.dense.bias", bias: BiasAll, other: true, err: "differs from"},
		"no bias":    {own: "head.weight", again: "head.modules_to_save.weight", bias: BiasAll},
		"alone":      {own: "head.weight", again: "head.modules_to_save.bias", bias: BiasAll},
		"another":    {own: "head.bias", again: "tail.bias", bias: BiasAll},
		"no option":  {own: "head.bias", again: "head.modules_to_save.bias"},
		"of targets": {own: "head.bias", again: "head.original_module.bias", bias: BiasOfTargets},
	} {
		t.Run(name, func(t *testing.T) {
			again := floats(in+c.again, 1, 2, 3)
			if c.other {
				again = floats(in+c.again, 1, 2, 4)
			}
			ckpt := file(t, floats(in+c.own, 1, 2, 3), again)
			x, _ := ckpt.Tensor(in + c.again)
			got, err := savedAgain(&Config{Bias: c.bias}, ckpt, x)
			if c.err != "" {
				checkError(t, err, formats.ErrUnfit, c.err)
				return
			}
			if err != nil || got != c.want {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// A config made for an adapter with biases says which are trained, and Write refuses one
// that does not.
func TestBiasesInConfigs(t *testing.T) {
	low := func(module string) adapter.Entry {
		return adapter.Entry{Module: module, Update: &adapter.LowRank{
			A: formats.FromFloat32s("A", []int64{1, 3}, make([]float32, 3)), B: formats.FromFloat32s("B", []int64{2, 1}, make([]float32, 2)), Scale: 2,
		}}
	}
	bias := func(module string) adapter.Entry {
		return adapter.Entry{Module: module, Keys: []string{module}, Update: &adapter.Replace{Param: "bias", Value: floats("b", 1, 2)}}
	}
	for want, entries := range map[string][]adapter.Entry{
		"":            {low("m.q")},
		BiasOfTargets: {low("m.q"), bias("m.q")},
		BiasAll:       {low("m.q"), bias("m.q"), bias("m.k")},
	} {
		a := &adapter.Adapter{Entries: entries}
		cfg, err := ConfigFor(a)
		if err != nil || cfg.Bias != want || len(cfg.Selection.ModulesToSave) != 0 {
			t.Fatalf("config is %+v, %v; want %q", cfg, err, want)
		}
		a.Config = cfg.Encode()
		dir := t.TempDir()
		if err := Write(dir, a); err != nil {
			t.Fatal(err)
		}
		again := mustRead(t, dir)
		if len(again.Entries) != len(entries) {
			t.Errorf("%d entries, want %d", len(again.Entries), len(entries))
		}
		if want == "" {
			continue
		}
		if _, ok := goldenKey(t, dir, "base_model.model.m.q.base_layer.bias"); !ok {
			t.Error("the bias of a target is not under the name of PEFT's wrapper")
		}
		cfg.Bias = map[string]string{BiasAll: BiasOfTargets, BiasOfTargets: ""}[want]
		a.Config = cfg.Encode()
		checkError(t, Write(t.TempDir(), a), formats.ErrOutput, "has a bias of its own and the config's bias is")
	}
}

func goldenKey(t *testing.T, dir, key string) (formats.Tensor, bool) {
	t.Helper()
	c, err := safetensors.Open(filepath.Join(dir, WeightsName))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.Tensor(key)
}

package peft

import (
	"reflect"
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// lowRank is an update of rank r with zeros in it.
func lowRank(r int64, scale float64) *adapter.LowRank {
	return &adapter.LowRank{
		A: formats.FromFloat32s("a", []int64{r, 4}, make([]float32, 4*r)), B: formats.FromFloat32s("b", []int64{5, r}, make([]float32, 5*r)), Scale: scale,
	}
}

// TestConfigFor makes a config for modules of which one's path is the end of another's, and
// that differ in rank and scale: what is written is read again as it was.
func TestConfigFor(t *testing.T) {
	a := &adapter.Adapter{Path: "a", Base: "some/base"}
	for _, m := range []struct {
		module string
		r      int64
		scale  float64
	}{
		{"layers.0.q", 3, 1}, {"x.layers.0.q", 2, 1}, {"y.x.layers.0.q", 2, 0.5}, {"z", 2, 1}, {"a+b.z", 5, 2}, {"w", 2, 1},
	} {
		a.Entries = append(a.Entries, adapter.Entry{Module: m.module, Update: lowRank(m.r, m.scale)})
	}
	cfg, err := ConfigFor(a)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.R != 2 || cfg.Alpha != 2 || cfg.BaseModel != "some/base" || len(cfg.RankPattern) != 2 || len(cfg.AlphaPattern) != 3 {
		t.Errorf("got %+v", cfg)
	}
	a.Config = cfg.Encode()
	dir := t.TempDir()
	if err := Write(dir, a); err != nil {
		t.Fatal(err)
	}
	back := mustRead(t, dir)
	for _, e := range a.Entries {
		i := slices.IndexFunc(back.Entries, func(x adapter.Entry) bool { return x.Module == e.Module })
		if i < 0 {
			t.Errorf("%s is lost", e.Module)
			continue
		}
		want, got := e.Update.(*adapter.LowRank), back.Entries[i].Update.(*adapter.LowRank)
		if got.Rank() != want.Rank() || got.Scale != want.Scale {
			t.Errorf("%s: got rank %d and scale %v, want %d and %v", e.Module, got.Rank(), got.Scale, want.Rank(), want.Scale)
		}
	}
}

func TestConfigForDoRA(t *testing.T) {
	u := &adapter.Magnitude{Inner: lowRank(2, 1), Vector: formats.FromFloat32s("m", []int64{5}, make([]float32, 5))}
	cfg, err := ConfigFor(&adapter.Adapter{Path: "a", Entries: []adapter.Entry{{Module: "m", Update: u}}})
	if err != nil || !cfg.UseDoRA || cfg.R != 2 {
		t.Errorf("got %+v, %v", cfg, err)
	}
}

func TestConfigForRefuses(t *testing.T) {
	_, err := ConfigFor(&adapter.Adapter{Path: "a"})
	checkError(t, err, formats.ErrUnfit, "it has no modules")
}

// TestConfigForSaved: modules of which parameters are saved whole are listed once, with
// targets or without any.
func TestConfigForSaved(t *testing.T) {
	saved := []adapter.Entry{
		{Module: "head", Update: &adapter.Replace{Param: "weight"}}, {Module: "head", Update: &adapter.Replace{Param: "bias"}},
		{Module: "norm", Update: &adapter.Replace{Param: "weight"}},
	}
	cfg, err := ConfigFor(&adapter.Adapter{Path: "a", Entries: saved})
	if err != nil || !slices.Equal(cfg.Selection.ModulesToSave, []string{"head", "norm"}) || cfg.Selection.TargetRegex != noTargets || cfg.LoRABias || cfg.TieWeights {
		t.Errorf("got %+v, %v", cfg, err)
	}
	entries := append(slices.Clone(saved), adapter.Entry{Module: "m", Update: lowRank(2, 1.5)}, adapter.Entry{Module: "m", Update: &adapter.BiasDelta{Scale: 1.5}})
	cfg, err = ConfigFor(&adapter.Adapter{Path: "a", Tied: true, Entries: entries})
	sel := adapter.Selection{TargetModules: []string{"m"}, ModulesToSave: []string{"head", "norm"}}
	if err != nil || !reflect.DeepEqual(cfg.Selection, sel) || !cfg.LoRABias || !cfg.TieWeights || cfg.R != 2 || cfg.Alpha != 3 {
		t.Errorf("got %+v, %v", cfg, err)
	}
}

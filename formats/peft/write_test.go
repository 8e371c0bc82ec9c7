package peft

import (
	"os"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// fresh is an adapter in memory with one target, as training makes it.
func fresh(config string) *adapter.Adapter {
	return &adapter.Adapter{Path: "fresh", Config: []byte(config), Entries: []adapter.Entry{{Module: "m.q_proj", Update: &adapter.LowRank{
		A: formats.FromFloat32s("a", []int64{3, 4}, make([]float32, 12)), B: formats.FromFloat32s("b", []int64{5, 3}, make([]float32, 15)), Scale: 7.0 / 3,
	}}}}
}

func TestWriteChecksTheConfig(t *testing.T) {
	for name, c := range map[string]struct {
		config string
		class  error
		want   string
	}{
		"another rank":   {plainConfig("r", "4"), formats.ErrOutput, `"m.q_proj" would get rank 4 and scale 1.75 (want 3 and 2.33333`},
		"another alpha":  {plainConfig("lora_alpha", "6"), formats.ErrOutput, "scale 2 (want 3"},
		"rsLoRA":         {plainConfig("use_rslora", "true"), formats.ErrOutput, "the config does not describe the adapter"},
		"a pattern":      {plainConfig("rank_pattern", `{"q_proj":2}`), formats.ErrOutput, "would get rank 2"},
		"another target": {plainConfig("target_modules", `["v_proj"]`), formats.ErrOutput, `"m.q_proj" would not be targeted`},
		"excluded":       {plainConfig("exclude_modules", `["m"]`, "target_modules", `"none"`), formats.ErrOutput, "would not be targeted"},
		"no config":      {"", formats.ErrInput, "unexpected end"},
	} {
		dir := t.TempDir()
		checkError(t, Write(dir, fresh(c.config)), c.class, c.want)
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%s: %v was written", name, left)
		}
	}
}

func TestWriteFresh(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, fresh(plainConfig())); err != nil {
		t.Fatal(err)
	}
	a := mustRead(t, dir)
	if len(a.Entries) != 1 || a.Entries[0].Keys[0] != "base_model.model.m.q_proj.lora_A.weight" || a.Entries[0].Keys[1] != "base_model.model.m.q_proj.lora_B.weight" {
		t.Errorf("got %+v", a.Entries)
	}
	// Nothing is overwritten.
	checkError(t, Write(dir, fresh(plainConfig())), formats.ErrOutput, "file exists")
}

func TestWriteRefuses(t *testing.T) {
	twice := fresh(plainConfig())
	twice.Entries = append(twice.Entries, twice.Entries[0])
	checkError(t, Write(t.TempDir(), twice), formats.ErrOutput, "would be there twice")

	packed := fresh(plainConfig())
	packed.Entries = append(packed.Entries, adapter.Entry{Module: "head", Update: &adapter.Replace{Param: "weight", Value: formats.Tensor{DType: formats.F8E4M3, Shape: []int64{1}}}})
	checkError(t, Write(t.TempDir(), packed), formats.ErrOutput, "base_model.model.head.weight")

	cut := fresh(plainConfig())
	u := *cut.Entries[0].Update.(*adapter.LowRank)
	u.A.Shape = []int64{3, 400} // more than its data has
	cut.Entries[0].Update = &u
	checkError(t, Write(t.TempDir(), cut), formats.ErrInput, `tensor "a"`, "unexpected EOF")

	checkError(t, Write(t.TempDir()+"/none", fresh(plainConfig())), formats.ErrOutput, "no such file")
}

// A parameter without dimensions, as a normalisation's counter is, goes along.
func TestWriteScalar(t *testing.T) {
	a := fresh(plainConfig("modules_to_save", `["norm"]`))
	count := formats.Tensor{Name: "n", DType: formats.I64, Shape: []int64{}, Data: strings.NewReader("\x07\x00\x00\x00\x00\x00\x00\x00")}
	a.Entries = append(a.Entries, adapter.Entry{Module: "norm", Update: &adapter.Replace{Param: "num_batches_tracked", Value: count}})
	dir := t.TempDir()
	if err := Write(dir, a); err != nil {
		t.Fatal(err)
	}
	back := mustRead(t, dir)
	for _, e := range back.Entries {
		if u, ok := e.Update.(*adapter.Replace); ok {
			if raw, err := u.Value.ReadAll(); err != nil || e.Module != "norm" || len(u.Value.Shape) != 0 || raw[0] != 7 {
				t.Errorf("got %+v, %v, %v", e, raw, err)
			}
			return
		}
	}
	t.Error("the counter is missing")
}

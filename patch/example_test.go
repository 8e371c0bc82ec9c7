package patch_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/patch"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func tempDir() (dir string, remove func()) {
	dir, err := os.MkdirTemp("", "graft-example")
	check(err)
	return dir, func() { os.RemoveAll(dir) }
}

// Merge an adapter into a model: open, plan, merge, write.
func Example() {
	out, remove := tempDir()
	defer remove()

	base, err := open.Checkpoint("../testdata/tiny-llama")
	check(err)
	defer base.Close()
	lora, err := open.Adapter("../testdata/tiny-llama/reference/qv-r8/trained")
	check(err)
	defer lora.Close()
	plan, err := patch.NewPlan(base, patch.Weighted{Adapter: lora, Weight: 1})
	check(err)
	err = hf.Write(context.Background(), plan.Merge(), filepath.Join(out, "merged"), hf.WriteOptions{})
	check(err)
	fmt.Println(len(plan.Targets()), "of", base.Len(), "tensors merged")
	// Output: 8 of 39 tensors merged
}

// A merged tensor is computed when it is read, row by row.
func ExamplePlan_Merge() {
	base, err := open.Checkpoint("../testdata/tiny-llama")
	check(err)
	defer base.Close()
	lora, err := open.Adapter("../testdata/tiny-llama/reference/qv-r8/trained")
	check(err)
	defer lora.Close()
	plan, err := patch.NewPlan(base, patch.Weighted{Adapter: lora, Weight: -0.5})
	check(err)

	q, _ := plan.Merge().Tensor("model.layers.0.self_attn.q_proj.weight")
	raw := make([]byte, 2*3)
	_, err = q.Data.ReadAt(raw, 0)
	check(err)
	row := make([]float32, 3)
	formats.DecodeFloat32(row, raw, q.DType)
	fmt.Println(q.DType, q.Shape, row)
	// Output: BF16 [128 128] [0.107910156 -0.01928711 0.01184082]
}

// Choose layers in PEFT's words, and make a fresh adapter for them.
func ExampleInit() {
	out, remove := tempDir()
	defer remove()

	base, err := open.Checkpoint("../testdata/tiny-llama")
	check(err)
	defer base.Close()
	model, err := patch.NewModel(base)
	check(err)
	cfg := &peft.Config{R: 8, Alpha: 16, Selection: adapter.Selection{TargetModules: []string{"q_proj", "v_proj"}}}
	sites, err := patch.Select(model, cfg.Selection)
	check(err)
	scaling, err := cfg.Scaling()
	check(err)
	fresh, err := patch.Init(context.Background(), sites, scaling, patch.InitOptions{Weights: patch.InitDefault, Seed: 1})
	check(err)
	fresh.Config = cfg.Encode()
	check(peft.Write(out, fresh))
	fmt.Println(len(fresh.Entries), "modules, the first", fresh.Entries[0].Module)
	// Output: 8 modules, the first model.layers.0.self_attn.q_proj
}

// Find a model's layers without loading it.
func ExampleSelect() {
	base, err := open.Checkpoint("../testdata/tiny-llama")
	check(err)
	defer base.Close()
	model, err := patch.NewModel(base)
	check(err)
	sites, err := patch.Select(model, adapter.Selection{
		TargetModules: []string{"down_proj"}, LayersToTransform: []int64{1, 3},
	})
	check(err)
	for _, s := range sites {
		in, out := s.InOutSize()
		fmt.Println(s.Module, in, "→", out)
	}
	// Output:
	// model.layers.1.mlp.down_proj 352 → 128
	// model.layers.3.mlp.down_proj 352 → 128
}

// Check a merged model: make the same plan again and compare every byte.
func ExampleCompare() {
	base, err := open.Checkpoint("../testdata/tiny-llama")
	check(err)
	defer base.Close()
	lora, err := open.Adapter("../testdata/tiny-llama/reference/qv-r8/trained")
	check(err)
	defer lora.Close()
	plan, err := patch.NewPlan(base, patch.Weighted{Adapter: lora, Weight: 1})
	check(err)
	differences, err := patch.Compare(context.Background(), base, plan.Merge(), nil)
	check(err)
	fmt.Println(len(differences), "tensors of the base are not as merged, the first:")
	fmt.Println(differences[0].Tensor)
	// Output:
	// 8 tensors of the base are not as merged, the first:
	// model.layers.0.self_attn.q_proj.weight
}

// Convert a model to another dtype; like everything else it is lazy.
func ExampleConvert() {
	base, err := open.Checkpoint("../testdata/tiny-llama")
	check(err)
	defer base.Close()
	wide, _, err := patch.Convert(base, patch.ConvertOptions{DType: formats.F32, Keep: []string{".*norm"}})
	check(err)
	for _, name := range []string{"lm_head.weight", "model.norm.weight"} {
		t, _ := wide.Tensor(name)
		fmt.Println(name, t.DType, t.Size())
	}
	// Output:
	// lm_head.weight F32 393216
	// model.norm.weight BF16 256
}

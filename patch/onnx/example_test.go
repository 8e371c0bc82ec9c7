package onnx_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/formats/ortadapter"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/patch"
	graph "github.com/seed-b982eded/graft/patch/onnx"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// write writes an edited model as DIR/model.onnx, with files beside it.
func write(e *onnx.Edit, dir string, more ...publish.File) {
	files, err := e.Files("model.onnx", onnx.FileOptions{})
	check(err)
	set := publish.Set{Layout: publish.OneFile, Files: append(more, files...)}
	if len(set.Files) > 1 {
		set.Layout = publish.Beside
	}
	check(publish.Write(context.Background(), set, filepath.Join(dir, "model.onnx"), publish.Options{}))
}

// The layers of a graph, and why each is thought to be a module.
func ExampleFind() {
	model, err := onnx.Open("../../testdata/onnx/mlp-ts17-fp16/model.onnx")
	check(err)
	defer model.Close()
	layers, err := graph.Find(model, nil)
	check(err)
	for _, l := range layers[:2] {
		fmt.Println(l.Path, l.Node.OpType, l.In, "to", l.Out)
		for _, e := range l.Evidence {
			fmt.Printf("  %s %s\n", e.Rule, e.From)
		}
	}
	// Output:
	// layers.0.mlp.0 MatMul 13 to 19
	//   bias layers.0.mlp.0.bias
	//   node /layers.0/mlp/mlp.0/MatMul
	// layers.0.mlp.2 MatMul 19 to 17
	//   bias layers.0.mlp.2.bias
	//   node /layers.0/mlp/mlp.2/MatMul
}

// Merge an adapter into a graph: bind, plan, merge, write.
func ExampleBind() {
	dir, err := os.MkdirTemp("", "graft-example")
	check(err)
	defer os.RemoveAll(dir)

	model, err := onnx.Open("../../testdata/tiny-bert/onnx/model-opset14.onnx")
	check(err)
	defer model.Close()
	lora, err := open.Adapter("../../testdata/tiny-bert/reference/qv-r8/adapter")
	check(err)
	defer lora.Close()

	binding, err := graph.Bind(model, nil, lora)
	check(err)
	sites, err := binding.Sites()
	check(err)
	plan, err := patch.NewModelPlan(sites.Model, patch.RoundOnce, patch.Weighted{Adapter: lora, Weight: 1})
	check(err)
	write(sites.Merge(plan), dir)

	merged, err := onnx.Open(filepath.Join(dir, "model.onnx"))
	check(err)
	defer merged.Close()
	fmt.Println(len(plan.Targets()), "of", merged.Checkpoint().Len(), "tensors merged")
	// Output: 6 of 144 tensors merged
}

// Give a graph inputs for factors, and write those of an adapter for ONNX Runtime, which
// takes another adapter for every run.
func ExampleBinding_Inject() {
	dir, err := os.MkdirTemp("", "graft-example")
	check(err)
	defer os.RemoveAll(dir)

	model, err := onnx.Open("../../testdata/onnx/llama-int4-nbits/model.onnx")
	check(err)
	defer model.Close()
	lora, err := open.Adapter("../../testdata/onnx/llama-int4-nbits/adapter")
	check(err)
	defer lora.Close()

	binding, err := graph.Bind(model, nil, lora)
	check(err)
	injected, err := binding.Inject([]patch.Weighted{{Adapter: lora, Weight: 1}}, graph.InjectOptions{Mode: graph.Inputs})
	check(err)
	file, err := ortadapter.FileOf(injected.Adapters[0], "model.lora.onnx_adapter", ortadapter.WriteOptions{Names: ortadapter.Olive})
	check(err)
	write(injected.Edit, dir, file)

	s := injected.Sites[0]
	fmt.Println(s.Module, "of rank", s.Rank, "beside a", s.Quantized)
	with, err := onnx.Open(filepath.Join(dir, "model.onnx"))
	check(err)
	defer with.Close()
	inputs := with.Graph.Inputs
	fmt.Println(len(inputs)-len(model.Graph.Inputs), "more inputs, the last is", inputs[len(inputs)-1].Name)
	// Output:
	// lm_head of rank 3 beside a MatMulNBits
	// 14 more inputs, the last is model.layers.1.self_attn.v_proj.lora_B.weight
}

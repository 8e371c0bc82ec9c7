package onnx

import (
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/formats/adapter"
	wire "github.com/seed-b982eded/graft/formats/onnx"
)

// TestClassifier replaces a head that was trained whole: its weight, which the graph stores
// either way round, and its bias, alone or with an update of another layer.
func TestClassifier(t *testing.T) {
	w, saved := numbers(3, 4, 1), numbers(3, 4, 2)
	bias := matrix{{7, -8, 9}}
	onA := newLora("m.a", 4, 4, 1)
	entries := []adapter.Entry{
		onA.entry(),
		{Module: "score", Keys: []string{"score.weight"}, Update: &adapter.Replace{Param: "weight", Value: floats("score.weight", saved)}},
		{Module: "score", Keys: []string{"score.bias"}, Update: &adapter.Replace{Param: "bias", Value: floats("score.bias", bias, 3)}},
	}
	build := func(first matrix, bias []float64, more ...string) source {
		return graph(append([]string{node("/m/a/MatMul: MatMul x w -> h"), first.transposed().init("w"), vector("b", bias...)}, more...)...)
	}
	for name, head := range map[string]func(w matrix) []string{
		"Gemm": func(w matrix) []string {
			return []string{node("/score/Gemm: Gemm h s b -> y"), w.transposed().init("s")}
		},
		"Gemm, transB": func(w matrix) []string {
			return []string{node("/score/Gemm: Gemm h s b -> y", attrInt("transB", 1)), w.init("s")}
		},
		"MatMul and Add": func(w matrix) []string {
			return []string{node("/score/MatMul: MatMul h s -> g"), node("/score/Add: Add b g -> y"), w.transposed().init("s")}
		},
		"Transpose": func(w matrix) []string {
			return []string{node("c: Cast s -> c", attrInt("to", 1)), node("t: Transpose c -> u"), node("/score/MatMul: MatMul h u -> g"), node("/score/Add: Add g b -> y"), w.as("s", wire.Float16)}
		},
		"an Identity before the bias": func(w matrix) []string {
			return []string{node("i: Identity b -> c"), node("/score/Gemm: Gemm h s c -> y"), w.transposed().init("s")}
		},
	} {
		a := &adapter.Adapter{Path: "adapter", Entries: entries}
		feeds := map[string]array{"x": inputX}
		m, _, err := productOf(t, build(shared, []float64{1, 2, 3}, head(w)...).open(t), "merge", a)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := onlyY(t, m, feeds)
		want := onlyY(t, build(onA.on(shared), bias.flat(), head(saved)...).open(t), feeds)
		if !slices.Equal(got.v, want.v) {
			t.Errorf("%s: got %v, want %v", name, got.v, want.v)
		}
	}
	// A bias that another layer has too cannot change alone.
	both := build(shared, []float64{1, 2, 3}, node("/score/Gemm: Gemm h s b -> g"), node("/rate/Gemm: Gemm h r b -> i"), node("s: Add g i -> y"),
		w.transposed().init("s"), w.transposed().init("r"))
	_, _, err := productOf(t, both.open(t), "merge", &adapter.Adapter{Path: "adapter", Entries: entries})
	checkUnfit(t, err, "score.bias")
}

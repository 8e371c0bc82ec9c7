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

// TestUnchangedWeights adds adapters with which PEFT saved the weights of the embedding and
// the head: as long as they are the graph's, nothing but the factors is added.
func TestUnchangedWeights(t *testing.T) {
	saves := func(module string, w matrix) adapter.Entry {
		key := module + ".base_layer.weight"
		return adapter.Entry{Module: module, Keys: []string{key}, Update: &adapter.Replace{Param: "weight", Value: floats(key, w)}}
	}
	other := func(row, col int) matrix {
		m := tied.each(func(v float64) float64 { return v })
		m[row][col] += 0.5
		return m
	}
	onlyHead := graph(node("/lm_head/MatMul: MatMul x w -> y"), tied.transposed().init("w"))
	quantised := graph(node("d: DequantizeLinear w s -> v"), node("/lm_head/MatMul: MatMul x v -> y"), tied.transposed().as("w", wire.Int8), tensor("s", wire.Float, nil, 1))
	forms := map[string]struct {
		base source
		x    array
	}{
		"tied": {graph(node("/embed/Gather: Gather e.weight x -> h"), node("/lm_head/Transpose: Transpose e.weight -> t"), node("/lm_head/MatMul: MatMul h t -> y"), tied.init("e.weight")), tokens},
		"float16": {graph(node("/embed/Gather: Gather e.weight x -> h"), node("g: Cast h -> g", attrInt("to", 1)), node("/lm_head/Cast: Cast w -> c", attrInt("to", 1)),
			node("/lm_head/MatMul: MatMul g c -> y"), tied.as("e.weight", wire.Float16), tied.transposed().as("w", wire.Float16)), tokens},
	}
	for name, f := range forms {
		for _, mode := range []Mode{Baked, InGraph, Inputs} {
			plain, saving := adapterOf(onHead), &adapter.Adapter{Path: "adapter"}
			saving.Entries = []adapter.Entry{saves("embed", tied), onHead.entry(), saves("lm_head", tied)}
			want, _, err := productOf(t, f.base.open(t), string(mode), plain)
			if err != nil {
				t.Fatal(err)
			}
			got, in, err := productOf(t, f.base.open(t), string(mode), saving)
			if err != nil {
				t.Errorf("%s, %s: %v", name, mode, err)
				continue
			}
			if mode != Inputs {
				feeds := map[string]array{"x": f.x}
				if x, y := onlyY(t, got, feeds), onlyY(t, want, feeds); !slices.Equal(x.v, y.v) {
					t.Errorf("%s, %s: got %v, want %v", name, mode, x.v, y.v)
				}
			} else if len(in.Adapters) != 1 || len(in.Adapters[0].Entries) != 1 || in.Adapters[0].Entries[0].Module != "lm_head" {
				t.Errorf("%s: got %v, want lm_head's factors", name, in.Adapters)
			}
			// One number that is another, in the first or the last row, is a change.
			for _, changed := range []adapter.Entry{saves("embed", other(0, 0)), saves("embed", other(5, 3)), saves("lm_head", other(5, 3)), saves("lm_head", other(0, 1))} {
				saving.Entries = []adapter.Entry{onHead.entry(), changed}
				_, _, err := productOf(t, f.base.open(t), string(mode), saving)
				checkUnfit(t, err, changed.Keys[0], "an update of kind Replace cannot be added to a graph")
			}
		}
	}
	for name, c := range map[string]struct {
		base source
		e    adapter.Entry
	}{
		"of no layer":         {onlyHead, saves("embed", tied)},
		"lying the other way": {onlyHead, saves("lm_head", tied.transposed())},
		"quantised":           {quantised, saves("lm_head", tied)},
	} {
		_, _, err := productOf(t, c.base.open(t), string(Baked), &adapter.Adapter{Path: "adapter", Entries: []adapter.Entry{onHead.entry(), c.e}})
		if err == nil {
			t.Errorf("%s: taken", name)
			continue
		}
		checkUnfit(t, err, c.e.Keys[0], "an update of kind Replace cannot be added to a graph")
	}
}

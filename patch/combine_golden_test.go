package patch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

const combineData = "../testdata/combine"

type combineCase struct {
	Name     string
	Adapters []string
	Weights  []float64
	Results  []struct {
		Key, Method, Majority string
		Density, Scaling      float64
		Rank                  int64
	}
}

func combineCases(t *testing.T) []combineCase {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(combineData, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Cases []combineCase }
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Cases
}

func (c *combineCase) open(t *testing.T) []patch.Weighted {
	t.Helper()
	var list []patch.Weighted
	for i, name := range c.Adapters {
		list = append(list, patch.Weighted{Adapter: mustOpenAdapter(t, filepath.Join(combineData, c.Name, name)), Weight: c.Weights[i]})
	}
	return list
}

// peftTol is how far two ways of computing in float64 may lead apart, relative to the norm of
// ΔW: some 1e-15, and for subspaces whose singular values lie close together a few thousand
// times that.
const peftTol = 1e-11

// TestCombineGolden compares ΔW of every module with what PEFT's add_weighted_adapter makes:
// with PEFTBugs its scale too, and without them the scale that the others have, 1.
func TestCombineGolden(t *testing.T) {
	for _, c := range combineCases(t) {
		golden := mustOpen(t, filepath.Join(combineData, c.Name, "results.safetensors"))
		for _, r := range c.Results {
			t.Run(c.Name+"/"+r.Key, func(t *testing.T) {
				for _, bugs := range []*patch.PEFTBugs{nil, {RSLoRA: r.Scaling != 1}} {
					if bugs == nil && len(c.Adapters) == 1 && patch.CombineMethod(r.Method) != patch.CombineCat {
						continue // PEFT takes another method than was asked for
					}
					opts := patch.CombineOptions{
						Method: patch.CombineMethod(r.Method), Rank: r.Rank, Density: r.Density, MajoritySign: r.Majority, PEFTBugs: bugs, DType: formats.F64,
					}
					opts.SetMask(func(module, factor string, place, n int) []bool {
						mask, ok := golden.Tensor(fmt.Sprintf("%s/mask/%s/%d/%s", r.Key, factor, place, module))
						if !ok || mask.Elements() != int64(n) {
							t.Fatalf("no mask of %d elements for %s %s %d", n, module, factor, place)
						}
						raw, err := mask.ReadAll()
						if err != nil {
							t.Fatal(err)
						}
						keep := make([]bool, n)
						for i, b := range raw {
							keep[i] = b == 1
						}
						return keep
					})
					got, _, err := patch.Combine(context.Background(), c.open(t), opts)
					if err != nil {
						t.Fatal(err)
					}
					scale := 1.0
					if bugs != nil {
						scale = r.Scaling
					}
					compareGolden(t, got, golden, r.Key, scale)
				}
			})
		}
	}
}

func compareGolden(t *testing.T, got *adapter.Adapter, golden *formats.Checkpoint, key string, scale float64) {
	t.Helper()
	want := map[string]formats.Tensor{}
	for x := range golden.Tensors() {
		if module, ok := strings.CutPrefix(x.Name, key+"/"); ok && !strings.HasPrefix(module, "mask/") {
			want[module] = x
		}
	}
	if len(want) == 0 || len(want) != len(got.Entries) {
		t.Fatalf("%d modules, want %d", len(got.Entries), len(want))
	}
	for _, e := range got.Entries {
		delta := deltaOf(t, e)
		w, err := lowrank.Read("golden", want[e.Module])
		if err != nil {
			t.Fatal(err)
		}
		w.Scale(scale, w)
		var d mat.Dense
		d.Sub(delta, w)
		if off := mat.Norm(&d, 2) / mat.Norm(w, 2); !(off <= peftTol) {
			t.Errorf("module %s: ΔW is %g away, relative to its norm", e.Module, off)
		}
	}
}

// deltaOf forms an entry's ΔW.
func deltaOf(t *testing.T, e adapter.Entry) *mat.Dense {
	t.Helper()
	u, ok := e.Update.(*adapter.LowRank)
	if !ok {
		t.Fatalf("module %s is of kind %s", e.Module, e.Update.Kind())
	}
	p, err := lowrank.FromUpdate("", u)
	if err != nil {
		t.Fatal(err)
	}
	return p.Dense()
}

// A mistake that the golden numbers would not see is one that they do not depend on: every
// option, taken away, must change them.
func TestCombineGoldenSees(t *testing.T) {
	var c combineCase
	for _, x := range combineCases(t) {
		if x.Name == "equal" {
			c = x
		}
	}
	list := c.open(t)
	combined := func(opts patch.CombineOptions) *mat.Dense {
		a, _, err := patch.Combine(context.Background(), list, opts)
		if err != nil {
			t.Fatal(err)
		}
		return deltaOf(t, a.Entries[0])
	}
	differs := func(what string, a, b patch.CombineOptions) {
		var d mat.Dense
		x, y := combined(a), combined(b)
		d.Sub(x, y)
		if mat.Norm(&d, 2) < 1e-3*mat.Norm(x, 2) {
			t.Errorf("%s makes no difference", what)
		}
	}
	differs("the density", patch.CombineOptions{Method: "ties", Density: 0.6}, patch.CombineOptions{Method: "ties", Density: 0.45})
	differs("the majority sign", patch.CombineOptions{Method: "ties", Density: 0.45}, patch.CombineOptions{Method: "ties", Density: 0.45, MajoritySign: "frequency"})
	differs("the rank", patch.CombineOptions{Method: "svd"}, patch.CombineOptions{Method: "svd", Rank: 6})
	differs("the seed", patch.CombineOptions{Method: "dare_linear", Density: 0.6}, patch.CombineOptions{Method: "dare_linear", Density: 0.6, Seed: 1})
	differs("_svd", patch.CombineOptions{Method: "ties", Density: 0.6}, patch.CombineOptions{Method: "ties_svd", Density: 0.6})
	for i := range list {
		other := append([]patch.Weighted(nil), list...)
		other[i].Weight = -other[i].Weight
		x := combined(patch.CombineOptions{Method: "linear"})
		a, _, err := patch.Combine(context.Background(), other, patch.CombineOptions{Method: "linear"})
		if err != nil {
			t.Fatal(err)
		}
		if mat.EqualApprox(x, deltaOf(t, a.Entries[0]), 1e-3) {
			t.Errorf("the sign of weight %d makes no difference", i)
		}
	}
}

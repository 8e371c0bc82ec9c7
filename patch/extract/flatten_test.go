package extract_test

import (
	"path/filepath"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/extract"
)

// Factors of DoRA adapters that PEFT made give the model that the adapters give.
func TestFlatten(t *testing.T) {
	for _, name := range []string{"dora-f32", "dora-f64", "dora-bf16", "dora-gpt2", "dora-conv2d", "dora-embedding"} {
		dir := filepath.Join("..", "..", "testdata", "peft", name)
		ckpt, err := hf.Open(filepath.Join(dir, "base"))
		if err != nil {
			t.Fatal(err)
		}
		defer ckpt.Close()
		base, err := patch.NewModel(ckpt)
		if err != nil {
			t.Fatal(err)
		}
		a, err := peft.Read(filepath.Join(dir, "adapter"))
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		r, err := extract.Flatten(t.Context(), base, a, extract.Options{Rank: 1000})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want, err := patch.NewModelPlan(base, patch.RoundOnce, patch.Weighted{Adapter: a, Weight: 1})
		if err != nil {
			t.Fatal(err)
		}
		got, err := patch.NewModelPlan(base, patch.RoundOnce, patch.Weighted{Adapter: r.Adapter, Weight: 1})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(want.Targets()) != len(got.Targets()) {
			t.Errorf("%s: %d targets, want %d", name, len(got.Targets()), len(want.Targets()))
		}
		for _, target := range want.Targets() {
			x, _ := want.Merge().Tensor(target.Tensor.Name)
			y, _ := got.Merge().Tensor(target.Tensor.Name)
			wx, wy := values(t, x), values(t, y)
			var e mat.Dense
			e.Sub(wx, wy)
			// A sum of as many products as there are ranks, each rounded; in float64 the
			// decomposition's own precision, as package lowrank is tested to; and what is rounded
			// to the base's type once more.
			rows, cols := x.Matrix()
			unit := map[formats.DType]float64{formats.F64: 1e-13, formats.F32: 0x1p-24 * float64(min(rows, cols)), formats.BF16: 0x1p-8}[x.DType]
			if !(norm(&e) <= unit*norm(wx)) {
				t.Errorf("%s: %s is %g of its norm away", name, x.Name, norm(&e)/norm(wx))
			}
		}
	}
}

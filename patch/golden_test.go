package patch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/patch"
)

const peftData = "../testdata/peft"

type peftCase struct {
	Name     string
	DType    string
	Adapters []string
	Changed  []string
	Replaced []string
	Targets  []map[string]struct {
		Tensor  string
		R       int64
		Scaling float64
	}
}

func peftCases(t *testing.T) []peftCase {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(peftData, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Cases []peftCase }
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Cases
}

func mustOpen(t *testing.T, path string) *formats.Checkpoint {
	t.Helper()
	c, err := open.Checkpoint(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func mustOpenAdapter(t *testing.T, path string) *adapter.Adapter {
	t.Helper()
	a, err := open.Adapter(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// TestMergeLikePEFT merges what PEFT saved and compares with what PEFT merged.
func TestMergeLikePEFT(t *testing.T) {
	for _, c := range peftCases(t) {
		if c.Name == "embedding-tied" {
			continue // refused: see TestRefuseTied
		}
		t.Run(c.Name, func(t *testing.T) {
			dir := filepath.Join(peftData, c.Name)
			base := mustOpen(t, filepath.Join(dir, "base"))
			var weighted []patch.Weighted
			for i, name := range c.Adapters {
				a := mustOpenAdapter(t, filepath.Join(dir, name))
				for _, e := range a.Entries {
					u, ok := adapter.LowRankOf(e.Update)
					if !ok {
						continue
					}
					want, ok := c.Targets[i][e.Module]
					if !ok || u.Rank() != want.R || u.Scale != want.Scaling {
						t.Errorf("%s: got rank %d, scale %v; want %+v", e.Module, u.Rank(), u.Scale, want)
					}
				}
				weighted = append(weighted, patch.Weighted{Adapter: a, Weight: 1})
			}
			plan, err := patch.NewPlanRounding(base, patch.RoundPEFT, weighted...)
			if err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(t.TempDir(), "merged")
			if err := hf.Write(context.Background(), plan.Merge(), out, hf.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			got := mustOpen(t, out)
			want := mustOpen(t, filepath.Join(dir, "merged.safetensors"))
			if c.Name == "dora-two" {
				// To see the unmerged weight PEFT takes off what it has merged and adds it again, in
				// BF16: up to four roundings of half a unit, and a norm from what they left.
				compareMerged(t, base, got, want, plan, mergeTolerance{share: 1, ulps: 4, onTheWay: true})
				if _, err := patch.NewPlan(base, weighted...); !errors.Is(err, formats.ErrUnfit) {
					t.Errorf("summing with a magnitude: got %v, want a refusal", err)
				}
				return
			}
			compareMerged(t, base, got, want, plan, mergeTolerance{share: 1e-4, ulps: 1})
			compareRoundings(t, base, dir, plan, weighted)
			var changed []string
			for w := range want.Tensors() {
				b, _ := base.Tensor(w.Name)
				x, err1 := w.ReadAll()
				y, err2 := b.ReadAll()
				if err1 != nil || err2 != nil {
					t.Fatal(err1, err2)
				}
				if !bytes.Equal(x, y) {
					changed = append(changed, w.Name)
				}
			}
			for _, name := range changed {
				if !slices.ContainsFunc(plan.Targets(), func(t *patch.Target) bool { return t.Tensor.Name == name }) {
					t.Errorf("PEFT changed %s, the plan does not", name)
				}
			}
		})
	}
}

// compareRoundings checks the other roundings: PEFT's safe merge where there is a
// golden one, and one rounding, which differs from PEFT's by what it rounds on the way.
func compareRoundings(t *testing.T, base *formats.Checkpoint, dir string, peft *patch.Plan, weighted []patch.Weighted) {
	t.Helper()
	if path := filepath.Join(dir, "merged_safe.safetensors"); exists(path) {
		plan, err := patch.NewPlanRounding(base, patch.RoundPEFTSafe, weighted...)
		if err != nil {
			t.Fatal(err)
		}
		compareMerged(t, base, plan.Merge(), mustOpen(t, path), plan, mergeTolerance{share: 1e-4, ulps: 1})
	}
	if len(weighted) > 1 {
		return // how far one rounding is from several depends on what lies between
	}
	once, err := patch.NewPlan(base, weighted...)
	if err != nil {
		t.Fatal(err)
	}
	compareMerged(t, base, once.Merge(), peft.Merge(), once, mergeTolerance{share: 1, ulps: 3, onTheWay: true})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// mergeTolerance is how far 16-bit results may be from the reference's: at most a share
// of the elements, those by at most some units in the last place. The float32 products
// behind them are summed in an order that BLAS may change, so an element that lies
// between two values can fall to the other side.
type mergeTolerance struct {
	share    float64
	ulps     int
	onTheWay bool // the unit is that of the largest value on the way
}

func compareMerged(t *testing.T, base, got, want *formats.Checkpoint, plan *patch.Plan, tol mergeTolerance) {
	t.Helper()
	targets := map[string]*patch.Target{}
	for _, x := range plan.Targets() {
		targets[x.Tensor.Name] = x
	}
	var total, differ int
	for w := range want.Tensors() {
		g, ok := got.Tensor(w.Name)
		if !ok {
			t.Errorf("%s is missing", w.Name)
			continue
		}
		if g.DType != w.DType || !slices.Equal(g.Shape, w.Shape) {
			t.Errorf("%s: got %s %v, want %s %v", w.Name, g.DType, g.Shape, w.DType, w.Shape)
			continue
		}
		x, err := g.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		y, err := w.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		target := targets[w.Name]
		if target == nil {
			if !bytes.Equal(x, y) {
				t.Errorf("%s is no target and differs", w.Name)
			}
			continue
		}
		total += int(g.Elements())
		if bytes.Equal(x, y) {
			continue
		}
		size := int(g.DType.Bits() / 8)
		gv, wv := make([]float64, g.Elements()), make([]float64, g.Elements())
		formats.DecodeFloat64(gv, x, g.DType)
		formats.DecodeFloat64(wv, y, g.DType)
		b, _ := base.Tensor(w.Name)
		raw, err := b.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		bv := make([]float64, b.Elements())
		formats.DecodeFloat64(bv, raw, b.DType)
		for i := range gv {
			if bytes.Equal(x[i*size:(i+1)*size], y[i*size:(i+1)*size]) {
				continue
			}
			differ++
			d := math.Abs(gv[i] - wv[i])
			var bound float64
			at := wv[i]
			if tol.onTheWay {
				at = max(math.Abs(bv[i]), math.Abs(wv[i]), math.Abs(wv[i]-bv[i]))
			}
			switch g.DType {
			case formats.F32:
				// Both sides round r products, a scale and a sum; 64 bounds the terms of the fixtures.
				bound = 4 * 0x1p-24 * 64 * math.Max(math.Abs(bv[i]), math.Abs(wv[i]-bv[i]))
			case formats.F64:
				bound = 4 * 0x1p-53 * 64 * math.Max(math.Abs(bv[i]), math.Abs(wv[i]-bv[i]))
			case formats.F16:
				bound = float64(tol.ulps) * ulp(at, 10, -14)
			case formats.BF16:
				bound = float64(tol.ulps) * ulp(at, 7, -126)
			}
			if d > bound {
				t.Fatalf("%s[%d]: got %v, want %v (base %v): off by %g, more than %g", w.Name, i, gv[i], wv[i], bv[i], d, bound)
			}
		}
	}
	if total == 0 {
		t.Error("nothing was merged")
	}
	t.Logf("%d of %d target elements differ in a bit", differ, total)
	for x := range want.Tensors() {
		if x.DType == formats.F16 || x.DType == formats.BF16 {
			if float64(differ) > math.Max(tol.share*float64(total), 1) {
				t.Errorf("%d of %d elements differ, more than a share of %g", differ, total, tol.share)
			}
			break
		}
	}
}

// ulp returns the distance of neighbours of a float type with the given number of
// stored mantissa bits and smallest exponent, at x.
func ulp(x float64, bits, minExp int) float64 {
	e := minExp
	if x != 0 {
		e = max(e, math.Ilogb(x))
	}
	return math.Ldexp(1, e-bits)
}

// TestMergeLikePyTorch checks the shipped model and the odd one against PyTorch's
// merged weights.
func TestMergeLikePyTorch(t *testing.T) {
	for _, ref := range []string{
		"tiny-llama/reference/qv-r8", "tiny-llama/reference/all-r4-rslora",
		"odd-llama/reference/mixed-r5", "odd-llama/reference/regex-r3-rslora",
	} {
		t.Run(ref, func(t *testing.T) {
			dir := filepath.Join("../testdata", ref)
			base := mustOpen(t, filepath.Dir(filepath.Dir(dir)))
			plan, err := patch.NewPlan(base, patch.Weighted{Adapter: mustOpenAdapter(t, filepath.Join(dir, "trained")), Weight: 1})
			if err != nil {
				t.Fatal(err)
			}
			want, err := safetensors.Open(filepath.Join(dir, "merged_targets.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer want.Close()
			if want.Len() != len(plan.Targets()) {
				t.Errorf("got %d targets, want %d", len(plan.Targets()), want.Len())
			}
			compareMerged(t, base, plan.Merge(), want, plan, mergeTolerance{share: 1e-4, ulps: 1})
		})
	}
}

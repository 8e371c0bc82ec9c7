package diff_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/patch/diff"
)

// dir holds pairs of models and adapters, and what numpy says about them:
// testdata/gen/diff.py makes it.
const dir = "../../testdata/diff"

// goldenValues is diff.Values as numpy has it, infinities and NaN as nil.
type goldenValues struct {
	Elements, Differing, NotFinite int64
	ULPs                           []diff.ULPs
	MaxULPs                        uint64
	MaxAbs, NormA, NormB           *float64
	Distance, Relative, Cosine     *float64
}

func (g *goldenValues) UnmarshalJSON(text []byte) error {
	var v struct {
		Elements  int64       `json:"elements"`
		Differing int64       `json:"differing"`
		NotFinite int64       `json:"not_finite"`
		ULPs      []diff.ULPs `json:"ulps"`
		MaxULPs   uint64      `json:"max_ulps"`
		MaxAbs    *float64    `json:"max_abs"`
		NormA     *float64    `json:"norm_a"`
		NormB     *float64    `json:"norm_b"`
		Distance  *float64    `json:"distance"`
		Relative  *float64    `json:"relative"`
		Cosine    *float64    `json:"cosine"`
	}
	err := json.Unmarshal(text, &v)
	*g = goldenValues(v)
	return err
}

type goldenUpdate struct {
	Rank          int64     `json:"rank"`
	Norm          float64   `json:"norm"`
	EffectiveRank float64   `json:"effective_rank"`
	StableRank    float64   `json:"stable_rank"`
	Spectrum      []float64 `json:"spectrum"`
}

type goldenModule struct {
	A        goldenUpdate `json:"a"`
	B        goldenUpdate `json:"b"`
	Distance float64      `json:"distance"`
	Relative float64      `json:"relative"`
	Cosine   float64      `json:"cosine"`
	Input    [][]float64  `json:"input"`
	Output   [][]float64  `json:"output"`
}

type goldens struct {
	Tensors    map[string]*goldenValues           `json:"tensors"`
	Wide       map[string]*goldenValues           `json:"wide"`
	Adapters   map[string]map[string]goldenModule `json:"adapters"`
	Base       map[string]map[string]goldenBase   `json:"base"`
	Magnitudes map[string]*goldenValues           `json:"magnitudes"`
}

func readGoldens(t *testing.T) (g goldens) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "golden.json"))
	if err == nil {
		err = json.Unmarshal(text, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func models(t *testing.T, a, b string, opts diff.Options) *diff.Result {
	t.Helper()
	x, err := open.Checkpoint(filepath.Join(dir, a))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	y, err := open.Checkpoint(filepath.Join(dir, b))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { y.Close() })
	r, err := diff.Checkpoints(t.Context(), x, y, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func adapters(t *testing.T, a, b string, opts diff.Options) *diff.Result {
	t.Helper()
	x, err := open.Adapter(filepath.Join(dir, a))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	y, err := open.Adapter(filepath.Join(dir, b))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { y.Close() })
	r, err := diff.Adapters(t.Context(), x, y, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// near compares a number with what numpy has, which is nil where there is none.
func near(t *testing.T, what string, got diff.Number, want *float64, tolerance float64) {
	t.Helper()
	x := float64(got)
	switch {
	case want == nil:
		if !math.IsNaN(x) && !math.IsInf(x, 0) {
			t.Errorf("%s is %g, want none", what, x)
		}
	case !(math.Abs(x-*want) <= tolerance*math.Abs(*want)):
		t.Errorf("%s is %.17g, want %.17g (relative error %.1e)", what, x, *want, math.Abs(x / *want - 1))
	}
}

// sumError is what summing some 1000 numbers in float64 may lose, relative to a sum of
// squares.
const sumError = 1e-13

func checkValues(t *testing.T, name string, got *diff.Values, want *goldenValues) {
	t.Helper()
	if (got == nil) != (want == nil) {
		t.Errorf("%s: values %v, want %v", name, got, want)
		return
	}
	if want == nil {
		return
	}
	if d := cmp.Diff([]int64{want.Elements, want.Differing, want.NotFinite}, []int64{got.Elements, got.Differing, got.NotFinite}); d != "" {
		t.Errorf("%s: elements, differing and not finite (- want, + got):\n%s", name, d)
	}
	if d := cmp.Diff(append([]diff.ULPs{}, want.ULPs...), append([]diff.ULPs{}, got.ULPs...)); d != "" || want.MaxULPs != got.MaxULPs {
		t.Errorf("%s: ulps (- want, + got), at most %d, want %d:\n%s", name, got.MaxULPs, want.MaxULPs, d)
	}
	near(t, name+": max abs", got.MaxAbs, want.MaxAbs, 0x1p-52)
	near(t, name+": ‖A‖", got.NormA, want.NormA, sumError)
	near(t, name+": ‖B‖", got.NormB, want.NormB, sumError)
	near(t, name+": distance", got.Distance, want.Distance, sumError)
	near(t, name+": relative", got.Relative, want.Relative, sumError)
	if want.Cosine != nil { // the sum behind it may be much smaller than its parts
		if d := math.Abs(float64(got.Cosine) - *want.Cosine); !(d <= sumError) {
			t.Errorf("%s: cosine %.17g, want %.17g", name, float64(got.Cosine), *want.Cosine)
		}
	} else {
		near(t, name+": cosine", got.Cosine, nil, 0)
	}
}

func checkTensors(t *testing.T, got []diff.Tensor, want map[string]*goldenValues) {
	t.Helper()
	seen := map[string]bool{}
	for _, x := range got {
		seen[x.Name] = true
		v, ok := want[x.Name]
		if !ok {
			t.Errorf("tensor %s differs in %+v, and numpy finds it the same", x.Name, x.Values)
			continue
		}
		checkValues(t, x.Name, x.Values, v)
	}
	for name := range want {
		if !seen[name] {
			t.Errorf("tensor %s is said to be the same", name)
		}
	}
}

func TestTensorsLikeNumpy(t *testing.T) {
	g := readGoldens(t)
	g.Tensors["shape"] = nil
	r := models(t, "a.safetensors", "b.safetensors", diff.Options{})
	checkTensors(t, r.Tensors, g.Tensors)
	if d := cmp.Diff([][]string{{"only.a"}, {"only.b"}}, [][]string{r.OnlyA, r.OnlyB}); d != "" {
		t.Error(d)
	}
	if r.Same != 4 { // alike.*
		t.Errorf("%d tensors are the same, want 4", r.Same)
	}
}

func TestTypesLikeNumpy(t *testing.T) {
	g := readGoldens(t)
	r := models(t, "a.safetensors", "wide.safetensors", diff.Options{})
	checkTensors(t, r.Tensors, g.Wide)
	if len(r.OnlyB) > 0 {
		t.Errorf("only in B: %q", r.OnlyB)
	}
}

// TestSameForAnyWorkers: sums do not depend on who adds.
func TestSameForAnyWorkers(t *testing.T) {
	var texts [2][]byte
	for i, n := range []int{1, 7} {
		old := runtime.GOMAXPROCS(n)
		text, err := json.Marshal([]*diff.Result{models(t, "a.safetensors", "b.safetensors", diff.Options{}), adapters(t, "first", "other", diff.Options{})})
		runtime.GOMAXPROCS(old)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = text
	}
	if d := cmp.Diff(string(texts[0]), string(texts[1])); d != "" {
		t.Error(d)
	}
}

// svdError is what two methods in float64 may differ by, relative to the largest singular value.
const svdError = 1e-13

func checkUpdate(t *testing.T, name string, got *diff.Update, want goldenUpdate) {
	t.Helper()
	if got.Rank != want.Rank || len(got.Spectrum) != len(want.Spectrum) {
		t.Errorf("%s: rank %d with %d singular values, want %d with %d", name, got.Rank, len(got.Spectrum), want.Rank, len(want.Spectrum))
		return
	}
	for i, x := range want.Spectrum {
		if d := math.Abs(float64(got.Spectrum[i]) - x); !(d <= svdError*want.Spectrum[0]) {
			t.Errorf("%s: singular value %d is %.17g, want %.17g", name, i, float64(got.Spectrum[i]), x)
		}
	}
	near(t, name+": norm", got.Norm, &want.Norm, svdError)
	near(t, name+": effective rank", got.EffectiveRank, &want.EffectiveRank, 10*svdError)
	near(t, name+": stable rank", got.StableRank, &want.StableRank, 10*svdError)
}

func checkPhi(t *testing.T, name string, got *diff.Similarity, want [][]float64) {
	t.Helper()
	if got == nil || len(got.Phi) != len(want) {
		t.Errorf("%s: %v, want %v", name, got, want)
		return
	}
	for i, row := range want {
		for j, x := range row {
			// Singular vectors are as exact as gaps between singular values are wide.
			if d := math.Abs(float64(got.Phi[i][j]) - x); !(d <= 1e-10) {
				t.Errorf("%s: φ(%d,%d) is %g, want %g", name, got.RanksA[i], got.RanksB[j], float64(got.Phi[i][j]), x)
			}
		}
	}
}

func TestAdaptersLikeNumpy(t *testing.T) {
	g := readGoldens(t)
	what := map[string]string{"other": diff.Differs, "near": diff.Differs, "ulp": diff.Differs, "scaled": diff.Scaled, "turned": diff.Differs}
	// How exact a distance is, relative to itself: that of factors of one dialect to 1e-9,
	// and that of other factors to rounding in what they multiply to.
	exact := map[string]float64{"other": svdError, "near": 1e-9, "ulp": 1e-9, "scaled": svdError, "turned": 2}
	for name, want := range g.Adapters {
		t.Run(name, func(t *testing.T) {
			r := adapters(t, "first", name, diff.Options{})
			found := 0
			for _, m := range r.Modules {
				w, ok := want[m.Module]
				if !ok {
					if m.What != diff.OnlyA {
						t.Errorf("module %s: %s, want %s", m.Module, m.What, diff.OnlyA)
					}
					continue
				}
				found++
				if m.What != what[name] {
					t.Errorf("module %s: %s, want %s", m.Module, m.What, what[name])
				}
				checkUpdate(t, m.Module+": A", m.A, w.A)
				checkUpdate(t, m.Module+": B", m.B, w.B)
				if name == "turned" { // nothing but rounding, by which numpy's number is as wrong
					if d := float64(m.Distance); !(d > 0 && d <= 1e-14*w.A.Norm) {
						t.Errorf("module %s: distance %g of norm %g", m.Module, d, w.A.Norm)
					}
				} else {
					near(t, m.Module+": distance", m.Distance, &w.Distance, exact[name])
					near(t, m.Module+": relative", m.Relative, &w.Relative, exact[name])
				}
				if d := math.Abs(float64(m.Cosine) - w.Cosine); !(d <= svdError) {
					t.Errorf("module %s: cosine %.17g, want %.17g", m.Module, float64(m.Cosine), w.Cosine)
				}
				checkPhi(t, m.Module+": input", m.Input, w.Input)
				checkPhi(t, m.Module+": output", m.Output, w.Output)
			}
			if found != len(want) {
				t.Errorf("%d modules of %d", found, len(want))
			}
			if scaled := name == "scaled"; (r.Scale != nil) != scaled || scaled && math.Abs(float64(*r.Scale)-0.5) > svdError {
				t.Errorf("scale %v", r.Scale)
			}
			if r.Differs(-1) == false || r.Differs(1e-12) != (name != "turned") || r.Differs(10) != (name == "other") {
				t.Errorf("differs: %v, at 1e-12 %v, at 10 %v", r.Differs(-1), r.Differs(1e-12), r.Differs(10))
			}
		})
	}
}

func TestMagnitudesLikeNumpy(t *testing.T) {
	r := adapters(t, "dora-a", "dora-b", diff.Options{})
	checkTensors(t, r.Tensors, readGoldens(t).Magnitudes)
	for _, m := range r.Modules {
		if m.What != diff.Equal || m.Distance != 0 || m.A.Kind != "Magnitude" {
			t.Errorf("module %s of kind %s: %s at %g", m.Module, m.A.Kind, m.What, float64(m.Distance))
		}
	}
	if !r.Differs(-1) || !r.Differs(0.009) || r.Differs(0.011) {
		t.Error("magnitudes that differ by 1 % count wrongly")
	}
	// DoRA against LoRA: the same factors, and magnitudes on one side.
	r = adapters(t, "dora-a", "first", diff.Options{})
	if !slices.Equal(r.OnlyA, []string{"model.layers.0.q_proj.magnitude", "model.layers.0.up_proj.magnitude", "model.layers.0.v_proj.magnitude"}) || !r.Differs(10) {
		t.Errorf("only in A: %q", r.OnlyA)
	}
}

package extract_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch/extract"
)

// kinds lists what became of each tensor.
func kinds(r *extract.Result) []string {
	var out []string
	for _, m := range r.Modules {
		out = append(out, m.Tensor+" "+m.Kind+" "+m.Reason)
	}
	return out
}

// What a size leaves out differs after a merge, and is counted.
func TestLeftOutCounts(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 1))
	w, n := random(rng, 20, 30, 0.1), random(rng, 1, 30, 0.1)
	base := model(t, "base", "", tensor("l.weight", formats.F32, w), tensor("n.weight", formats.F32, n, 30))
	tuned := model(t, "tuned", "", tensor("l.weight", formats.F32, plus(w, product(rng, 20, 30, 2, 0.1))), tensor("n.weight", formats.F32, plus(n, n), 30))
	opts := extract.Options{Size: 150}
	r := run(t, base, tuned, opts)
	if err := r.Check(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	if got := kinds(r); !slices.Equal(got, []string{"l.weight  no bytes left for it", "n.weight Replace no matrix"}) {
		t.Fatalf("got %q", got)
	}
	m := r.Modules[0]
	if m.Merged == nil || m.Merged.Differing < 590 || m.Residual != 1 || m.Energy != 0 {
		t.Errorf("got %+v, %+v", m, m.Merged)
	}
}

// A base of a narrower type cannot hold the tuned model: nothing says that it does.
func TestNarrowerBase(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 2))
	w := random(rng, 20, 30, 0.1)
	base := model(t, "base", "", tensor("l.weight", formats.BF16, w))
	tuned := model(t, "tuned", "", tensor("l.weight", formats.F32, random(rng, 20, 30, 0.1)))
	zero := 0.0
	opts := extract.Options{MaxError: &zero}
	r := run(t, base, tuned, opts)
	if err := r.Check(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	if m := r.Modules[0].Merged; !r.Narrower || m == nil || m.Differing < 590 {
		t.Errorf("narrower: %v, %+v", r.Narrower, m)
	}
}

// PEFT loads a saved module with all that it has, or not at all.
func TestSavedModulesAreComplete(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 3))
	w, b, n := random(rng, 20, 30, 0.1), random(rng, 1, 20, 0.1), random(rng, 1, 30, 0.1)
	count := func(n byte) formats.Tensor {
		return formats.Tensor{Name: "norm.num_batches_tracked", DType: formats.I64, Shape: []int64{}, Data: bytes.NewReader([]byte{n, 0, 0, 0, 0, 0, 0, 0})}
	}
	tensors := func(w, b, n *mat.Dense, c byte) []formats.Tensor {
		return []formats.Tensor{
			tensor("l.weight", formats.F32, w), tensor("l.bias", formats.F32, b, 20), tensor("norm.weight", formats.F32, n, 30),
			tensor("norm.running_mean", formats.F32, random(rand.New(rand.NewPCG(1, 1)), 1, 30, 1), 30), count(c),
			tensor("block.gamma", formats.F32, n, 30), tensor("block.inner.weight", formats.F32, w),
		}
	}
	base := model(t, "base", "", tensors(w, b, n, 1)...)
	changed := tensors(w, plus(b, b), plus(n, n), 2)
	changed[5], changed[6] = tensor("block.gamma", formats.F32, plus(n, n), 30), tensor("block.inner.weight", formats.F32, w)
	r := run(t, base, model(t, "tuned", "", changed...), extract.Options{Rank: 2})
	const beside = " Replace " + extract.Unchanged
	want := []string{
		"l.bias Replace bias", "norm.weight Replace no matrix", "norm.num_batches_tracked Replace no matrix", "block.gamma Replace no matrix",
		"l.weight" + beside, "norm.running_mean" + beside, "block.inner.weight" + beside,
	}
	if got := kinds(r); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := r.Check(t.Context(), extract.Options{Rank: 2}); err != nil {
		t.Fatal(err)
	}
	for _, m := range r.Modules {
		if m.Merged == nil || m.Merged.Differing != 0 {
			t.Errorf("%s: %+v", m.Tensor, m.Merged)
		}
	}
}

// Numbers whose squares float64 does not hold are saved whole; the signs of zeros alone are
// no change, unless the bits are wanted.
func TestExtremes(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 4))
	for _, scale := range []float64{1e-300, 1e300} {
		base, tuned := tensor("l.weight", formats.F64, random(rng, 9, 7, scale)), tensor("l.weight", formats.F64, random(rng, 9, 7, scale))
		r := run(t, model(t, "base", "", base), model(t, "tuned", "", tuned), extract.Options{Rank: 2})
		if m := r.Modules[0]; m.Kind != "Replace" || m.Norm != 0 {
			t.Errorf("%g: got %+v", scale, m)
		}
	}
	w := random(rng, 9, 7, 1)
	w.Set(2, 3, 0)
	signed := mat.DenseCopyOf(w)
	signed.Set(2, 3, math.Copysign(0, -1))
	n, m := random(rng, 1, 5, 1), random(rng, 1, 5, 1)
	base := model(t, "base", "", tensor("l.weight", formats.F32, w), tensor("n.weight", formats.F32, n, 5))
	tuned := model(t, "tuned", "", tensor("l.weight", formats.F32, signed), tensor("n.weight", formats.F32, m, 5))
	_, err := extract.Extract(t.Context(), base, model(t, "tuned", "", tensor("l.weight", formats.F32, signed), tensor("n.weight", formats.F32, n, 5)), extract.Options{Rank: 1})
	if !errors.Is(err, formats.ErrUnfit) || !strings.Contains(err.Error(), "in the signs of zeros alone") {
		t.Errorf("got %v", err)
	}
	zero := 0.0
	for kind, opts := range map[string]extract.Options{"": {Energy: 0.9}, "Replace": {MaxError: &zero}} {
		if m := run(t, base, tuned, opts).Modules[0]; m.Kind != kind || m.Reason != "only the signs of zeros differ" {
			t.Errorf("got %+v, want kind %q", m, kind)
		}
	}
	big := []float32{3e38, -3e38}
	raw := func(x float32) *mat.Dense { return mat.NewDense(2, 2, []float64{float64(x), 1, 2, 3}) }
	_, err = extract.Extract(t.Context(), model(t, "base", "", tensor("l.weight", formats.F32, raw(big[0]))), model(t, "tuned", "", tensor("l.weight", formats.F32, raw(big[1]))), extract.Options{Rank: 1})
	if !errors.Is(err, formats.ErrUnfit) || !strings.Contains(err.Error(), "the difference from the base is too large at row 0, column 0") {
		t.Errorf("got %v", err)
	}
}

// Factors of a narrow type that do not keep the error are not taken.
func TestBoundOfStoredFactors(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 5))
	w := random(rng, 40, 50, 0.1)
	base, tuned := model(t, "base", "", tensor("l.weight", formats.F32, w)), model(t, "tuned", "", tensor("l.weight", formats.F32, plus(w, product(rng, 40, 50, 3, 0.1))))
	most := 1e-3
	for kind, dtype := range map[string]formats.DType{"Replace": formats.BF16, "LowRank": formats.F32} {
		m := run(t, base, tuned, extract.Options{MaxError: &most, DType: dtype}).Modules[0]
		if m.Kind != kind || m.Residual > most {
			t.Errorf("%s: got %+v", dtype, m)
		}
	}
}

func TestExclude(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 6))
	w, s := random(rng, 20, 30, 0.1), random(rng, 1, 1, 1)
	tensors := func(w, s *mat.Dense) []formats.Tensor {
		return []formats.Tensor{tensor("l.weight", formats.F32, w), tensor("scale", formats.F32, s, 1)}
	}
	base, tuned := model(t, "base", "", tensors(w, s)...), model(t, "tuned", "", tensors(plus(w, w), plus(s, s))...)
	_, err := extract.Extract(t.Context(), base, tuned, extract.Options{Rank: 2})
	if !errors.Is(err, formats.ErrUnfit) || !strings.Contains(err.Error(), `reading "tuned": tensor "scale": it belongs to no module that an adapter could save`) {
		t.Errorf("got %v", err)
	}
	r := run(t, base, tuned, extract.Options{Rank: 2, Exclude: []string{"scale"}})
	if len(r.Modules) != 1 || !slices.Equal(r.Excluded, []string{"scale"}) {
		t.Errorf("got %q, excluded %q", kinds(r), r.Excluded)
	}
	_, err = extract.Extract(t.Context(), base, tuned, extract.Options{Rank: 2, Exclude: []string{"scale", "none"}})
	if !errors.Is(err, formats.ErrUsage) || !strings.Contains(err.Error(), `exclude "none" matches no module or tensor`) {
		t.Errorf("got %v", err)
	}
	_, err = extract.Extract(t.Context(), base, tuned, extract.Options{Size: 30, Exclude: []string{"scale"}})
	if !errors.Is(err, formats.ErrUsage) || !strings.Contains(err.Error(), "30 bytes hold no rank of any module (want at least 200)") {
		t.Errorf("got %v", err)
	}
}

package patch_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch"
)

// drawnUpdate is an update with normal factors of a type.
func drawnUpdate(rng *rand.Rand, d formats.DType, scale float64, out, r, in int64) *adapter.LowRank {
	factor := func(name string, rows, cols int64) formats.Tensor {
		v := make([]float32, rows*cols)
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		return typed(name, d, []int64{rows, cols}, v...)
	}
	return &adapter.LowRank{A: factor("A", r, in), B: factor("B", out, r), Scale: scale}
}

func adapterOf(path string, entries ...adapter.Entry) *adapter.Adapter {
	return &adapter.Adapter{Path: path, Entries: entries}
}

func entry(module string, u adapter.Update) adapter.Entry {
	return adapter.Entry{Module: module, Update: u}
}

// weightedSum forms Σ wᵢΔᵢ of a module.
func weightedSum(t *testing.T, list []patch.Weighted, module string) *mat.Dense {
	t.Helper()
	var sum *mat.Dense
	for _, w := range list {
		for _, e := range w.Adapter.Entries {
			if e.Module != module {
				continue
			}
			d := deltaOf(t, e)
			d.Scale(w.Weight, d)
			if sum == nil {
				sum = d
			} else {
				sum.Add(sum, d)
			}
		}
	}
	return sum
}

func relative(got, want *mat.Dense) float64 {
	var d mat.Dense
	d.Sub(got, want)
	return mat.Norm(&d, 2) / mat.Norm(want, 2)
}

// cat is exact but for one rounding of wᵢsᵢA: half an ulp, 2⁻²⁴ or 2⁻⁵³, of each product.
// Cancellation in these sums of at most 16 products of the same size costs no more than a
// factor of 10.
func TestCombineCat(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	list := []patch.Weighted{
		{Adapter: adapterOf("p", entry("x", drawnUpdate(rng, formats.BF16, 1.7, 20, 3, 30)), entry("y", drawnUpdate(rng, formats.F32, 0.3, 5, 4, 9))), Weight: 0.7},
		{Adapter: adapterOf("q", entry("x", drawnUpdate(rng, formats.F16, -0.2, 20, 9, 30))), Weight: -1.1},
		{Adapter: adapterOf("r", entry("z", drawnUpdate(rng, formats.F64, 2, 7, 1, 6)), entry("x", drawnUpdate(rng, formats.F32, 1, 20, 4, 30))), Weight: 3},
	}
	for _, c := range []struct {
		dtype formats.DType
		tol   float64
	}{{formats.InvalidDType, 10 * 0x1p-24}, {formats.F64, 10 * 0x1p-53}} {
		got, report, err := patch.Combine(context.Background(), list, patch.CombineOptions{DType: c.dtype})
		if err != nil {
			t.Fatal(err)
		}
		var modules []string
		for i, e := range got.Entries {
			modules = append(modules, e.Module)
			want := weightedSum(t, list, e.Module)
			if off := relative(deltaOf(t, e), want); off > c.tol {
				t.Errorf("module %s: ΔW is %g away, relative to its norm", e.Module, off)
			}
			if n := mat.Norm(want, 2); math.Abs(report[i].Norm-n) > 1e-13*n || report[i].Distance != 0 || report[i].Lost != 0 {
				t.Errorf("module %s: reported %+v, want the norm %g", e.Module, report[i], n)
			}
		}
		if diff := cmp.Diff([]string{"x", "y", "z"}, modules); diff != "" {
			t.Errorf("modules (- want, + got):\n%s", diff)
		}
		if report[0].Rank != 16 || !slices.Equal(report[0].From, []int{0, 1, 2}) || !slices.Equal(report[2].From, []int{2}) {
			t.Errorf("reported %+v", report)
		}
		z := got.Entries[2].Update.(*adapter.LowRank)
		if z.A.DType != formats.F64 || z.Scale != 1 {
			t.Errorf("an F64 factor became %s, with the scale %g", z.A.DType, z.Scale)
		}
	}
}

// A sum whose rank is k comes back from svd of rank k to 1e-12 in float64, with no rank
// spent on rounding, and what a smaller rank loses is the best that it can do.
func TestCombineSVD(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	p, q, r := drawnUpdate(rng, formats.F64, 1.5, 40, 5, 31), drawnUpdate(rng, formats.F64, 0.7, 40, 3, 31), drawnUpdate(rng, formats.F64, 2, 40, 5, 31)
	r.B = p.B // one range for two of them: the sum has rank 8, not 13
	list := []patch.Weighted{
		{Adapter: adapterOf("p", entry("x", p)), Weight: 0.3}, {Adapter: adapterOf("q", entry("x", q)), Weight: 1}, {Adapter: adapterOf("r", entry("x", r)), Weight: -2},
	}
	want := weightedSum(t, list, "x")
	for _, c := range []struct{ ask, rank int64 }{{8, 8}, {12, 8}, {3, 3}, {0, 5}} {
		got, report, err := patch.Combine(context.Background(), list, patch.CombineOptions{Method: patch.CombineSVD, Rank: c.ask})
		if err != nil {
			t.Fatal(err)
		}
		if report[0].Rank != c.rank {
			t.Errorf("rank %d asked for: got %d, want %d", c.ask, report[0].Rank, c.rank)
		}
		best := bestError(t, want, int(c.rank)) / mat.Norm(want, 2)
		if off := relative(deltaOf(t, got.Entries[0]), want); math.Abs(off-best) > 1e-12 || math.Abs(report[0].Lost-best) > 1e-12 {
			t.Errorf("rank %d: the error is %g, reported %g, the best is %g", c.rank, off, report[0].Lost, best)
		}
		if d := report[0].Distance / report[0].SumNorm; math.Abs(d-best) > 1e-12 {
			t.Errorf("rank %d: distance %g, want %g", c.rank, d, best)
		}
	}
}

// bestError is the error of the best approximation of a rank, by a dense decomposition.
func bestError(t *testing.T, m *mat.Dense, rank int) float64 {
	t.Helper()
	var d mat.SVD
	if !d.Factorize(m, mat.SVDNone) {
		t.Fatal("the oracle does not converge")
	}
	sum := 0.0
	for i, s := range d.Values(nil) {
		if i >= rank {
			sum += s * s
		}
	}
	return math.Sqrt(sum)
}

// What dare drops depends on the seed, the module, the factor and the place alone, and on
// average it changes nothing: over n seeds the mean of an element x has the deviation
// |x|·√((1−p)/p/n).
func TestCombineDare(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 3))
	p, q := drawnUpdate(rng, formats.F64, 1, 12, 3, 10), drawnUpdate(rng, formats.F64, 1, 12, 3, 10)
	list := []patch.Weighted{{Adapter: adapterOf("p", entry("x", p)), Weight: 1}, {Adapter: adapterOf("q", entry("x", q)), Weight: 1}}
	more := []patch.Weighted{{Adapter: adapterOf("p", entry("w", q), entry("x", p)), Weight: 1}, {Adapter: adapterOf("q", entry("x", q)), Weight: 1}}
	run := func(list []patch.Weighted, seed uint64, method patch.CombineMethod, density float64) *adapter.LowRank {
		a, _, err := patch.Combine(context.Background(), list, patch.CombineOptions{Method: method, Density: density, Seed: seed, DType: formats.F64})
		if err != nil {
			t.Fatal(err)
		}
		return a.Entries[len(a.Entries)-1].Update.(*adapter.LowRank)
	}
	values := func(x formats.Tensor) []float64 {
		raw, err := x.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		v := make([]float64, x.Elements())
		formats.DecodeFloat64(v, raw, x.DType)
		return v
	}
	for _, method := range []patch.CombineMethod{"dare_linear", "dare_ties"} {
		one := values(run(list, 7, method, 0.4).A)
		if !slices.Equal(one, values(run(list, 7, method, 0.4).A)) || !slices.Equal(one, values(run(more, 7, method, 0.4).A)) {
			t.Errorf("%s: the same seed drops other elements", method)
		}
		if slices.Equal(one, values(run(list, 8, method, 0.4).A)) {
			t.Errorf("%s: another seed drops the same elements", method)
		}
	}
	const n, density = 400, 0.4
	mean := make([]float64, 30)
	for seed := range uint64(n) {
		for i, x := range values(run(list, seed, "dare_linear", density).A) {
			mean[i] += x / n
		}
	}
	want, pa, qa := values(run(list, 0, "linear", 0).A), values(p.A), values(q.A)
	for i, x := range mean {
		if deviation := math.Hypot(pa[i], qa[i]) * math.Sqrt((1-density)/density/n); math.Abs(x-want[i]) > 5*deviation {
			t.Errorf("element %d is %g on average, want %g", i, x, want[i])
		}
	}
}

// Of elements of one size the first are kept, and never more than the density says.
func TestCombineEqualElements(t *testing.T) {
	u := &adapter.LowRank{A: typed("A", formats.F32, []int64{1, 5}, 1, -1, 2, 1, 1), B: typed("B", formats.F32, []int64{1, 1}, 1), Scale: 1}
	for density, want := range map[float64][]float64{
		0.6: {1, -1, 2, 0, 0}, 0.4: {1, 0, 2, 0, 0}, 0.39: {0, 0, 2, 0, 0}, 0.1: {0, 0, 0, 0, 0}, 1: {1, -1, 2, 1, 1},
	} {
		a, _, err := patch.Combine(context.Background(), []patch.Weighted{{Adapter: adapterOf("p", entry("x", u)), Weight: 1}}, patch.CombineOptions{Method: "magnitude_prune_svd", Density: density})
		if err != nil {
			t.Fatal(err)
		}
		if got := deltaOf(t, a.Entries[0]); !mat.EqualApprox(got, mat.NewDense(1, 5, want), 1e-6) {
			t.Errorf("density %g keeps %v, want %v", density, mat.Formatted(got), want)
		}
	}
}

func TestCombineSaved(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 4))
	u := drawnUpdate(rng, formats.F32, 1, 4, 2, 3)
	head := entry("head", &adapter.Replace{Param: "weight", Value: whole("head", formats.F32, 1, 2, 2)})
	p, q := adapterOf("p", entry("x", u), head), adapterOf("q", entry("x", u))
	a, _, err := patch.Combine(context.Background(), []patch.Weighted{{Adapter: p, Weight: 1}, {Adapter: q, Weight: 0.5}}, patch.CombineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Entries) != 2 || a.Entries[1].Module != "head" || a.Entries[1].Update.(*adapter.Replace).Value.Data != head.Update.(*adapter.Replace).Value.Data {
		t.Errorf("the saved head became %+v", a.Entries)
	}
}

func TestCombineRefuses(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 5))
	u := drawnUpdate(rng, formats.F32, 1, 4, 2, 3)
	plain := patch.Weighted{Adapter: adapterOf("p", entry("x", u)), Weight: 1}
	with := func(w float64, entries ...adapter.Entry) []patch.Weighted {
		return []patch.Weighted{plain, {Adapter: adapterOf("q", entries...), Weight: w}}
	}
	saved := entry("head", &adapter.Replace{Param: "weight", Value: whole("head", formats.F32, 1, 2, 2)})
	turned := *u
	turned.FanInFanOut = true
	wide := &adapter.LowRank{
		A: adapter.Zeros(formats.F32, 1, 1<<17), B: adapter.Zeros(formats.F32, 1<<14, 1), Scale: 1, // 2³¹ elements
	}
	huge := drawnUpdate(rng, formats.F64, 1e300, 4, 2, 3)
	for _, c := range []struct {
		list  []patch.Weighted
		opts  patch.CombineOptions
		class error
		want  string
	}{
		{nil, patch.CombineOptions{}, formats.ErrUsage, `there is no adapter to combine`},
		{with(1, entry("x", u)), patch.CombineOptions{Method: "tie"}, formats.ErrUsage, `method "tie" is not known (want cat, svd, linear, …)`},
		{with(1, entry("x", u)), patch.CombineOptions{Rank: 3}, formats.ErrUsage, `a rank is for svd and the _svd methods: that of cat follows from the adapters`},
		{with(1, entry("x", u)), patch.CombineOptions{Method: "svd", Rank: -1}, formats.ErrUsage, `the rank must be from 1 to 1048576 (got -1)`},
		{with(1, entry("x", u)), patch.CombineOptions{Method: "ties"}, formats.ErrUsage, `method ties needs a density above 0 and at most 1: the share of elements that it keeps (got 0)`},
		{with(1, entry("x", u)), patch.CombineOptions{Method: "ties", Density: math.NaN()}, formats.ErrUsage, `method ties needs a density …(got NaN)`},
		{with(1, entry("x", u)), patch.CombineOptions{Method: "svd", Density: 0.5}, formats.ErrUsage, `a density is for the pruning methods: svd keeps all elements`},
		{with(1, entry("x", u)), patch.CombineOptions{Method: "linear", MajoritySign: "total"}, formats.ErrUsage, `a majority sign is for the ties methods: linear elects none`},
		{with(1, entry("x", u)), patch.CombineOptions{Method: "ties", Density: 0.5, MajoritySign: "all"}, formats.ErrUsage, `majority sign "all" is not known (want "total" or "frequency")`},
		{with(1, entry("x", u)), patch.CombineOptions{DType: formats.I8}, formats.ErrUsage, `factors cannot be I8 (want F64, F32, F16 or BF16)`},
		{with(math.Inf(1), entry("x", u)), patch.CombineOptions{}, formats.ErrUsage, `the weight of "q" is not finite`},
		{with(1, entry("x", &adapter.Magnitude{Inner: u, Vector: whole("m", formats.F32, 1, 4)})), patch.CombineOptions{}, formats.ErrUnfit, `reading "q": module "x": DoRA's magnitudes cannot be combined, …`},
		{with(1, saved), patch.CombineOptions{}, nil, ``},
		{with(2, saved), patch.CombineOptions{}, formats.ErrUnfit, `reading "q": tensor "head": a parameter saved whole (modules_to_save) cannot be weighted (got weight 2, want 1)`},
		{append(with(1, saved), patch.Weighted{Adapter: adapterOf("r", saved), Weight: 1}), patch.CombineOptions{}, formats.ErrUnfit, `reading "r": tensor "head": parameters saved whole (modules_to_save) cannot be combined, and "q" saves those of module "head" too`},
		{with(1, entry("x", saved.Update)), patch.CombineOptions{}, formats.ErrUnfit, `reading "p": tensor "A": "q" saves module "x" whole (modules_to_save): what this is added to is not the base`},
		{with(1, entry("x", drawnUpdate(rng, formats.F32, 1, 4, 2, 5))), patch.CombineOptions{}, formats.ErrUnfit, `reading "q": tensor "A": module "x" has another shape than in "p" (got [4 5], want [4 3])`},
		{with(1, entry("x", &turned)), patch.CombineOptions{}, formats.ErrUnfit, `reading "q": tensor "A": module "x" is stored the other way round than in "p" (fan_in_fan_out, or an embedding)`},
		{with(1, entry("x", drawnUpdate(rng, formats.F32, 1, 4, 3, 3))), patch.CombineOptions{Method: "linear"}, formats.ErrUnfit, `reading "q": tensor "A": method linear needs one rank: module "x" has 3 here and 2 in "p"`},
		{with(1, entry("x", u), entry("x", u)), patch.CombineOptions{}, formats.ErrUnfit, `reading "q": tensor "A": a second update of module "x"`},
		{[]patch.Weighted{{Adapter: adapterOf("q", saved), Weight: 1}}, patch.CombineOptions{}, formats.ErrUnfit, `reading "q": there are no low-rank updates to combine`},
		{[]patch.Weighted{{Adapter: adapterOf("q", entry("y", wide)), Weight: 1}}, patch.CombineOptions{Method: "ties_svd", Density: 0.5}, formats.ErrUnfit, `module "y": method ties_svd forms ΔW in full, and 16384×131072 is too large (want at most 1073741824 elements)`},
		{with(1e308, entry("x", huge)), patch.CombineOptions{Method: "svd"}, formats.ErrUnfit, `module "x": …too large for float64`},
		{with(1e10, entry("x", u)), patch.CombineOptions{DType: formats.F16}, formats.ErrUnfit, `tensor "x.lora_A.weight": element …is too large for F16 …`},
	} {
		_, _, err := patch.Combine(context.Background(), c.list, c.opts)
		if c.class == nil {
			if err != nil {
				t.Errorf("got %v", err)
			}
			continue
		}
		if err == nil || !errors.Is(err, c.class) || !likeLine(err.Error(), c.want) {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := patch.Combine(ctx, with(1, entry("x", u)), patch.CombineOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// likeLine reports whether a line is a pattern in which … stands for anything.
func likeLine(line, pattern string) bool {
	parts := strings.Split(pattern, "…")
	if !strings.HasPrefix(line, parts[0]) {
		return false
	}
	line = line[len(parts[0]):]
	for i, p := range parts[1:] {
		at := strings.Index(line, p)
		if i == len(parts)-2 {
			at = len(line) - len(p)
		}
		if at < 0 || line[at:at+len(p)] != p {
			return false
		}
		line = line[at+len(p):]
	}
	return line == ""
}

package patch_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

func resized(t *testing.T, a *adapter.Adapter, opts patch.ResizeOptions) (*adapter.Adapter, []patch.ResizedModule) {
	t.Helper()
	got, report, err := patch.Resize(context.Background(), a, opts)
	if err != nil {
		t.Fatal(err)
	}
	return got, report
}

// The error of every rank is the best one, by a dense decomposition of the full ΔW: of
// linear layers, an embedding and convolutions that PEFT saved.
func TestResizeBest(t *testing.T) {
	a := mustOpenAdapter(t, filepath.Join(combineData, "equal", "one"))
	for rank := int64(1); rank <= 5; rank++ {
		got, report := resized(t, a, patch.ResizeOptions{Rank: rank, DType: formats.F64})
		for i, e := range got.Entries {
			want := deltaOf(t, a.Entries[i])
			norm, best := mat.Norm(want, 2), bestError(t, want, int(rank))
			off := relative(deltaOf(t, e), want)
			if e.Module != a.Entries[i].Module || math.Abs(off-best/norm) > 1e-10 || math.Abs(report[i].Error-best/norm) > 1e-10 || math.Abs(report[i].Norm-norm) > 1e-10*norm {
				t.Errorf("%s of rank %d: the error is %g, reported %+v, want %g", e.Module, rank, off, report[i], best/norm)
			}
			u, old := e.Update.(*adapter.LowRank), a.Entries[i].Update.(*adapter.LowRank)
			if u.Rank() != min(rank, 4) || report[i].Rank != u.Rank() || report[i].OldRank != 4 {
				t.Errorf("%s: rank %d, reported %+v", e.Module, u.Rank(), report[i])
			}
			if !slices.Equal(u.Shape(), old.Shape()) || u.Embedding != old.Embedding || len(u.B.Shape) != len(old.B.Shape) {
				t.Errorf("%s: shape %v (A %v, B %v), was %v", e.Module, u.Shape(), u.A.Shape, u.B.Shape, old.Shape())
			}
		}
	}
}

// Ranks that are rounding alone are not kept, even with the error 0, and rounding to the
// default F32 costs one rounding of each factor: 2⁻²⁴ in two places, of at most 8 products
// each.
func TestResizeExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	u := drawnUpdate(rng, formats.F32, 0.5, 30, 4, 20)
	twice := &adapter.LowRank{A: u.A, B: u.B, Scale: 0.5}
	both, _, err := patch.Combine(context.Background(), []patch.Weighted{{Adapter: adapterOf("p", entry("x", u)), Weight: 1}, {Adapter: adapterOf("q", entry("x", twice)), Weight: 2}}, patch.CombineOptions{DType: formats.F64})
	if err != nil {
		t.Fatal(err)
	}
	zero := 0.0
	for _, opts := range []patch.ResizeOptions{{MaxError: &zero}, {Energy: 1}, {Rank: 8}, {Size: 1 << 20}} {
		for _, dtype := range []formats.DType{formats.F64, formats.F32} {
			opts.DType = dtype
			got, report := resized(t, both, opts)
			tol := 1e-13
			if dtype == formats.F32 {
				tol = 2 * 0x1p-24
			}
			if off := relative(deltaOf(t, got.Entries[0]), deltaOf(t, both.Entries[0])); off > tol || report[0].Rank != 4 || report[0].OldRank != 8 {
				t.Errorf("%+v: %g away, reported %+v", opts, off, report[0])
			}
		}
	}
}

func TestResizeEnergyAndError(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	a := adapterOf("p", entry("x", drawnUpdate(rng, formats.F32, 2, 30, 12, 20)), entry("y", drawnUpdate(rng, formats.F32, 1, 9, 7, 40)))
	limit := 0.5
	for _, opts := range []patch.ResizeOptions{{MaxError: &limit}, {Energy: 0.75}} { // the same by Pythagoras
		_, report := resized(t, a, opts)
		for i, r := range report {
			full := deltaOf(t, a.Entries[i])
			norm := mat.Norm(full, 2)
			if r.Error > limit || bestError(t, full, int(r.Rank)-1)/norm <= limit {
				t.Errorf("%s: rank %d has the error %g, and one less %g", r.Module, r.Rank, r.Error, bestError(t, full, int(r.Rank)-1)/norm)
			}
		}
	}
}

// A size is never exceeded, and no other choice of ranks that fits keeps more.
func TestResizeSize(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 3))
	// Three modules of one shape, so that taking the largest values first is the best choice.
	a := adapterOf("p", entry("x", drawnUpdate(rng, formats.F32, 2, 10, 3, 8)), entry("y", drawnUpdate(rng, formats.F32, 1, 10, 3, 8)), entry("z", drawnUpdate(rng, formats.F32, 0.02, 10, 3, 8)))
	const one = (10 + 8) * 4
	spectra := make([][]float64, 3)
	for i, e := range a.Entries {
		var d mat.SVD
		d.Factorize(deltaOf(t, e), mat.SVDNone)
		spectra[i] = d.Values(nil)[:3]
	}
	for budget := 1; budget <= 9; budget++ {
		best := 0.0
		for i := 0; i <= 3; i++ {
			for j := 0; j <= 3; j++ {
				for k := 0; k <= 3 && i+j+k <= budget; k++ {
					kept := 0.0
					for m, n := range []int{i, j, k} {
						for _, s := range spectra[m][:n] {
							kept += s * s
						}
					}
					best = max(best, kept)
				}
			}
		}
		got, report := resized(t, a, patch.ResizeOptions{Size: int64(budget)*one + one - 1})
		bytes, kept, left := int64(0), 0.0, 0
		for _, e := range got.Entries {
			for _, x := range e.Update.Tensors() {
				bytes += x.Size()
			}
		}
		for _, r := range report {
			kept += r.Norm * r.Norm * (1 - r.Error*r.Error)
			if r.Rank == 0 {
				left++
			}
		}
		if bytes > int64(budget)*one+one-1 || math.Abs(kept-best) > 1e-12*best || len(got.Entries) != 3-left {
			t.Errorf("%d ranks: %d bytes, energy %g (the best is %g), %d modules and %d left out", budget, bytes, kept, best, len(got.Entries), left)
		}
	}
}

func TestResizeCommon(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 4))
	a := adapterOf("p", entry("x", drawnUpdate(rng, formats.F32, 2, 30, 6, 20)), entry("y", drawnUpdate(rng, formats.F32, 1, 3, 2, 40)))
	for _, c := range []struct {
		opts patch.ResizeOptions
		want int64
	}{
		{patch.ResizeOptions{Rank: 4}, 4}, {patch.ResizeOptions{Rank: 8}, 8}, {patch.ResizeOptions{Energy: 1}, 6},
		{patch.ResizeOptions{Size: 93 * 4 * 5}, 5}, {patch.ResizeOptions{Size: 1 << 30}, 6},
	} {
		c.opts.Common = true
		got, report := resized(t, a, c.opts)
		for i, e := range got.Entries {
			if r := e.Update.(*adapter.LowRank).Rank(); r != c.want || report[i].Rank != c.want {
				t.Errorf("%+v: %s has rank %d, want %d", c.opts, e.Module, r, c.want)
			}
			want := deltaOf(t, a.Entries[i])
			if off, best := relative(deltaOf(t, e), want), bestError(t, want, int(c.want))/mat.Norm(want, 2); math.Abs(off-best) > 1e-6 {
				t.Errorf("%+v: %s is %g away, want %g", c.opts, e.Module, off, best)
			}
		}
	}
}

// An update of zeros keeps one rank, and a size has nothing to spend on it.
func TestResizeZero(t *testing.T) {
	zero := &adapter.LowRank{A: typed("A", formats.F32, []int64{2, 3}, make([]float32, 6)...), B: typed("B", formats.F32, []int64{4, 2}, make([]float32, 8)...), Scale: 1}
	_, report := resized(t, adapterOf("p", entry("x", zero)), patch.ResizeOptions{Energy: 0.9})
	if r := report[0]; r.Rank != 1 || r.Error != 0 || r.Norm != 0 {
		t.Errorf("got %+v", r)
	}
	if _, _, err := patch.Resize(context.Background(), adapterOf("p", entry("x", zero)), patch.ResizeOptions{Size: 1000}); !errors.Is(err, formats.ErrUsage) {
		t.Errorf("got %v", err)
	}
}

func TestResizeRefuses(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 5))
	u := drawnUpdate(rng, formats.F32, 1, 4, 2, 3)
	plain := adapterOf("p", entry("x", u))
	saved := entry("head", &adapter.Replace{Param: "weight", Value: whole("head", formats.F32, 1, 2, 2)})
	bad, negative := 1.0, -0.1
	for _, c := range []struct {
		a     *adapter.Adapter
		opts  patch.ResizeOptions
		class error
		want  string
	}{
		{plain, patch.ResizeOptions{}, formats.ErrUsage, `a rank, an energy, an error or a size says how far to go (got 0 of them, want 1)`},
		{plain, patch.ResizeOptions{Rank: 1, Energy: 1}, formats.ErrUsage, `…(got 2 of them, want 1)`},
		{plain, patch.ResizeOptions{Rank: -1}, formats.ErrUsage, `the rank must be from 1 to 1048576 (got -1)`},
		{plain, patch.ResizeOptions{Energy: 1.5}, formats.ErrUsage, `the energy is a share above 0 and at most 1 (got 1.5)`},
		{plain, patch.ResizeOptions{Energy: math.NaN()}, formats.ErrUsage, `the energy is …(got NaN)`},
		{plain, patch.ResizeOptions{MaxError: &bad}, formats.ErrUsage, `the error is relative, from 0 to less than 1 (got 1)`},
		{plain, patch.ResizeOptions{MaxError: &negative}, formats.ErrUsage, `the error is relative, …(got -0.1)`},
		{plain, patch.ResizeOptions{Size: 27}, formats.ErrUsage, `27 bytes hold no rank of any module (want at least 28)`},
		{plain, patch.ResizeOptions{Size: 27, Common: true}, formats.ErrUsage, `27 bytes hold no rank of every module (want at least 28)`},
		{plain, patch.ResizeOptions{Rank: 4, Common: true}, formats.ErrUsage, `no module can have the rank 4 (the largest that one can have is 3)`},
		{adapterOf("p", entry("x", &adapter.Magnitude{Inner: u, Vector: whole("m", formats.F32, 1, 4)})), patch.ResizeOptions{Rank: 1}, formats.ErrUnfit, `reading "p": module "x": DoRA's magnitudes belong to factors of this rank, …`},
		{adapterOf("p", saved), patch.ResizeOptions{Rank: 1}, formats.ErrUnfit, `reading "p": there are no low-rank updates to resize`},
	} {
		_, _, err := patch.Resize(context.Background(), c.a, c.opts)
		if err == nil || !errors.Is(err, c.class) || !likeLine(err.Error(), c.want) {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
	got, _ := resized(t, adapterOf("p", entry("x", u), saved), patch.ResizeOptions{Rank: 1})
	if len(got.Entries) != 2 || got.Entries[1].Module != "head" {
		t.Errorf("the saved head is not there: %+v", got.Entries)
	}
}

// What is reported of the error is that of the factors as they are stored, and an error that
// they cannot keep is refused.
func TestResizeErrorAsStored(t *testing.T) {
	a := mustOpenAdapter(t, filepath.Join(peftData, "linear-f32", "adapter"))
	small, report, err := patch.Resize(t.Context(), a, patch.ResizeOptions{Rank: 3, DType: formats.BF16})
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range report {
		p, err1 := lowrank.FromUpdate("", a.Entries[i].Update.(*adapter.LowRank))
		q, err2 := lowrank.FromUpdate("", small.Entries[i].Update.(*adapter.LowRank))
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if want := lowrank.Distance(p, q) / lowrank.Norm(p); !(want > 1e-4) || math.Abs(m.Error-want) > 1e-9 {
			t.Errorf("%s: error %g, want %g", m.Module, m.Error, want)
		}
	}
	most := 1e-3
	_, _, err = patch.Resize(t.Context(), a, patch.ResizeOptions{MaxError: &most, DType: formats.BF16})
	if !errors.Is(err, formats.ErrUsage) || !strings.Contains(err.Error(), "factors of BF16 leave an error of 0.00") {
		t.Errorf("got %v", err)
	}
}

package diff_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/diff"
)

type goldenBase struct {
	Rank      int     `json:"rank"`
	Norm      float64 `json:"norm"`
	Projected float64 `json:"projected"`
	Random    float64 `json:"random"`
	Factor    float64 `json:"factor"`
}

func checkAmplification(t *testing.T, name string, got *diff.Amplification, want goldenBase) {
	t.Helper()
	if got == nil || got.Rank != want.Rank {
		t.Errorf("%s: %+v, want %+v", name, got, want)
		return
	}
	// Singular vectors are as exact as gaps between singular values are wide.
	near(t, name+": projected", got.Projected, &want.Projected, 1e-11)
	near(t, name+": factor", got.Factor, &want.Factor, 1e-11)
	near(t, name+": random", got.Random, &want.Random, sumError)
}

func TestBaseLikeNumpy(t *testing.T) {
	c, err := open.Checkpoint(filepath.Join(dir, "base.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m, err := patch.NewModel(c)
	if err != nil {
		t.Fatal(err)
	}
	find := func(a *adapter.Adapter, e adapter.Entry) (diff.Weight, error) {
		places, err := patch.NewFinder(m, a)
		if err != nil {
			return diff.Weight{}, err
		}
		s, err := places.Site(e)
		return diff.Weight{Tensor: s.Weight, File: c.Path(), InOut: s.InOut}, err
	}
	want := readGoldens(t).Base
	for _, m := range adapters(t, "first", "other", diff.Options{Base: find}).Modules {
		first := want["first"][m.Module]
		if m.Base == nil || m.Base.Tensor != m.Module+".weight" {
			t.Errorf("module %s: base %+v", m.Module, m.Base)
			continue
		}
		near(t, m.Module+": ‖W‖", m.Base.Norm, &first.Norm, sumError)
		checkAmplification(t, m.Module+": A", m.Base.A, first)
		other, ok := want["other"][m.Module]
		if ok {
			checkAmplification(t, m.Module+": B", m.Base.B, other)
		} else if m.Base.B != nil {
			t.Errorf("module %s: B is %+v, and there is none", m.Module, m.Base.B)
		}
	}
	for _, m := range adapters(t, "first", "other", diff.Options{}).Modules {
		if m.Base != nil {
			t.Errorf("module %s: base %+v without one", m.Module, m.Base)
		}
	}
}

// dense is a matrix of random numbers of few digits, which every float type has.
func dense(rng *rand.Rand, rows, cols int) *mat.Dense {
	m := mat.NewDense(rows, cols, nil)
	for i := range m.RawMatrix().Data {
		m.RawMatrix().Data[i] = float64(rng.IntN(255)-127) / 64
	}
	return m
}

func encoded(name string, m *mat.Dense, d formats.DType) formats.Tensor {
	rows, cols := m.Dims()
	raw := make([]byte, rows*cols*int(d.Bits()/8))
	if d == formats.F64 {
		formats.EncodeFloat64(raw, m.RawMatrix().Data)
	} else {
		narrow := make([]float32, rows*cols)
		for i, x := range m.RawMatrix().Data {
			narrow[i] = float32(x)
		}
		formats.EncodeFloat32(raw, narrow, d)
	}
	return formats.Tensor{Name: name, DType: d, Shape: []int64{int64(rows), int64(cols)}, Data: bytes.NewReader(raw)}
}

// projected returns ‖UᵀWV‖ for the singular vectors of b·a, from the dense matrices.
func projected(t *testing.T, w, b, a *mat.Dense) float64 {
	t.Helper()
	var delta, g mat.Dense
	delta.Mul(b, a)
	var d mat.SVD
	if !d.Factorize(&delta, mat.SVDThin) {
		t.Fatal("no decomposition")
	}
	var u, v mat.Dense
	d.UTo(&u)
	d.VTo(&v)
	out, r := b.Dims()
	_, in := a.Dims()
	g.Product(u.Slice(0, out, 0, r).T(), w, v.Slice(0, in, 0, r))
	return mat.Norm(&g, 2)
}

// TestBaseAsItLies: a weight may be stored either way round, be a part of a larger one, and
// take several reads; and each side may have a place of its own.
func TestBaseAsItLies(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const in, first, outs, out = 301, 40, 57, 111
	for _, d := range []formats.DType{formats.BF16, formats.F64} {
		w := dense(rng, out, in)
		part := w.Slice(first, first+outs, 0, in).(*mat.Dense)
		a, b := dense(rng, 3, in), dense(rng, outs, 3)
		a2, b2 := dense(rng, 5, in), dense(rng, outs, 5)
		wide := mat.DenseCopyOf(part)
		for name, place := range map[string]diff.Weight{
			"out, in":             {Tensor: encoded("w", mat.DenseCopyOf(part), d)},
			"in, out":             {Tensor: encoded("w", mat.DenseCopyOf(part.T()), d), InOut: true},
			"a part of (out, in)": {Tensor: encoded("w", w, d), First: first, Outs: outs},
			"a part of (in, out)": {Tensor: encoded("w", mat.DenseCopyOf(w.T()), d), First: first, Outs: outs, InOut: true},
		} {
			x, y := lowRank("m", a, b, 2), lowRank("m", a2, b2, -0.5)
			for _, otherB := range []bool{false, true} {
				r, err := diff.Adapters(t.Context(), x, y, diff.Options{Base: func(of *adapter.Adapter, e adapter.Entry) (diff.Weight, error) {
					if otherB && of == y {
						double := mat.NewDense(outs, in, nil)
						double.Scale(2, wide)
						return diff.Weight{Tensor: encoded("v", double, d)}, nil
					}
					return place, nil
				}})
				if err != nil {
					t.Fatal(err)
				}
				by := 1.0
				if otherB {
					by = 2
				}
				m, normOf, wantA, wantB := r.Modules[0], mat.Norm(part, 2), projected(t, part, b, a), by*projected(t, part, b2, a2)
				near(t, name+": ‖W‖", m.Base.Norm, &normOf, sumError)
				near(t, name+": A", m.Base.A.Projected, &wantA, 1e-11)
				near(t, name+": B", m.Base.B.Projected, &wantB, 1e-11)
				randomA := 3 * normOf / math.Sqrt(in*outs)
				near(t, name+": random", m.Base.A.Random, &randomA, sumError)
			}
		}
	}
	// More than what is read at once, whole.
	w, a, b := dense(rng, 70001, 15), dense(rng, 2, 15), dense(rng, 70001, 2)
	want := projected(t, w, b, a)
	read := int64(0)
	r, err := diff.Adapters(t.Context(), lowRank("m", a, b, 1), lowRank("m", a, b, 1), diff.Options{
		Base: func(*adapter.Adapter, adapter.Entry) (diff.Weight, error) {
			return diff.Weight{Tensor: encoded("w", w, formats.F16)}, nil
		},
		Progress: func(n int64) { read += n },
	})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "large", r.Modules[0].Base.B.Projected, &want, 1e-11)
	if want := int64(2*70001*15 + 2*8*2*(70001+15)); read != want {
		t.Errorf("%d bytes read, want %d", read, want)
	}
}

func lowRank(module string, a, b *mat.Dense, scale float64) *adapter.Adapter {
	return &adapter.Adapter{Path: "adapter", Entries: []adapter.Entry{{
		Module: module, Keys: []string{"a", "b"},
		Update: &adapter.LowRank{A: encoded("a", a, formats.F64), B: encoded("b", b, formats.F64), Scale: scale},
	}}}
}

func TestBaseOddities(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	w, a, b := dense(rng, 7, 5), dense(rng, 2, 5), dense(rng, 7, 2)
	place := diff.Weight{Tensor: encoded("w", w, formats.F32), File: "base"}
	find := func(*adapter.Adapter, adapter.Entry) (diff.Weight, error) { return place, nil }
	// Fresh factors add nothing, in no direction.
	r, err := diff.Adapters(t.Context(), lowRank("m", a, mat.NewDense(7, 2, nil), 1), lowRank("m", a, b, 1), diff.Options{Base: find})
	if err != nil {
		t.Fatal(err)
	}
	if m := r.Modules[0]; m.Base.A != nil || m.Base.B == nil {
		t.Errorf("base of a zero ΔW: %+v", m.Base)
	}
	w.Set(3, 4, math.NaN())
	place.Tensor = encoded("w", w, formats.F32)
	_, err = diff.Adapters(t.Context(), lowRank("m", a, b, 1), lowRank("m", a, b, 1), diff.Options{Base: find})
	if !errors.Is(err, formats.ErrInput) || err.Error() != `reading "base": tensor "w": NaN at row 3, column 4` {
		t.Errorf("of a NaN: %v", err)
	}
}

// TestBaseOfAnySize: squares of a weight's elements need no place in float64; a norm that has
// none is refused.
func TestBaseOfAnySize(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	w, a, b := dense(rng, 17, 11), dense(rng, 3, 11), dense(rng, 17, 3)
	measure := func(w *mat.Dense) (*diff.Base, error) {
		place := diff.Weight{Tensor: encoded("w", w, formats.F64), File: "base"}
		r, err := diff.Adapters(t.Context(), lowRank("m", a, b, 1), lowRank("m", a, b, 2), diff.Options{
			Base: func(*adapter.Adapter, adapter.Entry) (diff.Weight, error) { return place, nil },
		})
		if err != nil {
			return nil, err
		}
		return r.Modules[0].Base, nil
	}
	one, err := measure(w)
	if err != nil {
		t.Fatal(err)
	}
	for _, exp := range []int{-900, -540, 530, 1000} { // powers of two change no digit
		var far mat.Dense
		far.Apply(func(_, _ int, x float64) float64 { return math.Ldexp(x, exp) }, w)
		m, err := measure(&far)
		if err != nil {
			t.Fatal(err)
		}
		want := []float64{math.Ldexp(float64(one.Norm), exp), math.Ldexp(float64(one.A.Projected), exp), math.Ldexp(float64(one.A.Random), exp), math.Ldexp(float64(one.B.Factor), -exp)}
		for i, got := range []diff.Number{m.Norm, m.A.Projected, m.A.Random, m.B.Factor} {
			near(t, "number of W·2^"+strconv.Itoa(exp), got, &want[i], 1e-15)
		}
	}
	w.Scale(8e307/mat.Max(w), w)
	if _, err = measure(w); !errors.Is(err, formats.ErrInput) || err.Error() != `reading "base": tensor "w": its norm is too large for float64` {
		t.Errorf("of a norm that is none: %v", err)
	}
}

package health_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"runtime"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/health"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

func spectra(t *testing.T, opts health.SpectrumOptions, layers ...health.Layer) []health.Spectrum {
	t.Helper()
	got, err := health.Spectra(context.Background(), layers, opts)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Layers of models have the ranks that numpy finds: σ² of the Gram matrix are exact to 1e-14 of
// the largest, so that a σ of 1e-3·σ₁ has 8 digits.
func TestSpectraGolden(t *testing.T) {
	for path, layers := range readGolden(t).Weights {
		c, err := open.Checkpoint(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		m, err := patch.NewModel(c)
		if err != nil {
			t.Fatal(err)
		}
		for module, want := range layers {
			s, ok := m.Site(module)
			if !ok {
				t.Fatalf("no module %s in %s", module, path)
			}
			got := spectra(t, health.SpectrumOptions{}, health.Layer{Module: module, Kind: s.Kind.String(), Tensor: s.Weight})[0]
			near(t, module+": norm", got.Norm, want.Norm, 1e-12*want.Norm)
			near(t, module+": stable rank", got.StableRank, want.StableRank, 1e-11*want.StableRank)
			near(t, module+": effective rank", got.EffectiveRank, want.EffectiveRank, 1e-8*want.EffectiveRank)
			if got.Rank50 != want.Rank50 || got.Rank90 != want.Rank90 || got.Rank99 != want.Rank99 || got.Estimated || got.Module != module {
				t.Errorf("%s: %+v, want %+v", module, got, want)
			}
		}
	}
}

// orthonormal columns, drawn.
func orthonormal(rng *rand.Rand, n, k int) *mat.Dense {
	v := make([]float64, n*k)
	for i := range v {
		v[i] = rng.NormFloat64()
	}
	q, _ := lowrank.QR(mat.NewDense(n, k, v))
	return q
}

// withSpectrum makes a matrix of the given singular values, as F32.
func withSpectrum(rng *rand.Rand, rows, cols int, s []float64) formats.Tensor {
	u, v := orthonormal(rng, rows, len(s)), orthonormal(rng, cols, len(s))
	for i := range rows {
		for j, x := range s {
			u.Set(i, j, u.At(i, j)*x)
		}
	}
	var m mat.Dense
	m.Mul(u, v.T())
	out := make([]float32, 0, rows*cols)
	for _, x := range m.RawMatrix().Data {
		out = append(out, float32(x))
	}
	return formats.FromFloat32s("w", []int64{int64(rows), int64(cols)}, out)
}

func values(n int, f func(i float64) float64) []float64 {
	s := make([]float64, n)
	for i := range s {
		s[i] = f(float64(i))
	}
	return s
}

// spectrumCases are singular values of 240, by how they decay.
var spectrumCases = []struct {
	name string
	s    []float64
}{
	{"fast", values(240, func(i float64) float64 { return math.Pow(0.8, i) })},
	{"slow", values(240, func(i float64) float64 { return math.Pow(i+1, -0.5) })},
	{"power", values(240, func(i float64) float64 { return 3 / (i + 1) })},
	{"middling", values(240, func(i float64) float64 { return math.Pow(0.98, i) })},
	{"linear", values(240, func(i float64) float64 { return 240 - i })},
	{"rank 12", values(12, func(i float64) float64 { return 2 - i/12 })},
	{"rank 110", values(110, func(i float64) float64 { return 2 - i/110 })},
	{"outliers", values(240, func(i float64) float64 {
		if i < 4 {
			return 60 - i
		}
		return 1
	})},
	{"flat", values(240, func(float64) float64 { return 0.02 })},
}

// Singular values that are known are found: all of them, and by an estimate within its error,
// which is a tenth at most where the values do not fall below a thousandth of the largest.
func TestSpectraKnown(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 1))
	for _, c := range spectrumCases {
		for _, shape := range [][2]int{{300, 240}, {240, 300}} {
			w := withSpectrum(rng, shape[0], shape[1], c.s)
			got := spectra(t, health.SpectrumOptions{}, health.Layer{Tensor: w})[0]
			// Rounding the elements to float32 moves each σ by up to about 2⁻²⁴·√n·σ₁.
			tol := 1e-6
			near(t, c.name+": largest", got.Largest, c.s[0], tol*c.s[0])
			near(t, c.name+": stable rank", got.StableRank, lowrank.StableRank(c.s), tol*240)
			near(t, c.name+": effective rank", got.EffectiveRank, lowrank.EffectiveRank(c.s), 1e-3)
			for i, r := range []int{got.Rank50, got.Rank90, got.Rank99} {
				// Where values are equal, rounding decides about one.
				if want := lowrank.RankForEnergy(c.s, []float64{0.5, 0.9, 0.99}[i]); r != want && (c.name != "flat" || r != want-1 && r != want+1) {
					t.Errorf("%s %v: rank %d, want %d", c.name, shape, r, want)
				}
			}

			about := spectra(t, health.SpectrumOptions{Exact: 1}, health.Layer{Tensor: w})[0]
			if !about.Estimated || about.Error == nil {
				t.Fatalf("%s is no estimate: %+v", c.name, about)
			}
			e := about.Error
			near(t, c.name+": estimated norm", about.Norm, got.Norm, 1e-12*got.Norm)
			near(t, c.name+": estimated largest", about.Largest, c.s[0], e.Largest+tol*c.s[0])
			near(t, c.name+": estimated effective rank", about.EffectiveRank, got.EffectiveRank, e.EffectiveRank+0.01)
			near(t, c.name+": estimated rank of 50 %", float64(about.Rank50), float64(got.Rank50), e.Rank50+1)
			near(t, c.name+": estimated rank of 90 %", float64(about.Rank90), float64(got.Rank90), e.Rank90+1)
			near(t, c.name+": estimated rank of 99 %", float64(about.Rank99), float64(got.Rank99), e.Rank99+1)
			if e.EffectiveRank > 0.1*got.EffectiveRank && c.name != "middling" {
				t.Errorf("%s: the error of the effective rank is %g of %g", c.name, e.EffectiveRank, got.EffectiveRank)
			}
		}
	}
}

// The error that is stated holds of what is left of an estimate's outliers too: against all
// singular values of the elements as they are stored, by another method.
func TestSpectraErrors(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	ones := make([]float32, 260*200)
	for i := range ones {
		ones[i] = 1
	}
	layers := []health.Layer{{Module: "ones", Tensor: formats.FromFloat32s("ones", []int64{260, 200}, ones)}}
	for _, c := range []struct {
		name string
		s    []float64
	}{
		{"one", []float64{7}},
		{"three", []float64{3, 2, 1}},
		{"ten", values(10, func(i float64) float64 { return i + 1 })},
		{"two levels", values(200, func(i float64) float64 { return math.Pow(1e-3, math.Floor(i/100)) })},
		{"two levels far apart", values(200, func(i float64) float64 { return math.Pow(1e-6, math.Floor(i/100)) })},
	} {
		layers = append(layers, health.Layer{Module: c.name, Tensor: withSpectrum(rng, 260, 200, c.s)})
	}
	for i, got := range spectra(t, health.SpectrumOptions{Exact: 1}, layers...) {
		narrow, err := layers[i].Tensor.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		var v []float64
		for _, x := range narrow {
			v = append(v, float64(x))
		}
		var svd mat.SVD
		if !svd.Factorize(mat.NewDense(260, 200, v), mat.SVDNone) {
			t.Fatal("no decomposition")
		}
		s := svd.Values(nil)
		near(t, got.Module+": effective rank", got.EffectiveRank, lowrank.EffectiveRank(s), got.Error.EffectiveRank)
		near(t, got.Module+": largest", got.Largest, s[0], got.Error.Largest)
		if got.Error.EffectiveRank > 1e-3*got.EffectiveRank {
			t.Errorf("%s: an error of %g of %g", got.Module, got.Error.EffectiveRank, got.EffectiveRank)
		}
	}
}

// An identity, zeros, a row, nothing.
func TestSpectraDegenerate(t *testing.T) {
	eye := make([]float32, 300*300)
	for i := range 300 {
		eye[i*301] = -2
	}
	for _, exact := range []int{1, 1000} {
		got := spectra(t, health.SpectrumOptions{Exact: exact},
			health.Layer{Tensor: formats.FromFloat32s("eye", []int64{300, 300}, eye)},
			health.Layer{Tensor: formats.FromFloat32s("zero", []int64{300, 200}, make([]float32, 60_000))},
			health.Layer{Tensor: formats.FromFloat32s("row", []int64{1, 3}, []float32{1, -2, 2})},
			health.Layer{Tensor: formats.FromFloat32s("empty", []int64{0, 3}, nil)},
			health.Layer{Tensor: formats.FromFloat32s("conv", []int64{2, 1, 2, 1}, []float32{3, 0, 0, 4})},
		)
		near(t, "the effective rank of an identity", got[0].EffectiveRank, 300, 1e-9)
		near(t, "its stable rank", got[0].StableRank, 300, 1e-9)
		near(t, "its largest", got[0].Largest, 2, 1e-12)
		if r := [3]int{got[0].Rank50, got[0].Rank90, got[0].Rank99}; r != [3]int{150, 270, 297} {
			t.Errorf("its ranks are %v", r)
		}
		for _, s := range []health.Spectrum{got[1], got[3]} {
			if s.Norm != 0 || s.Largest != 0 || s.StableRank != 0 || s.EffectiveRank != 0 || s.Rank99 != 0 || s.Estimated {
				t.Errorf("%s: %+v", s.Tensor, s)
			}
		}
		if s := got[2]; math.Abs(s.Norm-3) > 1e-15 || math.Abs(s.EffectiveRank-1) > 1e-12 || s.Rank50 != 1 || s.Rank99 != 1 {
			t.Errorf("row: %+v", s)
		}
		if s := got[4]; s.Norm != 5 || s.Largest != 4 || s.Rank50 != 1 || s.Rank90 != 2 {
			t.Errorf("conv: %+v", s)
		}
	}
}

// F64 that float32 does not hold, and BF16.
func TestSpectraTypes(t *testing.T) {
	v := []float64{3e200, 0, 0, 4e200, 0, 0}
	raw := make([]byte, 48)
	formats.EncodeFloat64(raw, v)
	wide := formats.Tensor{Name: "wide", DType: formats.F64, Shape: []int64{2, 3}, Data: bytes.NewReader(raw)}
	half := formats.Tensor{Name: "half", DType: formats.BF16, Shape: []int64{2, 1}, Data: bytes.NewReader([]byte{0x40, 0x40, 0x80, 0xc0})}
	got := spectra(t, health.SpectrumOptions{}, health.Layer{Tensor: wide}, health.Layer{Tensor: half})
	near(t, "the norm of large numbers", got[0].Norm, 5e200, 1e194)
	near(t, "their effective rank", got[0].EffectiveRank, 1, 1e-6)
	near(t, "the norm of BF16", got[1].Norm, 5, 1e-15)
}

// The same numbers with any number of workers.
func TestSpectraWorkers(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 2))
	var layers []health.Layer
	for i := range 5 {
		layers = append(layers, health.Layer{Module: string(rune('a' + i)), Tensor: withSpectrum(rng, 260, 200, values(200, func(i float64) float64 { return 1 / (i + 1) }))})
	}
	var want []health.Spectrum
	for _, n := range []int{1, 2, 6} {
		old := runtime.GOMAXPROCS(n)
		got := spectra(t, health.SpectrumOptions{Exact: 1}, layers...)
		runtime.GOMAXPROCS(old)
		if want == nil {
			want = got
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%d workers: %+v, want %+v", n, got, want)
		}
	}
}

// The work that is announced is done.
func TestSpectrumWork(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 3))
	layers := []health.Layer{{Tensor: withSpectrum(rng, 260, 200, values(200, func(i float64) float64 { return 1 / (i + 1) }))}, {Tensor: withSpectrum(rng, 9, 30, []float64{1, 2})}}
	done := make(chan float64, 1000)
	opts := health.SpectrumOptions{Exact: 1, Progress: func(n float64) { done <- n }}
	spectra(t, opts, layers...)
	close(done)
	sum := 0.0
	for n := range done {
		sum += n
	}
	near(t, "work", sum, health.SpectrumWork(layers, opts), 1e-9*sum)
}

func TestSpectraRefused(t *testing.T) {
	nan := make([]float32, 12)
	nan[7] = float32(math.NaN())
	for _, c := range []struct {
		t    formats.Tensor
		want string
	}{
		{formats.FromFloat32s("w", []int64{4, 3}, nan), `reading "p": tensor "w": it has elements that are NaN or infinite, one at row 2, column 1`},
		{formats.FromFloat32s("w", []int64{3, 4}, nan), `reading "p": tensor "w": it has elements that are NaN or infinite, one at row 1, column 3`},
		{formats.Tensor{Name: "w", DType: formats.F8E4M3, Shape: []int64{2, 2}, Data: bytes.NewReader(make([]byte, 4))}, `reading "p": tensor "w": the singular values of F8_E4M3 are not supported (want F64, F32, F16 or BF16)`},
	} {
		_, err := health.Spectra(context.Background(), []health.Layer{{Tensor: c.t}}, health.SpectrumOptions{Path: "p"})
		if e := (*formats.Error)(nil); !errors.As(err, &e) || e.Hint != "--only chooses other layers" {
			t.Errorf("the hint is of %#v", e)
		}
		if !errors.Is(err, formats.ErrInput) || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := health.Spectra(ctx, []health.Layer{{Tensor: formats.FromFloat32s("w", []int64{1, 1}, []float32{1})}}, health.SpectrumOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

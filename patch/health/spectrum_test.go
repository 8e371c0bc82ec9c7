package health

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

// withSpectrum makes a matrix of the given singular values.
func withSpectrum(rng *rand.Rand, rows, cols int, s []float64) *mat.Dense {
	k := len(s)
	u, _ := lowrank.QR(normal(rng, rows, k))
	v, _ := lowrank.QR(normal(rng, cols, k))
	for j, x := range s {
		for i := range rows {
			u.Set(i, j, u.At(i, j)*x)
		}
	}
	var m mat.Dense
	m.Mul(u, v.T())
	return &m
}

func tensorOf(name string, m *mat.Dense) formats.Tensor {
	rows, cols := m.Dims()
	v := make([]float32, rows*cols)
	for i := range rows {
		for j, x := range m.RawRowView(i) {
			v[i*cols+j] = float32(x)
		}
	}
	return formats.FromFloat32s(name, []int64{int64(rows), int64(cols)}, v)
}

func decay(n int, f func(i float64) float64) []float64 {
	s := make([]float64, n)
	for i := range s {
		s[i] = f(float64(i))
	}
	return s
}

func TestTry(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for _, c := range []struct {
		name string
		s    []float64
	}{
		{"0.9^i", decay(1100, func(i float64) float64 { return math.Pow(0.9, i) })},
		{"0.99^i", decay(1100, func(i float64) float64 { return math.Pow(0.99, i) })},
		{"i^-0.5", decay(1100, func(i float64) float64 { return math.Pow(i+1, -0.5) })},
		{"i^-1", decay(1100, func(i float64) float64 { return math.Pow(i+1, -1) })},
		{"rank 30", decay(30, func(i float64) float64 { return 2 - i/30 })},
		{"rank 300", decay(300, func(i float64) float64 { return 2 - i/300 })},
		{"linear", decay(1100, func(i float64) float64 { return 1100 - i })},
		{"outliers", decay(1100, func(i float64) float64 {
			if i < 5 {
				return 100
			}
			return 1
		})},
		{"identity", decay(1100, func(i float64) float64 { return 1 })},
	} {
		m := withSpectrum(rng, 1100, 1300, c.s)
		start := time.Now()
		got, err := Spectra(context.Background(), []Layer{{Tensor: tensorOf("w", m)}}, SpectrumOptions{Exact: 1})
		if err != nil {
			t.Fatal(err)
		}
		g := got[0]
		took := time.Since(start)
		start = time.Now()
		ex, err := Spectra(context.Background(), []Layer{{Tensor: tensorOf("w", m)}}, SpectrumOptions{Exact: 2000})
		e := ex[0]
		t.Logf("%-9s %v exact %v\n eff %.2f ± %.2f want %.2f (%.2f)\n 50: %d ± %.1f want %d (%d)\n 90: %d ± %.1f want %d (%d)\n 99: %d ± %.1f want %d (%d)\n σ1 %.6g ± %.2g want %.6g (%.6g)", c.name, took.Round(time.Millisecond), time.Since(start).Round(time.Millisecond),
			g.EffectiveRank, g.Error.EffectiveRank, lowrank.EffectiveRank(c.s), e.EffectiveRank, g.Rank50, g.Error.Rank50, lowrank.RankForEnergy(c.s, 0.5), e.Rank50,
			g.Rank90, g.Error.Rank90, lowrank.RankForEnergy(c.s, 0.9), e.Rank90, g.Rank99, g.Error.Rank99, lowrank.RankForEnergy(c.s, 0.99), e.Rank99, g.Largest, g.Error.Largest, c.s[0], e.Largest)
	}
}

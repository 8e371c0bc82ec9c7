package kernel

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// exactFMA rounds x·y + z once, by arbitrary precision.
func exactFMA(x, y, z float32) float32 {
	const enough = 1000 // bits: exponents of products span −298 … 256
	p := new(big.Float).SetPrec(enough).Mul(big.NewFloat(float64(x)), big.NewFloat(float64(y)))
	s := new(big.Float).SetPrec(enough).Add(p, big.NewFloat(float64(z)))
	f, _ := s.Float32()
	return f
}

func TestAxpyIsCorrectlyRounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	finite := func() float32 {
		for {
			f := math.Float32frombits(rng.Uint32())
			if !math.IsNaN(float64(f)) && !math.IsInf(float64(f), 0) {
				return f
			}
		}
	}
	slow := 0
	check := func(x, y, z float32) {
		t.Helper()
		acc := []float32{z}
		axpy(acc, x, []float32{y})
		want := exactFMA(x, y, z)
		if acc[0] != want {
			t.Fatalf("fma(%x, %x, %x) = %x, want %x", x, y, z, acc[0], want)
		}
		if p := float64(x)*float64(y) + float64(z); float32(p) != want {
			slow++ // double rounding would have been wrong
		}
	}
	for range 200_000 {
		check(finite(), finite(), finite())
	}
	// Products just beside the middle of two neighbours of z's magnitude.
	for range 200_000 {
		z := float32(1<<23+rng.IntN(1<<23)) * float32(math.Ldexp(1, rng.IntN(60)-30))
		half := math.Ldexp(1, math.Ilogb(float64(z))-24)
		x := float32(half * (1 + math.Ldexp(float64(rng.IntN(3)-1), -23)))
		y := float32(1 + math.Ldexp(float64(rng.IntN(5)-2), -23))
		check(x, y, z)
		check(-x, y, z)
	}
	// Results around the smallest normal number and below.
	for range 200_000 {
		x := math.Float32frombits(rng.Uint32N(1 << 30))
		y := float32(math.Ldexp(1+rng.Float64(), -126-math.Ilogb(float64(x)+1e-300)))
		check(x, y, math.Float32frombits(rng.Uint32N(1<<25)))
	}
	if slow < 100 {
		t.Errorf("only %d of the cases can tell a true fma from double rounding", slow)
	}
}

// TestMerge compares with the formula, written plainly.
func TestMerge(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const rows, cols, r1, r2 = 3, tile + 5, 5, 2
	values := func(n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = float32(rng.NormFloat64())
		}
		return out
	}
	base := values(rows * cols)
	ups := []Update32{
		{Left: values(rows * r1), Right: values(r1 * cols), R: r1, Scale: 0.3},
		{Left: values(rows * r2), Right: values(r2 * cols), R: r2, Scale: -1.7},
	}
	for _, dtype := range []formats.DType{formats.F32, formats.F16, formats.BF16} {
		size := int(dtype.Bits() / 8)
		src := make([]byte, len(base)*size)
		formats.EncodeFloat32(src, base, dtype)
		w := make([]float32, len(base))
		formats.DecodeFloat32(w, src, dtype)
		for row := range rows {
			for col := range cols {
				var sum float32
				for j, u := range ups {
					var acc float32
					for k := range u.R {
						acc = exactFMA(u.Left[row*u.R+k], u.Right[k*cols+col], acc)
					}
					if d := float32(acc * u.Scale); j == 0 {
						sum = d
					} else {
						sum += d
					}
				}
				w[row*cols+col] += sum
			}
		}
		want := make([]byte, len(src))
		formats.EncodeFloat32(want, w, dtype)
		got := make([]byte, len(src))
		if bad := Merge32(got, src, dtype, cols, ups); bad >= 0 {
			t.Fatalf("%s: element %d is not finite", dtype, bad)
		}
		if string(got) != string(want) {
			t.Errorf("%s: merged bytes differ from the formula", dtype)
		}
	}
}

func TestMergeReportsNotFinite(t *testing.T) {
	one := []Update32{{Left: []float32{1, 1}, Right: []float32{1, 60000, 1}, R: 1, Scale: 1}}
	src := make([]byte, 12)
	formats.EncodeFloat32(src, []float32{0, 0, 0, 0, 60000, 0}, formats.F16)
	if got := Merge32(make([]byte, 12), src, formats.F16, 3, one); got != 4 {
		t.Errorf("overflow of F16: got element %d, want 4", got)
	}
	one[0].Right[2] = float32(math.NaN())
	src = make([]byte, 24)
	if got := Merge32(make([]byte, 24), src, formats.F32, 3, one); got != 2 {
		t.Errorf("NaN in a factor: got element %d, want 2", got)
	}
	if got := Merge64(make([]byte, 16), make([]byte, 16), 2, []Update64{{Left: []float64{1}, Right: []float64{0, math.Inf(1)}, R: 1, Scale: 1}}); got != 1 {
		t.Errorf("infinity in float64: got element %d, want 1", got)
	}
}

func TestMerge64(t *testing.T) {
	src := make([]byte, 16)
	formats.EncodeFloat64(src, []float64{1, 2})
	got := make([]byte, 16)
	Merge64(got, src, 2, []Update64{{Left: []float64{0.1, 0.2}, Right: []float64{3, 5, 7, 11}, R: 2, Scale: 0.7}})
	want := make([]float64, 2)
	for i, w := range []float64{1, 2} {
		acc := math.FMA(0.2, []float64{7, 11}[i], math.FMA(0.1, []float64{3, 5}[i], 0))
		want[i] = w + float64(acc*0.7)
	}
	have := make([]float64, 2)
	formats.DecodeFloat64(have, got, formats.F64)
	if have[0] != want[0] || have[1] != want[1] {
		t.Errorf("got %v, want %v", have, want)
	}
}

func BenchmarkMerge32(b *testing.B) {
	const rows, cols, r = 64, 4096, 16
	u := Update32{Left: make([]float32, rows*r), Right: make([]float32, r*cols), R: r, Scale: 2}
	for i := range u.Left {
		u.Left[i] = float32(i%7) - 3.3
	}
	for i := range u.Right {
		u.Right[i] = float32(i%11)*0.01 - 0.04
	}
	src := make([]byte, rows*cols*2)
	dst := make([]byte, len(src))
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		Merge32(dst, src, formats.BF16, cols, []Update32{u})
	}
}

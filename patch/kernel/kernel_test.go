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
	const rows, cols, r1, r2 = 7, maxTile + 37, 5, 2
	values := func(n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = float32(rng.NormFloat64())
		}
		return out
	}
	base := values(rows * cols)
	ups := []Update[float32]{
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
		withEngines(t, func(t *testing.T) {
			got := make([]byte, len(src))
			if bad := Merge(got, Block{src, dtype, cols}, ups, false); bad >= 0 {
				t.Fatalf("%s: element %d is not finite", dtype, bad)
			}
			if string(got) != string(want) {
				t.Errorf("%s: merged bytes differ from the formula", dtype)
			}
		})
	}
}

// withEngines runs a test with every engine that this processor has.
func withEngines(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	defer func(e engine) { active = e }(active)
	for _, e := range engines() {
		active = e
		t.Run(e.name, f)
	}
}

func TestMergeReportsNotFinite(t *testing.T) { withEngines(t, testNotFinite) }

func testNotFinite(t *testing.T) {
	one := []Update[float32]{{Left: []float32{1, 1}, Right: []float32{1, 60000, 1}, R: 1, Scale: 1}}
	src := make([]byte, 12)
	formats.EncodeFloat32(src, []float32{0, 0, 0, 0, 60000, 0}, formats.F16)
	if got := Merge(make([]byte, 12), Block{src, formats.F16, 3}, one, false); got != 4 {
		t.Errorf("overflow of F16: got element %d, want 4", got)
	}
	one[0].Right[2] = float32(math.NaN())
	src = make([]byte, 24)
	if got := Merge(make([]byte, 24), Block{src, formats.F32, 3}, one, false); got != 2 {
		t.Errorf("NaN in a factor: got element %d, want 2", got)
	}
	if got := Merge(make([]byte, 16), Block{make([]byte, 16), formats.F64, 2}, []Update[float64]{{Left: []float64{1}, Right: []float64{0, math.Inf(1)}, R: 1, Scale: 1}}, false); got != 1 {
		t.Errorf("infinity in float64: got element %d, want 1", got)
	}
}

// TestEnginesAgree compares every engine with the Go one on sizes around its steps, with
// signed zeros, tiny and huge numbers, and checks that nothing beyond a slice is
// written.
func TestEnginesAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	odd := []float64{0, math.Copysign(0, -1), 1e-45, -1e-39, 1e-30, 3e4, -2e9, 1, -1, 0.1}
	draw := func() float64 {
		if rng.IntN(4) == 0 {
			return odd[rng.IntN(len(odd))]
		}
		return rng.NormFloat64()
	}
	const guard = 64
	for _, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			defer func(e engine) { active = e }(active)
			for _, rows := range []int{1, 2, 3, 4, 5, 6, 9} {
				for _, cols := range []int{1, 7, 8, 15, 16, 31, 33, 64, 127, 130, 1024, 1056, 2077} {
					for _, r := range []int{1, 2, 5, 64, 300} {
						if rows*cols*r > 250_000 {
							continue
						}
						u32 := []Update[float32]{{make([]float32, rows*r), make([]float32, r*cols), r, float32(draw())}, {make([]float32, rows), make([]float32, cols), 1, -0.5}}
						u64 := []Update[float64]{{make([]float64, rows*r), make([]float64, r*cols), r, draw()}, {make([]float64, rows), make([]float64, cols), 1, -0.5}}
						for j := range u32 {
							for i := range u32[j].Left {
								u64[j].Left[i] = draw()
								u32[j].Left[i] = float32(u64[j].Left[i])
							}
							for i := range u32[j].Right {
								u64[j].Right[i] = draw() * 1e-3
								u32[j].Right[i] = float32(u64[j].Right[i])
							}
						}
						for _, dtype := range []formats.DType{formats.BF16, formats.F16, formats.F32, formats.F64} {
							size := int(dtype.Bits() / 8)
							src := make([]byte, rows*cols*size)
							base := make([]float32, rows*cols)
							for i := range base {
								base[i] = float32(rng.NormFloat64())
							}
							formats.EncodeFloat32(src, base, dtype)
							merge := func(e engine) ([]byte, int) {
								active = e
								out := make([]byte, len(src)+guard)
								for i := range guard {
									out[len(src)+i] = 0xa5
								}
								dst := out[:len(src):len(src)]
								copy(dst, src)
								var bad int
								if dtype == formats.F64 {
									bad = Merge(dst, Block{dst, dtype, cols}, u64, false)
								} else {
									bad = Merge(dst, Block{dst, dtype, cols}, u32, false)
								}
								for _, x := range out[len(src):] {
									if x != 0xa5 {
										t.Fatalf("%s %d×%d rank %d: wrote beyond the end", dtype, rows, cols, r)
									}
								}
								return dst, bad
							}
							want, wantBad := merge(reference)
							got, gotBad := merge(e)
							if gotBad != wantBad {
								t.Fatalf("%s %d×%d rank %d: first element not finite: got %d, want %d", dtype, rows, cols, r, gotBad, wantBad)
							}
							if wantBad < 0 && string(got) != string(want) {
								t.Fatalf("%s %d×%d rank %d: bytes differ from Go's", dtype, rows, cols, r)
							}
						}
					}
				}
			}
		})
	}
}

func TestMerge64(t *testing.T) {
	src := make([]byte, 16)
	formats.EncodeFloat64(src, []float64{1, 2})
	got := make([]byte, 16)
	Merge(got, Block{src, formats.F64, 2}, []Update[float64]{{Left: []float64{0.1, 0.2}, Right: []float64{3, 5, 7, 11}, R: 2, Scale: 0.7}}, false)
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

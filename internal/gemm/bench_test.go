package gemm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"

	"github.com/seed-b982eded/graft/formats"
)

// trainer are the products of a trainer and of a decomposition. Package netlib compares
// them, and more, with OpenBLAS.
var trainer = []struct {
	name    string
	tA, tB  blas.Transpose
	m, n, k int
}{
	{"linear", blas.NoTrans, blas.Trans, 1024, 768, 768},
	{"up", blas.NoTrans, blas.Trans, 1024, 3072, 768},
	{"down", blas.NoTrans, blas.Trans, 1024, 768, 3072},
	{"down-backward", blas.NoTrans, blas.NoTrans, 1024, 3072, 768},
	{"head", blas.NoTrans, blas.Trans, 1024, 50257, 768},
	{"rank8-in", blas.NoTrans, blas.Trans, 1024, 8, 768},
	{"rank8-out", blas.NoTrans, blas.Trans, 1024, 768, 8},
	{"rank8-gradient", blas.Trans, blas.NoTrans, 8, 768, 1024},
	{"rank64-in", blas.NoTrans, blas.Trans, 1024, 64, 768},
	{"rank64-gradient", blas.Trans, blas.NoTrans, 768, 64, 1024},
	{"sketch", blas.NoTrans, blas.NoTrans, 4096, 80, 4096},
}

// BenchmarkProduct reports GFLOP/s, and with AVX2 what one processor does at best:
//
//	peak-GFLOP/s   of fmas on vectors of 256 bits that stay in registers
func BenchmarkProduct(b *testing.B) {
	b.Run("float32", func(b *testing.B) { benchmarkProduct(b, &float32s) })
	b.Run("float64", func(b *testing.B) { benchmarkProduct(b, &float64s) })
}

func benchmarkProduct[T number](b *testing.B, mach *machine[T]) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, p := range trainer {
		b.Run(p.name, func(b *testing.B) {
			c := testCase{tA: p.tA, tB: p.tB, m: p.m, n: p.n, k: p.k}
			aRows, aCols, bRows, bCols := c.operands(rng)
			x, y, out := newMatrix[T](rng, aRows, aCols, 0), newMatrix[T](rng, bRows, bCols, 0), newMatrix[T](rng, c.m, c.n, 0)
			best, peak := math.Inf(1), 0.0
			for b.Loop() {
				best = min(best, seconds(func() {
					gemm(mach, p.tA, p.tB, p.m, p.n, p.k, 1, x.data, x.ld, y.data, y.ld, 0, out.data, out.ld)
				}))
				peak = max(peak, peakFLOPS[T]())
			}
			b.ReportMetric(2*float64(p.m)*float64(p.n)*float64(p.k)/best/1e9, "GFLOP/s")
			b.ReportMetric(peak/1e9, "peak-GFLOP/s")
		})
	}
}

// BenchmarkMulEncoded multiplies tokens with a weight of 3072×768, forward and backward.
func BenchmarkMulEncoded(b *testing.B) {
	for _, dtype := range encodedTypes {
		for _, tokens := range []int{1, 1024} {
			for _, tB := range transposes[:2] {
				b.Run(fmt.Sprintf("%s/%c/%d", dtype, tB, tokens), func(b *testing.B) {
					benchmarkMulEncoded(b, dtype, tB, tokens)
				})
			}
		}
	}
}

func benchmarkMulEncoded(b *testing.B, dtype formats.DType, tB blas.Transpose, tokens int) {
	w := Encoded{Rows: 3072, Cols: 768, Stride: 768, DType: dtype, Data: make([]byte, 3072*768*dtype.Bits()/8)}
	k, n := turned(w.Rows, w.Cols, tB == blas.Trans)
	x := blas32.General{Rows: tokens, Cols: k, Stride: k, Data: make([]float32, tokens*k)}
	y := blas32.General{Rows: tokens, Cols: n, Stride: n, Data: make([]float32, tokens*n)}
	best := math.Inf(1)
	for b.Loop() {
		best = min(best, seconds(func() { MulEncoded(blas.NoTrans, tB, 1, x, w, 0, y) }))
	}
	b.ReportMetric(2*float64(tokens)*float64(k)*float64(n)/best/1e9, "GFLOP/s")
}

func seconds(f func()) float64 {
	began := time.Now()
	f()
	return time.Since(began).Seconds()
}

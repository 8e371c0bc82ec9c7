package gemm

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/blas/blas64"
	blasgonum "gonum.org/v1/gonum/blas/gonum"
	"gonum.org/v1/gonum/lapack/gonum"
	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/lapack/testlapack"
)

// TestQR runs Gonum's own tests of what LAPACK replaces, on its products.
func TestQR(t *testing.T) {
	defer blas64.Use(blas64.Implementation())
	blas64.Use(Implementation{})
	testlapack.DgeqrfTest(t, LAPACK{})
	testlapack.DorgqrTest(t, LAPACK{})
}

// BenchmarkQR factorises a sketch and makes its Q, with Gonum's code and with this package's.
func BenchmarkQR(b *testing.B) {
	defer func() {
		blas64.Use(blasgonum.Implementation{})
		lapack64.Use(gonum.Implementation{})
	}()
	for _, s := range [][2]int{{4096, 80}, {8192, 64}} {
		rng := rand.New(rand.NewPCG(1, 2))
		a := newMatrix[float64](rng, s[0], s[1], 0).data
		f := blas64.General{Rows: s[0], Cols: s[1], Stride: s[1], Data: make([]float64, len(a))}
		tau, work := make([]float64, s[1]), make([]float64, 32*s[1])
		run := func(name string) {
			b.Run(fmt.Sprintf("%dx%d/%s", s[0], s[1], name), func(b *testing.B) {
				for b.Loop() {
					copy(f.Data, a)
					lapack64.Geqrf(f, tau, work, len(work))
					lapack64.Orgqr(f, tau, work, len(work))
				}
			})
		}
		blas64.Use(blasgonum.Implementation{})
		lapack64.Use(gonum.Implementation{})
		run("gonum")
		blas64.Use(Implementation{})
		lapack64.Use(LAPACK{})
		run("gemm")
	}
}

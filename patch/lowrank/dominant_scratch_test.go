package lowrank

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/internal/gemm"
)

type counted struct {
	dense
	n int
}

func (c *counted) Mul(ctx context.Context, dst, x *mat.Dense) error {
	c.n++
	return c.dense.Mul(ctx, dst, x)
}

func TestScratch(t *testing.T) {
	blas64.Use(gemm.Implementation{})
	lapack64.Use(gemm.LAPACK{})
	rng := rand.New(rand.NewPCG(1, 2))
	for _, sh := range [][3]int{{700, 500, 8}, {1000, 2000, 16}, {2048, 2048, 16}, {2048, 2048, 64}} {
		m := mat.NewDense(sh[0], sh[1], nil)
		for i := range m.RawMatrix().Data {
			m.RawMatrix().Data[i] = rng.NormFloat64() * 0.02
		}
		c := &counted{dense: dense{m}}
		began := time.Now()
		d, err := Dominant(context.Background(), c, sh[2])
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		worst := 0.0
		var z, y mat.Dense
		z.Mul(m.T(), d.U)
		y.Mul(m, d.V)
		for j, s := range d.S {
			sum, sum2 := 0.0, 0.0
			for i := range sh[1] {
				e := z.At(i, j) - s*d.V.At(i, j)
				sum += e * e
			}
			for i := range sh[0] {
				e := y.At(i, j) - s*d.U.At(i, j)
				sum2 += e * e
			}
			worst = max(worst, math.Sqrt(max(sum, sum2))/d.S[0])
		}
		fmt.Println(sh, took, c.n, worst)
		began = time.Now()
		r, _ := Leading(m, sh[2])
		fmt.Println("   range", time.Since(began), r.S[0]/d.S[0]-1, r.S[sh[2]-1]/d.S[sh[2]-1]-1)
		if sh[0] <= 1000 {
			began = time.Now()
			r, _ := Exact(m, sh[2])
			fmt.Println("   exact", time.Since(began), r.S[0]/d.S[0]-1, r.S[sh[2]-1]/d.S[sh[2]-1]-1)
		}
	}
}

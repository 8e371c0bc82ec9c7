package lowrank_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/patch/lowrank"
)

func random(rng *rand.Rand, rows, cols int) *mat.Dense {
	v := make([]float64, rows*cols)
	for i := range v {
		v[i] = rng.NormFloat64()
	}
	return mat.NewDense(rows, cols, v)
}

func BenchmarkDecompose(b *testing.B) {
	for _, s := range [][3]int{{4096, 4096, 64}, {14336, 4096, 64}, {4096, 4096, 128}} {
		b.Run(fmt.Sprintf("%dx%d-r%d", s[0], s[1], s[2]), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 2))
			p := &lowrank.Product{B: random(rng, s[0], s[2]), A: random(rng, s[2], s[1]), S: 0.5}
			for b.Loop() {
				if _, err := lowrank.Decompose(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkQR(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	a := random(rng, 8192, 64)
	for b.Loop() {
		lowrank.QR(a)
	}
}

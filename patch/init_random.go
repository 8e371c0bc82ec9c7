package patch

import (
	"context"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

// freshFactors are the factors of a layer, row by row, zero at first.
type freshFactors struct {
	site       Site
	r, in, out int
	scale      float64
	rng        *rand.Rand
	a          []float32 // r × in
	b          []float32 // out × r
}

func newFactors(s Site, r int, scale float64, rng *rand.Rand) *freshFactors {
	in, out := s.InOutSize()
	return &freshFactors{s, r, int(in), int(out), scale, rng, make([]float32, r*int(in)), make([]float32, int(out)*r)}
}

func (f *freshFactors) uniform(v []float32, fanIn int) {
	bound := 1 / math.Sqrt(float64(fanIn))
	for i := range v {
		v[i] = float32((2*f.rng.Float64() - 1) * bound)
	}
}

func (f *freshFactors) normal(v []float32, deviation float64) {
	for i := range v {
		v[i] = float32(f.rng.NormFloat64() * deviation)
	}
}

func (f *freshFactors) kaiming(context.Context) error {
	f.uniform(f.a, f.in)
	return nil
}

func (f *freshFactors) bothRandom(context.Context) error {
	f.uniform(f.a, f.in)
	f.uniform(f.b, f.r)
	return nil
}

func (f *freshFactors) gaussian(context.Context) error {
	f.normal(f.a, 1/float64(f.r))
	return nil
}

// orthogonal makes factors of random directions in two halves of the space of the r ranks that are at right
// angles to each other, so that B·A = 0 though neither is: with a random orthogonal r×r matrix Q of the rows Q₁
// and Q₂ by turns, A = (G·Q₁)ᵀ/10 and B = H·Q₂/10 for normal G and H
// (https://datta0.github.io/posts/rethink-lora-init, as PEFT has it).
func (f *freshFactors) orthogonal(context.Context) error {
	if f.r%2 != 0 {
		return formats.Usagef("init_lora_weights %q needs an even rank (got %d)", InitOrthogonal, f.r)
	}
	draw := func(rows, cols int) *mat.Dense {
		m := mat.NewDense(rows, cols, nil)
		for i := range m.RawMatrix().Data {
			m.RawMatrix().Data[i] = f.rng.NormFloat64()
		}
		return m
	}
	q, _ := lowrank.QR(draw(f.r, f.r))
	half := f.r / 2
	var turns [2]*mat.Dense
	for t := range turns {
		turns[t] = mat.NewDense(half, f.r, nil)
		for i := range half {
			turns[t].SetRow(i, q.RawRowView(2*i+t))
		}
	}
	var a, b mat.Dense
	a.Mul(draw(f.in, half), turns[0])
	a.Scale(0.1, &a)
	b.Mul(draw(f.out, half), turns[1])
	b.Scale(0.1, &b)
	store(f.a, a.T())
	store(f.b, &b)
	return nil
}

// embedding fills the factors of an embedding: PEFT has one start for them all, and leaves both random
// where no initialisation is asked for.
func (f *freshFactors) embedding(initWeights string) {
	f.normal(f.b, 1)
	if initWeights == InitRandom {
		f.normal(f.a, 1)
	}
}

// store rounds a matrix to float32, row by row.
func store(dst []float32, m mat.Matrix) {
	rows, cols := m.Dims()
	for i := range rows {
		for j := range cols {
			dst[i*cols+j] = float32(m.At(i, j))
		}
	}
}

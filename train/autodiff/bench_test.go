package autodiff

import (
	"math"
	"math/rand/v2"
	"testing"
)

func benchMatrix(rows, cols int) *Value {
	rng := rand.New(rand.NewPCG(1, 1))
	v := Frozen(rows, cols, NewBuffer(rows*cols))
	for i := range v.Data {
		v.Data[i] = float32(rng.NormFloat64())
	}
	return v
}

// The three forms of a product that a linear layer of 352 → 128 needs for 512 tokens;
// GFLOP/s counts a multiplication and an addition as two.
func BenchmarkProduct(b *testing.B) {
	const tokens, in, out = 512, 352, 128
	x, w, y := benchMatrix(tokens, in), benchMatrix(out, in), benchMatrix(tokens, out)
	run := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f()
			}
			b.ReportMetric(2*tokens*in*out/float64(b.Elapsed().Nanoseconds())*float64(b.N), "GFLOP/s")
		})
	}
	run("forward", func() { product(asIs, flipped, 1, x.general(), w.general(), 1, y.general()) })
	run("input-gradient", func() { product(asIs, asIs, 1, y.general(), w.general(), 1, x.general()) })
	run("weight-gradient", func() { product(flipped, asIs, 1, y.general(), x.general(), 1, w.general()) })
}

func BenchmarkExps(b *testing.B) {
	x := benchMatrix(1, 4096).Data
	out := make([]float32, len(x))
	b.Run("exps", func(b *testing.B) {
		for b.Loop() {
			exps(out, x, 1, 0)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(x)), "ns/element")
	})
	b.Run("math.Exp", func(b *testing.B) {
		for b.Loop() {
			for i, v := range x {
				out[i] = float32(math.Exp(float64(v)))
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(x)), "ns/element")
	})
}

// 4 sequences of 128 with 4 heads of 32 on 2, forward and backward.
func BenchmarkAttention(b *testing.B) {
	seqs := []Seq{{128, 128}, {128, 128}, {128, 128}, {128, 128}}
	leaf := func(cols int) *Value {
		v := benchMatrix(512, cols)
		return Trainable(512, cols, v.Data, NewBuffer(512*cols))
	}
	q, k, v, g := leaf(128), leaf(64), leaf(64), leaf(128)
	var tape Tape
	b.ReportAllocs()
	for b.Loop() {
		tape.Reset()
		y := tape.Attention(q, k, v, Heads{Query: 4, KeyValue: 2, Dim: 32}, seqs)
		tape.AddGrad(y, g.Data)
		tape.Backward()
	}
}

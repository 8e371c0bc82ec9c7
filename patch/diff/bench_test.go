package diff

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/internal/gemm"
)

// BenchmarkTensors compares tensors of which most elements differ.
func BenchmarkTensors(b *testing.B) {
	const n = 8 << 20
	for _, d := range []formats.DType{formats.BF16, formats.F16, formats.F32, formats.F64} {
		b.Run(d.String(), func(b *testing.B) {
			size := int(d.Bits() / 8)
			rng := rand.New(rand.NewPCG(1, 2))
			x, y := make([]float32, n), make([]float32, n)
			for i := range x {
				x[i] = rng.Float32()
				y[i] = x[i] + 1e-3*rng.Float32()
			}
			var t [2]formats.Tensor
			for i, v := range [][]float32{x, y} {
				raw := make([]byte, n*size)
				if d == formats.F64 {
					wide := make([]float64, n)
					for j := range v {
						wide[j] = float64(v[j])
					}
					formats.EncodeFloat64(raw, wide)
				} else {
					formats.EncodeFloat32(raw, v, d)
				}
				t[i] = formats.Tensor{Name: "t", DType: d, Shape: []int64{n}, Data: bytes.NewReader(raw)}
			}
			b.SetBytes(int64(2 * n * size))
			for b.Loop() {
				if err := comparePairs(b.Context(), []*pair{newPair(t[0], t[1], "a", "b")}, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds()/1e6, "Melem/s")
		})
	}
}

// BenchmarkAdapters compares a module of 4096×4096 at rank 64.
func BenchmarkAdapters(b *testing.B) {
	defer blas64.Use(blas64.Implementation())
	blas64.Use(gemm.Implementation{}) // as the command does
	const n, r = 4096, 64
	rng := rand.New(rand.NewPCG(1, 2))
	factor := func(shape ...int64) formats.Tensor {
		x := make([]float32, n*r)
		for i := range x {
			x[i] = rng.Float32() - 0.5
		}
		return formats.FromFloat32s("f", shape, x)
	}
	var u [2]adapter.Update
	for i := range u {
		u[i] = &adapter.LowRank{A: factor(r, n), B: factor(n, r), Scale: 2}
	}
	for b.Loop() {
		if _, err := compareUpdates("m", u[0], u[1], "a", "b", weights{}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBase measures two updates of rank 64 in a weight of 4096×4096.
func BenchmarkBase(b *testing.B) {
	defer blas64.Use(blas64.Implementation())
	blas64.Use(gemm.Implementation{}) // as the command does
	const n, r = 4096, 64
	rng := rand.New(rand.NewPCG(1, 2))
	raw := make([]byte, 2*n*n)
	for i := range raw {
		raw[i] = byte(rng.Uint32()) & 0x3f // all exponents are small
	}
	w := Weight{Tensor: formats.Tensor{Name: "w", DType: formats.BF16, Shape: []int64{n, n}, Data: bytes.NewReader(raw)}}
	var list []*directions
	for range 2 {
		v := mat.NewDense(n, r, nil)
		for i := range v.RawMatrix().Data {
			v.RawMatrix().Data[i] = rng.NormFloat64()
		}
		list = append(list, &directions{u: v, v: v, core: mat.NewDense(r, r, nil)})
	}
	for b.Loop() {
		if _, err := w.project(list, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*2*n*n*2*r/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

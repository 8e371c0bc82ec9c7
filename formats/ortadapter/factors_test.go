package ortadapter

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// checkSameDelta compares the factors of two updates of which the second has scale 1: A
// is the same, and each element of B is the first's times the scale, to within half a unit in
// the last place, and so exactly the same where that is a number of the type.
func checkSameDelta(t testing.TB, module string, want, got *adapter.LowRank) {
	t.Helper()
	if got.Scale != 1 || got.A.DType != want.A.DType || got.B.DType != want.B.DType || !slices.Equal(got.B.Shape, want.B.Shape) {
		t.Errorf("%s: got %+v, want %+v", module, got, want)
		return
	}
	if !bytes.Equal(bytesOf(t, got.A), bytesOf(t, want.A)) {
		t.Errorf("%s: A differs", module)
	}
	d := want.B.DType
	b, scaled := bytesOf(t, want.B), bytesOf(t, got.B)
	for i := range want.B.Elements() {
		x, y := decode(b, i, d), decode(scaled, i, d)
		if near := nearest(x, want.Scale, d); y != near {
			t.Errorf("%s: element %d of B: %g·%g became %g, want %g", module, i, x, want.Scale, y, near)
			return
		}
	}
}

func decode(data []byte, i int64, d formats.DType) float64 {
	var x [1]float64
	formats.DecodeFloat64(x[:], data[i*d.Bits()/8:], d)
	return x[0]
}

// nearest returns the number of a type that is nearest to a·b, by arithmetic of as many
// bits as it takes.
func nearest(a, b float64, d formats.DType) float64 {
	if a == 0 || b == 0 || math.IsInf(a, 0) {
		return a * b
	}
	precision := map[formats.DType]uint{formats.F64: 53, formats.F32: 24, formats.F16: 11, formats.BF16: 8}[d]
	least := map[formats.DType]int{formats.F64: -1074, formats.F32: -149, formats.F16: -24, formats.BF16: -133}[d]
	exact := new(big.Float).SetPrec(200).Mul(big.NewFloat(a), big.NewFloat(b))
	// Below the normal numbers the last place is a fixed one, that of a sum with this.
	if exact.MantExp(nil)-int(precision) < least {
		large := new(big.Float).SetMantExp(big.NewFloat(1), least+99)
		sum := new(big.Float).SetPrec(100).Add(large, new(big.Float).Abs(exact))
		y, _ := sum.Sub(sum, large).Float64()
		return math.Copysign(y, a*b)
	}
	y, _ := new(big.Float).SetPrec(precision).SetMode(big.ToNearestEven).Set(exact).Float64()
	return y
}

// TestScaledIsRoundedOnce tries numbers and scales of all magnitudes.
func TestScaledIsRoundedOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	scales := []float64{1.0 / 3, -7.0 / 3, math.Sqrt(5), 2, -0.125, 16 / math.Sqrt(3), 1e-3, 1 + 0x1p-52, 1 - 0x1p-30, 0}
	for range 20 {
		scales = append(scales, math.Ldexp(1+rng.Float64(), rng.IntN(8)-4))
	}
	for _, d := range []formats.DType{formats.F64, formats.F32, formats.F16, formats.BF16} {
		size := d.Bits() / 8
		for _, scale := range scales {
			data := make([]byte, 1000*size)
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
			src := inMemory("b", d, data, 1000)
			for i := range src.Elements() { // what becomes too large has a test of its own
				if x := decode(data, i, d); math.IsNaN(x) || math.IsInf(x, 0) || math.Abs(x) > 500 || d == formats.F64 && math.Abs(x) < 1e-280 {
					clear(data[i*size:][:size])
				}
			}
			out := bytesOf(t, adapter.Scaled(src, scale, d))
			for i := range src.Elements() {
				x, y := decode(data, i, d), decode(out, i, d)
				if want := nearest(x, scale, d); y != want {
					t.Fatalf("%s: %g·%g became %g, want %g", d, x, scale, y, want)
				}
			}
		}
	}
}

func TestScaledTooLarge(t *testing.T) {
	for _, d := range []formats.DType{formats.F64, formats.F32, formats.F16, formats.BF16} {
		data := make([]byte, 400*d.Bits()/8)
		largest := map[formats.DType]float64{formats.F64: math.MaxFloat64, formats.F32: math.MaxFloat32, formats.F16: 65504, formats.BF16: 0x1.fep127}[d]
		at := data[300*d.Bits()/8:]
		if d == formats.F64 {
			formats.EncodeFloat64(at, []float64{-largest})
		} else {
			formats.EncodeFloat32(at, []float32{float32(-largest)}, d)
		}
		src := inMemory("b", d, data, 400)
		src = adapter.Scaled(src, 1.25, d)
		_, err := src.ReadAll()
		checkError(t, err, formats.ErrUnfit, `tensor "b"`, "element 300 is too large for "+d.String())
		// What was not finite stays what it was.
		if d == formats.F32 {
			formats.EncodeFloat32(at, []float32{float32(math.Inf(-1)), float32(math.NaN())}, d)
			out := bytesOf(t, src)
			if x, y := decode(out, 300, d), decode(out, 301, d); !math.IsInf(x, -1) || !math.IsNaN(y) {
				t.Errorf("got %g and %g", x, y)
			}
		}
	}
}

// TestTransposed reads matrices the other way round, whole and in pieces of every kind.
func TestTransposed(t *testing.T) {
	for _, c := range []struct {
		d          formats.DType
		rows, cols int64
	}{
		{formats.F32, 3, 5}, {formats.F16, 7, 1}, {formats.F64, 1, 9}, {formats.BF16, 70, 33}, {formats.F32, 5, 3000}, {formats.F32, 3000, 5},
		{formats.F64, 3, 40_000}, {formats.F16, 2, 300_000}, {formats.F16, 300_000, 2}, {formats.U8, 257, 259},
	} {
		t.Run(fmt.Sprintf("%s-%dx%d", c.d, c.rows, c.cols), func(t *testing.T) {
			src := inMemory("x", c.d, pattern(c.rows*c.cols*c.d.Bits()/8), c.rows, c.cols)
			want := turn(bytesOf(t, src), src)
			got := adapter.Transposed(src)
			if !slices.Equal(got.Shape, []int64{c.cols, c.rows}) || !bytes.Equal(bytesOf(t, got), want) {
				t.Fatalf("got shape %v, or other data", got.Shape)
			}
			if again := adapter.Transposed(got); again.Data != src.Data || !slices.Equal(again.Shape, src.Shape) {
				t.Errorf("twice is not the same: %v", again.Shape)
			}
			rng := rand.New(rand.NewPCG(3, 4))
			for range 100 {
				off := rng.Int64N(int64(len(want)))
				n := rng.Int64N(min(int64(len(want)), 40_000) + 1)
				p := make([]byte, n)
				read, err := got.Data.ReadAt(p, off)
				if left := int64(len(want)) - off; n > left {
					if err != io.EOF || int64(read) != left {
						t.Fatalf("%d bytes at %d: got %d, %v", n, off, read, err)
					}
				} else if err != nil || int64(read) != n {
					t.Fatalf("%d bytes at %d: got %d, %v", n, off, read, err)
				}
				if !bytes.Equal(p[:read], want[off:][:read]) {
					t.Fatalf("%d bytes at %d differ", n, off)
				}
			}
			if n, err := got.Data.ReadAt(make([]byte, 1), int64(len(want))); n != 0 || err != io.EOF {
				t.Errorf("at the end: got %d, %v", n, err)
			}
			if n, err := got.Data.ReadAt(make([]byte, 1), -1); n != 0 || err == nil {
				t.Errorf("before the beginning: got %d, %v", n, err)
			}
		})
	}
}

func TestTransposedErrors(t *testing.T) {
	bad := fmt.Errorf("bad")
	for _, c := range []struct{ rows, cols int64 }{{30, 50}, {3, 50_000}} {
		src := inMemory("x", formats.F32, pattern(c.rows*c.cols*4), c.rows, c.cols)
		src.Data = &failing{src.Data, c.rows*c.cols*4 - 1, bad}
		if _, err := adapter.Transposed(src).ReadAll(); err != bad {
			t.Errorf("got %v", err)
		}
		scaledToo := adapter.Transposed(src)
		scaledToo = adapter.Scaled(scaledToo, 0.5, formats.F32)
		if _, err := scaledToo.ReadAll(); err != bad {
			t.Errorf("got %v", err)
		}
	}
}

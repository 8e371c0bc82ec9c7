package gemm

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"

	"github.com/seed-b982eded/graft/formats"
)

var encodedTypes = []formats.DType{formats.F32, formats.F16, formats.BF16, formats.F8E4M3, formats.F8E5M2}

// TestMulEncoded compares with the product of the widened weight, bit for bit.
func TestMulEncoded(t *testing.T) {
	defer func(e *engine[float32]) { float32s.engine = e }(float32s.engine)
	for _, e := range engines32() {
		float32s.engine = e
		for _, dtype := range encodedTypes {
			t.Run(e.name+"/"+dtype.String(), func(t *testing.T) { testMulEncoded(t, dtype) })
		}
	}
}

func testMulEncoded(t *testing.T, dtype formats.DType) {
	rng := rand.New(rand.NewPCG(5, 6))
	size := int(dtype.Bits() / 8)
	for _, s := range [][3]int{{1, 1, 1}, {1, 37, 300}, {5, 8, 9}, {7, 3, 40}, {50, 33, 17}, {110, 70, 513}, {300, 150, 90}} {
		for _, tA := range transposes[:2] {
			for _, tB := range transposes[:2] {
				c := testCase{tA, tB, s[0], s[1], s[2], 0.7, float64(rng.IntN(3)), rng.IntN(3)}
				aRows, aCols, bRows, bCols := c.operands(rng)
				a, out := newMatrix[float32](rng, aRows, aCols, c.extra), newMatrix[float32](rng, c.m, c.n, c.extra)
				b := Encoded{Rows: bRows, Cols: bCols, DType: dtype, Stride: bCols + c.extra}
				b.Data = make([]byte, ((bRows-1)*b.Stride+bCols)*size)
				wide := make([]float32, len(b.Data)/size)
				for i := range wide {
					wide[i] = putRandom(rng, b.Data[i*size:(i+1)*size], dtype)
				}
				want := out.clone()
				Implementation{}.Sgemm(tA, tB, c.m, c.n, c.k, float32(c.alpha), a.data, a.ld, wide, b.Stride, float32(c.beta), want.data, want.ld)
				MulEncoded(tA, tB, float32(c.alpha), blas32.General{Rows: aRows, Cols: aCols, Data: a.data, Stride: a.ld}, b,
					float32(c.beta), blas32.General{Rows: c.m, Cols: c.n, Data: out.data, Stride: out.ld})
				if !sameBits(out.whole(), want.whole()) {
					t.Fatalf("%s: differs from the product of the widened weight", c)
				}
			}
		}
	}
}

// putRandom encodes a finite number and returns it.
func putRandom(rng *rand.Rand, p []byte, dtype formats.DType) float32 {
	for {
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		var x float32
		switch dtype {
		case formats.F8E4M3:
			x = ofp8(p[0], 4)
		case formats.F8E5M2:
			x = ofp8(p[0], 5)
		default:
			var v [1]float32
			formats.DecodeFloat32(v[:], p, dtype)
			x = v[0]
		}
		if math.Abs(float64(x)) < 1e6 { // sums stay finite
			return x
		}
	}
}

// ofp8 decodes an 8-bit number by moving its bits to those of a float32, whose exponent is
// then corrected by a multiplication.
func ofp8(x byte, exponent int) float32 {
	bits := uint32(x&0x7f) << (23 - 7 + exponent)
	if x&0x7f == 0x7f || exponent == 5 && x&0x7f > 0x7c {
		return float32(math.NaN())
	}
	if exponent == 5 && x&0x7f == 0x7c {
		return float32(math.Inf(1 - int(x>>7)*2))
	}
	v := math.Float32frombits(bits) * float32(math.Ldexp(1, 127-(1<<(exponent-1)-1)))
	return math.Float32frombits(math.Float32bits(v) | uint32(x&0x80)<<24)
}

// TestOFP8 checks the tables against the numbers that the specification lists, and all others
// against a second way to decode them.
func TestOFP8(t *testing.T) {
	if testing.Short() {
		t.Skip("of one goroutine")
	}
	for _, c := range []struct {
		dtype formats.DType
		bits  byte
		want  float64
	}{
		{formats.F8E4M3, 0x7e, 448}, {formats.F8E4M3, 0x08, 0x1p-6}, {formats.F8E4M3, 0x07, 0.875 * 0x1p-6}, {formats.F8E4M3, 0x01, 0x1p-9},
		{formats.F8E4M3, 0xff, math.NaN()}, {formats.F8E4M3, 0x80, math.Copysign(0, -1)},
		{formats.F8E5M2, 0x7b, 57344}, {formats.F8E5M2, 0x04, 0x1p-14}, {formats.F8E5M2, 0x03, 0.75 * 0x1p-14}, {formats.F8E5M2, 0x01, 0x1p-16},
		{formats.F8E5M2, 0x7c, math.Inf(1)}, {formats.F8E5M2, 0xfc, math.Inf(-1)}, {formats.F8E5M2, 0x7d, math.NaN()},
	} {
		var got [1]float32
		widen(got[:], []byte{c.bits}, c.dtype)
		if math.Float32bits(got[0]) != math.Float32bits(float32(c.want)) && !(c.want != c.want && got[0] != got[0]) {
			t.Errorf("%s %#x is %v, want %v", c.dtype, c.bits, got[0], c.want)
		}
	}
	for x := range 256 {
		for _, c := range []struct {
			table    *[256]float32
			exponent int
		}{{&e4m3, 4}, {&e5m2, 5}} {
			got, want := c.table[x], ofp8(byte(x), c.exponent)
			if math.Float32bits(got) != math.Float32bits(want) && !(got != got && want != want) {
				t.Errorf("%#x with %d bits of exponent is %v, want %v", x, c.exponent, got, want)
			}
		}
	}
}

// TestWiden compares the engines on all numbers of 16 bits.
func TestWiden(t *testing.T) {
	if testing.Short() {
		t.Skip("of one goroutine")
	}
	all := make([]byte, 2<<16)
	for i := range 1 << 16 {
		binary.LittleEndian.PutUint16(all[2*i:], uint16(i))
	}
	for _, e := range engines32() {
		for _, dtype := range encodedTypes[1:3] {
			want, got := make([]float32, 1<<16), make([]float32, 1<<16)
			formats.DecodeFloat32(want, all, dtype)
			e.widen(got, all, dtype)
			for i := range want {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) && !(got[i] != got[i] && want[i] != want[i]) {
					t.Fatalf("%s %s %#x is %v, want %v", e.name, dtype, i, got[i], want[i])
				}
			}
		}
	}
}

func TestMulEncodedRefuses(t *testing.T) {
	caught := func(f func()) (message any) {
		defer func() { message = recover() }()
		f()
		return nil
	}
	a := blas32.General{Rows: 2, Cols: 3, Stride: 3, Data: make([]float32, 6)}
	c := blas32.General{Rows: 2, Cols: 4, Stride: 4, Data: make([]float32, 8)}
	good := Encoded{Rows: 3, Cols: 4, Stride: 4, DType: formats.BF16, Data: make([]byte, 24)}
	bad := func(change func(*Encoded)) Encoded {
		e := good
		change(&e)
		return e
	}
	for _, e := range []struct {
		b    Encoded
		want any
	}{
		{good, nil},
		{bad(func(e *Encoded) { e.DType = formats.I8 }), "gemm: cannot widen I8"},
		{bad(func(e *Encoded) { e.DType = formats.F64 }), "gemm: cannot widen F64"},
		{bad(func(e *Encoded) { e.Stride = 3 }), badLdB},
		{bad(func(e *Encoded) { e.Data = e.Data[:23] }), shortB},
		{bad(func(e *Encoded) { e.Rows = 2 }), "gemm: a is 2×3, b 2×4 and c 2×4"},
		{bad(func(e *Encoded) { e.Cols = 3 }), "gemm: a is 2×3, b 3×3 and c 2×4"},
	} {
		got := caught(func() { MulEncoded(blas.NoTrans, blas.NoTrans, 1, a, e.b, 0, c) })
		if fmt.Sprint(got) != fmt.Sprint(e.want) {
			t.Errorf("%+v: got %v, want %v", e.b, got, e.want)
		}
	}
}

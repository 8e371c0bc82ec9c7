package adapter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// bytesOf is a tensor of a type in which every byte is another.
func bytesOf(dtype formats.DType, first byte, shape ...int64) formats.Tensor {
	t := formats.Tensor{Name: "t", DType: dtype, Shape: shape}
	raw := make([]byte, t.Size())
	for i := range raw {
		raw[i] = first + byte(i)
	}
	t.Data = bytes.NewReader(raw)
	return t
}

func all(t *testing.T, x formats.Tensor) []byte {
	t.Helper()
	raw, err := x.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// readAnyRange reads all ranges of a tensor, also those that end behind it, and compares
// them with what it should hold.
func readAnyRange(t *testing.T, name string, x formats.Tensor, want []byte) {
	t.Helper()
	if x.Size() != int64(len(want)) {
		t.Errorf("%s: %d bytes, want %d", name, x.Size(), len(want))
		return
	}
	for off := range len(want) + 2 {
		for n := range len(want) + 3 - off {
			buf := bytes.Repeat([]byte{0xee}, n)
			got, err := x.Data.ReadAt(buf, int64(off))
			expected := want[min(off, len(want)):min(off+n, len(want))]
			if got != len(expected) || !bytes.Equal(buf[:got], expected) {
				t.Fatalf("%s: %d bytes at %d are %x, want %x (%v)", name, n, off, buf[:max(0, got)], expected, err)
			}
			if got < n && err != io.EOF || got == n && n > 0 && err != nil && err != io.EOF {
				t.Fatalf("%s: %d bytes at %d: %v", name, n, off, err)
			}
			if bytes.Count(buf[got:], []byte{0xee}) != n-got {
				t.Fatalf("%s: %d bytes at %d: more was written than was read", name, n, off)
			}
		}
	}
	if n, err := x.Data.ReadAt(make([]byte, 1), -1); n != 0 || err == nil {
		t.Errorf("%s: reading before the beginning gives %d bytes, %v", name, n, err)
	}
}

func TestRows(t *testing.T) {
	for _, dtype := range []formats.DType{formats.F32, formats.F16, formats.F64} {
		a, b, none := bytesOf(dtype, 1, 2, 3), bytesOf(dtype, 100, 1, 3), bytesOf(dtype, 0, 0, 3)
		for _, parts := range [][]formats.Tensor{{a}, {a, b}, {none, a, none, b, none}, {none}, {none, none}, {a, Zeros(dtype, 2, 3), b}} {
			x := Rows("x", parts...)
			var want []byte
			rows := int64(0)
			for _, p := range parts {
				want = append(want, all(t, p)...)
				rows += p.Shape[0]
			}
			if x.Name != "x" || x.DType != dtype || x.Shape[0] != rows || x.Shape[1] != 3 {
				t.Errorf("got %s %s %v", x.Name, x.DType, x.Shape)
			}
			readAnyRange(t, "rows", x, want)
		}
	}
}

func TestColumns(t *testing.T) {
	for _, tail := range [][]int64{nil, {1, 1}} { // of a matrix, of a kernel
		shape := func(rows, cols int64) []int64 { return append([]int64{rows, cols}, tail...) }
		a, b, c := bytesOf(formats.F16, 1, shape(3, 2)...), bytesOf(formats.F16, 50, shape(3, 1)...), bytesOf(formats.F16, 150, shape(3, 4)...)
		none := bytesOf(formats.F16, 0, shape(3, 0)...)
		for _, parts := range [][]formats.Tensor{{a}, {a, b}, {none, a, none, c, b, none}, {none, none}, {b, b}} {
			x := Columns("x", parts...)
			var want []byte
			cols := int64(0)
			for row := range int64(3) {
				for _, p := range parts {
					n := p.Size() / 3
					want = append(want, all(t, p)[row*n:(row+1)*n]...)
				}
			}
			for _, p := range parts {
				cols += p.Shape[1]
			}
			if x.Shape[0] != 3 || x.Shape[1] != cols || len(x.Shape) != 2+len(tail) {
				t.Errorf("got %v", x.Shape)
			}
			readAnyRange(t, "columns", x, want)
		}
	}
	// No rows at all.
	readAnyRange(t, "no rows", Columns("x", bytesOf(formats.F32, 0, 0, 2), bytesOf(formats.F32, 0, 0, 3)), nil)
}

// TestJoinsLeaveTheirParts: shapes are not shared with the parts.
func TestJoinsLeaveTheirParts(t *testing.T) {
	a, b := bytesOf(formats.F32, 0, 2, 2), bytesOf(formats.F32, 0, 2, 2)
	Rows("x", a, b)
	Columns("x", a, b)
	if a.Shape[0] != 2 || a.Shape[1] != 2 {
		t.Errorf("the part's shape is %v", a.Shape)
	}
}

func TestZeros(t *testing.T) {
	readAnyRange(t, "zeros", Zeros(formats.F16, 3, 5), make([]byte, 30))
	readAnyRange(t, "no zeros", Zeros(formats.F32, 0, 5), nil)
}

func TestTransposed(t *testing.T) {
	for _, dtype := range []formats.DType{formats.F16, formats.F32, formats.F64} {
		for _, shape := range [][2]int64{{3, 4}, {1, 5}, {5, 1}, {0, 3}, {3, 0}, {4, 4}} {
			x := bytesOf(dtype, 3, shape[0], shape[1])
			turned := Transposed(x)
			size := dtype.Bits() / 8
			var want []byte
			for j := range shape[1] {
				for i := range shape[0] {
					want = append(want, all(t, x)[(i*shape[1]+j)*size:][:size]...)
				}
			}
			if turned.Shape[0] != shape[1] || turned.Shape[1] != shape[0] {
				t.Errorf("%v turned is %v", shape, turned.Shape)
			}
			readAnyRange(t, "turned", turned, want)
			readAnyRange(t, "turned twice", Transposed(turned), all(t, x))
		}
	}
}

// TestTransposedInStrips: matrices that are wider and higher than what is held at once.
func TestTransposedInStrips(t *testing.T) {
	for _, shape := range [][2]int64{{3, 100_003}, {100_003, 3}, {700, 701}, {2, sweepBytes}} {
		x := formats.Tensor{DType: formats.F16, Shape: shape[:]}
		raw := make([]byte, x.Size())
		rng := rand.New(rand.NewPCG(1, uint64(shape[0])))
		for i := range raw {
			raw[i] = byte(rng.Uint32())
		}
		x.Data = bytes.NewReader(raw)
		got := all(t, Transposed(x))
		for i := range shape[0] {
			for j := range shape[1] {
				if at, from := (j*shape[0]+i)*2, (i*shape[1]+j)*2; got[at] != raw[from] || got[at+1] != raw[from+1] {
					t.Fatalf("%v: element %d, %d differs", shape, i, j)
				}
			}
		}
		// A piece that begins and ends inside of rows of the result.
		piece := make([]byte, 3*shape[0]+101)
		if err := formats.ReadFullAt(Transposed(x).Data, piece, shape[0]+3); err != nil || !bytes.Equal(piece, got[shape[0]+3:][:len(piece)]) {
			t.Errorf("%v: a piece differs, %v", shape, err)
		}
	}
}

// fromFloats makes a tensor of numbers that its type holds.
func fromFloats(dtype formats.DType, values ...float64) formats.Tensor {
	t := formats.Tensor{Name: "t", DType: dtype, Shape: []int64{int64(len(values))}}
	raw := make([]byte, t.Size())
	if dtype == formats.F64 {
		formats.EncodeFloat64(raw, values)
	} else {
		narrow := make([]float32, len(values))
		for i, v := range values {
			narrow[i] = float32(v)
		}
		formats.EncodeFloat32(raw, narrow, dtype)
	}
	t.Data = bytes.NewReader(raw)
	return t
}

// nearest rounds a product to a float with so many bits of precision, by big numbers: exact,
// once, to nearest even. lowest is the exponent of the smallest number above zero.
func nearest(a, b float64, precision uint, lowest int) float64 {
	exact := new(big.Float).SetPrec(2000).Mul(big.NewFloat(a).SetPrec(2000), big.NewFloat(b).SetPrec(2000))
	if exact.Sign() == 0 {
		return 0
	}
	keep := min(int(precision), exact.MantExp(nil)-lowest)
	if keep < 1 { // below the smallest number: zero or that
		half := new(big.Float).SetPrec(2000).SetMantExp(big.NewFloat(0.5), lowest)
		if new(big.Float).Abs(exact).Cmp(half) <= 0 {
			return 0
		}
		return math.Copysign(math.Ldexp(1, lowest), float64(exact.Sign()))
	}
	x, _ := exact.SetPrec(uint(keep)).SetMode(big.ToNearestEven).Float64()
	return x
}

var precisions = map[formats.DType]struct {
	bits   uint
	lowest int
}{formats.F32: {24, -149}, formats.F16: {11, -24}, formats.BF16: {8, -133}, formats.F64: {53, -1074}}

// TestScaledRoundsOnce compares with arithmetic on big numbers, for all pairs of types:
// also at halves, at the smallest numbers, and where rounding twice gives another result.
func TestScaledRoundsOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	values := []float64{0, 1, -1, 1.5, 0x1.002p0, 0x1.ffep-1, 0x1p-14, -0x1p-24, 0x1p-10, 1.0 / 3}
	for range 400 {
		values = append(values, rng.NormFloat64()*math.Ldexp(1, rng.IntN(24)-16))
	}
	scales := []float64{2, 0.5, -1.25, 1.0 / 3, 1 + 0x1p-11, 1 + 0x1p-11 + 0x1p-40, 1 + 0x1p-8 + 0x1p-30, 1 + 0x1p-24 + 0x1p-52, 0x1p-100, 0x1p-9, 0}
	types := []formats.DType{formats.F64, formats.F32, formats.F16, formats.BF16}
	for _, from := range types {
		src := fromFloats(from, values...)
		held := make([]float64, len(values))
		formats.DecodeFloat64(held, all(t, src), from)
		for _, to := range types {
			for _, scale := range scales {
				got := make([]float64, len(values))
				formats.DecodeFloat64(got, all(t, Scaled(src, scale, to)), to)
				p := precisions[to]
				for i, x := range held {
					if want := nearest(x, scale, p.bits, p.lowest); got[i] != want {
						t.Errorf("%s %v times %v as %s: got %v, want %v", from, x, scale, to, got[i], want)
					}
				}
			}
		}
	}
}

func TestScaledReadsAnyRange(t *testing.T) {
	src := fromFloats(formats.F32, 1, -2, 3.5, 4, 5)
	for _, dtype := range []formats.DType{formats.F64, formats.F32, formats.F16, formats.BF16} {
		want := fromFloats(dtype, 0.5, -1, 1.75, 2, 2.5)
		x := Scaled(src, 0.5, dtype)
		if x.DType != dtype || x.Shape[0] != 5 || x.Name != "t" {
			t.Errorf("got %s %s %v", x.Name, x.DType, x.Shape)
		}
		readAnyRange(t, dtype.String(), x, all(t, want))
	}
	if same := Scaled(src, 1, formats.F32); same.Data != src.Data {
		t.Error("nothing is to be done, and something is")
	}
	// More than is held at once.
	many := make([]float64, 3*scaledAtOnce+5)
	for i := range many {
		many[i] = float64(i % 1000)
	}
	double := make([]float64, len(many))
	for i := range many {
		double[i] = 2 * many[i]
	}
	if !bytes.Equal(all(t, Scaled(fromFloats(formats.F32, many...), 2, formats.F32)), all(t, fromFloats(formats.F32, double...))) {
		t.Error("many elements differ")
	}
}

// TestScaledTooLarge names the element, and leaves what was not finite to others.
func TestScaledTooLarge(t *testing.T) {
	for _, c := range []struct {
		from, to formats.DType
		value    float64
		scale    float64
	}{
		{formats.F32, formats.F16, 65504, 1.001}, {formats.F32, formats.F32, math.MaxFloat32, 2}, {formats.F64, formats.BF16, 3.4e38, 1.01},
		{formats.F64, formats.F64, math.MaxFloat64, -2}, {formats.F64, formats.F32, 1e308, 1e10}, {formats.F64, formats.F16, 65520, 1},
	} {
		src := fromFloats(c.from, 1, 2, c.value)
		_, err := Scaled(src, c.scale, c.to).ReadAll()
		if !errors.Is(err, formats.ErrUnfit) || !strings.Contains(err.Error(), "element 2 is too large") {
			t.Errorf("%v times %v as %s: got %v", c.value, c.scale, c.to, err)
		}
	}
	// The last that is rounded down.
	got := make([]float64, 1)
	formats.DecodeFloat64(got, all(t, Scaled(fromFloats(formats.F64, 65519.999), 1, formats.F16)), formats.F16)
	if got[0] != 65504 {
		t.Errorf("got %v", got)
	}
	raw := all(t, Scaled(fromFloats(formats.F32, math.Inf(1), math.NaN(), math.Inf(-1)), 0.5, formats.F16))
	for i, want := range []uint16{0x7c00, 0x7e00, 0xfc00} {
		if bits := binary.LittleEndian.Uint16(raw[2*i:]); bits != want && !(i == 1 && bits&0x7c00 == 0x7c00 && bits&0x3ff != 0) {
			t.Errorf("element %d is %#x", i, bits)
		}
	}
}

package kernel

import (
	"bytes"
	"math"
	"math/rand/v2"
	"sort"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// rounding is a float type by what IEEE 754 says of it.
type rounding struct {
	to        formats.DType
	precision int // bits of the significand
	lowest    int // exponent of the smallest number
	largest   float64
}

var roundings = []rounding{
	{formats.F32, 24, -149, math.MaxFloat32},
	{formats.BF16, 8, -133, 0x1.fep127},
	{formats.F16, 11, -24, 65504},
}

// nearest rounds x to nearest even in one step. Scaling by a power of two is exact here,
// and so is math.RoundToEven.
func (r rounding) nearest(x float64) float64 {
	if x == 0 || x-x != 0 {
		return x
	}
	unit := max(math.Ilogb(x)-r.precision+1, r.lowest)
	scaled := math.Ldexp(x, -unit)
	if math.Abs(scaled) < 0.25 { // so small that scaling was not exact
		return math.Copysign(0, x)
	}
	y := math.Ldexp(math.RoundToEven(scaled), unit)
	if math.Abs(y) > r.largest {
		return math.Copysign(math.Inf(1), x)
	}
	return y
}

// TestConvertF64RoundsOnce narrows random float64 and the neighbours of ties, which
// rounding by way of float32 would get wrong.
func TestConvertF64RoundsOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for _, r := range roundings {
		var x []float64
		for range 200_000 {
			x = append(x, math.Float64frombits(rng.Uint64()))
			// of an exponent that the type has, and half of a step more than a value
			near := math.Ldexp(1+rng.Float64(), r.lowest-3+rng.IntN(math.Ilogb(r.largest)-r.lowest+5))
			unit := max(math.Ilogb(near)-r.precision+1, r.lowest)
			tie := math.Ldexp(math.Floor(math.Ldexp(near, -unit))+0.5, unit)
			if rng.IntN(2) == 0 {
				near, tie = -near, -tie
			}
			x = append(x, near, tie, math.Nextafter(tie, 0), math.Nextafter(tie, 2*tie), tie*(1+0x1p-30), tie*(1-0x1p-30))
		}
		half := r.largest + math.Ldexp(1, math.Ilogb(r.largest)-r.precision)
		x = append(x, 0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.SmallestNonzeroFloat64, -math.SmallestNonzeroFloat64,
			math.MaxFloat64, r.largest, half, math.Nextafter(half, 0), -half, -math.Nextafter(half, 0),
			math.Ldexp(1, r.lowest-1), math.Nextafter(math.Ldexp(1, r.lowest-1), 1), 0x1p-1022, math.MaxFloat32, math.Nextafter(math.MaxFloat32, math.Inf(1)))
		var over, under int64
		want := make([]float64, len(x))
		for i, v := range x {
			want[i] = r.nearest(v)
			if v-v == 0 && want[i]-want[i] != 0 {
				over++
			}
			if v != 0 && want[i] == 0 {
				under++
			}
		}
		src := make([]byte, 8*len(x))
		formats.EncodeFloat64(src, x)
		dst := make([]byte, len(x)*int(r.to.Bits()/8))
		gotOver, gotUnder := Convert(dst, r.to, src, formats.F64, false)
		if gotOver.Count != over || gotUnder != under {
			t.Errorf("%s: %d overflow and %d underflow, want %d and %d", r.to, gotOver.Count, gotUnder, over, under)
		}
		got := make([]float64, len(x))
		formats.DecodeFloat64(got, dst, r.to)
		twice := 0
		for i, v := range x {
			if v != v {
				if got[i] == got[i] {
					t.Fatalf("%s of NaN: got %v", r.to, got[i])
				}
				continue
			}
			if math.Float64bits(got[i]) != math.Float64bits(want[i]) {
				t.Fatalf("%s of %x: got %x, want %x", r.to, v, got[i], want[i])
			}
			if r.to != formats.F32 && r.nearest(float64(float32(v))) != want[i] {
				twice++
			}
		}
		if r.to != formats.F32 && twice < 1000 {
			t.Errorf("%s: only %d cases tell one rounding from two", r.to, twice)
		}
	}
}

// TestConvertQuietsNaN: whatever the payload, the result is a quiet NaN of the same sign.
func TestConvertQuietsNaN(t *testing.T) {
	nans := []uint64{0x7ff0000000000001, 0x7ff0000020000000, 0x7ff0000100000000, 0x7ff4000000000000, 0x7ff7ffffffffffff, 0x7ff8000000000000, 0x7fffffffffffffff}
	for _, r := range roundings {
		size := int(r.to.Bits() / 8)
		quiet := map[formats.DType][2]byte{formats.F32: {0xc0, 0x7f}, formats.BF16: {0xc0, 0x7f}, formats.F16: {0, 0x7e}}[r.to]
		for _, n := range nans {
			for _, sign := range []uint64{0, 1 << 63} {
				src, dst := make([]byte, 8), make([]byte, size)
				formats.EncodeFloat64(src, []float64{math.Float64frombits(n | sign)})
				over, under := Convert(dst, r.to, src, formats.F64, true)
				top := dst[size-2:]
				if top[1]&quiet[1] != quiet[1] || top[0]&quiet[0] != quiet[0] || uint64(top[1]>>7) != sign>>63 || over.Count+under != 0 {
					t.Errorf("%s of %x: got %x", r.to, n|sign, dst)
				}
			}
		}
	}
}

// TestEnginesNarrowEveryValue merges into zeros what lies at, between and beside all
// values of the 16-bit types. package formats tests the Go side of the comparison.
func TestEnginesNarrowEveryValue(t *testing.T) {
	for _, d := range []formats.DType{formats.BF16, formats.F16} {
		var raw [2 << 15]byte
		for i := range len(raw) / 2 {
			raw[2*i], raw[2*i+1] = byte(i), byte(i>>8)
		}
		values := make([]float32, len(raw)/2)
		formats.DecodeFloat32(values, raw[:], d)
		values = values[:sort.Search(len(values), func(i int) bool { return math.IsInf(float64(values[i]), 0) || values[i] != values[i] })]
		var x []float32
		for i, v := range values {
			next := 2*float64(v) - float64(values[max(i-1, 0)]) // beyond the largest
			if i+1 < len(values) {
				next = float64(values[i+1])
			}
			mid, up := float32((float64(v)+next)/2), float32(math.Inf(1))
			for _, y := range []float32{v, math.Nextafter32(v, up), mid, math.Nextafter32(mid, 0), math.Nextafter32(mid, up)} {
				x = append(x, y, -y)
			}
		}
		want := make([]byte, 2*len(x))
		formats.EncodeFloat32(want, x, d)
		minus := bytes.Repeat([]byte{0, 0x80}, len(x)) // −0 + x is x for all x
		withEngines(t, func(t *testing.T) {
			got := make([]byte, len(want))
			for at := 0; at < len(x); at += maxTile {
				end := min(at+maxTile, len(x))
				active.finish32(got[2*at:2*end], minus[2*at:2*end], x[at:end], d)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s: differs from formats.EncodeFloat32", d)
			}
		})
	}
}

package kernel

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// conversions are those that engines have in assembly.
var conversions = [][2]formats.DType{
	{formats.BF16, formats.F32}, {formats.F16, formats.F32},
	{formats.F32, formats.BF16}, {formats.F32, formats.F16},
	{formats.BF16, formats.F16}, {formats.F16, formats.BF16},
}

const band = 0xa5 // what lies beside the elements that are converted

// checkConvert compares what the active engine makes of src with what Go does, with its
// first element at some offset from an alignment.
func checkConvert(t *testing.T, to, from formats.DType, src []byte, saturate bool, offset int) {
	t.Helper()
	n := len(src) / int(from.Bits()/8) * int(to.Bits()/8)
	want := make([]byte, n)
	engine := active
	active = reference
	wantOver, wantUnder := Convert(want, to, src, from, saturate)
	active = engine
	in := append(make([]byte, offset), src...)
	out := bytes.Repeat([]byte{band}, offset+n+64)
	over, under := Convert(out[offset:offset+n], to, in[offset:], from, saturate)
	if over != wantOver || under != wantUnder {
		t.Fatalf("%d bytes of %s to %s: got %+v and %d, want %+v and %d", len(src), from, to, over, under, wantOver, wantUnder)
	}
	for i := range n / int(to.Bits()/8) {
		size := int(to.Bits() / 8)
		if got, w := out[offset+i*size:offset+(i+1)*size], want[i*size:(i+1)*size]; !bytes.Equal(got, w) {
			in := src[i*int(from.Bits()/8) : (i+1)*int(from.Bits()/8)]
			t.Fatalf("%x of %s to %s: got %x, want %x (least significant byte first)", in, from, to, got, w)
		}
	}
	for i, b := range out {
		if (i < offset || i >= offset+n) && b != band {
			t.Fatalf("%d bytes of %s to %s: wrote beside them", len(src), from, to)
		}
	}
}

// TestEnginesConvertEvery16Bit takes every pattern of the 16-bit types to the others.
func TestEnginesConvertEvery16Bit(t *testing.T) {
	src := make([]byte, 2<<16)
	for i := range 1 << 16 {
		binary.LittleEndian.PutUint16(src[2*i:], uint16(i))
	}
	withEngines(t, func(t *testing.T) {
		for _, c := range conversions {
			for _, saturate := range []bool{false, true} {
				if from, to := c[0], c[1]; from != formats.F32 {
					checkConvert(t, to, from, src, saturate, 0)
				}
			}
		}
	})
}

// edges are float32 patterns near which something changes: zeros, subnormals, each binary
// order, what a 16-bit type can hold no more, ties, infinities and NaNs.
func edges() []uint32 {
	var list []uint32
	for exponent := range uint32(256) {
		list = append(list, exponent<<23)
	}
	for _, d := range []formats.DType{formats.BF16, formats.F16} {
		limit := limitsOf(d)
		list = append(list, limit.under, limit.over)
		for i := range 1 << 11 { // numbers of the type all over its range, and the ties above them
			var v [1]float32
			formats.DecodeFloat32(v[:], []byte{byte(i * 37), byte(i >> 3)}, d)
			bits := math.Float32bits(v[0])
			list = append(list, bits, bits+0x8000, bits+0x1000)
		}
	}
	return append(list, 0x7fc00000, 0x7fa00000, 0x7fffffff, 0x477fe000, 0x7f7f0000, 0x7f7fffff)
}

func floatBits(v []uint32) []byte {
	out := make([]byte, 0, 4*len(v))
	for _, x := range v {
		out = binary.LittleEndian.AppendUint32(out, x)
	}
	return out
}

// TestEnginesNarrowAlike takes random float32 and the surroundings of edges, so that runs
// have elements that overflow, and others none.
func TestEnginesNarrowAlike(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	var patterns []uint32
	for _, e := range edges() {
		for d := range uint32(9) {
			patterns = append(patterns, e+d-4, (e+d-4)^1<<31)
		}
	}
	var finite []uint32 // so that nothing overflows: engines do these themselves
	for _, p := range patterns {
		if p&^(1<<31) < limitsOf(formats.F16).over {
			finite = append(finite, p)
		}
	}
	var random, weights []uint32
	for range 1 << 18 {
		random = append(random, rng.Uint32())
		weights = append(weights, math.Float32bits(float32(rng.NormFloat64()*0.02)))
	}
	withEngines(t, func(t *testing.T) {
		for _, to := range []formats.DType{formats.BF16, formats.F16} {
			for _, v := range [][]uint32{patterns, finite, random, weights} {
				for _, saturate := range []bool{false, true} {
					checkConvert(t, to, formats.F32, floatBits(v), saturate, 0)
				}
			}
		}
	})
}

// TestEnginesConvertAnyLength has tails of all lengths, at any alignment, with an element
// that overflows, is lost or is no number at any place.
func TestEnginesConvertAnyLength(t *testing.T) {
	rng := rand.New(rand.NewPCG(23, 24))
	special := []uint32{0, 1, 1 << 31, 0x33000000, 0x8000, 0x477ff000, 0xff7fffff, 0x7f800000, 0xff800001, 0x7fc12345}
	lengths := []int{convertRun - 1, convertRun, convertRun + 1, convertRun + 17, 3*convertRun + 5}
	for n := range 4*16 + 1 {
		lengths = append(lengths, n)
	}
	withEngines(t, func(t *testing.T) {
		for _, c := range conversions {
			from, to := c[0], c[1]
			for _, n := range lengths {
				for trial := range 6 {
					v := make([]uint32, n)
					for i := range v {
						v[i] = math.Float32bits(float32(rng.NormFloat64()))
					}
					for range min(trial, n) {
						v[rng.IntN(n)] = special[rng.IntN(len(special))]
					}
					src := floatBits(v)
					if from != formats.F32 {
						wide := src
						src = make([]byte, 2*n)
						convertInGo(src, from, wide)
					}
					checkConvert(t, to, from, src, trial%2 == 0, trial)
				}
			}
		}
	})
}

func convertInGo(dst []byte, to formats.DType, wide []byte) {
	v := make([]float32, len(wide)/4)
	formats.DecodeFloat32(v, wide, formats.F32)
	formats.EncodeFloat32(dst, v, to)
}

// TestEnginesConvertThemselves: the comparisons above would not notice an engine that
// left everything to Go.
func TestEnginesConvertThemselves(t *testing.T) {
	for _, e := range engines() {
		for _, c := range conversions {
			src, dst := make([]byte, 4*convertRun), make([]byte, 4*convertRun)
			from, to := c[0], c[1]
			_, ok := e.convert(dst, to, src[:convertRun*from.Bits()/8], from)
			if want := e.name != reference.name; ok != want {
				t.Errorf("%s, %s to %s: done %v, want %v", e.name, from, to, ok, want)
			}
		}
	}
}

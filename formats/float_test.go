package formats

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

// small describes a 16-bit float type by its number of exponent and mantissa bits; all
// values below are worked out from that in float64, and by nothing of the package.
type small struct {
	dtype     DType
	exp, man  int
	narrow    func(float32) uint16
	finite    []float64 // the values that are not negative, rising; the index is the pattern
	unbounded float64   // what would come after the largest, were there no infinity
}

func smalls() []*small {
	list := []*small{
		{dtype: F16, exp: 5, man: 10, narrow: Float32ToFloat16},
		{dtype: BF16, exp: 8, man: 7, narrow: Float32ToBFloat16},
	}
	for _, s := range list {
		bias := 1<<(s.exp-1) - 1
		for p := 0; p>>s.man < 1<<s.exp-1; p++ {
			e, m := p>>s.man, p&(1<<s.man-1)
			if e == 0 {
				s.finite = append(s.finite, math.Ldexp(float64(m), 1-bias-s.man))
			} else {
				s.finite = append(s.finite, math.Ldexp(float64(1<<s.man+m), e-bias-s.man))
			}
		}
		s.unbounded = math.Ldexp(1, bias+1)
	}
	return list
}

// infinity is the pattern of +Inf.
func (s *small) infinity() int { return len(s.finite) }

func TestWidenEveryPattern(t *testing.T) {
	for _, s := range smalls() {
		for p := range 1 << 16 {
			var raw [2]byte
			binary.LittleEndian.PutUint16(raw[:], uint16(p))
			var f32 [1]float32
			var f64 [1]float64
			DecodeFloat32(f32[:], raw[:], s.dtype)
			DecodeFloat64(f64[:], raw[:], s.dtype)
			magnitude, negative := p&0x7fff, p>>15 == 1
			switch {
			case magnitude > s.infinity():
				if f32[0] == f32[0] || f64[0] == f64[0] {
					t.Fatalf("%s %04x: got %v, want NaN", s.dtype, p, f32[0])
				}
			default:
				want := math.Inf(1)
				if magnitude < s.infinity() {
					want = s.finite[magnitude]
				}
				want = math.Copysign(want, map[bool]float64{true: -1, false: 1}[negative])
				if math.Float64bits(float64(f32[0])) != math.Float64bits(want) || math.Float64bits(f64[0]) != math.Float64bits(want) {
					t.Fatalf("%s %04x: got %v and %v, want %v", s.dtype, p, f32[0], f64[0], want)
				}
			}
		}
	}
}

func TestNarrowEveryPattern(t *testing.T) {
	for _, s := range smalls() {
		check := func(x float32, want int) {
			t.Helper()
			if got := s.narrow(x); int(got) != want {
				t.Fatalf("%s of %x (%g): got %04x, want %04x", s.dtype, x, x, got, want)
			}
			if got := s.narrow(-x); int(got) != want|0x8000 {
				t.Fatalf("%s of %x: got %04x, want %04x", s.dtype, -x, got, want|0x8000)
			}
		}
		for p, v := range s.finite {
			x := float32(v)
			check(x, p) // exact
			next := s.unbounded
			if p+1 < len(s.finite) {
				next = s.finite[p+1]
			}
			mid := float32((v + next) / 2)
			if float64(mid) != (v+next)/2 {
				t.Fatalf("%s %04x: middle %g is no float32", s.dtype, p, (v+next)/2)
			}
			check(mid, p+p&1) // a tie goes to the even pattern
			check(math.Nextafter32(mid, 0), p)
			check(math.Nextafter32(mid, float32(math.Inf(1))), p+1)
		}
		check(float32(math.Inf(1)), s.infinity())
		check(math.MaxFloat32, s.infinity())
		for _, nan := range []uint32{0x7fc00000, 0x7f800001, 0x7fffffff, 0xffc00000, 0xff800001, 0x7fa00000, 0x7f801fff} {
			got := s.narrow(math.Float32frombits(nan))
			quiet := 1 << (s.man - 1)
			if int(got)&0x7fff <= s.infinity() || int(got)&quiet == 0 || uint32(got>>15) != nan>>31 {
				t.Errorf("%s of NaN %08x: got %04x, want a quiet NaN of the same sign", s.dtype, nan, got)
			}
		}
	}
}

// TestNarrowRandom rounds random float32 by looking both neighbours up.
func TestNarrowRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 8))
	for _, s := range smalls() {
		for range 300_000 {
			x := math.Float32frombits(rng.Uint32() & 0x7fffffff)
			if x != x {
				continue
			}
			v := float64(x)
			// the first pattern whose value is above v
			lo, hi := 0, len(s.finite)
			for lo < hi {
				if m := (lo + hi) / 2; s.finite[m] > v {
					hi = m
				} else {
					lo = m + 1
				}
			}
			below, above := lo-1, lo
			up := s.unbounded
			if above < len(s.finite) {
				up = s.finite[above]
			}
			want := below
			if d, u := v-s.finite[below], up-v; u < d || u == d && below&1 == 1 {
				want = above
			}
			if got := s.narrow(x); int(got) != want {
				t.Fatalf("%s of %g: got %04x, want %04x", s.dtype, x, got, want)
			}
		}
	}
}

func TestEncodeDecodeWide(t *testing.T) {
	values := []float32{0, float32(math.Copysign(0, -1)), 1, -1.5, math.MaxFloat32, math.SmallestNonzeroFloat32, float32(math.Inf(-1))}
	for _, d := range []DType{F32, F64} {
		raw := make([]byte, len(values)*int(d.Bits()/8))
		EncodeFloat32(raw, values, d)
		back, wide := make([]float32, len(values)), make([]float64, len(values))
		DecodeFloat32(back, raw, d)
		DecodeFloat64(wide, raw, d)
		for i, x := range values {
			if math.Float32bits(back[i]) != math.Float32bits(x) || math.Float64bits(wide[i]) != math.Float64bits(float64(x)) {
				t.Errorf("%s %g: read back as %g and %g", d, x, back[i], wide[i])
			}
		}
	}
	// F64 read as float32 is rounded once: 1 + 2⁻²⁴ ties to 1, anything above goes up.
	wide := []float64{1 + 0x1p-24, 1 + 0x1p-24 + 0x1p-52, 0x1p-150, 0x1.8p-150, 1e39}
	raw := make([]byte, 8*len(wide))
	EncodeFloat64(raw, wide)
	got := make([]float32, len(wide))
	DecodeFloat32(got, raw, F64)
	for i, want := range []float32{1, 1 + 0x1p-23, 0, 0x1p-149, float32(math.Inf(1))} {
		if got[i] != want {
			t.Errorf("%x: got %x, want %x", wide[i], got[i], want)
		}
	}
	// More elements than DecodeFloat64 holds at once.
	many := make([]float32, 1000)
	for i := range many {
		many[i] = float32(i)
	}
	raw = make([]byte, 2000)
	EncodeFloat32(raw, many, BF16)
	out := make([]float64, 1000)
	DecodeFloat64(out, raw, BF16)
	for i := range out {
		if b := uint32(Float32ToBFloat16(float32(i))) << 16; float32(out[i]) != math.Float32frombits(b) {
			t.Fatalf("element %d: got %v", i, out[i])
		}
	}
}

func TestNoFloatPanics(t *testing.T) {
	for _, d := range []DType{InvalidDType, U8, F8E4M3, I32, C64} {
		for name, f := range map[string]func(){
			"DecodeFloat32": func() { DecodeFloat32(make([]float32, 1), make([]byte, 8), d) },
			"EncodeFloat32": func() { EncodeFloat32(make([]byte, 8), make([]float32, 1), d) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s of %s did not panic", name, d)
					}
				}()
				f()
			}()
		}
		if _, err := (Tensor{Name: "x", DType: d, Shape: []int64{1}}).Float32s(); err == nil {
			t.Errorf("Float32s of %s: no error", d)
		}
	}
}

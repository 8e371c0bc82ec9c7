package kernel

import (
	"encoding/binary"
	"math"
	"math/big"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

func encode64(d formats.DType, v ...float64) []byte {
	out := make([]byte, len(v)*int(d.Bits()/8))
	if d == formats.F64 {
		formats.EncodeFloat64(out, v)
		return out
	}
	narrow := make([]float32, len(v))
	for i, x := range v {
		narrow[i] = float32(x)
	}
	formats.EncodeFloat32(out, narrow, d)
	return out
}

// TestConvertWidens takes every 16-bit pattern to F32 and F64 and back.
func TestConvertWidens(t *testing.T) {
	for _, from := range []formats.DType{formats.F16, formats.BF16} {
		src := make([]byte, 2<<16)
		for i := range 1 << 16 {
			binary.LittleEndian.PutUint16(src[2*i:], uint16(i))
		}
		want := make([]float64, 1<<16)
		formats.DecodeFloat64(want, src, from)
		for _, to := range []formats.DType{formats.F32, formats.F64} {
			size := int(to.Bits() / 8)
			wide := make([]byte, size<<16)
			if over, under := Convert(wide, to, src, from, false); over.Count+under != 0 {
				t.Errorf("%s to %s: %d overflow, %d underflow", from, to, over.Count, under)
			}
			got := make([]float64, 1<<16)
			formats.DecodeFloat64(got, wide, to)
			back := make([]byte, len(src))
			Convert(back, from, wide, to, false)
			for i := range want {
				if want[i] != want[i] {
					if got[i] == got[i] || to == formats.F32 && wide[4*i+2]&0x40 == 0 {
						t.Fatalf("%s %#04x to %s is no quiet NaN", from, i, to)
					}
					continue
				}
				if got[i] != want[i] || back[2*i] != src[2*i] || back[2*i+1] != src[2*i+1] {
					t.Fatalf("%s %#04x: got %v in %s, want %v", from, i, got[i], to, want[i])
				}
			}
		}
	}
}

// TestConvertRoundsOnce compares with arbitrary precision, around every kind of tie.
func TestConvertRoundsOnce(t *testing.T) {
	for _, c := range []struct {
		to     formats.DType
		prec   uint
		lowest float64 // spacing of the smallest numbers
	}{{formats.F16, 11, 0x1p-24}, {formats.BF16, 8, 0x1p-133}, {formats.F32, 24, 0x1p-149}} {
		for _, base := range []float64{1, 1.5, 3.9, 1000.25, 0x1p-14, 0x1p-20, 0x1p-25, 0x1p-120, c.lowest, 2 * c.lowest} {
			step := max(math.Ldexp(1, math.Ilogb(base)-int(c.prec)+1), c.lowest)
			if c.to == formats.F16 && base < 0x1p-30 {
				continue
			}
			for k := range 4 {
				for _, off := range []float64{0, 0.5, 0.5 + 0x1p-25, 0.5 - 0x1p-25, 0.5 + 0x1p-28, 0.25} {
					x := (math.Floor(base/step) + float64(k) + off) * step
					dst := make([]byte, int(c.to.Bits()/8))
					Convert(dst, c.to, encode64(formats.F64, x), formats.F64, false)
					var got [1]float64
					formats.DecodeFloat64(got[:], dst, c.to)
					spacing := max(math.Ldexp(1, math.Ilogb(x)-int(c.prec)+1), c.lowest)
					q := new(big.Float).SetPrec(200).Quo(big.NewFloat(x), big.NewFloat(spacing))
					whole, _ := q.Int(nil)
					rest, _ := new(big.Float).Sub(q, new(big.Float).SetInt(whole)).Float64()
					n := whole.Int64()
					if rest > 0.5 || rest == 0.5 && n%2 == 1 {
						n++
					}
					if want := float64(n) * spacing; got[0] != want {
						t.Errorf("%v to %s: got %v, want %v", x, c.to, got[0], want)
					}
				}
			}
		}
	}
}

func TestConvertCounts(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range []struct {
		from, to    formats.DType
		v           []float64
		over, under int64
		first       int64
		saturated   []float64
	}{
		{formats.F32, formats.F16, []float64{1, 65519, 65520, -7e4, 1e-8, 0, inf, nan}, 2, 1, 2, []float64{1, 65504, 65504, -65504, 0, 0, inf, nan}},
		{formats.F32, formats.BF16, []float64{3.38953e38, 3.4e38, -3.4e38, 1e-44, 0x1p-134, 0x1.01p-134, inf}, 2, 2, 1, []float64{0x1.fep127, 0x1.fep127, -0x1.fep127, 0, 0, 0x1p-133, inf}},
		{formats.F64, formats.F32, []float64{1e39, -1e39, 1e-50, 0, -inf, 1e-40}, 2, 1, 0, []float64{math.MaxFloat32, -math.MaxFloat32, 0, 0, -inf, float64(float32(1e-40))}},
		{formats.F64, formats.BF16, []float64{1, 1e300, 1e-300}, 1, 1, 1, []float64{1, 0x1.fep127, 0}},
	} {
		src := encode64(c.from, c.v...)
		dst := make([]byte, len(c.v)*int(c.to.Bits()/8))
		over, under := Convert(dst, c.to, src, c.from, true)
		if over.Count != c.over || under != c.under || over.First != c.first {
			t.Errorf("%s to %s: got %+v and %d, want %d from %d and %d", c.from, c.to, over, under, c.over, c.first, c.under)
		}
		got := make([]float64, len(c.v))
		formats.DecodeFloat64(got, dst, c.to)
		for i, want := range c.saturated {
			if got[i] != want && !(got[i] != got[i] && want != want) {
				t.Errorf("%s %v to %s: got %v, want %v", c.from, c.v[i], c.to, got[i], want)
			}
		}
	}
}

func BenchmarkConvert(b *testing.B) {
	const n = 1 << 20
	src := make([]byte, 4*n)
	for i := range n {
		binary.LittleEndian.PutUint32(src[4*i:], math.Float32bits(float32(i%1000)*0.001))
	}
	dst := make([]byte, 4*n)
	for _, c := range []struct{ from, to formats.DType }{{formats.BF16, formats.F32}, {formats.F32, formats.BF16}, {formats.F32, formats.F16}} {
		b.Run(c.from.String()+"-"+c.to.String(), func(b *testing.B) {
			in, out := n*int(c.from.Bits()/8), n*int(c.to.Bits()/8)
			b.SetBytes(int64(in + out))
			for b.Loop() {
				Convert(dst[:out], c.to, src[:in], c.from, false)
			}
		})
	}
}

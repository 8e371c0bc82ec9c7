package kernel

import (
	"math"

	"github.com/seed-b982eded/graft/formats"
)

// Overflowed says which finite elements became infinite.
type Overflowed struct {
	Count int64
	First int64   // index of the first
	Value float64 // of the first
}

// convertRun is how many elements are converted at once: a few, so that an element that
// overflows delays few others.
const convertRun = 512

// limits are the magnitudes, as bits of a float32, up to which a number becomes zero and
// from which it becomes infinite.
type limits struct{ under, over uint32 }

// limitsOf returns the limits of the types that float32 is narrowed to.
func limitsOf(to formats.DType) limits {
	switch to {
	case formats.F16:
		return limits{0x33000000, 0x477ff000} // 2⁻²⁵, and half way from 65504 to 2¹⁶
	case formats.BF16:
		return limits{0x00008000, 0x7f7f8000} // 2⁻¹³⁴, and half way from the largest to 2¹²⁸
	}
	return limits{}
}

// Convert encodes the elements of src, of float type from, as float type to into dst,
// rounded to nearest even once. NaNs become quiet NaNs. With saturate, finite elements
// that are too large become the largest finite number, and count all the same; others
// become infinite. under counts elements that are zero now and were not.
func Convert(dst []byte, to formats.DType, src []byte, from formats.DType, saturate bool) (over Overflowed, under int64) {
	inSize, outSize := int(from.Bits()/8), int(to.Bits()/8)
	total := len(src) / inSize
	for at := 0; at < total; at += convertRun {
		end := min(at+convertRun, total)
		in, out := src[at*inSize:end*inSize], dst[at*outSize:end*outSize]
		lost, ok := active.convert(out, to, in, from)
		if !ok {
			var o Overflowed
			if o, lost = convert(out, to, in, from, saturate); o.Count > 0 {
				if over.Count == 0 {
					over.First, over.Value = int64(at)+o.First, o.Value
				}
				over.Count += o.Count
			}
		}
		under += lost
	}
	return over, under
}

// convert is [Convert] in Go for at most convertRun elements.
func convert(dst []byte, to formats.DType, src []byte, from formats.DType, saturate bool) (over Overflowed, under int64) {
	limit := limitsOf(to)
	inSize, outSize := int(from.Bits()/8), int(to.Bits()/8)
	n := len(src) / inSize
	var wide [convertRun]float64
	var narrow [convertRun]float32
	if from == formats.F64 {
		formats.DecodeFloat64(wide[:n], src, from)
		for i, x := range wide[:n] {
			narrow[i] = roundOdd(x, to)
		}
	} else {
		formats.DecodeFloat32(narrow[:n], src, from)
	}
	quiet(narrow[:n])
	formats.EncodeFloat32(dst, narrow[:n], to)
	if outSize > inSize || to == formats.F32 && from != formats.F64 {
		return over, under // every element is exact
	}
	for i, f := range narrow[:n] {
		b := math.Float32bits(f) &^ (1 << 31)
		if from != formats.F64 && b-1 >= limit.under && b < limit.over {
			continue
		}
		x := float64(f)
		if from == formats.F64 {
			x = wide[i]
		}
		e := dst[i*outSize : (i+1)*outSize]
		switch {
		case x != 0 && isZero(e):
			under++
		case x-x == 0 && notFinite(e, to) == 0:
			if over.Count == 0 {
				over.First, over.Value = int64(i), x
			}
			over.Count++
			if saturate {
				putLargest(e, to)
			}
		}
	}
	return over, under
}

// quiet sets the quiet bit of NaNs, which a widened signalling one lacks.
func quiet(v []float32) {
	for i, x := range v {
		if x != x {
			v[i] = math.Float32frombits(math.Float32bits(x) | 1<<22)
		}
	}
}

func isZero(p []byte) bool {
	last := len(p) - 1
	for _, x := range p[:last] {
		if x != 0 {
			return false
		}
	}
	return p[last]&0x7f == 0
}

// putLargest replaces an infinity by the largest finite number of its sign: the encoding
// just below.
func putLargest(p []byte, d formats.DType) {
	for i := range p[:len(p)-1] {
		p[i] = 0xff
	}
	sign := p[len(p)-1] & 0x80
	switch d {
	case formats.F16:
		p[1] = sign | 0x7b
	case formats.BF16:
		p[0], p[1] = 0x7f, sign|0x7f
	case formats.F32:
		p[2], p[3] = 0x7f, sign|0x7f
	}
}

// roundOdd narrows a float64 for a later rounding to dtype: to nearest for F32, and
// to odd for F16 and BF16, so that rounding the result again gives what one rounding
// of x would have given.
func roundOdd(x float64, dtype formats.DType) float32 {
	f := float32(x)
	if dtype == formats.F32 || float64(f) == x || f-f != 0 {
		return f
	}
	bits := math.Float32bits(f)
	if bits&1 == 0 {
		if math.Abs(float64(f)) > math.Abs(x) {
			bits--
		} else {
			bits++
		}
	}
	return math.Float32frombits(bits)
}

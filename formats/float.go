package formats

import (
	"encoding/binary"
	"math"
)

// DecodeFloat32 decodes len(dst) elements of type d from src. F16 and BF16 widen
// exactly; F64 rounds to nearest even. It panics when d is no float type or src is
// too short.
func DecodeFloat32(dst []float32, src []byte, d DType) {
	switch d {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		}
	case F16:
		for i := range dst {
			dst[i] = Float16ToFloat32(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:])))
		}
	default:
		panic("formats: " + d.String() + " is no float type")
	}
}

// EncodeFloat32 encodes src as type d into dst, rounding to nearest even; values
// out of range become infinities and NaNs become quiet NaNs. It panics when d is
// no float type or dst is too short.
func EncodeFloat32(dst []byte, src []float32, d DType) {
	switch d {
	case F32:
		for i, x := range src {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(x))
		}
	case BF16:
		for i, x := range src {
			binary.LittleEndian.PutUint16(dst[2*i:], Float32ToBFloat16(x))
		}
	case F16:
		for i, x := range src {
			binary.LittleEndian.PutUint16(dst[2*i:], Float32ToFloat16(x))
		}
	case F64:
		for i, x := range src {
			binary.LittleEndian.PutUint64(dst[8*i:], math.Float64bits(float64(x)))
		}
	default:
		panic("formats: " + d.String() + " is no float type")
	}
}

// DecodeFloat64 decodes len(dst) elements of type d from src exactly.
func DecodeFloat64(dst []float64, src []byte, d DType) {
	if d == F64 {
		for i := range dst {
			dst[i] = math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:]))
		}
		return
	}
	var buf [256]float32
	size := int(d.Bits() / 8)
	for len(dst) > 0 {
		n := min(len(dst), len(buf))
		DecodeFloat32(buf[:n], src, d)
		for i, x := range buf[:n] {
			dst[i] = float64(x)
		}
		dst, src = dst[n:], src[n*size:]
	}
}

// EncodeFloat64 encodes src as F64 into dst.
func EncodeFloat64(dst []byte, src []float64) {
	for i, x := range src {
		binary.LittleEndian.PutUint64(dst[8*i:], math.Float64bits(x))
	}
}

// Float32ToBFloat16 rounds to nearest even. NaN payloads are kept as far as they
// fit and made quiet, as PyTorch and the hardware do.
func Float32ToBFloat16(x float32) uint16 {
	b := math.Float32bits(x)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// Float16ToFloat32 widens an IEEE 754 binary16 exactly.
func Float16ToFloat32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp := uint32(h>>10) & 0x1f
	man := uint32(h & 0x3ff)
	switch {
	case exp == 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | man<<13)
	case exp != 0:
		return math.Float32frombits(sign | (exp+112)<<23 | man<<13)
	}
	// Subnormal: man · 2⁻²⁴, exact in float32.
	x := float32(man) * (1.0 / (1 << 24))
	return math.Float32frombits(math.Float32bits(x) | sign)
}

// Float32ToFloat16 rounds to nearest even; magnitudes from 65520 on become
// infinities, NaNs quiet NaNs.
func Float32ToFloat16(x float32) uint16 {
	b := math.Float32bits(x)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00 | uint16(b>>13&0x3ff)
	case b >= 0x477ff000: // 65520, half way from the largest finite value to 2¹⁶
		return sign | 0x7c00
	case b >= 0x38800000: // 2⁻¹⁴, the smallest normal
		b += 0xfff + b>>13&1
		return sign | uint16(b>>13-112<<10)
	case b < 0x33000000: // below 2⁻²⁵ everything is zero
		return sign
	}
	// Subnormal: the significand, shifted so that one unit is 2⁻²⁴.
	shift := 126 - b>>23
	man := b&0x7fffff | 0x800000
	half := uint32(1) << (shift - 1)
	man += half - 1 + man>>shift&1
	return sign | uint16(man>>shift)
}

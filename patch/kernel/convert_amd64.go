//go:build !noasm

package kernel

import "github.com/seed-b982eded/graft/formats"

// convertGroup is what the conversions in assembly want a multiple of. What is left over
// of a tensor goes to Go.
const convertGroup = 16

// convertAVX2 converts between F32 and the 16-bit types, and between those by way of F32,
// which holds every number of both.
func convertAVX2(dst []byte, to formats.DType, src []byte, from formats.DType) (under int64, ok bool) {
	n := len(src) / int(from.Bits()/8)
	whole := n &^ (convertGroup - 1)
	if whole > 0 {
		switch {
		case from == formats.F32:
			under, ok = narrowAVX2(dst, to, &src[0], whole)
		case to == formats.F32:
			ok = widenAVX2(&dst[0], src, from, whole)
		default:
			var wide [4 * convertRun]byte
			if ok = widenAVX2(&wide[0], src, from, whole); ok {
				under, ok = narrowAVX2(dst, to, &wide[0], whole)
			}
		}
		if !ok || whole == n {
			return under, ok
		}
	}
	over, rest := convert(dst[whole*int(to.Bits()/8):], to, src[whole*int(from.Bits()/8):], from, false)
	return under + rest, over.Count == 0
}

func widenAVX2(dst *byte, src []byte, from formats.DType, n int) (ok bool) {
	switch from {
	case formats.BF16:
		widenBF16_AVX2(dst, &src[0], n)
	case formats.F16:
		widenF16_AVX2(dst, &src[0], n)
	default:
		return false
	}
	return true
}

func narrowAVX2(dst []byte, to formats.DType, src *byte, n int) (under int64, ok bool) {
	limit := limitsOf(to)
	var largest, lost uint32
	switch to {
	case formats.BF16:
		largest, lost = narrowBF16_AVX2(&dst[0], src, n, limit.under+1)
	case formats.F16:
		largest, lost = narrowF16_AVX2(&dst[0], src, n, limit.under+1)
	default:
		return 0, false
	}
	return int64(lost), largest < limit.over
}

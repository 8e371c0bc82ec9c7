//go:build !noasm

package kernel

import (
	"golang.org/x/sys/cpu"

	"github.com/seed-b982eded/graft/formats"
)

// engines returns what this processor can run, the fastest first.
func engines() []engine {
	list := []engine{reference}
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA && hasF16C() {
		list = append([]engine{avx2}, list...)
		if cpu.X86.HasAVX512F {
			list = append([]engine{avx512}, list...)
		}
	}
	return list
}

var (
	avx2 = engine{
		name:      "avx2",
		product32: byRows(product32x1_AVX2, product32x2_AVX2, product32x3_AVX2, product32x4_AVX2, product32x5_AVX2, product32x6_AVX2), panel32: 16,
		product64: byRows(product64x1_AVX2, product64x2_AVX2, product64x3_AVX2, product64x4_AVX2, product64x5_AVX2, product64x6_AVX2), panel64: 8,
		finish32: finish32AVX2, finish64: finish64AVX2, convert: convertAVX2,
	}
	avx512 = engine{
		name:      "avx512",
		product32: byRows(product32x1_AVX512, product32x2_AVX512, product32x3_AVX512, product32x4_AVX512, product32x5_AVX512, product32x6_AVX512), panel32: 32,
		product64: byRows(product64x1_AVX512, product64x2_AVX512, product64x3_AVX512, product64x4_AVX512, product64x5_AVX512, product64x6_AVX512), panel64: 16,
		finish32: finish32AVX2, finish64: finish64AVX2, convert: convertAVX2,
	}
)

// byRows makes a product of those for 1 … rowGroup rows.
func byRows[T Number](ofRows ...func(sum, left, right *T, sumStride, panels, r int, scale T, add bool)) product[T] {
	return func(sum, left, right []T, sumStride, rows, panels, r int, scale T, add bool) {
		if r > 0 {
			ofRows[rows-1](&sum[0], &left[0], &right[0], sumStride, panels, r, scale, add)
		}
	}
}

func finish32AVX2(dst, src []byte, sum []float32, dtype formats.DType) (bad bool) {
	var flags uint32
	n := len(sum)
	whole := n &^ 15
	if whole > 0 {
		switch dtype {
		case formats.BF16:
			flags = finishBF16_AVX2(&dst[0], &src[0], &sum[0], whole)
		case formats.F16:
			flags = finishF16_AVX2(&dst[0], &src[0], &sum[0], whole)
		case formats.F32:
			flags = finishF32_AVX2(&dst[0], &src[0], &sum[0], whole)
		}
	}
	if whole == n {
		return flags != 0
	}
	at := whole * int(dtype.Bits()/8)
	return add(dst[at:], src[at:], sum[whole:], dtype) || flags != 0
}

func finish64AVX2(dst, src []byte, sum []float64, dtype formats.DType) (bad bool) {
	var flags uint32
	whole := len(sum) &^ 3
	if whole > 0 {
		flags = finishF64_AVX2(&dst[0], &src[0], &sum[0], whole)
	}
	if whole == len(sum) {
		return flags != 0
	}
	return add(dst[8*whole:], src[8*whole:], sum[whole:], dtype) || flags != 0
}

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
	avx2 = engine{"avx2", byRows(reference.product32, product32x4_AVX2, product32x1_AVX2, 16),
		byRows(reference.product64, product64x4_AVX2, product64x1_AVX2, 8), finish32AVX2, finish64AVX2}
	avx512 = engine{"avx512", byRows(reference.product32, product32x4_AVX512, product32x1_AVX512, 32),
		byRows(reference.product64, product64x4_AVX512, product64x1_AVX512, 16), finish32AVX2, finish64AVX2}
)

type rowProduct[T Number] = func(sum, left, right *T, sumStride, stride, cols, r int, scale T, add bool)

// byRows makes a product of any size from ones of four rows and of one row, whose
// columns are a multiple of step; columns that are left over go to the Go loop.
func byRows[T Number](rest product[T], four, one rowProduct[T], step int) product[T] {
	return func(sum, left, right []T, sumStride, stride, rows, cols, r int, scale T, add bool) {
		whole := cols / step * step
		if whole < cols {
			rest(sum[whole:], left, right[whole:], sumStride, stride, rows, cols-whole, r, scale, add)
		}
		if whole == 0 {
			return
		}
		i := 0
		for ; i+4 <= rows; i += 4 {
			four(&sum[i*sumStride], &left[i*r], &right[0], sumStride, stride, whole, r, scale, add)
		}
		for ; i < rows; i++ {
			one(&sum[i*sumStride], &left[i*r], &right[0], sumStride, stride, whole, r, scale, add)
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
	at := whole * int(dtype.Bits()/8)
	return add(dst[at:], src[at:], sum[whole:], dtype) || flags != 0
}

func finish64AVX2(dst, src []byte, sum []float64, dtype formats.DType) (bad bool) {
	var flags uint32
	whole := len(sum) &^ 3
	if whole > 0 {
		flags = finishF64_AVX2(&dst[0], &src[0], &sum[0], whole)
	}
	return add(dst[8*whole:], src[8*whole:], sum[whole:], dtype) || flags != 0
}

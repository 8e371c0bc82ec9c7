//go:build !noasm

package gemm

import (
	"unsafe"

	"golang.org/x/sys/cpu"

	"github.com/seed-b982eded/graft/formats"
)

// engines32 returns what this processor can run, the fastest first.
func engines32() []*engine[float32] { return supported(portable[float32](), avx2x32, avx512x32) }

// engines64 is engines32 for float64.
func engines64() []*engine[float64] { return supported(portable[float64](), avx2x64, avx512x64) }

func supported[T number](portable, avx2, avx512 *engine[T]) []*engine[T] {
	list := []*engine[T]{portable}
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA && hasF16C() {
		list = append([]*engine[T]{avx2}, list...)
		if cpu.X86.HasAVX512F {
			list = append([]*engine[T]{avx512}, list...)
		}
	}
	return list
}

var (
	avx2x32 = &engine[float32]{
		name: "avx2",
		wide: shape[float32]{rows: 6, cols: 16, tiles: []tile[float32]{
			tile32x1v2_AVX2, tile32x2v2_AVX2, tile32x3v2_AVX2, tile32x4v2_AVX2, tile32x5v2_AVX2, tile32x6v2_AVX2}},
		narrow: shape[float32]{rows: 12, cols: 8, tiles: []tile[float32]{
			tile32x1v1_AVX2, tile32x2v1_AVX2, nil, tile32x4v1_AVX2, nil, tile32x6v1_AVX2,
			nil, tile32x8v1_AVX2, nil, nil, nil, tile32x12v1_AVX2}},
		interleave: interleaveAVX2[float32], transpose: transpose32AVX2, widen: widenAVX2,
	}
	avx512x32 = &engine[float32]{
		name: "avx512",
		wide: shape[float32]{rows: 14, cols: 32, tiles: []tile[float32]{
			tile32x1v2_AVX512, tile32x2v2_AVX512, tile32x3v2_AVX512, tile32x4v2_AVX512, nil, tile32x6v2_AVX512, nil,
			tile32x8v2_AVX512, nil, nil, tile32x11v2_AVX512, nil, nil, tile32x14v2_AVX512}},
		narrow: shape[float32]{rows: 14, cols: 16, tiles: []tile[float32]{
			tile32x1v1_AVX512, tile32x2v1_AVX512, nil, tile32x4v1_AVX512, nil, nil, nil,
			tile32x8v1_AVX512, nil, nil, nil, nil, nil, tile32x14v1_AVX512}},
		interleave: interleaveAVX2[float32], transpose: transpose32AVX2, widen: widenAVX2,
	}
	avx2x64 = &engine[float64]{
		name: "avx2",
		wide: shape[float64]{rows: 6, cols: 8, tiles: []tile[float64]{
			tile64x1v2_AVX2, tile64x2v2_AVX2, tile64x3v2_AVX2, tile64x4v2_AVX2, tile64x5v2_AVX2, tile64x6v2_AVX2}},
		narrow: shape[float64]{rows: 12, cols: 4, tiles: []tile[float64]{
			tile64x1v1_AVX2, tile64x2v1_AVX2, nil, tile64x4v1_AVX2, nil, tile64x6v1_AVX2,
			nil, tile64x8v1_AVX2, nil, nil, nil, tile64x12v1_AVX2}},
		interleave: interleaveAVX2[float64], transpose: transpose64AVX2, widen: widen[float64],
	}
	avx512x64 = &engine[float64]{
		name: "avx512",
		wide: shape[float64]{rows: 14, cols: 16, tiles: []tile[float64]{
			tile64x1v2_AVX512, tile64x2v2_AVX512, tile64x3v2_AVX512, tile64x4v2_AVX512, nil, tile64x6v2_AVX512, nil,
			tile64x8v2_AVX512, nil, nil, tile64x11v2_AVX512, nil, nil, tile64x14v2_AVX512}},
		narrow: shape[float64]{rows: 14, cols: 8, tiles: []tile[float64]{
			tile64x1v1_AVX512, tile64x2v1_AVX512, nil, tile64x4v1_AVX512, nil, nil, nil,
			tile64x8v1_AVX512, nil, nil, nil, nil, nil, tile64x14v1_AVX512}},
		interleave: interleaveAVX2[float64], transpose: transpose64AVX2, widen: widen[float64],
	}
)

// interleaveAVX2 copies whole vectors as long as neither src nor dst ends within one. No
// engine has panels wider than the 128 bytes of the widest copy.
func interleaveAVX2[T number](dst []T, dstStep int, src []T, srcStep, n, width, ahead int) {
	var zero T
	size := int(unsafe.Sizeof(zero))
	run, copyRuns := 128/size, copy128_AVX2
	switch {
	case width*size <= 32:
		run, copyRuns = 32/size, copy32_AVX2
	case width*size <= 64:
		run, copyRuns = 64/size, copy64_AVX2
	}
	whole := min(n, steps(len(dst), dstStep, run), steps(len(src), srcStep, run))
	if whole > 0 {
		copyRuns((*byte)(unsafe.Pointer(&dst[0])), (*byte)(unsafe.Pointer(&src[0])), whole, dstStep*size, srcStep*size, ahead*size)
	}
	if whole < n {
		interleave(dst[whole*dstStep:], dstStep, src[whole*srcStep:], srcStep, n-whole, width)
	}
}

// steps returns how many runs, step apart, fit into length.
func steps(length, step, run int) int {
	if length < run {
		return 0
	}
	return (length-run)/step + 1
}

func transpose32AVX2(dst []float32, dstStep int, src []float32, srcStep, rows, n int) {
	// The upper rows first: what they write too much is then overwritten.
	for i := (rows - 1) &^ 7; i >= 0; i -= 8 {
		high := min(8, rows-i)
		whole := min(n, steps(len(dst)-i, dstStep, 8)) &^ 7
		if whole > 0 {
			var list [8]*float32
			for r := range list {
				list[r] = &src[(i+min(r, high-1))*srcStep]
			}
			transpose32_AVX2(&dst[i], dstStep, &list, whole)
		}
		if whole < n {
			transpose(dst[whole*dstStep+i:], dstStep, src[i*srcStep+whole:], srcStep, high, n-whole)
		}
	}
}

func transpose64AVX2(dst []float64, dstStep int, src []float64, srcStep, rows, n int) {
	for i := (rows - 1) &^ 3; i >= 0; i -= 4 {
		high := min(4, rows-i)
		whole := min(n, steps(len(dst)-i, dstStep, 4)) &^ 3
		if whole > 0 {
			var list [8]*float64
			for r := range 4 {
				list[r] = &src[(i+min(r, high-1))*srcStep]
			}
			transpose64_AVX2(&dst[i], dstStep, &list, whole)
		}
		if whole < n {
			transpose(dst[whole*dstStep+i:], dstStep, src[i*srcStep+whole:], srcStep, high, n-whole)
		}
	}
}

func widenAVX2(dst []float32, src []byte, dtype formats.DType) {
	whole := len(dst) &^ 7
	if whole > 0 {
		switch dtype {
		case formats.F32: // as it lies in memory here
			copy(unsafe.Slice((*byte)(unsafe.Pointer(&dst[0])), 4*whole), src)
		case formats.BF16:
			widenBF16_AVX2(&dst[0], &src[0], whole)
		case formats.F16:
			widenF16_AVX2(&dst[0], &src[0], whole)
		default:
			whole = 0
		}
	}
	if whole < len(dst) {
		widen(dst[whole:], src[whole*int(dtype.Bits()/8):], dtype)
	}
}

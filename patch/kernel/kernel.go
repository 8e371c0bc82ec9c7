// Package kernel is the arithmetic of merging: the same bits on every processor,
// whatever the block size or the number of workers.
//
// # The arithmetic
//
// For an element W of the base and the row l of the left and column c of the right
// factor that meet there, with rank r and scale s rounded to float32 once:
//
//	acc = 0; for k = 0 … r−1: acc = fma(l[k], c[k], acc)
//	Δ   = acc · s
//	W'  = round(W + Δ)
//
// Every step is rounded to float32, to nearest even; fma rounds once. round is to the
// base's dtype, to nearest even. Several updates add their Δs in order before the last
// step. F64 bases do the same in float64 throughout.
//
// The order of operations is that of PyTorch's float32 matrix product on CPUs with
// fma, so the results agree with PEFT's to the bit in nearly all elements.
//
// # How to choose
//
// Package patch calls [Merge32] or [Merge64] per block of rows. The functions know
// neither tensors nor files.
package kernel

//go:generate sh -c "cd asm && go run . -pkg kernel -out ../kernel_amd64.s -stubs ../stubs_amd64.go"

import (
	"math"

	"github.com/seed-b982eded/graft/formats"
)

// Update32 is one low-rank update of a block of rows, in float32.
type Update32 struct {
	Left  []float32 // rows × R: the coefficients of each row
	Right []float32 // R × cols
	R     int
	Scale float32
}

// Update64 is [Update32] in float64.
type Update64 struct {
	Left  []float64
	Right []float64
	R     int
	Scale float64
}

// Columns are worked on in tiles: a tile's sums stay in the first-level cache, and the
// piece of the right factor that it needs in the second.
const (
	maxTile     = 1024
	minTile     = 128
	rightFloats = 32 << 10 // of a right factor in a tile
	rowGroup    = 4        // rows that share a pass over that piece
)

func tileFor(r int) int {
	return min(maxTile, max(minTile, rightFloats/max(r, 1)&^(minTile-1)))
}

// Merge32 writes to dst the merged rows of a base of dtype F32, F16 or BF16: src holds
// the base's rows, cols elements each, encoded as dst will be. It returns the index
// of the first element that is not finite, or −1. dst and src may be the same.
func Merge32(dst, src []byte, dtype formats.DType, cols int, updates []Update32) int {
	size := int(dtype.Bits() / 8)
	rows := len(src) / size / max(cols, 1)
	r := 0
	for _, u := range updates {
		r = max(r, u.R)
	}
	tile, bad := tileFor(r), false
	sum := make([]float32, rowGroup*tile)
	for c := 0; c < cols; c += tile {
		n := min(tile, cols-c)
		for row := 0; row < rows; row += rowGroup {
			group := min(rowGroup, rows-row)
			for j, u := range updates {
				active.product32(sum, u.Left[row*u.R:], u.Right[c:], tile, cols, group, n, u.R, u.Scale, j > 0)
			}
			for i := range group {
				at := ((row+i)*cols + c) * size
				bad = active.finish32(dst[at:at+n*size], src[at:at+n*size], sum[i*tile:i*tile+n], dtype) || bad
			}
		}
	}
	if bad {
		return notFinite(dst[:rows*cols*size], dtype)
	}
	return -1
}

// Merge64 is [Merge32] for a base of dtype F64.
func Merge64(dst, src []byte, cols int, updates []Update64) int {
	rows := len(src) / 8 / max(cols, 1)
	r := 0
	for _, u := range updates {
		r = max(r, 2*u.R)
	}
	tile, bad := tileFor(r), false
	sum := make([]float64, rowGroup*tile)
	for c := 0; c < cols; c += tile {
		n := min(tile, cols-c)
		for row := 0; row < rows; row += rowGroup {
			group := min(rowGroup, rows-row)
			for j, u := range updates {
				active.product64(sum, u.Left[row*u.R:], u.Right[c:], tile, cols, group, n, u.R, u.Scale, j > 0)
			}
			for i := range group {
				at := ((row+i)*cols + c) * 8
				bad = active.finish64(dst[at:at+n*8], src[at:at+n*8], sum[i*tile:i*tile+n]) || bad
			}
		}
	}
	if bad {
		return notFinite(dst[:rows*cols*8], formats.F64)
	}
	return -1
}

// RoundOdd32 narrows a float64 for a later rounding to dtype: to nearest for F32, and
// to odd for F16 and BF16, so that rounding the result again gives what one rounding
// of x would have given.
func RoundOdd32(x float64, dtype formats.DType) float32 {
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

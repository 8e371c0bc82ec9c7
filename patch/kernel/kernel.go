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

// tile is how many columns are worked on at once: accumulators, sums and the piece of
// a right factor's row stay in the first-level cache.
const tile = 1024

// Merge32 writes to dst the merged rows of a base of dtype F32, F16 or BF16: src holds
// the base's rows, cols elements each, encoded as dst will be. It returns the index
// of the first element that is not finite, or −1. dst and src may be the same.
func Merge32(dst, src []byte, dtype formats.DType, cols int, updates []Update32) int {
	size := int(dtype.Bits() / 8)
	rows := len(src) / size / max(cols, 1)
	var acc, sum, w [tile]float32
	for row := range rows {
		for c := 0; c < cols; c += tile {
			n := min(tile, cols-c)
			for j, u := range updates {
				Product32(acc[:n], u.Left[row*u.R:(row+1)*u.R], u.Right, cols, c)
				if j == 0 {
					for i, x := range acc[:n] {
						sum[i] = x * u.Scale
					}
					continue
				}
				for i, x := range acc[:n] {
					sum[i] += float32(x * u.Scale)
				}
			}
			at := (row*cols + c) * size
			formats.DecodeFloat32(w[:n], src[at:], dtype)
			for i, d := range sum[:n] {
				w[i] += d
			}
			formats.EncodeFloat32(dst[at:], w[:n], dtype)
			if bad := notFinite(dst[at:at+n*size], dtype); bad >= 0 {
				return row*cols + c + bad
			}
		}
	}
	return -1
}

// Product32 sets acc to the elements c … c+len(acc) of the row left·right, where right
// has len(left) rows of cols elements.
func Product32(acc []float32, left, right []float32, cols, c int) {
	clear(acc)
	for k, x := range left {
		axpy(acc, x, right[k*cols+c:])
	}
}

// axpy sets acc[i] = fma(x, v[i], acc[i]), correctly rounded to float32.
//
// The product of two float32 is exact in float64. Their sum with acc is rounded to
// float64 and then to float32, which is wrong only when the first rounding lands on
// the middle between two float32 neighbours: those cases, and results so small that
// the middles lie elsewhere, go to [fma32].
func axpy(acc []float32, x float32, v []float32) {
	xd := float64(x)
	v = v[:len(acc)]
	for i, a := range acc {
		s := xd*float64(v[i]) + float64(a)
		bits := math.Float64bits(s)
		if bits&(1<<29-1) == 1<<28 || bits>>52&0x7ff-1 < 896 {
			acc[i] = fma32(x, v[i], a)
			continue
		}
		acc[i] = float32(s)
	}
}

// fma32 returns x·y + z rounded once to float32. The sum is formed in float64 and
// rounded to odd there, which a second rounding to 24 bits cannot spoil (Boldo and
// Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
func fma32(x, y, z float32) float32 {
	p := float64(x) * float64(y)
	c := float64(z)
	s := p + c
	// The error of the sum, by Knuth's two-sum.
	t := s - p
	e := (p - (s - t)) + (c - t)
	bits := math.Float64bits(s)
	if e != 0 && bits&1 == 0 && !math.IsInf(s, 0) && e == e {
		if (e > 0) == (s > 0) {
			bits++
		} else {
			bits--
		}
	}
	return float32(math.Float64frombits(bits))
}

// Merge64 is [Merge32] for a base of dtype F64.
func Merge64(dst, src []byte, cols int, updates []Update64) int {
	rows := len(src) / 8 / max(cols, 1)
	var acc, sum, w [tile]float64
	for row := range rows {
		for c := 0; c < cols; c += tile {
			n := min(tile, cols-c)
			for j, u := range updates {
				Product64(acc[:n], u.Left[row*u.R:(row+1)*u.R], u.Right, cols, c)
				if j == 0 {
					for i, x := range acc[:n] {
						sum[i] = x * u.Scale
					}
					continue
				}
				for i, x := range acc[:n] {
					sum[i] += float64(x * u.Scale)
				}
			}
			at := (row*cols + c) * 8
			formats.DecodeFloat64(w[:n], src[at:], formats.F64)
			for i, d := range sum[:n] {
				w[i] += d
				if math.IsNaN(w[i]) || math.IsInf(w[i], 0) {
					return row*cols + c + i
				}
			}
			formats.EncodeFloat64(dst[at:], w[:n])
		}
	}
	return -1
}

// Product64 is [Product32] in float64.
func Product64(acc []float64, left, right []float64, cols, c int) {
	clear(acc)
	for k, x := range left {
		v := right[k*cols+c:]
		for i, a := range acc {
			acc[i] = math.FMA(x, v[i], a)
		}
	}
}

// notFinite returns the index of the first infinity or NaN among encoded elements, or
// −1. It looks at the encoded form because rounding to F16 can overflow.
func notFinite(p []byte, dtype formats.DType) int {
	switch dtype {
	case formats.F32:
		for i := 0; i < len(p); i += 4 {
			if p[i+3]&0x7f == 0x7f && p[i+2]&0x80 != 0 {
				return i / 4
			}
		}
	case formats.BF16:
		for i := 0; i < len(p); i += 2 {
			if p[i+1]&0x7f == 0x7f && p[i]&0x80 != 0 {
				return i / 2
			}
		}
	case formats.F16:
		for i := 0; i < len(p); i += 2 {
			if p[i+1]&0x7c == 0x7c {
				return i / 2
			}
		}
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

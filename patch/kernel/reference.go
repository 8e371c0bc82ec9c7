package kernel

import (
	"math"

	"github.com/seed-b982eded/graft/formats"
)

// product sets, or adds to, the sums of up to rowGroup rows and some panels of columns:
//
//	sum[i·sumStride + p·width + c] (+)= scale · Σₖ left[k·rows+i] · right[(p·r+k)·width+c]
//
// width is the engine's panel. The factors are packed so that they are read from front to
// back: see [packLeft] and [packRight].
type product[T Number] = func(sum, left, right []T, sumStride, rows, panels, r int, scale T, add bool)

// finish adds sum to the elements in src and encodes them into dst, and reports
// whether one of them is not finite.
type finish[T Number] = func(dst, src []byte, sum []T, dtype formats.DType) (bad bool)

// converter converts at most convertRun elements as [Convert] does, and returns how many
// that were not zero are zero now. It reports false, whatever is in dst then, if one
// overflowed or the types are none of its own: the caller does all of them in Go, then.
type converter = func(dst []byte, to formats.DType, src []byte, from formats.DType) (under int64, ok bool)

// engine is an implementation of the arithmetic. All give the same bits.
type engine struct {
	name             string
	product32        product[float32]
	product64        product[float64]
	panel32, panel64 int // columns of a panel of the right factor
	finish32         finish[float32]
	finish64         finish[float64]
	convert          converter
}

const goPanel = 64

// reference is the arithmetic in Go, which the others are measured by.
var reference = engine{
	name:      "go",
	product32: multiply(axpy), product64: multiply(axpy64), panel32: goPanel, panel64: goPanel,
	finish32: add[float32], finish64: add[float64],
	convert: func([]byte, formats.DType, []byte, formats.DType) (int64, bool) { return 0, false },
}

// active is the fastest engine that the processor has.
var active = engines()[0]

// Engine names what computes here: "avx512", "avx2" or "go". The bits of a merge do not
// depend on it.
func Engine() string { return active.name }

// ops returns the active engine's functions for a type.
func ops[T Number]() (product[T], finish[T], int) {
	if p, ok := any(active.product32).(product[T]); ok {
		return p, any(active.finish32).(finish[T]), active.panel32
	}
	return any(active.product64).(product[T]), any(active.finish64).(finish[T]), active.panel64
}

// multiply makes a product of axpy, which sets acc[i] = fma(x, v[i], acc[i]).
func multiply[T Number](axpy func(acc []T, x T, v []T)) product[T] {
	return func(sum, left, right []T, sumStride, rows, panels, r int, scale T, add bool) {
		var acc [goPanel]T
		for p := range panels {
			for i := range rows {
				clear(acc[:])
				for k := range r {
					axpy(acc[:], left[k*rows+i], right[(p*r+k)*goPanel:])
				}
				out := sum[i*sumStride+p*goPanel:]
				for c, x := range acc {
					if d := T(x * scale); add {
						out[c] += d
					} else {
						out[c] = d
					}
				}
			}
		}
	}
}

func add[T Number](dst, src []byte, sum []T, dtype formats.DType) (bad bool) {
	var w [maxTile]T
	v := w[:len(sum)]
	decode(v, src, dtype)
	for i, d := range sum {
		v[i] += d
	}
	encode(dst, v, dtype)
	return notFinite(dst, dtype) >= 0
}

func axpy64(acc []float64, x float64, v []float64) {
	v = v[:len(acc)]
	for i, a := range acc {
		acc[i] = math.FMA(x, v[i], a)
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
	case formats.F64:
		for i := 0; i < len(p); i += 8 {
			if p[i+7]&0x7f == 0x7f && p[i+6]&0xf0 == 0xf0 {
				return i / 8
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

package gemm

import (
	"unsafe"

	"github.com/seed-b982eded/graft/formats"
)

// number is the type of a product's elements.
type number interface{ float32 | float64 }

// depth is how many terms of a sum are added up before the result is added to C. It is
// part of the arithmetic, and alike for all engines. A panel of b of so many steps fills
// half of a first-level cache of 32 KiB.
const depth = 256

// tile adds products of rows of a and columns of b, whose numbers are the tile's own, to
// groups of that many rows and columns of c: for each group g, row i and column j, with the
// k steps p in order,
//
//	sum = 0; sum = fma(a[g·aGroup+i·aRow+p·aStep], b[g·bGroup+p·bStep+j], sum)
//	c[g·cGroup+i·cRow+j] = fma(sum, alpha, c[…]), or without add: sum·alpha
//
// k and groups are positive.
type tile[T number] func(k, groups int, a *T, aRow, aStep, aGroup int, b *T, bStep, bGroup int, c *T, cRow, cGroup int, alpha T, add bool)

// shape is a kind of tiles: at most rows × cols outputs.
type shape[T number] struct {
	rows, cols int
	tiles      []tile[T] // by rows − 1; nil where there is none of that height
}

// height returns how many rows to take next when left rows are left: the tallest tile, but
// for the end, where the last two tiles share, as a low one keeps the multipliers waiting.
func (s *shape[T]) height(left int) int {
	h := min(left, s.rows)
	if left > s.rows && left < 2*s.rows {
		h = (left + 1) / 2
	}
	for s.tiles[h-1] == nil {
		h--
	}
	return h
}

// groups returns how many of left rows go into tiles of the height that is next.
func (s *shape[T]) groups(left int) (height, groups int) {
	if left >= 2*s.rows {
		return s.rows, left/s.rows - 1
	}
	return s.height(left), 1
}

// engine is a way to compute the products of one type.
type engine[T number] struct {
	name   string
	wide   shape[T]
	narrow shape[T] // for products of at most narrow.cols columns

	// interleave writes width elements, at least 1, of each of n rows of src, srcStep
	// apart, to places dstStep apart. It may write a few more behind each, but not
	// behind dst. What lies ahead elements further in src is wanted soon.
	interleave func(dst []T, dstStep int, src []T, srcStep, n, width, ahead int)
	// transpose writes the first n columns of rows of src, srcStep apart, to places
	// dstStep apart. It may write a few more behind each, but not behind dst.
	transpose func(dst []T, dstStep int, src []T, srcStep, rows, n int)
	// widen decodes elements of a type of package formats.
	widen func(dst []T, src []byte, dtype formats.DType)
}

// slack is how many elements an engine may write behind what it is asked for.
const slack = 16

// The engines in Go. Products are rounded before they are added, so that no compiler joins
// the two: the results are those of IEEE arithmetic on any processor.
func portable[T number]() *engine[T] {
	s := shape[T]{rows: 2, cols: 4, tiles: []tile[T]{portableTile1[T], portableTile2[T]}}
	return &engine[T]{
		name: "go", wide: s, narrow: s,
		interleave: func(dst []T, dstStep int, src []T, srcStep, n, width, _ int) {
			interleave(dst, dstStep, src, srcStep, n, width)
		},
		transpose: transpose[T], widen: widen[T],
	}
}

func portableTile2[T number](k, groups int, a *T, aRow, aStep, aGroup int, b *T, bStep, bGroup int, c *T, cRow, cGroup int, alpha T, add bool) {
	as := unsafe.Slice(a, (groups-1)*aGroup+aRow+(k-1)*aStep+1)
	bs := unsafe.Slice(b, (groups-1)*bGroup+(k-1)*bStep+4)
	cs := unsafe.Slice(c, (groups-1)*cGroup+cRow+4)
	for g := range groups {
		var s00, s01, s02, s03, s10, s11, s12, s13 T
		at, from := g*aGroup, g*bGroup
		for range k {
			r := bs[from : from+4 : from+4]
			x, y := as[at], as[at+aRow]
			s00 += T(x * r[0])
			s01 += T(x * r[1])
			s02 += T(x * r[2])
			s03 += T(x * r[3])
			s10 += T(y * r[0])
			s11 += T(y * r[1])
			s12 += T(y * r[2])
			s13 += T(y * r[3])
			at += aStep
			from += bStep
		}
		deliver(cs[g*cGroup:], [4]T{s00, s01, s02, s03}, alpha, add)
		deliver(cs[g*cGroup+cRow:], [4]T{s10, s11, s12, s13}, alpha, add)
	}
}

func portableTile1[T number](k, groups int, a *T, aRow, aStep, aGroup int, b *T, bStep, bGroup int, c *T, cRow, cGroup int, alpha T, add bool) {
	as := unsafe.Slice(a, (groups-1)*aGroup+(k-1)*aStep+1)
	bs := unsafe.Slice(b, (groups-1)*bGroup+(k-1)*bStep+4)
	cs := unsafe.Slice(c, (groups-1)*cGroup+4)
	for g := range groups {
		var s [4]T
		at, from := g*aGroup, g*bGroup
		for range k {
			r := bs[from : from+4 : from+4]
			x := as[at]
			s[0] += T(x * r[0])
			s[1] += T(x * r[1])
			s[2] += T(x * r[2])
			s[3] += T(x * r[3])
			at += aStep
			from += bStep
		}
		deliver(cs[g*cGroup:], s, alpha, add)
	}
}

func deliver[T number](c []T, sum [4]T, alpha T, add bool) {
	for j, s := range sum {
		if add {
			c[j] += T(s * alpha)
		} else {
			c[j] = s * alpha
		}
	}
}

func interleave[T number](dst []T, dstStep int, src []T, srcStep, n, width int) {
	for p := range n {
		copy(dst[p*dstStep:p*dstStep+width], src[p*srcStep:])
	}
}

func transpose[T number](dst []T, dstStep int, src []T, srcStep, rows, n int) {
	for i := range rows {
		for p, x := range src[i*srcStep : i*srcStep+n] {
			dst[p*dstStep+i] = x
		}
	}
}

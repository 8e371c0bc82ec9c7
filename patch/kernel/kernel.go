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
// An update with a magnitude (DoRA) scales the sum instead, per row or per column:
//
//	n  = √Σ (W + Δ)²  over the row or column, summed in float64
//	W' = round((m/n) · (W + Δ))
//
// # How to choose
//
// Package patch calls [Merge] or [MergeMagnitude] per block of rows, with float64 for
// F64 bases and float32 for the others. The functions know neither tensors nor files.
package kernel

//go:generate sh -c "cd asm && go run . -pkg kernel -out ../kernel_amd64.s -stubs ../stubs_amd64.go"

import (
	"math"

	"github.com/seed-b982eded/graft/formats"
)

// Number is the type that a merge is computed in: float64 for F64 bases, else float32.
type Number interface{ float32 | float64 }

// Update is one low-rank update of a block of rows.
type Update[T Number] struct {
	Left  []T // rows × R: the coefficients of each row
	Right []T // R × cols
	R     int
	Scale T
}

// Columns are worked on in tiles: a tile's sums stay in the first-level cache, and the
// piece of the right factor that it needs in the second.
const (
	maxTile    = 1024
	minTile    = 128
	rightBytes = 128 << 10 // of a right factor in a tile
	rowGroup   = 4         // rows that share a pass over that piece
)

func tileFor[T Number](updates []Update[T], size int) int {
	r := 1
	for _, u := range updates {
		r = max(r, u.R)
	}
	return min(maxTile, max(minTile, rightBytes/size/r&^(minTile-1)))
}

// Block is a block of rows of a base weight.
type Block struct {
	Src   []byte // the base's rows, encoded
	DType formats.DType
	Cols  int
}

func (b Block) size() int { return int(b.DType.Bits() / 8) }

func (b Block) rows() int { return len(b.Src) / b.size() / max(b.Cols, 1) }

// Merge writes the merged rows to dst, encoded as the base's are; dst may be b.Src. With
// roundDelta each sum of Δs is rounded to the base's dtype before it is added, as PEFT
// does for some layers. It returns the index of the first element that is not finite,
// or −1.
func Merge[T Number](dst []byte, b Block, updates []Update[T], roundDelta bool) int {
	product, finish := ops[T]()
	rows, size := b.rows(), b.size()
	tile, bad := tileFor(updates, size), false
	sum := make([]T, rowGroup*tile)
	var scratch []byte
	if roundDelta {
		scratch = make([]byte, tile*size)
	}
	for c := 0; c < b.Cols; c += tile {
		n := min(tile, b.Cols-c)
		for row := 0; row < rows; row += rowGroup {
			group := min(rowGroup, rows-row)
			for j, u := range updates {
				product(sum, u.Left[row*u.R:], u.Right[c:], tile, b.Cols, group, n, u.R, u.Scale, j > 0)
			}
			for i := range group {
				delta := sum[i*tile : i*tile+n]
				if roundDelta {
					encode(scratch, delta, b.DType)
					decode(delta, scratch, b.DType)
				}
				at := ((row+i)*b.Cols + c) * size
				bad = finish(dst[at:at+n*size], b.Src[at:at+n*size], delta, b.DType) || bad
			}
		}
	}
	if bad {
		return notFinite(dst[:rows*b.Cols*size], b.DType)
	}
	return -1
}

// Sums calls f for each row of a block with W + Δ, unrounded. The slice is reused.
func Sums[T Number](b Block, updates []Update[T], f func(row int, sum []T)) {
	product, _ := ops[T]()
	size := b.size()
	sum, w := make([]T, b.Cols), make([]T, b.Cols)
	for row := range b.rows() {
		for c := 0; c < b.Cols; c += maxTile {
			n := min(maxTile, b.Cols-c)
			for j, u := range updates {
				product(sum[c:], u.Left[row*u.R:], u.Right[c:], b.Cols, b.Cols, 1, n, u.R, u.Scale, j > 0)
			}
		}
		decode(w, b.Src[row*b.Cols*size:], b.DType)
		for i, x := range w {
			sum[i] = x + sum[i]
		}
		f(row, sum)
	}
}

// MergeMagnitude is [Merge] for one update with a magnitude. factor gives the factor m/n
// of a row, whose unrounded sum it gets, or of each column.
func MergeMagnitude[T Number](dst []byte, b Block, update Update[T], factor func(row int, sum []T) (perRow T, perColumn []T)) int {
	size := b.size()
	out := make([]T, b.Cols)
	Sums(b, []Update[T]{update}, func(row int, sum []T) {
		f, columns := factor(row, sum)
		for i, x := range sum {
			if columns != nil {
				f = columns[i]
			}
			out[i] = f * x
		}
		encode(dst[row*b.Cols*size:], out, b.DType)
	})
	return notFinite(dst[:b.rows()*b.Cols*size], b.DType)
}

// AddProduct adds scale · left·right to sums, row by row, in float64: the exact delta, to
// compare rounded results with.
func AddProduct[T Number](sums []float64, left, right []T, r, cols int, scale float64) {
	for i := range len(sums) / cols {
		row := sums[i*cols : (i+1)*cols]
		for k, x := range left[i*r : (i+1)*r] {
			if x == 0 {
				continue
			}
			f := scale * float64(x)
			for c, y := range right[k*cols : (k+1)*cols] {
				row[c] += f * float64(y)
			}
		}
	}
}

// Norm returns the Euclidean norm of a row, summed in float64.
func Norm[T Number](v []T) T {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	return Root[T](sum)
}

// Root returns the square root of a sum of squares in the type that norms have.
func Root[T Number](sum float64) T { return T(math.Sqrt(sum)) }

func decode[T Number](dst []T, src []byte, dtype formats.DType) {
	switch dst := any(dst).(type) {
	case []float32:
		formats.DecodeFloat32(dst, src, dtype)
	case []float64:
		formats.DecodeFloat64(dst, src, dtype)
	}
}

// encode rounds to dtype, which is F64 for float64.
func encode[T Number](dst []byte, src []T, dtype formats.DType) {
	switch src := any(src).(type) {
	case []float32:
		formats.EncodeFloat32(dst, src, dtype)
	case []float64:
		formats.EncodeFloat64(dst, src)
	}
}

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
	_, finish, _ := ops[T]()
	size, bad := b.size(), false
	var scratch []byte
	if roundDelta {
		scratch = make([]byte, maxTile*size)
	}
	products(updates, b.rows(), b.Cols, func(row, col int, delta []T) {
		if roundDelta {
			encode(scratch, delta, b.DType)
			decode(delta, scratch, b.DType)
		}
		at := (row*b.Cols + col) * size
		end := at + len(delta)*size
		bad = finish(dst[at:end], b.Src[at:end], delta, b.DType) || bad
	})
	if bad {
		return notFinite(dst[:b.rows()*b.Cols*size], b.DType)
	}
	return -1
}

// sumRows bounds how many rows of sums are held at once where norms need whole rows.
const sumRows = 8 * rowGroup

// Sums calls f for each row of a block with W + Δ, unrounded. The slice is reused.
func Sums[T Number](b Block, updates []Update[T], f func(row int, sum []T)) {
	size, rows := b.size(), b.rows()
	sums, w := make([]T, min(rows, sumRows)*b.Cols), make([]T, b.Cols)
	for first := 0; first < rows; first += sumRows {
		n := min(sumRows, rows-first)
		some := make([]Update[T], len(updates))
		for j, u := range updates {
			some[j] = u
			some[j].Left = u.Left[first*u.R:]
		}
		products(some, n, b.Cols, func(row, col int, delta []T) { copy(sums[row*b.Cols+col:], delta) })
		for row := range n {
			sum := sums[row*b.Cols : (row+1)*b.Cols]
			decode(w, b.Src[(first+row)*b.Cols*size:], b.DType)
			for i, x := range w {
				sum[i] = x + sum[i]
			}
			f(first+row, sum)
		}
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

// Norm returns the Euclidean norm of a row, summed in float64.
func Norm[T Number](v []T) T {
	var sum float64
	for _, x := range v {
		sum += Square(x)
	}
	return Root[T](sum)
}

// Square returns x², rounded to float64 on its own: a compiler may fuse a product with the
// addition that follows, as Go's does on some processors, unless a conversion stands
// between them.
func Square[T Number](x T) float64 { return float64(float64(x) * float64(x)) }

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

package health

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
)

// blockElements bounds the encoded elements that are held beside the decoded ones.
const blockElements = 64 << 10

// eachBlock decodes a tensor's elements in order, in float64, which holds all of them
// exactly. do must not keep the slice.
func eachBlock(path string, t formats.Tensor, do func(first int64, values []float64)) error {
	size, total := t.DType.Bits()/8, t.Elements()
	raw := make([]byte, min(blockElements, total)*size)
	values := make([]float64, min(blockElements, total))
	for at := int64(0); at < total; at += blockElements {
		n := min(blockElements, total-at)
		if err := formats.ReadFullAt(t.Data, raw[:n*size], at*size); err != nil {
			return formats.ReadError(path, t.Name, err)
		}
		formats.DecodeFloat64(values[:n], raw[:n*size], t.DType)
		do(at, values[:n])
	}
	return nil
}

// measure describes a tensor of a float type.
type measure struct {
	Elements
	cols    int64
	squares squares
	count   int64
}

func newMeasure(t formats.Tensor) *measure {
	_, cols := t.Matrix()
	return &measure{Elements: Elements{Tensor: t.Name, DType: t.DType.String(), Shape: t.Shape}, cols: cols}
}

// add takes consecutive elements.
func (m *measure) add(first int64, values []float64) {
	for i, x := range values {
		if x-x != 0 {
			if m.NaN+m.Inf == 0 {
				at := first + int64(i)
				m.FirstRow, m.FirstColumn = at/m.cols, at%m.cols
			}
			if x != x {
				m.NaN++
			} else {
				m.Inf++
			}
			continue
		}
		m.count++
		m.MaxAbs = max(m.MaxAbs, math.Abs(x))
		m.squares.add(x)
	}
}

// done completes the description.
func (m *measure) done() Elements {
	if m.count > 0 {
		m.RMS = math.Ldexp(math.Sqrt(m.squares.sum/float64(m.count)), m.squares.exp)
	}
	return m.Elements
}

func (e *Elements) finite() bool { return e.NaN+e.Inf == 0 }

// firstBad says where the first element is that is not finite.
func (e *Elements) firstBad() string { return placeIn(e.Shape, e.FirstRow, e.FirstColumn) }

// placeIn names an element of a tensor by its row and column as a matrix, and of a vector by
// its index.
func placeIn(shape []int64, row, col int64) string {
	if len(shape) < 2 {
		return fmt.Sprintf("element %d", row)
	}
	return fmt.Sprintf("row %d, column %d", row, col)
}

// readMatrix reads a tensor whole and describes it.
func readMatrix(path string, t formats.Tensor) (*mat.Dense, Elements, error) {
	rows, cols := t.Matrix()
	values := make([]float64, rows*cols)
	m := newMeasure(t)
	err := eachBlock(path, t, func(first int64, block []float64) {
		copy(values[first:], block)
		m.add(first, block)
	})
	if err != nil {
		return nil, Elements{}, err
	}
	return mat.NewDense(int(rows), int(cols), values), m.done(), nil
}

// describe describes a tensor without keeping it.
func describe(path string, t formats.Tensor) (Elements, error) {
	m := newMeasure(t)
	err := eachBlock(path, t, m.add)
	return m.done(), err
}

// spacing is the distance from 1 to the next number of a type.
func spacing(d formats.DType) float64 {
	switch d {
	case formats.BF16:
		return 0x1p-7
	case formats.F16:
		return 0x1p-10
	case formats.F32:
		return 0x1p-23
	}
	return 0x1p-52
}

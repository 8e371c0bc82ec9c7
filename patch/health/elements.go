package health

import (
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
	scale   float64 // the largest magnitude so far, which squares are relative to
	squares float64
	count   int64
}

func newMeasure(t formats.Tensor) *measure {
	_, cols := t.Matrix()
	return &measure{Elements: Elements{Tensor: t.Name, DType: t.DType.String(), Shape: t.Shape}, cols: cols}
}

// add takes consecutive elements.
func (m *measure) add(first int64, values []float64) {
	for i, x := range values {
		size := math.Abs(x)
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
		if size > m.scale { // so that no square overflows or vanishes
			ratio := m.scale / size
			m.squares, m.scale = m.squares*ratio*ratio, size
		}
		if size > 0 {
			ratio := size / m.scale
			m.squares += ratio * ratio
		}
	}
}

// done completes the description.
func (m *measure) done() Elements {
	m.MaxAbs = m.scale
	if m.count > 0 {
		m.RMS = m.scale * math.Sqrt(m.squares/float64(m.count))
	}
	return m.Elements
}

func (e *Elements) finite() bool { return e.NaN+e.Inf == 0 }

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

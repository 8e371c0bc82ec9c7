package autodiff

import (
	"fmt"

	"gonum.org/v1/gonum/blas/blas32"
)

// Value is a row-major matrix of Rows × Cols on a tape, or a leaf that outlives
// tapes. A vector is a matrix of one row.
type Value struct {
	Rows, Cols int
	// Data holds the elements. For a value that an operation made it is valid until
	// Backward or Reset.
	Data []float32

	grad    []float32 // nil until something has flowed back
	buf     *buffer   // where Data comes from; nil for leaves
	gradBuf *buffer   // where grad comes from; nil for leaves and shared buffers
	needs   bool      // whether a gradient is wanted
	kept    bool      // whether a recorded operation will read Data again
}

// Frozen returns a leaf that never gets a gradient. It keeps data, without a copy.
func Frozen(rows, cols int, data []float32) *Value {
	if rows < 0 || cols < 0 || len(data) != rows*cols {
		panic(fmt.Sprintf("autodiff: %d elements for a matrix of %d×%d", len(data), rows, cols))
	}
	return &Value{Rows: rows, Cols: cols, Data: data}
}

// Trainable returns a leaf whose gradient Backward adds to grad. It keeps data and
// grad, without a copy; clearing grad between steps is up to the caller.
func Trainable(rows, cols int, data, grad []float32) *Value {
	v := Frozen(rows, cols, data)
	if len(grad) != len(data) {
		panic(fmt.Sprintf("autodiff: a gradient of %d elements for %d", len(grad), len(data)))
	}
	v.grad, v.needs = grad, true
	return v
}

// NeedsGrad reports whether a gradient flows to v.
func (v *Value) NeedsGrad() bool { return v.needs }

// Grad returns the gradient of a trainable leaf, and nil for a frozen one. Gradients
// of other values are buffers that Backward uses up.
func (v *Value) Grad() []float32 { return v.grad }

func (v *Value) row(i int) []float32 { return v.Data[i*v.Cols : (i+1)*v.Cols] }

func (v *Value) general() blas32.General { return general(v.Rows, v.Cols, v.Data) }

func general(rows, cols int, data []float32) blas32.General {
	return blas32.General{Rows: rows, Cols: cols, Stride: max(1, cols), Data: data}
}

// mustMatch panics when v is not of the given shape.
func (v *Value) mustMatch(what string, rows, cols int) {
	if v.Rows != rows || v.Cols != cols {
		panic(fmt.Sprintf("autodiff: %s is %d×%d, want %d×%d", what, v.Rows, v.Cols, rows, cols))
	}
}

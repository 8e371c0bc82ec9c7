package formats

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"math/bits"
	"os"
)

// Tensor is a lazy array. Data reads its encoded bytes, row-major and
// little-endian, and must be safe for concurrent use. Data may also implement
// [Grainer], [Preparer] and [FileRanger], and nothing else is asked of it.
type Tensor struct {
	Name  string
	DType DType
	Shape []int64
	Data  io.ReaderAt
}

// Grainer is implemented by tensor data that is made in pieces: Grain returns the
// smallest piece that can be made alone. Sinks cut blocks only at multiples of it.
type Grainer interface{ Grain() (rows, cols int64) }

// Preparer is implemented by tensor data that needs one pass before its first
// read. Whoever executes a plan calls Prepare exactly once.
type Preparer interface {
	Prepare(ctx context.Context) error
}

// FileRanger is implemented by tensor data that lies in a file as it is, so that a
// sink may copy file to file. ok is false when there is no such range.
type FileRanger interface {
	FileRange() (f SourceFile, off, n int64, ok bool)
}

// SourceFile is an input file that need not be open all the time, so that a checkpoint
// can have more files than a process can have open. Equal values are the same file. It
// is safe for concurrent use.
type SourceFile interface {
	io.ReaderAt
	Name() string // for messages
	Size() int64
	// Use calls do with the open file, which stays open at least until do returns.
	Use(do func(f *os.File) error) error
}

// Elements returns the number of elements; 1 for a scalar. It panics if the shape
// was not checked with [ByteSize] first and overflows.
func (t Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Size returns the encoded size in bytes.
func (t Tensor) Size() int64 {
	n, err := ByteSize(t.DType, t.Shape)
	if err != nil {
		panic("formats: tensor with an unchecked shape: " + err.Error())
	}
	return n
}

// Matrix returns the shape as rows × cols: the first dimension, and the product of
// the rest. A scalar is 1×1.
func (t Tensor) Matrix() (rows, cols int64) {
	if len(t.Shape) == 0 {
		return 1, 1
	}
	cols = 1
	for _, d := range t.Shape[1:] {
		cols *= d
	}
	return t.Shape[0], cols
}

// ByteSize returns the encoded size of a shape. It fails when a dimension is
// negative, a product overflows, or packed elements do not fill whole bytes. As in
// the reference library an overflow counts even where another dimension is zero.
func ByteSize(d DType, shape []int64) (int64, error) {
	if d.Bits() == 0 {
		return 0, fmt.Errorf("no dtype")
	}
	n := uint64(1)
	for _, dim := range shape {
		if dim < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		}
		hi, lo := bits.Mul64(n, uint64(dim))
		if hi != 0 {
			return 0, fmt.Errorf("shape %v overflows 64 bits", shape)
		}
		n = lo
	}
	hi, total := bits.Mul64(n, uint64(d.Bits()))
	if hi != 0 || total/8 > math.MaxInt64 {
		return 0, fmt.Errorf("shape %v of %s overflows 64 bits", shape, d)
	}
	if total%8 != 0 {
		return 0, fmt.Errorf("shape %v of %s does not fill whole bytes", shape, d)
	}
	return int64(total / 8), nil
}

// ReadAll returns the tensor's encoded bytes. It is for small tensors; big ones
// are read in blocks.
func (t Tensor) ReadAll() ([]byte, error) {
	buf := make([]byte, t.Size())
	if err := ReadFullAt(t.Data, buf, 0); err != nil {
		return nil, err
	}
	return buf, nil
}

// Float32s returns the tensor's elements widened or rounded to float32. Only the
// four float types of [DType.IsFloat] can be read this way.
func (t Tensor) Float32s() ([]float32, error) {
	if !t.DType.IsFloat() {
		return nil, fmt.Errorf("tensor %s: %s elements cannot be read as numbers (want F64, F32, F16 or BF16)", Quote(t.Name), t.DType)
	}
	raw, err := t.ReadAll()
	if err != nil {
		return nil, err
	}
	out := make([]float32, t.Elements())
	DecodeFloat32(out, raw, t.DType)
	return out, nil
}

// ReadFullAt fills buf from r at off. Unlike ReadAt it reports a short read as
// io.ErrUnexpectedEOF, and never reports io.EOF after a full one.
func ReadFullAt(r io.ReaderAt, buf []byte, off int64) error {
	n, err := r.ReadAt(buf, off)
	if n == len(buf) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// FromFloat32s returns a tensor in memory with the given values, as F32. The values
// are encoded at once; changing them later has no effect.
func FromFloat32s(name string, shape []int64, values []float32) Tensor {
	raw := make([]byte, 4*len(values))
	EncodeFloat32(raw, values, F32)
	return Tensor{Name: name, DType: F32, Shape: shape, Data: bytes.NewReader(raw)}
}

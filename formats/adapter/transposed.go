package adapter

import (
	"io"
	"sync"

	"github.com/seed-b982eded/graft/formats"
)

// sweepBytes bounds what transposing holds beside its result.
const sweepBytes = 256 << 10

var sweeps = sync.Pool{New: func() any { b := make([]byte, sweepBytes); return &b }}

// Transposed returns a matrix the other way round, without reading it. Reading it goes
// through the source in strips: what is read in order costs little more than the source.
func Transposed(t formats.Tensor) formats.Tensor {
	rows, cols := t.Matrix()
	out := t
	out.Shape = []int64{cols, rows}
	switch data := t.Data.(type) {
	case *transposed: // turned back
		out.Data = data.src.Data
	default:
		if rows > 1 && cols > 1 {
			out.Data = &transposed{t}
		}
	}
	return out
}

// transposed reads a matrix of rows × cols as one of cols × rows.
type transposed struct{ src formats.Tensor }

func (t *transposed) ReadAt(p []byte, off int64) (int, error) {
	return readElements(p, off, t.src, t.elements)
}

// elements reads whole elements from the element first on.
func (t *transposed) elements(p []byte, first int64) error {
	size := t.src.DType.Bits() / 8
	length, _ := t.src.Matrix() // of a row of the result
	for len(p) > 0 {
		row, at, n := first/length, first%length, int64(len(p))/size
		rows := int64(1)
		if at == 0 && n >= length {
			rows, n = n/length, length
		} else {
			n = min(n, length-at)
		}
		done := rows * n
		if err := t.rect(p[:done*size], row, rows, at, n); err != nil {
			return err
		}
		p, first = p[done*size:], first+done
	}
	return nil
}

// rect reads rows of the result, of each the n elements from at on: columns of the
// source, of n rows.
func (t *transposed) rect(p []byte, row, rows, at, n int64) error {
	size := t.src.DType.Bits() / 8
	_, cols := t.src.Matrix()
	width, piece := cols*size, rows*size
	held := sweeps.Get().(*[]byte)
	defer sweeps.Put(held)
	if width <= piece+4096 && width <= sweepBytes {
		// Reading what lies between costs less than a call for each row.
		buf := (*held)[:min(sweepBytes/width, n)*width]
		for i := int64(0); i < n; {
			part := min(int64(len(buf))/width, n-i)
			if err := formats.ReadFullAt(t.src.Data, buf[:part*width], (at+i)*width); err != nil {
				return err
			}
			for k := range part {
				scatter(p[(i+k)*size:], buf[k*width+row*size:][:piece], n*size, size)
			}
			i += part
		}
		return nil
	}
	buf := (*held)[:min(sweepBytes/size*size, piece)]
	for i := range n {
		for k := int64(0); k < piece; k += int64(len(buf)) {
			part := buf[:min(int64(len(buf)), piece-k)]
			if err := formats.ReadFullAt(t.src.Data, part, (at+i)*width+row*size+k); err != nil {
				return err
			}
			scatter(p[k*n+i*size:], part, n*size, size)
		}
	}
	return nil
}

// scatter puts elements one below the other.
func scatter(dst, src []byte, stride, size int64) {
	for i, at := int64(0), int64(0); i < int64(len(src)); i, at = i+size, at+stride {
		copy(dst[at:at+size], src[i:i+size])
	}
}

// readElements serves any range of bytes of a tensor's data with a function that reads
// whole elements.
func readElements(p []byte, off int64, t formats.Tensor, elements func(p []byte, first int64) error) (int, error) {
	size, total := t.DType.Bits()/8, t.Size()
	if off < 0 || off >= total {
		return 0, io.EOF
	}
	want := len(p)
	p = p[:min(int64(want), total-off)]
	whole := p
	begin, end := off/size*size, (off+int64(len(p))+size-1)/size*size
	if end-begin != int64(len(p)) {
		whole = make([]byte, end-begin)
	}
	if err := elements(whole, begin/size); err != nil {
		return 0, err
	}
	if end-begin != int64(len(p)) {
		copy(p, whole[off-begin:])
	}
	if len(p) < want {
		return len(p), io.EOF
	}
	return len(p), nil
}

package gemm

import "github.com/seed-b982eded/graft/formats"

// source is an operand as it is given.
type source[T number] struct {
	plain   []T
	encoded []byte // instead of plain
	dtype   formats.DType
	ld      int
	trans   bool
}

// row returns elements [from, to) of a stored row; an encoded one is widened into buf.
func (s *source[T]) row(e *engine[T], buf []T, row, from, to int) []T {
	at := row * s.ld
	if s.encoded == nil {
		return s.plain[at+from : at+to]
	}
	size := int(s.dtype.Bits() / 8)
	buf = buf[:to-from]
	e.widen(buf, s.encoded[(at+from)*size:(at+to)*size], s.dtype)
	return buf
}

// packB writes the panel of columns [j, j+width) and steps [p, p+k) of op(b): the columns
// of a step side by side, cols places a step. What is behind width stays undefined. buf has
// room for cols · k elements.
func (s *source[T]) packB(e *engine[T], dst, buf []T, p, k, j, width, cols int) {
	switch {
	case s.trans && s.encoded == nil:
		e.transpose(dst, cols, s.plain[j*s.ld+p:], s.ld, width, k)
	case s.trans:
		for i := range width {
			s.row(e, buf[i*k:], j+i, p, p+k)
		}
		e.transpose(dst, cols, buf, k, width, k)
	case s.encoded == nil:
		e.interleave(dst, cols, s.plain[p*s.ld+j:], s.ld, k, width)
	default:
		for i := range k {
			s.row(e, dst[i*cols:], p+i, j, j+width)
		}
	}
}

// packA writes the panel of rows [i, i+height) and steps [p, p+k) of op(a): the rows of a
// step side by side.
func (s *source[T]) packA(e *engine[T], dst []T, p, k, i, height int) {
	if s.trans {
		e.interleave(dst, height, s.plain[p*s.ld+i:], s.ld, k, height)
	} else {
		e.transpose(dst, height, s.plain[i*s.ld+p:], s.ld, height, k)
	}
}

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

// fetch is how many rows ahead an operand is fetched into a cache where its rows are the
// steps, too far apart for the processor to see it coming.
const fetch = 8

// at returns op(s), which is not encoded, from row i and step p on, and how far apart its
// rows and its steps are.
func (s *source[T]) at(i, p int) (from []T, row, step int) {
	if s.trans {
		return s.plain[p*s.ld+i:], 1, s.ld
	}
	return s.plain[i*s.ld+p:], s.ld, 1
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
		e.interleave(dst, cols, s.plain[p*s.ld+j:], s.ld, k, width, fetch*s.ld)
	default:
		for i := range k {
			s.row(e, dst[i*cols:], p+i, j, j+width)
		}
	}
}

package onnx

import (
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/seed-b982eded/graft/formats"
)

// The window of a scanner: small after a jump over weights, where a header of some bytes
// comes, and larger when the reading goes on.
const (
	minWindow = 4 << 10
	maxWindow = 256 << 10
)

// scanner reads protobuf fields from a file, forwards for the most part, and skips what
// nobody asks for.
type scanner struct {
	r    io.ReaderAt
	size int64
	path string // for messages
	buf  []byte // what lies at off
	off  int64
}

// field is one field of a message.
type field struct {
	num    number
	typ    protowire.Type
	start  int64 // of the tag
	length int64 // of the length prefix; only where typ is BytesType
	begin  int64 // of the value: of a BytesType, after the length prefix
	end    int64
	value  uint64 // of all types but BytesType
}

// rejectAt is an error about a place in the file.
func (s *scanner) rejectAt(off int64, format string, args ...any) error {
	return formats.Rejectf(s.path, "", "at byte %d: "+format, append([]any{off}, args...)...)
}

// window returns the n bytes at off, or as many as there are before end. They are valid
// until the next call. n is at most maxWindow.
func (s *scanner) window(off, end int64, n int) ([]byte, error) {
	n = int(min(int64(n), end-off))
	if off >= s.off && off+int64(n) <= s.off+int64(len(s.buf)) {
		return s.buf[off-s.off:][:n], nil
	}
	next := minWindow
	if off >= s.off && off <= s.off+int64(len(s.buf)) {
		next = max(minWindow, min(2*len(s.buf), maxWindow))
	}
	next = max(next, n)
	if cap(s.buf) < next {
		s.buf = make([]byte, next)
	}
	s.buf = s.buf[:min(int64(next), s.size-off)]
	s.off = off
	if err := formats.ReadFullAt(s.r, s.buf, off); err != nil {
		s.buf = s.buf[:0]
		return nil, formats.ReadError(s.path, "", err)
	}
	return s.buf[:n], nil
}

// varint reads the varint at off, which must end by end.
func (s *scanner) varint(off, end int64) (v uint64, next int64, err error) {
	b, err := s.window(off, end, binary.MaxVarintLen64)
	if err != nil {
		return 0, 0, err
	}
	v, n := protowire.ConsumeVarint(b)
	if n >= 0 {
		return v, off + int64(n), nil
	}
	if errors.Is(protowire.ParseError(n), io.ErrUnexpectedEOF) {
		return 0, 0, s.rejectAt(off, "the message ends within a number")
	}
	return 0, 0, s.rejectAt(off, "a number does not fit 64 bits")
}

// next reads the field at off of a message that ends at end, without what is in it.
func (s *scanner) next(off, end int64) (field, error) {
	f := field{start: off}
	tag, at, err := s.varint(off, end)
	if err != nil {
		return f, err
	}
	f.begin, f.typ = at, protowire.Type(tag&7)
	if n := tag >> 3; n < uint64(protowire.MinValidNumber) || n > uint64(protowire.MaxValidNumber) {
		return f, s.rejectAt(off, "field number %d (want 1 to %d)", n, protowire.MaxValidNumber)
	}
	f.num = number(tag >> 3)
	switch f.typ {
	case protowire.VarintType:
		f.value, f.end, err = s.varint(at, end)
		return f, err
	case protowire.Fixed32Type, protowire.Fixed64Type:
		n := 4
		if f.typ == protowire.Fixed64Type {
			n = 8
		}
		b, err := s.window(at, end, n)
		if err != nil {
			return f, err
		}
		if len(b) < n {
			return f, s.rejectAt(at, "the message ends within a number")
		}
		if n == 4 {
			f.value = uint64(binary.LittleEndian.Uint32(b))
		} else {
			f.value = binary.LittleEndian.Uint64(b)
		}
		f.end = at + int64(n)
		return f, nil
	case protowire.BytesType:
		n, begin, err := s.varint(at, end)
		if err != nil {
			return f, err
		}
		if n > uint64(end-begin) {
			return f, s.rejectAt(off, "field %d goes past the end of its message (got %d bytes, %d are left)", f.num, n, end-begin)
		}
		f.length, f.begin, f.end = at, begin, begin+int64(n)
		return f, nil
	}
	return f, s.rejectAt(off, "field %d has wire type %d, which ONNX does not use: not an ONNX model, or damaged", f.num, f.typ)
}

// fields calls do for every field of a message, in order.
func (s *scanner) fields(m *message, do func(field) error) error {
	for at := m.begin; at < m.end; {
		f, err := s.next(at, m.end)
		if err != nil {
			return err
		}
		if err := do(f); err != nil {
			return err
		}
		at = f.end
	}
	return nil
}

// read returns the bytes of a field. The caller has made sure that they are few.
func (s *scanner) read(f field) ([]byte, error) {
	out := make([]byte, f.end-f.begin)
	if len(out) <= maxWindow {
		b, err := s.window(f.begin, f.end, len(out))
		copy(out, b)
		return out, err
	}
	if err := formats.ReadFullAt(s.r, out, f.begin); err != nil {
		return nil, formats.ReadError(s.path, "", err)
	}
	return out, nil
}

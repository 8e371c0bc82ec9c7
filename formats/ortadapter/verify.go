package ortadapter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/seed-b982eded/graft/formats"
)

// window is how much of the file is read at a time: tables, names and dimensions lie
// together, with data between them.
const window = 4096

// buffer reads the parts of a FlatBuffer that are not data. Every method checks what it
// reads as flatbuffers::Verifier does, and returns an error without a place.
type buffer struct {
	r    io.ReaderAt
	size int64

	held []byte // bytes of the file from at on
	at   int64
	left int64 // bytes of names and dimensions that may still be held
}

// ioError is a failure of reading, as opposed to something wrong in what was read.
type ioError struct{ error }

func (e ioError) Unwrap() error { return e.error }

// bytes returns n bytes, which stay valid until the next call.
func (b *buffer) bytes(off, n int64, what string) ([]byte, error) {
	if off < 0 || n < 0 || off > b.size-n {
		return nil, fmt.Errorf("%s lies outside the file (%d bytes at %d, the file has %d)", what, n, off, b.size)
	}
	if off < b.at || off+n > b.at+int64(len(b.held)) {
		b.held = b.held[:0]
		want := min(max(n, window), b.size-off)
		if int64(cap(b.held)) < want {
			b.held = make([]byte, want)
		}
		b.held, b.at = b.held[:want], off
		if err := formats.ReadFullAt(b.r, b.held, off); err != nil {
			b.held = b.held[:0]
			return nil, ioError{err}
		}
	}
	return b.held[off-b.at:][:n], nil
}

// scalar returns n bytes at a multiple of n.
func (b *buffer) scalar(off, n int64, what string) ([]byte, error) {
	if off%n != 0 {
		return nil, fmt.Errorf("%s is not aligned (got offset %d, want a multiple of %d)", what, off, n)
	}
	return b.bytes(off, n, what)
}

func (b *buffer) uint32(off int64, what string) (int64, error) {
	p, err := b.scalar(off, 4, what)
	if err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint32(p)), nil
}

// follow returns the place that the offset at off leads to.
func (b *buffer) follow(off int64, what string) (int64, error) {
	n, err := b.uint32(off, "the offset of "+what)
	if err != nil {
		return 0, err
	}
	if n == 0 || n > maxFileBytes || off+n >= b.size {
		return 0, fmt.Errorf("%s lies outside the file (offset %d from %d, the file has %d bytes)", what, n, off, b.size)
	}
	return off + n, nil
}

// vector returns where the elements of a vector begin and how many there are.
func (b *buffer) vector(off, elemSize int64, what string) (start, n int64, err error) {
	n, err = b.uint32(off, "the length of "+what)
	if err != nil {
		return 0, 0, err
	}
	start = off + 4
	if n > (b.size-start)/elemSize {
		return 0, 0, fmt.Errorf("%s ends behind the file (%d elements of %d bytes at %d, the file has %d bytes)", what, n, elemSize, start, b.size)
	}
	return start, n, nil
}

// text returns a string, which ends with a zero byte that is not counted.
func (b *buffer) text(off int64, what string) (string, error) {
	start, n, err := b.vector(off, 1, what)
	if err != nil {
		return "", err
	}
	if n > formats.MaxNameBytes {
		return "", fmt.Errorf("%s is too long (got %d bytes, want at most %d)", what, n, formats.MaxNameBytes)
	}
	if err := b.take(n); err != nil {
		return "", err
	}
	p, err := b.bytes(start, n+1, what+" with its final zero")
	if err != nil {
		return "", err
	}
	if p[n] != 0 {
		return "", fmt.Errorf("%s does not end with a zero byte", what)
	}
	return string(p[:n]), nil
}

// ints returns a vector of int64. Like the reference verifier it asks for aligned
// lengths, not for aligned elements.
func (b *buffer) ints(off, limit int64, what string) ([]int64, error) {
	start, n, err := b.vector(off, 8, what)
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, fmt.Errorf("%s are too many (got %d, want at most %d)", what, n, limit)
	}
	if err := b.take(8 * n); err != nil {
		return nil, err
	}
	p, err := b.bytes(start, 8*n, what)
	if err != nil {
		return nil, err
	}
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(binary.LittleEndian.Uint64(p[8*i:]))
	}
	return out, nil
}

// take counts bytes that will be held.
func (b *buffer) take(n int64) error {
	if b.left -= n; b.left < 0 {
		return fmt.Errorf("names and dimensions take more than %d bytes", formats.MaxHeaderBytes)
	}
	return nil
}

// table is a table whose frame was verified.
type table struct {
	pos   int64
	size  int64
	slots [8]int64 // offsets of the fields in the table; 0 where one is absent
	what  string
}

// table verifies the frame of a table that has at most known fields.
func (b *buffer) table(pos int64, known int, what string) (table, error) {
	t := table{pos: pos, what: what}
	p, err := b.scalar(pos, 4, what)
	if err != nil {
		return t, err
	}
	at := pos - int64(int32(binary.LittleEndian.Uint32(p)))
	if p, err = b.scalar(at, 2, "the vtable of "+what); err != nil {
		return t, err
	}
	n := int64(binary.LittleEndian.Uint16(p))
	if n < 4 || n%2 != 0 {
		return t, fmt.Errorf("the vtable of %s is malformed (got %d bytes, want an even number from 4 up)", what, n)
	}
	if n > int64(4+2*known) {
		return t, fmt.Errorf("%s has fields that are not known (got %d, want at most %d)", what, (n-4)/2, known)
	}
	if p, err = b.bytes(at, n, "the vtable of "+what); err != nil {
		return t, err
	}
	t.size = int64(binary.LittleEndian.Uint16(p[2:]))
	for i := range (n - 4) / 2 {
		t.slots[i] = int64(binary.LittleEndian.Uint16(p[4+2*i:]))
	}
	if t.size < 4 || t.size > b.size-pos {
		return t, fmt.Errorf("%s lies outside the file (%d bytes at %d, the file has %d)", what, t.size, pos, b.size)
	}
	return t, nil
}

// field returns where a field of 4 bytes lies; 0 if it is absent.
func (t *table) field(slot int, what string) (int64, error) {
	off := t.slots[slot]
	if off == 0 {
		return 0, nil
	}
	if off < 4 || off > t.size-4 {
		return 0, fmt.Errorf("%s lies outside %s (offset %d, the table has %d bytes)", what, t.what, off, t.size)
	}
	return t.pos + off, nil
}

// int32 returns the value of a field, 0 if it is absent.
func (b *buffer) int32(t *table, slot int, what string) (int32, error) {
	off, err := t.field(slot, what)
	if off == 0 || err != nil {
		return 0, err
	}
	n, err := b.uint32(off, what)
	return int32(uint32(n)), err
}

// child returns the place that a field leads to. The field must be there.
func (b *buffer) child(t *table, slot int, what string) (int64, error) {
	off, err := t.field(slot, what)
	if err != nil {
		return 0, err
	}
	if off == 0 {
		return 0, fmt.Errorf("%s is missing in %s", what, t.what)
	}
	return b.follow(off, what)
}

// failure makes an error of a buffer one that names the file.
func failure(file, tensor string, err error) error {
	var e *formats.Error
	if errors.As(err, &e) {
		return err
	}
	var io ioError
	if errors.As(err, &io) {
		return &formats.Error{Class: formats.ErrInput, File: file, Tensor: tensor, Err: formats.Cause(io.error)}
	}
	return formats.Rejectf(file, tensor, "%v", err)
}

package onnx

import (
	"context"
	"encoding/binary"
	"io"
	"math"
	"sync"

	"github.com/seed-b982eded/graft/formats"
)

const (
	// markEvery is how many values lie between two marks. A read decodes at most that many
	// for nothing, and the 2 GiB that a file may have need at most 8 MiB of marks.
	markEvery = 1 << 12
	// costRun is what a run takes in memory.
	costRun = 40
)

// run is a piece of typed data: one packed field, from its first value to its last, or
// several fields of one value each, with their tags.
type run struct {
	begin, end int64
	packed     bool
	values     int64 // 0 for packed varints: nobody counted them
}

// typedData is tensor data in a typed field that is not the bytes that graft wants: in
// varints, in fields of one value, or in several packed fields. It is read at random by
// marks, which are made by one pass over the data: by Prepare, or by the first read.
type typedData struct {
	file       formats.SourceFile
	path, name string
	runs       []run
	field      number
	stored     int64 // bytes that a value becomes
	signed     bool  // varints are int32 or int64
	values     int64 // how many there must be

	mu    sync.Mutex
	marks []mark // nil before the pass
}

// mark is the place of a value.
type mark struct {
	run int
	at  int64
}

func (d *typedData) varint() bool { return d.field != tensorFloatData && d.field != tensorDoubleData }

// Prepare implements [formats.Preparer]: it counts the values and checks each.
func (d *typedData) Prepare(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.marks != nil {
		return nil
	}
	marks := []mark{}
	c := d.from(mark{at: d.runs[0].begin})
	n := int64(0)
	for ; ; n++ {
		if n%markEvery == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			marks = append(marks, mark{c.run, c.at})
		}
		_, err := c.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if n != d.values {
		return formats.Rejectf(d.path, d.name, "%s does not fit (got %d values, want %d)", fieldName(d.field), n, d.values)
	}
	d.marks = marks
	return nil
}

// ReadAt implements io.ReaderAt.
func (d *typedData) ReadAt(p []byte, off int64) (int, error) {
	if err := d.Prepare(context.Background()); err != nil {
		return 0, err
	}
	size := d.values * d.stored
	if off < 0 || off > size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	first := off / d.stored
	if first == d.values {
		return 0, io.EOF
	}
	c := d.from(d.marks[first/markEvery])
	for range first % markEvery {
		if _, err := c.next(); err != nil {
			return 0, d.changed(err)
		}
	}
	n := 0
	skip := off % d.stored // of the first value
	var raw [8]byte
	for n < len(p) {
		v, err := c.next()
		if err == io.EOF && off+int64(n) == size {
			return n, io.EOF
		}
		if err != nil {
			return n, d.changed(err)
		}
		binary.LittleEndian.PutUint64(raw[:], v)
		n += copy(p[n:], raw[skip:d.stored])
		skip = 0
	}
	return n, nil
}

// changed makes the end of data that Prepare saw more of an error.
func (d *typedData) changed(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return formats.ReadError(d.path, d.name, err)
}

// valueCursor reads values one after another.
type valueCursor struct {
	d   *typedData
	s   scanner
	run int
	at  int64
}

func (d *typedData) from(m mark) *valueCursor {
	return &valueCursor{d: d, s: scanner{r: d.file, size: d.file.Size(), path: d.path}, run: m.run, at: m.at}
}

// next returns the next value, as the bits that its stored bytes have; io.EOF at the end.
func (c *valueCursor) next() (uint64, error) {
	for c.at == c.d.runs[c.run].end {
		if c.run+1 == len(c.d.runs) {
			return 0, io.EOF
		}
		c.run++
		c.at = c.d.runs[c.run].begin
	}
	r := c.d.runs[c.run]
	begin := c.at
	if !r.packed {
		f, err := c.s.next(c.at, r.end)
		if err != nil {
			return 0, err
		}
		c.at = f.end
		return c.check(f.value, begin)
	}
	if c.d.varint() {
		v, next, err := c.s.varint(c.at, r.end)
		if err != nil {
			return 0, err
		}
		c.at = next
		return c.check(v, begin)
	}
	b, err := c.s.window(c.at, r.end, int(c.d.stored))
	if err != nil {
		return 0, err
	}
	c.at += c.d.stored
	var raw [8]byte
	copy(raw[:], b)
	return binary.LittleEndian.Uint64(raw[:]), nil
}

// check refuses a varint that its element type cannot hold. int32_data holds unsigned
// types and bit patterns too, so that both readings of the bits are allowed.
func (c *valueCursor) check(v uint64, at int64) (uint64, error) {
	d := c.d
	if !d.varint() || d.stored == 8 {
		return v, nil
	}
	n := int64(v)
	limit := int64(1) << (8 * d.stored)
	lowest := int64(0)
	if d.signed {
		lowest = -limit / 2
	}
	if d.field == tensorInt32Data && d.stored == 4 {
		n, limit = int64(int32(v)), math.MaxInt32+1 // protobuf cuts an int32 to 32 bits
	}
	if n < lowest || n >= limit {
		return 0, formats.Rejectf(d.path, d.name, "at byte %d: %s has a value of %d, which an element of %d bytes does not hold", at, fieldName(d.field), n, d.stored)
	}
	return v, nil
}

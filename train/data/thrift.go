package data

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/seed-b982eded/graft/formats"
)

const (
	// maxFooterBytes bounds the description of a Parquet file. A list in it takes up to two
	// hundred times its bytes in memory.
	maxFooterBytes = 8 << 20
	// maxThriftDepth bounds nesting; descriptions nest eight deep.
	maxThriftDepth = 32
)

// checkFooter walks through the description at the end of a Parquet file before the library
// reads it, which takes memory for as many elements as a list claims.
func checkFooter(name string, r io.ReaderAt, size int64) error {
	var tail [8]byte
	if size < 12 {
		return formats.Rejectf(name, "", "damaged Parquet: %d bytes (want at least 12)", size)
	}
	if _, err := r.ReadAt(tail[:], size-8); err != nil {
		return ioError(name, err)
	}
	n := int64(binary.LittleEndian.Uint32(tail[:]))
	if string(tail[4:]) != "PAR1" {
		return formats.Rejectf(name, "", "damaged Parquet: it does not end in PAR1, so it may have been cut")
	}
	if n > size-12 || n > maxFooterBytes {
		return formats.Rejectf(name, "", "damaged Parquet: a footer of %d bytes in a file of %d (want at most %d)", n, size, maxFooterBytes)
	}
	footer := make([]byte, n)
	if _, err := r.ReadAt(footer, size-8-n); err != nil {
		return ioError(name, err)
	}
	if _, err := skipStruct(footer, 0); err != nil {
		return formats.Rejectf(name, "", "damaged Parquet: footer: %v", err)
	}
	return nil
}

var errThrift = errors.New("not a Thrift structure")

// skipStruct returns what follows a structure in Thrift's compact protocol.
func skipStruct(b []byte, depth int) ([]byte, error) {
	for {
		if len(b) == 0 || depth > maxThriftDepth {
			return nil, errThrift
		}
		head := b[0]
		b = b[1:]
		if head == 0 {
			return b, nil
		}
		var err error
		if head>>4 == 0 { // the number of the field follows
			if _, b, err = uvarint(b); err != nil {
				return nil, err
			}
		}
		kind := head & 15
		if kind == 1 || kind == 2 {
			continue // a boolean is in its kind
		}
		if b, err = skipValue(b, kind, depth); err != nil {
			return nil, err
		}
	}
}

func uvarint(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, errThrift
	}
	return v, b[n:], nil
}

func skipBytes(b []byte, n uint64) ([]byte, error) {
	if n > uint64(len(b)) {
		return nil, errThrift
	}
	return b[n:], nil
}

func skipValue(b []byte, kind byte, depth int) ([]byte, error) {
	switch kind {
	case 1, 2, 3: // in a list a boolean is a byte
		return skipBytes(b, 1)
	case 4, 5, 6:
		_, b, err := uvarint(b)
		return b, err
	case 7:
		return skipBytes(b, 8)
	case 8:
		n, b, err := uvarint(b)
		if err != nil {
			return nil, err
		}
		return skipBytes(b, n)
	case 9, 10:
		return skipList(b, depth)
	case 12:
		return skipStruct(b, depth+1)
	}
	return nil, errThrift // maps are in no part of the format
}

func skipList(b []byte, depth int) ([]byte, error) {
	if len(b) == 0 {
		return nil, errThrift
	}
	n, kind := uint64(b[0]>>4), b[0]&15
	b = b[1:]
	var err error
	if n == 15 {
		if n, b, err = uvarint(b); err != nil {
			return nil, err
		}
	}
	least := uint64(1)
	if kind == 12 {
		least = 3 // no structure of the format is without members
	}
	if n > uint64(len(b))/least {
		return nil, errThrift
	}
	for range n {
		if b, err = skipValue(b, kind, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

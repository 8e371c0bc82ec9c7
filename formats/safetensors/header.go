package safetensors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"sort"
	"unicode"
	"unicode/utf8"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// entry is one tensor of a header: its bytes are [begin, end) after the header.
type entry struct {
	name       string
	dtype      formats.DType
	shape      []int64
	begin, end int64
}

type header struct {
	metadata []formats.MetadataEntry
	entries  []entry // in order of their bytes, without holes
	start    int64   // offset of the first tensor byte in the file
}

// readHeader reads and checks the header of a file of the given size. Nothing is
// allocated for a length that the file does not have. The rules are those of the
// safetensors README, "Format", and of the Rust library's validation.
func readHeader(r io.ReaderAt, size int64, file string) (*header, error) {
	if size < 8 {
		return nil, formats.Rejectf(file, "", "not a safetensors file: too short (got %d bytes, want at least 8)", size)
	}
	var first [8]byte
	if err := formats.ReadFullAt(r, first[:], 0); err != nil {
		return nil, formats.ReadError(file, "", err)
	}
	n := binary.LittleEndian.Uint64(first[:])
	switch {
	case n == 0:
		return nil, formats.Rejectf(file, "", "not a safetensors file: empty header")
	case n > uint64(size-8) || n > formats.MaxHeaderBytes:
		if kind := looksLike(r, size); kind != "" {
			return nil, formats.Rejectf(file, "", "not a safetensors file: it looks like %s", kind)
		}
		if n > formats.MaxHeaderBytes {
			return nil, formats.Rejectf(file, "", "header is too large (got %d bytes, want at most %d)", n, formats.MaxHeaderBytes)
		}
		return nil, formats.Rejectf(file, "", "header is larger than the file (got %d bytes after the length, header wants %d): truncated or no safetensors file", size-8, n)
	}
	text := make([]byte, n)
	if err := formats.ReadFullAt(r, text, 8); err != nil {
		return nil, formats.ReadError(file, "", err)
	}
	if text[0] != '{' { // a length that small can begin another format too
		if kind := looksLike(r, size); kind != "" {
			return nil, formats.Rejectf(file, "", "not a safetensors file: it looks like %s", kind)
		}
	}
	h, err := parseHeader(text, file)
	if err != nil {
		return nil, err
	}
	h.start = 8 + int64(n)
	return h, h.checkLayout(size, file)
}

func parseHeader(text []byte, file string) (*header, error) {
	reject := func(tensor, format string, args ...any) error {
		return formats.Rejectf(file, tensor, "header: "+format, args...)
	}
	if text[0] != '{' {
		first := rune(text[0])
		if first >= utf8.RuneSelf { // of a byte order mark, or of no text at all
			return nil, reject("", "must be an object starting with '{' (got byte %#x)", first)
		}
		return nil, reject("", "must be an object starting with '{' (got %q)", first)
	}
	text = bytes.TrimRight(text, " ")
	p, err := strictjson.NewParser(text, formats.MaxJSONDepth)
	if err != nil {
		return nil, reject("", "%v", err)
	}
	h := &header{}
	err = p.Object(func(name string) error {
		if name == "__metadata__" {
			return h.parseMetadata(p)
		}
		if err := checkName(name); err != nil {
			return err
		}
		if len(h.entries) == formats.MaxTensors {
			return fmt.Errorf("more than %d tensors", formats.MaxTensors)
		}
		e, err := parseEntry(p, name)
		if err != nil {
			return &formats.Error{Class: formats.ErrInput, File: file, Tensor: name, Detail: "header", Err: err}
		}
		h.entries = append(h.entries, e)
		return nil
	})
	if err == nil && p.Pos() != len(text) {
		err = fmt.Errorf("%d bytes after the object (only spaces may follow)", len(text)-p.Pos())
	}
	if err != nil {
		if e, ok := err.(*formats.Error); ok {
			return nil, e
		}
		return nil, reject("", "%v", err)
	}
	return h, nil
}

func checkName(name string) error {
	if name == "" {
		return fmt.Errorf("a tensor without a name")
	}
	if len(name) > formats.MaxNameBytes {
		return fmt.Errorf("tensor name %s is too long (got %d bytes, want at most %d)", formats.Quote(name), len(name), formats.MaxNameBytes)
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return fmt.Errorf("tensor name %s has a control character", formats.Quote(name))
		}
	}
	return nil
}

func (h *header) parseMetadata(p *strictjson.Parser) error {
	if p.Null() {
		return nil
	}
	total := 0
	return p.Object(func(key string) error {
		value, err := p.String()
		if err != nil {
			return fmt.Errorf("__metadata__ %s: %w", formats.Quote(key), err)
		}
		if total += len(key) + len(value); total > formats.MaxMetadataBytes {
			return fmt.Errorf("__metadata__ is too large (want at most %d bytes)", formats.MaxMetadataBytes)
		}
		h.metadata = append(h.metadata, formats.MetadataEntry{Key: key, Value: value})
		return nil
	})
}

func parseEntry(p *strictjson.Parser, name string) (entry, error) {
	e := entry{name: name}
	var hasShape, hasOffsets bool
	err := p.Object(func(field string) error {
		switch field {
		case "dtype":
			s, err := p.String()
			if err != nil {
				return fmt.Errorf("dtype: %w", err)
			}
			e.dtype, err = formats.ParseDType(s)
			return err
		case "shape":
			hasShape = true
			e.shape = []int64{}
			return p.Array(func(i int) error {
				if i == formats.MaxRank {
					return fmt.Errorf("shape has more than %d dimensions", formats.MaxRank)
				}
				d, err := p.Natural()
				if err != nil {
					return fmt.Errorf("shape: %w", err)
				}
				e.shape = append(e.shape, d)
				return nil
			})
		case "data_offsets":
			hasOffsets = true
			n := 0
			err := p.Array(func(i int) error {
				x, err := p.Natural()
				if err != nil {
					return fmt.Errorf("data_offsets: %w", err)
				}
				if i == 0 {
					e.begin = x
				} else {
					e.end = x
				}
				n++
				if n > 2 {
					return fmt.Errorf("data_offsets has more than 2 numbers")
				}
				return nil
			})
			if err == nil && n != 2 {
				err = fmt.Errorf("data_offsets has %d numbers (want 2)", n)
			}
			return err
		}
		return fmt.Errorf("unknown field %s", formats.Quote(field))
	})
	switch {
	case err != nil:
		return e, err
	case e.dtype == formats.InvalidDType:
		return e, fmt.Errorf("dtype is missing")
	case !hasShape:
		return e, fmt.Errorf("shape is missing")
	case !hasOffsets:
		return e, fmt.Errorf("data_offsets is missing")
	case e.begin > e.end:
		return e, fmt.Errorf("data_offsets [%d %d]: end before start", e.begin, e.end)
	}
	want, err := formats.ByteSize(e.dtype, e.shape)
	if err != nil {
		return e, err
	}
	if got := e.end - e.begin; got != want {
		return e, fmt.Errorf("data_offsets span %d bytes, but shape %v of %s takes %d", got, e.shape, e.dtype, want)
	}
	return e, nil
}

// checkLayout sorts the entries by their bytes and checks that they cover the rest
// of the file: no hole, no overlap, nothing missing, nothing left over.
func (h *header) checkLayout(size int64, file string) error {
	sort.SliceStable(h.entries, func(i, j int) bool {
		a, b := h.entries[i], h.entries[j]
		if a.begin != b.begin {
			return a.begin < b.begin
		}
		return a.end < b.end
	})
	var at int64
	last := "the header"
	for _, e := range h.entries {
		if e.begin < at {
			return formats.Rejectf(file, e.name, "its bytes [%d, %d) overlap those of %s, which end at %d", e.begin, e.end, last, at)
		}
		if e.begin > at {
			return formats.Rejectf(file, e.name, "hole of %d bytes between %s and its bytes [%d, %d)", e.begin-at, last, e.begin, e.end)
		}
		at, last = e.end, formats.Quote(e.name)
	}
	switch have := size - h.start; {
	case have < at:
		return formats.Rejectf(file, "", "truncated: %d bytes are missing (got %d bytes of tensor data, header wants %d)", at-have, have, at)
	case have > at:
		return formats.Rejectf(file, "", "%d bytes after the last tensor (got %d bytes of tensor data, header wants %d)", have-at, have, at)
	}
	return nil
}

// looksLike names what a file that is no safetensors file seems to be.
func looksLike(r io.ReaderAt, size int64) string {
	buf := make([]byte, min(size, 64))
	if formats.ReadFullAt(r, buf, 0) != nil {
		return ""
	}
	for _, k := range []struct{ magic, what string }{
		{"version https://git-lfs", "a Git LFS pointer: run \"git lfs pull\" to get the file itself"},
		{"<", "an HTML or XML page"},
		{"PK\x03\x04", "a zip archive (PyTorch .bin or .npz)"},
		{"\x1f\x8b", "a gzip archive"},
		{"GGUF", "a GGUF file"},
		{"\x80\x02", "a Python pickle"}, {"\x80\x04", "a Python pickle"},
		{"{", "JSON text"},
	} {
		if bytes.HasPrefix(buf, []byte(k.magic)) {
			return k.what
		}
	}
	return ""
}

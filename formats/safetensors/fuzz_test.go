package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	oracle "github.com/nlpodyssey/safetensors"

	"github.com/seed-b982eded/graft/formats"
)

// FuzzReadHeader reads a header with the given text in front of data bytes of tensors.
// Whatever comes in: no panic, and an error of the right class. What is accepted covers
// its file exactly, is accepted by an independent reader as far as that knows the types,
// and comes back the same when it is written again.
func FuzzReadHeader(f *testing.F) {
	for _, c := range badFiles {
		if len(c.content) > 8 && len(c.content) < 1000 {
			f.Add(c.content[8:], uint16(len(c.content)))
		}
	}
	for _, c := range goodFiles {
		f.Add([]byte(c.header), uint16(len(c.data)))
	}
	f.Add(small()[8:], uint16(31))
	f.Fuzz(func(t *testing.T, text []byte, data uint16) {
		content := file(string(text), string(make([]byte, data)))
		h, err := read(content)
		if err != nil {
			var e *formats.Error
			if !errors.As(err, &e) || e.Class != formats.ErrInput || e.File != "f" {
				t.Fatalf("%q: error %#v", text, err)
			}
			return
		}
		s := formats.Shard{Metadata: h.metadata}
		names := map[string]bool{}
		at := int64(0)
		known := true
		for _, e := range h.entries {
			size, err := formats.ByteSize(e.dtype, e.shape)
			if err != nil || e.begin != at || e.end != at+size || names[e.name] || e.name == "" {
				t.Fatalf("%q: entry %+v at %d, %v", text, e, at, err)
			}
			at, names[e.name] = e.end, true
			s.Tensors = append(s.Tensors, inMemory(e.name, e.dtype, make([]byte, size), e.shape...))
			if _, err := oracle.ParseDType(e.dtype.String()); err != nil || len(e.shape) == 0 {
				known = false
			}
		}
		if h.start+at != int64(len(content)) || h.start != int64(len(text))+8 {
			t.Fatalf("%q: the tensors end at %d of %d", text, h.start+at, len(content))
		}
		if known {
			if st, err := oracle.Deserialize(content); err != nil || st.Len() != len(h.entries) {
				t.Fatalf("%q: another reader says %v", text, err)
			}
		}
		head, err := encodeHeader(s)
		if err != nil {
			t.Fatal(err)
		}
		if n := binary.LittleEndian.Uint64(head); n != uint64(len(head)-8) || len(head)%8 != 0 {
			t.Fatalf("%q: a header of %d bytes says %d", text, len(head), n)
		}
		again, err := read(append(bytes.Clone(head), content[h.start:]...))
		if err != nil {
			t.Fatalf("%q: written as %q: %v", text, head, err)
		}
		again.start = h.start
		hasFormat := false
		for _, m := range h.metadata {
			hasFormat = hasFormat || m.Key == "format"
		}
		if !hasFormat {
			again.metadata = again.metadata[:len(again.metadata)-1]
		}
		if n := differences(h, again); n != 0 {
			t.Fatalf("%q: written as %q, %d things differ", text, head, n)
		}
	})
}

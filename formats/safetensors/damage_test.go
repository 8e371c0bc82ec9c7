package safetensors

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// small is a file with metadata, four tensors and padding.
func small() []byte {
	return file(`{"__metadata__":{"format":"pt"},"a.b":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},`+
		`"s":{"dtype":"BF16","shape":[],"data_offsets":[24,26]},"e":{"dtype":"I8","shape":[0,3],"data_offsets":[26,26]},`+
		`"z":{"dtype":"U8","shape":[5],"data_offsets":[26,31]}}    `, string(pattern(31, 3)))
}

func read(content []byte) (*header, error) {
	return readHeader(bytes.NewReader(content), int64(len(content)), "f")
}

func TestTruncatedAnywhere(t *testing.T) {
	content := small()
	if _, err := read(content); err != nil {
		t.Fatal(err)
	}
	for n := range content {
		_, err := read(content[:n])
		checkError(t, err, formats.ErrInput, `reading "f"`)
	}
	for _, more := range []string{"\x00", " ", "abcdefgh"} {
		_, err := read(append(slices.Clone(content), more...))
		checkError(t, err, formats.ErrInput, fmt.Sprintf("%d bytes after the last tensor", len(more)))
	}
}

// TestFlippedHeader flips every bit of length and header. What is still accepted must
// differ from the original in the one thing that the flipped byte spells.
func TestFlippedHeader(t *testing.T) {
	content := small()
	want, err := read(content)
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for i := range int(want.start) {
		for bit := range 8 {
			flipped := slices.Clone(content)
			flipped[i] ^= 1 << bit
			got, err := read(flipped)
			if err != nil {
				checkError(t, err, formats.ErrInput, `reading "f"`)
				continue
			}
			accepted++
			if i < 8 {
				t.Errorf("another length (byte %d, bit %d) was accepted", i, bit)
			}
			if n := differences(want, got); n != 1 {
				t.Errorf("byte %d, bit %d (%q): %d things differ, want 1", i, bit, flipped[8:want.start], n)
			}
		}
	}
	if accepted < 20 {
		t.Errorf("only %d flips were accepted: the test has lost its object", accepted)
	}
}

// differences counts names, types, shapes, ranges and metadata that differ.
func differences(a, b *header) int {
	if a.start != b.start || len(a.entries) != len(b.entries) || len(a.metadata) != len(b.metadata) {
		return 100
	}
	n := 0
	count := func(differs bool) {
		if differs {
			n++
		}
	}
	for i, x := range a.entries {
		y := b.entries[i]
		count(x.name != y.name)
		count(x.dtype != y.dtype)
		count(!slices.Equal(x.shape, y.shape))
		count(x.begin != y.begin || x.end != y.end)
	}
	for i, x := range a.metadata {
		count(x.Key != b.metadata[i].Key)
		count(x.Value != b.metadata[i].Value)
	}
	return n
}

package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// file returns a file with the given header text and data.
func file(header, data string) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), data...)
}

// withLength returns a file whose header claims to have n bytes.
func withLength(n uint64, rest string) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, n), rest...)
}

// save writes content into a fresh directory and returns its path.
func save(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := os.WriteFile(path, content, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustOpen(t testing.TB, path string) *formats.Checkpoint {
	t.Helper()
	c, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func mustWrite(t testing.TB, s formats.Shard, opts WriteOptions) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.safetensors")
	if err := Write(t.Context(), path, s, opts); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkError checks an error's class, that it is one line, and what it says.
func checkError(t testing.TB, err, class error, want ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", want)
		return
	}
	var e *formats.Error
	if !errors.As(err, &e) || !errors.Is(err, class) {
		t.Errorf("got %v (%T), want the class %v", err, err, class)
	}
	if strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 2000 {
		t.Errorf("not one plain line: %q", err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want it to say %q", err, w)
		}
	}
}

// pattern returns n bytes that differ from place to place.
func pattern(n int, seed byte) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i*7+i>>8) ^ seed
	}
	return out
}

func inMemory(name string, d formats.DType, data []byte, shape ...int64) formats.Tensor {
	return formats.Tensor{Name: name, DType: d, Shape: shape, Data: bytes.NewReader(data)}
}

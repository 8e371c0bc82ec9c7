package ortadapter

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/formats/safetensors"
)

const (
	golden = "../../testdata/onnx_adapter"
	peftTD = "../../testdata/peft"
)

// memory is a file in memory.
type memory struct{ *bytes.Reader }

func (memory) Name() string                     { return "f" }
func (memory) Use(func(f *os.File) error) error { return errors.ErrUnsupported }

// readBytes reads content as a file named "f".
func readBytes(content []byte) (*File, error) { return read(memory{bytes.NewReader(content)}) }

func save(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.onnx_adapter")
	if err := os.WriteFile(path, content, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t testing.TB, elements ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustOpen(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func mustRead(t testing.TB, path string) *adapter.Adapter {
	t.Helper()
	a, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func readPEFT(t testing.TB, dir string) *adapter.Adapter {
	t.Helper()
	a, err := peft.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// numbers returns the tensors that lie beside a golden file.
func numbers(t testing.TB, name string) *formats.Checkpoint {
	t.Helper()
	c, err := safetensors.Open(filepath.Join(golden, name+".safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func bytesOf(t testing.TB, x formats.Tensor) []byte {
	t.Helper()
	data, err := x.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// checkTensors compares parameters with the tensors of a checkpoint, in any order.
func checkTensors(t testing.TB, got []formats.Tensor, want *formats.Checkpoint) {
	t.Helper()
	if len(got) != want.Len() {
		t.Errorf("got %d parameters, want %d", len(got), want.Len())
	}
	for _, x := range got {
		y, ok := want.Tensor(x.Name)
		if !ok || x.DType != y.DType || !slices.Equal(x.Shape, y.Shape) {
			t.Errorf("%s: got %s %v, want %s %v", x.Name, x.DType, x.Shape, y.DType, y.Shape)
			continue
		}
		if !bytes.Equal(bytesOf(t, x), bytesOf(t, y)) {
			t.Errorf("%s: the data differ", x.Name)
		}
	}
}

func inMemory(name string, d formats.DType, data []byte, shape ...int64) formats.Tensor {
	return formats.Tensor{Name: name, DType: d, Shape: shape, Data: bytes.NewReader(data)}
}

// pattern returns n bytes that differ from place to place.
func pattern(n int64) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i*7 + i>>8)
	}
	return out
}

// encode writes parameters into memory.
func encode(t testing.TB, params ...formats.Tensor) []byte {
	t.Helper()
	e, err := newEncoder("f", params, 5, -6)
	if err != nil {
		t.Fatal(err)
	}
	return join(t, e.parts())
}

// join returns the bytes of parts.
func join(t testing.TB, parts []publish.Part) []byte {
	t.Helper()
	var out []byte
	for _, p := range parts {
		if p.Tensor.Data != nil {
			p.Literal = bytesOf(t, p.Tensor)
		}
		out = append(out, p.Literal...)
	}
	return out
}

// checkError checks an error's class, that it is one line, and what it says.
func checkError(t testing.TB, err, class error, want ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", want)
		return
	}
	var e *formats.Error
	if !errors.As(err, &e) || e.Class != class {
		t.Errorf("got %v (%T), want the class %v", err, err, class)
	}
	if strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("not one plain line: %q", err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want it to say %q", err, w)
		}
	}
}

// failing is data that cannot be read from some offset on.
type failing struct {
	io.ReaderAt
	from int64
	err  error
}

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

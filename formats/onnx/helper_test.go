package onnx

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/publish"
)

// The functions below write protobuf fields, so that a test can say exactly which bytes it
// means. A message is the concatenation of its fields.

func vi(num number, v int64) string {
	return string(protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), uint64(v)))
}

func str(num number, fields ...string) string {
	return string(protowire.AppendString(protowire.AppendTag(nil, num, protowire.BytesType), strings.Join(fields, "")))
}

func f32(num number, bits uint32) string {
	return string(protowire.AppendFixed32(protowire.AppendTag(nil, num, protowire.Fixed32Type), bits))
}

func f64(num number, bits uint64) string {
	return string(protowire.AppendFixed64(protowire.AppendTag(nil, num, protowire.Fixed64Type), bits))
}

// packed is a run of varints without tags.
func packed64(values ...int64) string {
	var b []byte
	for _, v := range values {
		b = protowire.AppendVarint(b, uint64(v))
	}
	return string(b)
}

// long is a varint of n bytes, more than it needs.
func long(v uint64, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(v>>(7*i))&0x7f | 0x80
	}
	b[n-1] &= 0x7f
	return string(b)
}

func node(op string, fields ...string) string {
	return str(graphNode, str(nodeOpType, op), strings.Join(fields, ""))
}

// initializer is a named tensor with dims, then more fields.
func initializer(name string, typ DataType, dims []int64, fields ...string) string {
	return str(graphInitializer, tensorBody(name, typ, dims, fields...))
}

func tensorBody(name string, typ DataType, dims []int64, fields ...string) string {
	var s string
	for _, d := range dims {
		s += vi(tensorDims, d)
	}
	s += vi(tensorDataType, int64(typ))
	if name != "" {
		s += str(tensorName, name)
	}
	return s + strings.Join(fields, "")
}

func entry(key, value string) string {
	return str(tensorExternalData, str(pairKey, key), str(pairValue, value))
}

// outside are the fields of external data; an empty offset or length is left out.
func outside(location, offset, length string) string {
	s := entry("location", location)
	if offset != "" {
		s += entry("offset", offset)
	}
	if length != "" {
		s += entry("length", length)
	}
	return s + vi(tensorLocation, 1)
}

// model is a model with a graph of the given fields.
func model(graph ...string) string {
	return vi(modelIRVersion, 8) + str(modelGraph, graph...) + str(modelOpsetImport, str(opsetDomain, ""), vi(opsetVersion, 17))
}

// memory is a file in memory.
type memory struct{ *bytes.Reader }

func (memory) Name() string                     { return "m" }
func (m memory) Size() int64                    { return m.Reader.Size() }
func (memory) Use(func(f *os.File) error) error { return errors.ErrUnsupported }

// inMemory reads a model from memory. Of external data there are files "w" with 64 bytes
// and "v" with 8, that count up from 0.
func inMemory(content string) (*Model, error) {
	return read(memory{bytes.NewReader([]byte(content))}, "m", func(location string) (formats.SourceFile, error) {
		switch location {
		case "w":
			return memory{bytes.NewReader(counting(64))}, nil
		case "v":
			return memory{bytes.NewReader(counting(8))}, nil
		}
		return nil, formats.Rejectf(location, "", "no such file")
	})
}

func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

func mustRead(t testing.TB, content string) *Model {
	t.Helper()
	m, err := inMemory(content)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// tree writes files into a fresh directory and returns it. A content that starts with
// "->" is a link's target.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mustOpen(t testing.TB, path string) *Model {
	t.Helper()
	m, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// contentOf reads the bytes of a file to be written, in odd pieces.
func contentOf(t testing.TB, f publish.File) string {
	t.Helper()
	parts, err := f.Parts()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, p := range parts {
		if p.Tensor.Data == nil {
			out.Write(p.Literal)
			continue
		}
		if _, err := io.CopyBuffer(&out, io.NewSectionReader(p.Tensor.Data, 0, p.Tensor.Size()), make([]byte, 100_003)); err != nil {
			t.Fatal(err)
		}
	}
	if int64(out.Len()) != f.Size {
		t.Errorf("%s has %d bytes and says %d", f.Name, out.Len(), f.Size)
	}
	return out.String()
}

// mustFiles returns the files of an edited model by name; the model is "out.onnx".
func mustFiles(t testing.TB, e *Edit, opts FileOptions) map[string]string {
	t.Helper()
	files, err := e.Files("out.onnx", opts)
	if err != nil {
		t.Fatal(err)
	}
	if files[len(files)-1].Name != "out.onnx" {
		t.Errorf("the last file is %s", files[len(files)-1].Name)
	}
	out := map[string]string{}
	for _, f := range files {
		if _, ok := out[f.Name]; ok {
			t.Errorf("two files %s", f.Name)
		}
		out[f.Name] = contentOf(t, f)
	}
	return out
}

// edited is the content of a model without external data after an edit.
func edited(t testing.TB, content string, edit func(m *Model, e *Edit)) string {
	t.Helper()
	m := mustRead(t, content)
	e := NewEdit(m)
	edit(m, e)
	return mustFiles(t, e, FileOptions{})["out.onnx"]
}

// data returns the bytes of a checkpoint's tensor.
func data(t testing.TB, m *Model, key string) string {
	t.Helper()
	x, ok := m.Checkpoint().Tensor(key)
	if !ok {
		t.Fatalf("there is no tensor %q", key)
	}
	b, err := x.ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return string(b)
}

func tensorOf(dtype formats.DType, shape []int64, b string) formats.Tensor {
	return formats.Tensor{DType: dtype, Shape: shape, Data: strings.NewReader(b)}
}

// checkError checks an error's class, that it is one line, and what it says.
func checkError(t testing.TB, err, class error, want ...string) {
	t.Helper()
	var e *formats.Error
	if !errors.As(err, &e) || !errors.Is(err, class) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v (%T), want one line of the class %v", err, err, class)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want it to say %q", err, w)
		}
	}
}

// appendField is the tag and length of a field of n bytes.
func appendField(num number, n int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.BytesType), uint64(n))
}

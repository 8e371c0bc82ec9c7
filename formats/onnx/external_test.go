package onnx

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// TestExternal reads tensors of all kinds of places from two files outside, one of which
// two tensors share.
func TestExternal(t *testing.T) {
	m := mustRead(t, model(
		initializer("a", Uint8, []int64{4}, outside("w", "8", "4")),
		initializer("in", Uint8, []int64{2}, str(tensorRawData, "in")),
		initializer("b", Uint8, []int64{2, 2}, outside("v", "", "")),
		initializer("c", Int4, []int64{7}, outside("./w", "0", "4")),
		initializer("again", Int8, []int64{4}, outside("w", "8", "")),
		initializer("none", Int8, []int64{0}, outside("w", "10", "0")),
		node("Constant", str(nodeOutput, "k"), str(nodeAttribute, str(attributeName, "value"), str(attributeT, tensorBody("", Uint16, nil, outside("w", "62", "2"))))),
	))
	for key, want := range map[string]string{"a": "\x08\x09\x0a\x0b", "in": "in", "b": "\x00\x01\x02\x03", "c": "\x00\x01\x02\x03", "again": "\x08\x09\x0a\x0b", "none": "", "k": "\x3e\x3f"} {
		if got := data(t, m, key); got != want {
			t.Errorf("%s: got %x, want %x", key, got, want)
		}
	}
	var shards []string
	for _, s := range m.Checkpoint().Shards() {
		line := s.Name
		for _, x := range s.Tensors {
			line += " " + x.Name
		}
		shards = append(shards, line)
	}
	if got := strings.Join(shards, ", "); got != "m in, w c a again none k, v b" {
		t.Errorf("got the files %s", got)
	}
	if e := m.Graph.Initializers[0].External; e.Location != "w" || e.Offset != 8 || e.Length != 4 {
		t.Errorf("got %+v", e)
	}
	if e := m.Graph.Initializers[2].External; e.Offset != 0 || e.Length != 4 {
		t.Errorf("got %+v for what the file leaves out", e)
	}
}

// TestConfined opens models whose data is elsewhere, on a real file system.
func TestConfined(t *testing.T) {
	at := func(location string) string {
		return model(initializer("x", Uint8, []int64{4}, outside(location, "0", "4")))
	}
	dir := tree(t, map[string]string{
		"out/w":                        "outside",
		"m/w":                          "data",
		"m/sub/w":                      "deep",
		"m/link":                       "->../out/w",
		"m/up":                         "->../out",
		"m/inner":                      "->sub/w",
		"m/dangling":                   "->nowhere",
		"m/good.onnx":                  at("w"),
		"m/deep.onnx":                  at("sub/w"),
		"m/inner.onnx":                 at("inner"),
		"m/link.onnx":                  at("link"),
		"m/up.onnx":                    at("up/w"),
		"m/dangling.onnx":              at("dangling"),
		"m/directory.onnx":             at("sub"),
		"m/missing.onnx":               at("nothing"),
		"m/self.onnx":                  at("self.onnx"),
		"hub/blobs/1":                  at("w"),
		"hub/blobs/2":                  "blob",
		"hub/snapshots/r/m.onnx":       "->../../blobs/1",
		"hub/snapshots/r/w":            "->../../blobs/2",
		"hub/snapshots/r/onnx/m.onnx":  "->../../../blobs/1",
		"hub/snapshots/r/onnx/w":       "->../../../blobs/2",
		"hub/snapshots/r/other/m.onnx": at("w"),
		"hub/snapshots/r/other/w":      "->../../../../out/w",
	})
	for name, want := range map[string]string{
		"m/good.onnx": "data", "m/deep.onnx": "deep", "m/inner.onnx": "deep", "hub/snapshots/r/m.onnx": "blob", "hub/snapshots/r/onnx/m.onnx": "blob",
	} {
		m, err := Open(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := data(t, m, "x"); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if _, err := m.Graph.Initializers[0].Data.ReadAll(); err == nil {
			t.Errorf("%s: it can be read after it was closed", name)
		}
	}
	for name, want := range map[string]string{
		"m/link.onnx": "leads out of the model's directory", "m/dangling.onnx": "leads nowhere", "m/directory.onnx": "not a regular file",
		"m/missing.onnx": "no such file", "m/self.onnx": "the model file itself", "m/up.onnx": `up/w"`, "hub/snapshots/r/other/m.onnx": "leads out of the model's directory",
		"nothing.onnx": "no such file", "m/sub": "not a regular file",
	} {
		_, err := Open(filepath.Join(dir, name))
		checkError(t, err, formats.ErrInput, want)
	}
}

// TestOnlyTheSkeletonIsRead opens a model of 2 GB, most of it holes, and wants memory for
// names alone.
func TestOnlyTheSkeletonIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.onnx")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const n, count = 40 << 20, 51 // bytes of a tensor, tensors
	at := int64(0)
	write := func(s string) {
		if _, err := f.WriteAt([]byte(s), at); err != nil {
			t.Fatal(err)
		}
		at += int64(len(s))
	}
	dims := vi(tensorDims, n) + vi(tensorDataType, int64(Uint8))
	raw := string(appendField(tensorRawData, n))
	name := str(tensorName, "x00")
	tensor := int64(len(dims)+len(name)+len(raw)) + n
	head := string(appendField(graphInitializer, tensor))
	write(vi(modelIRVersion, 8) + string(appendField(modelGraph, count*(int64(len(head))+tensor))))
	for i := range count {
		write(head + dims + str(tensorName, "x"+string([]byte{'0' + byte(i/10), '0' + byte(i%10)})) + raw)
		at += n
	}
	if err := f.Truncate(at); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m := mustOpen(t, path)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("opening %d bytes took %d bytes of memory", at, got)
	}
	if len(m.Graph.Initializers) != count || m.Checkpoint().Size() != count*n {
		t.Errorf("got %d tensors of %d bytes", len(m.Graph.Initializers), m.Checkpoint().Size())
	}

	// One more tensor makes it too large for protobuf.
	e := NewEdit(m)
	e.AddInitializer(m.Graph, "more", formats.Tensor{DType: formats.U8, Shape: []int64{n}, Data: zeros{}})
	_, err = e.Files("out.onnx", FileOptions{External: ExternalNever})
	checkError(t, err, formats.ErrUnfit, `writing "out.onnx"`, "the model file gets too large", "want at most 2147483647")
	files, err := e.Files("out.onnx", FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2 || files[0].Name != "out.onnx.data" || files[0].Size != (count+1)*n || files[1].Size > 100<<10 {
		t.Errorf("got the files %s of %d bytes and %s of %d", files[0].Name, files[0].Size, files[1].Name, files[1].Size)
	}

	// A file that is larger to begin with is no protobuf.
	if err := f.Truncate(1 << 31); err != nil {
		t.Fatal(err)
	}
	_, err = Open(path)
	checkError(t, err, formats.ErrInput, "2147483648 bytes (want at most 2147483647")
}

// zeros is data without end.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

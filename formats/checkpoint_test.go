package formats

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

type closer struct {
	closed int
	err    error
}

func (c *closer) Close() error { c.closed++; return c.err }

func TestCheckpoint(t *testing.T) {
	a, b, c := FromFloat32s("a", []int64{2}, []float32{1, 2}), FromFloat32s("b", nil, []float32{3}), FromFloat32s("c", []int64{0, 5}, nil)
	side := []SideFile{{"config.json", 2, strings.NewReader("{}")}, {"short", 5, strings.NewReader("abc")}}
	x, y := &closer{err: io.ErrClosedPipe}, &closer{}
	ckpt, err := NewCheckpoint("p", Directory, []Shard{{Name: "1", Tensors: []Tensor{a, b}}, {Name: "2", Tensors: []Tensor{c}}}, side, x, y)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for x := range ckpt.Tensors() {
		names = append(names, x.Name)
	}
	if strings.Join(names, "") != "abc" || ckpt.Len() != 3 || ckpt.Size() != 12 || ckpt.Path() != "p" || ckpt.Layout() != Directory {
		t.Errorf("got %q, %d tensors of %d bytes", names, ckpt.Len(), ckpt.Size())
	}
	for range ckpt.Tensors() {
		break // stopping early must not go on
	}
	if got, ok := ckpt.Tensor("b"); !ok || got.Name != "b" {
		t.Errorf("tensor b: got %v, %v", got, ok)
	}
	if _, ok := ckpt.Tensor("d"); ok {
		t.Error("there is no tensor d")
	}
	if text, err := ckpt.ReadSideFile("config.json", 2); string(text) != "{}" || err != nil {
		t.Errorf("side file: got %q, %v", text, err)
	}
	for name, limit := range map[string]int64{"config.json": 1, "short": 9, "none": 9} {
		if _, err := ckpt.ReadSideFile(name, limit); !errors.Is(err, ErrInput) {
			t.Errorf("side file %s within %d bytes: got %v", name, limit, err)
		}
	}
	mapped := ckpt.MapTensors(func(x Tensor) Tensor { x.Data = bytes.NewReader(make([]byte, x.Size())); return x })
	if got, _ := mapped.Tensor("a"); got.Data == a.Data {
		t.Error("the mapped tensor is the old one")
	}
	if got, _ := ckpt.Tensor("a"); got.Data != a.Data {
		t.Error("mapping changed the original")
	}
	if err := mapped.Close(); err != nil || x.closed != 0 {
		t.Error("the mapped checkpoint must leave the files to the original")
	}
	if err := ckpt.Close(); !errors.Is(err, io.ErrClosedPipe) || x.closed != 1 || y.closed != 1 {
		t.Errorf("closing: %v, %d, %d", err, x.closed, y.closed)
	}
}

func TestCheckpointRefusesDuplicates(t *testing.T) {
	a := FromFloat32s("a", nil, []float32{1})
	_, err := NewCheckpoint("p", Directory, []Shard{{Name: "1", Tensors: []Tensor{a}}, {Name: "2", Tensors: []Tensor{a}}}, nil)
	if !errors.Is(err, ErrInput) || err.Error() != `reading "p": tensor "a": duplicate name: it is in "1" and in "2"` {
		t.Errorf("got %v", err)
	}
}

// shortReader breaks the rule of io.ReaderAt that a short read has an error.
type shortReader struct{}

func (shortReader) ReadAt(p []byte, _ int64) (int, error) { return len(p) / 2, nil }

// eofReader reports the end together with the last bytes, as it may.
type eofReader struct{ n int }

func (r eofReader) ReadAt(p []byte, _ int64) (int, error) { return min(r.n, len(p)), io.EOF }

func TestReadFullAt(t *testing.T) {
	for _, c := range []struct {
		r    io.ReaderAt
		want error
	}{
		{eofReader{4}, nil},
		{eofReader{3}, io.ErrUnexpectedEOF},
		{eofReader{0}, io.ErrUnexpectedEOF},
		{shortReader{}, io.ErrUnexpectedEOF},
	} {
		if err := ReadFullAt(c.r, make([]byte, 4), 0); err != c.want {
			t.Errorf("%#v: got %v, want %v", c.r, err, c.want)
		}
	}
	if err := ReadFullAt(eofReader{}, nil, 0); err != nil {
		t.Errorf("reading nothing: %v", err)
	}
}

func TestTensorShape(t *testing.T) {
	for _, c := range []struct {
		shape            []int64
		elements, rows   int64
		columnsOfTheRest int64
	}{{nil, 1, 1, 1}, {[]int64{5}, 5, 5, 1}, {[]int64{3, 4}, 12, 3, 4}, {[]int64{3, 4, 5}, 60, 3, 20}, {[]int64{0, 4}, 0, 0, 4}, {[]int64{4, 0}, 0, 4, 0}} {
		x := Tensor{DType: U8, Shape: c.shape}
		rows, cols := x.Matrix()
		if x.Elements() != c.elements || x.Size() != c.elements || rows != c.rows || cols != c.columnsOfTheRest {
			t.Errorf("%v: got %d elements, %d × %d", c.shape, x.Elements(), rows, cols)
		}
	}
	x := FromFloat32s("x", []int64{2}, []float32{1.5, -2})
	if v, err := x.Float32s(); err != nil || v[0] != 1.5 || v[1] != -2 {
		t.Errorf("got %v, %v", v, err)
	}
	x.Shape = []int64{3}
	if _, err := x.ReadAll(); err != io.ErrUnexpectedEOF {
		t.Errorf("too little data: got %v", err)
	}
}

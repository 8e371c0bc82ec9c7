package safetensors

import (
	"bytes"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	oracle "github.com/nlpodyssey/safetensors"

	"github.com/seed-b982eded/graft/formats"
)

// allTypes is a shard with each of the 22 types, in shapes that are easily got wrong.
func allTypes(t testing.TB) formats.Shard {
	s := formats.Shard{Metadata: []formats.MetadataEntry{{Key: "format", Value: "np"}, {Key: "note", Value: "a \"b\" \\ \n é"}}}
	for d := formats.Bool; d <= formats.U64; d++ {
		for _, shape := range [][]int64{{}, {0}, {3, 0}, {4}, {2, 3, 4}, {1, 1, 8}} {
			size, err := formats.ByteSize(d, shape)
			if err != nil {
				continue // a packed type that does not fill its last byte
			}
			name := strings.Repeat("x", len(shape)) + "." + d.String()
			if len(shape) > 0 {
				name += "." + string(rune('0'+shape[len(shape)-1]))
			}
			s.Tensors = append(s.Tensors, inMemory(name, d, pattern(int(size), byte(d)), shape...))
		}
	}
	return s
}

func TestEveryTypeComesBack(t *testing.T) {
	s := allTypes(t)
	seen := map[formats.DType]bool{}
	path := mustWrite(t, s, WriteOptions{})
	got := mustOpen(t, path)
	if got.Len() != len(s.Tensors) || !slices.Equal(got.Shards()[0].Metadata, s.Metadata) {
		t.Fatalf("got %d tensors and metadata %v", got.Len(), got.Shards()[0].Metadata)
	}
	for i, w := range s.Tensors {
		g := got.Shards()[0].Tensors[i]
		x, err1 := g.ReadAll()
		y, err2 := w.ReadAll()
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if g.Name != w.Name || g.DType != w.DType || !slices.Equal(g.Shape, w.Shape) || !bytes.Equal(x, y) {
			t.Errorf("%s %s %v: got %s %s %v", w.Name, w.DType, w.Shape, g.Name, g.DType, g.Shape)
		}
		seen[g.DType] = true
	}
	if len(seen) != 22 {
		t.Errorf("%d types were written, want 22", len(seen))
	}
	if n, err := EncodedSize(s); err != nil || n != int64(len(load(t, path))) {
		t.Errorf("EncodedSize says %d, %v", n, err)
	}
	if again := mustWrite(t, got.Shards()[0], WriteOptions{}); !bytes.Equal(load(t, again), load(t, path)) {
		t.Error("written again, the file differs")
	}
}

// TestReadByAnotherLibrary reads what Write wrote with an independent implementation,
// which knows 13 of the types and no scalars.
func TestReadByAnotherLibrary(t *testing.T) {
	s := allTypes(t)
	s.Tensors = slices.DeleteFunc(s.Tensors, func(x formats.Tensor) bool {
		_, err := oracle.ParseDType(x.DType.String())
		return err != nil || len(x.Shape) == 0
	})
	st, err := oracle.Deserialize(load(t, mustWrite(t, s, WriteOptions{BlockBytes: 7})))
	if err != nil {
		t.Fatal(err)
	}
	if st.Len() != len(s.Tensors) || st.Len() < 40 {
		t.Errorf("got %d tensors, want %d", st.Len(), len(s.Tensors))
	}
	for _, w := range s.Tensors {
		g, ok := st.Tensor(w.Name)
		if !ok {
			t.Errorf("%s is missing", w.Name)
			continue
		}
		want, err := w.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		shape := make([]int64, len(g.Shape()))
		for i, d := range g.Shape() {
			shape[i] = int64(d)
		}
		if g.DType().String() != w.DType.String() || !slices.Equal(shape, w.Shape) || !bytes.Equal(g.Data(), want) {
			t.Errorf("%s: got %s %v", w.Name, g.DType(), shape)
		}
	}
}

// TestLibraryFilesComeOutAsTheyWere copies files that the Rust library wrote.
func TestLibraryFilesComeOutAsTheyWere(t *testing.T) {
	root := filepath.Join("..", "..", "testdata")
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".safetensors") {
			return err
		}
		c := mustOpen(t, path)
		if !slices.ContainsFunc(c.Shards()[0].Metadata, func(m formats.MetadataEntry) bool { return m.Key == "format" }) {
			return nil // gets "format": "pt", see TestFormatIsAdded
		}
		files++
		if out := mustWrite(t, c.Shards()[0], WriteOptions{}); !bytes.Equal(load(t, out), load(t, path)) {
			t.Errorf("%s differs", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 60 {
		t.Errorf("only %d files", files)
	}
}

func TestFormatIsAdded(t *testing.T) {
	x := inMemory("x", formats.U8, []byte{7}, 1)
	for _, c := range []struct {
		in   []formats.MetadataEntry
		want string
	}{
		{nil, `{"__metadata__":{"format":"pt"},`},
		{[]formats.MetadataEntry{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}}, `{"__metadata__":{"b":"1","a":"2","format":"pt"},`},
		{[]formats.MetadataEntry{{Key: "format", Value: "mlx"}, {Key: "a", Value: ""}}, `{"__metadata__":{"format":"mlx","a":""},`},
		{[]formats.MetadataEntry{{Key: "k\"\\", Value: "\b\f\n\r\t\x01\x7f/<é"}}, `{"__metadata__":{"k\"\\":"\b\f\n\r\t\u0001` + "\x7f" + `/<é","format":"pt"},`},
	} {
		content := load(t, mustWrite(t, formats.Shard{Metadata: c.in, Tensors: []formats.Tensor{x}}, WriteOptions{}))
		if got := string(content[8 : 8+len(c.want)]); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
		if len(content)%8 != 1 {
			t.Errorf("tensor bytes start at %d, want a multiple of 8", len(content)-1)
		}
	}
}

// TestNames writes and reads names that want escaping.
func TestNames(t *testing.T) {
	var s formats.Shard
	names := []string{`"`, `\`, "a/b", "../x", "é", "語", "😀", "<&>", " ", "\u2028", "__metadata", strings.Repeat("n", formats.MaxNameBytes)}
	for i, n := range names {
		s.Tensors = append(s.Tensors, inMemory(n, formats.U8, []byte{byte(i)}, 1))
	}
	c := mustOpen(t, mustWrite(t, s, WriteOptions{}))
	for i, n := range names {
		x, ok := c.Tensor(n)
		if !ok {
			t.Errorf("%.20q is lost", n)
			continue
		}
		if data, err := x.ReadAll(); err != nil || data[0] != byte(i) {
			t.Errorf("%.20q: got %v, %v", n, data, err)
		}
	}
}

// TestOddAlignment reads floats from a file whose tensor bytes start at any offset.
func TestOddAlignment(t *testing.T) {
	raw := make([]byte, 12)
	formats.EncodeFloat32(raw, []float32{1.5, -2.25, 3}, formats.F32)
	for padding := range 8 {
		header := `{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}` + strings.Repeat(" ", padding)
		c := mustOpen(t, save(t, file(header, string(raw))))
		w, _ := c.Tensor("w")
		if v, err := w.Float32s(); err != nil || !slices.Equal(v, []float32{1.5, -2.25, 3}) {
			t.Errorf("%d spaces: got %v, %v", padding, v, err)
		}
		// Copied, the bytes start at a multiple of 8 again.
		again := mustOpen(t, mustWrite(t, c.Shards()[0], WriteOptions{}))
		x, _ := again.Tensor("w")
		if v, err := x.Float32s(); err != nil || !slices.Equal(v, []float32{1.5, -2.25, 3}) {
			t.Errorf("%d spaces, copied: got %v, %v", padding, v, err)
		}
	}
}

func TestReadRanges(t *testing.T) {
	c := mustOpen(t, save(t, small()))
	w, _ := c.Tensor("a.b")
	want, err := w.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for from := range len(want) + 1 {
		for to := from; to <= len(want)+3; to++ {
			p := make([]byte, to-from)
			n, err := w.Data.ReadAt(p, int64(from))
			end := min(to, len(want))
			if n != end-from || !bytes.Equal(p[:n], want[from:end]) || (err != nil) != (to > len(want)) {
				t.Errorf("[%d, %d): got %d bytes, %v", from, to, n, err)
			}
		}
	}
	for _, off := range []int64{-1, 25, 1 << 62} {
		if n, err := w.Data.ReadAt(make([]byte, 1), off); n != 0 || err == nil {
			t.Errorf("at %d: got %d bytes, %v", off, n, err)
		}
	}
}

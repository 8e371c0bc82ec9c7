package hf

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/formats/safetensors"
)

// place is a parent directory with a model in it and room for output beside.
func place(t testing.TB, files map[string]string) (parent, dir string) {
	t.Helper()
	dir = tree(t, files)
	return filepath.Dir(dir), dir
}

func TestWriteKeepsEverything(t *testing.T) {
	// An index in a layout of its own, with keys that nobody knows: it is right, so it stays.
	odd := `{ "weight_map" : {"c":"` + shard2 + `", "b":"` + shard1 + `","a":"` + shard1 + `"},"x":[1.50,null], "metadata":{"total_size":9.0,"y":"é"}}`
	parent, dir := place(t, with(sharded(t), index0, odd))
	out := filepath.Join(parent, "out")
	var written int64
	c := mustOpen(t, dir)
	opts := WriteOptions{BlockOptions: publish.BlockOptions{Workers: 1, Progress: func(n int64) { written += n }}}
	if err := Write(t.Context(), c, out, opts); err != nil {
		t.Fatal(err)
	}
	if got, want := everything(t, out), everything(t, dir); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if want := int64(len(load(t, filepath.Join(dir, shard1))) + len(load(t, filepath.Join(dir, shard2)))); written != want {
		t.Errorf("progress of %d bytes, want %d", written, want)
	}
	if names, _ := os.ReadDir(parent); len(names) != 2 {
		t.Errorf("beside the output: %v", names)
	}
}

func TestWriteKeepsShards(t *testing.T) {
	// Tensors out of the order of their names, and metadata of each shard's own.
	var s formats.Shard
	for _, n := range []string{"z", "a", "m"} {
		s.Tensors = append(s.Tensors, formats.FromFloat32s(n, []int64{1}, []float32{1}))
	}
	s.Metadata = []formats.MetadataEntry{{Key: "z", Value: "1"}, {Key: "a", Value: "2"}}
	path := filepath.Join(t.TempDir(), "w")
	if err := safetensors.Write(t.Context(), path, s, safetensors.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	// take the "format" off that the writer added
	text := strings.Replace(load(t, path), `,"format":"pt"`, ``, 1)
	text = text[:8] + strings.Replace(text[8:], "]}}", "]}}"+strings.Repeat(" ", len(`,"format":"pt"`)), 1)
	parent, dir := place(t, map[string]string{"b.safetensors": text, "a.safetensors": weights(t, "q"),
		index0: indexText(15, map[string]string{"z": "b.safetensors", "a": "b.safetensors", "m": "b.safetensors", "q": "a.safetensors"})})
	c := mustOpen(t, dir)
	if got := c.Shards()[1].Metadata; !slices.Equal(got, s.Metadata) {
		t.Fatalf("the fixture has metadata %v", got)
	}
	out := filepath.Join(parent, "out")
	if err := Write(t.Context(), c, out, WriteOptions{NoSync: true}); err != nil {
		t.Fatal(err)
	}
	got := mustOpen(t, out)
	if tensors(t, got) != tensors(t, c) {
		t.Errorf("got\n%swant\n%s", tensors(t, got), tensors(t, c))
	}
	if want := append(s.Metadata, formats.MetadataEntry{Key: "format", Value: "pt"}); !slices.Equal(got.Shards()[1].Metadata, want) {
		t.Errorf("got metadata %v, want %v", got.Shards()[1].Metadata, want)
	}
}

func TestWriteCorrectsIndex(t *testing.T) {
	shards := `"weight_map":{"c":"` + shard2 + `","b":"` + shard1 + `","a":"` + shard1 + `"}`
	sorted := "  \"weight_map\": {\n    \"a\": \"" + shard1 + "\",\n    \"b\": \"" + shard1 + "\",\n    \"c\": \"" + shard2 + "\"\n  }"
	for name, c := range map[string]struct{ old, want string }{
		"wrong total": {
			`{"metadata":{"total_size":8,"more":[1,{}]},` + shards + `,"z":"é"}`,
			"{\n  \"metadata\": {\n    \"total_size\": 9,\n    \"more\": [\n      1,\n      {}\n    ]\n  },\n" + sorted + ",\n  \"z\": \"\\u00e9\"\n}\n",
		},
		"no total":     {`{"metadata":{},` + shards + `}`, "{\n  \"metadata\": {\n    \"total_size\": 9\n  },\n" + sorted + "\n}\n"},
		"no metadata":  {`{` + shards + `}`, "{\n" + sorted + ",\n  \"metadata\": {\n    \"total_size\": 9\n  }\n}\n"},
		"null":         {`{"metadata":null,` + shards + `}`, "{\n  \"metadata\": {\n    \"total_size\": 9\n  },\n" + sorted + "\n}\n"},
		"text":         {`{"metadata":{"total_size":"9"},` + shards + `}`, "{\n  \"metadata\": {\n    \"total_size\": 9\n  },\n" + sorted + "\n}\n"},
		"9.5":          {`{"metadata":{"total_size":9.5},` + shards + `}`, "{\n  \"metadata\": {\n    \"total_size\": 9\n  },\n" + sorted + "\n}\n"},
		"out of range": {`{"metadata":{"total_size":1e999},` + shards + `}`, "{\n  \"metadata\": {\n    \"total_size\": 9\n  },\n" + sorted + "\n}\n"},
		"right":        {`{"metadata":{"total_size":9},` + shards + `}`, `{"metadata":{"total_size":9},` + shards + `}`},
		"right, 9.0e0": {`{"metadata":{"total_size":9.0e0},` + shards + `}`, `{"metadata":{"total_size":9.0e0},` + shards + `}`},
	} {
		parent, dir := place(t, with(sharded(t), index0, c.old))
		out := filepath.Join(parent, "out")
		if err := Write(t.Context(), mustOpen(t, dir), out, WriteOptions{NoSync: true}); err != nil {
			t.Fatal(err)
		}
		if got := load(t, filepath.Join(out, index0)); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// TestWriteNewIndex writes a sharded checkpoint that never had an index.
func TestWriteNewIndex(t *testing.T) {
	x, y := formats.FromFloat32s("x", []int64{2}, []float32{1, 2}), formats.FromFloat32s("y", nil, []float32{3})
	c, err := formats.NewCheckpoint(t.TempDir(), formats.Directory, []formats.Shard{{Name: shard1, Tensors: []formats.Tensor{y}}, {Name: shard2, Tensors: []formats.Tensor{x}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if err := Write(t.Context(), c, out, WriteOptions{NoSync: true}); err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"metadata\": {\n    \"total_size\": 12\n  },\n  \"weight_map\": {\n    \"x\": \"" + shard2 + "\",\n    \"y\": \"" + shard1 + "\"\n  }\n}\n"
	if got := load(t, filepath.Join(out, index0)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := mustOpen(t, out); got.Len() != 2 {
		t.Errorf("got %d tensors", got.Len())
	}
}

func TestWriteOneFile(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.safetensors"), filepath.Join(dir, "any name")
	if err := os.WriteFile(in, []byte(weights(t, "a", "b")), 0o666); err != nil {
		t.Fatal(err)
	}
	c, err := safetensors.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := Write(t.Context(), c, out, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if load(t, out) != load(t, in) {
		t.Error("the copy differs")
	}
	before := everything(t, dir)
	checkError(t, Write(t.Context(), c, out, WriteOptions{}), formats.ErrOutput, "writing "+formats.Quote(out), "it exists")
	checkError(t, Write(t.Context(), c, dir+"/new/x", WriteOptions{}), formats.ErrOutput, "no such file")
	checkError(t, Write(t.Context(), c, in, WriteOptions{Force: true}), formats.ErrUsage, "overlaps input")
	if everything(t, dir) != before {
		t.Error("a refused output changed something")
	}
	if err := Write(t.Context(), c, out, WriteOptions{Force: true}); err != nil || everything(t, dir) != before {
		t.Errorf("replacing: %v", err)
	}
}

// broken is a tensor's data that cannot be read.
type broken struct{ io.ReaderAt }

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errors.New("the disk is on fire") }

// TestNothingIsLeftBehind has failures at every step of writing, onto a new place and
// onto an old output that must stay as it is.
func TestNothingIsLeftBehind(t *testing.T) {
	parent, dir := place(t, sharded(t))
	grow(t, parent, map[string]string{"old/x": "old content", "old/sub/y": "more"})
	good := mustOpen(t, dir)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	unreadable := good.MapTensors(func(x formats.Tensor) formats.Tensor {
		if x.Name == "c" {
			x.Data = broken{}
		}
		return x
	})
	cutShort := func() *formats.Checkpoint {
		c, err := formats.NewCheckpoint(dir, formats.Directory, good.Shards(), []formats.SideFile{{Name: "short", Size: 10, Data: bytes.NewReader([]byte("abc"))}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}()
	for name, c := range map[string]struct {
		ctx   context.Context
		ckpt  *formats.Checkpoint
		opts  WriteOptions
		class error
		want  string
	}{
		"cancelled":             {cancelled, good, WriteOptions{}, context.Canceled, ""},
		"unreadable tensor":     {t.Context(), unreadable, WriteOptions{}, formats.ErrInput, `tensor "c"`},
		"side file cut short":   {t.Context(), cutShort, WriteOptions{}, formats.ErrInput, `"short"`},
		"check fails":           {t.Context(), good, WriteOptions{Check: func() error { return formats.Unfitf("", "", "lost") }}, formats.ErrUnfit, "lost"},
		"observer, not reached": {t.Context(), unreadable, WriteOptions{Check: func() error { t.Error("checked what failed"); return nil }}, formats.ErrInput, ""},
	} {
		for _, out := range []string{"new", "old"} {
			before := everything(t, parent)
			c.opts.Force = true
			err := Write(c.ctx, c.ckpt, filepath.Join(parent, out), c.opts)
			if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %v", name, err)
			}
			if strings.Contains(err.Error(), ".graft-") {
				t.Errorf("%s: the line names a staging place: %v", name, err)
			}
			if after := everything(t, parent); after != before {
				t.Errorf("%s onto %s: before\n%safter\n%s", name, out, before, after)
			}
		}
	}
	if err := Write(t.Context(), good, filepath.Join(parent, "old"), WriteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if got, want := everything(t, filepath.Join(parent, "old")), everything(t, dir); got != want {
		t.Errorf("replaced: got\n%swant\n%s", got, want)
	}
	if names, _ := os.ReadDir(parent); len(names) != 2 {
		t.Errorf("left behind: %v", names)
	}
}

// TestCheckSeesTheWholeResult looks at the staging when Check is called.
func TestCheckSeesTheWholeResult(t *testing.T) {
	parent, dir := place(t, sharded(t))
	out := filepath.Join(parent, "out")
	called := 0
	err := Write(t.Context(), mustOpen(t, dir), out, WriteOptions{ID: "abc", Check: func() error {
		called++
		if _, err := os.Lstat(out); err == nil {
			t.Error("the final name is there already")
		}
		if got, want := everything(t, filepath.Join(parent, ".out.graft-abc")), everything(t, dir); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		return nil
	}})
	if err != nil || called != 1 {
		t.Errorf("called %d times, %v", called, err)
	}
}

package hf

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/safetensors"
)

// tree writes files, given as path → content, into a fresh directory. A content that
// starts with "->" is a link's target, and a path that ends with "/" is a directory.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	grow(t, dir, files)
	return dir
}

func grow(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(files[name], "->"); ok {
			err = os.Symlink(target, path)
		} else if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o777)
		} else {
			err = os.WriteFile(path, []byte(files[name]), 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// weights returns a safetensors file with the named tensors, each of three bytes that
// depend on its name.
func weights(t testing.TB, names ...string) string {
	t.Helper()
	var s formats.Shard
	for _, n := range names {
		sum := sha256.Sum256([]byte(n))
		s.Tensors = append(s.Tensors, formats.Tensor{Name: n, DType: formats.U8, Shape: []int64{3}, Data: bytes.NewReader(sum[:3])})
	}
	path := filepath.Join(t.TempDir(), "w")
	if err := safetensors.Write(t.Context(), path, s, safetensors.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return load(t, path)
}

// indexText returns an index, given as tensor → shard.
func indexText(total int, shards map[string]string) string {
	text, _ := json.MarshalIndent(map[string]any{"metadata": map[string]any{"total_size": total}, "weight_map": shards}, "", "  ")
	return string(text)
}

const (
	shard1 = "model-00001-of-00002.safetensors"
	shard2 = "model-00002-of-00002.safetensors"
	index0 = "model.safetensors.index.json"
)

// sharded are the files of a model with tensors a and b in one shard and c in another.
func sharded(t testing.TB) map[string]string {
	return map[string]string{
		shard1:        weights(t, "a", "b"),
		shard2:        weights(t, "c"),
		index0:        indexText(9, map[string]string{"a": shard1, "b": shard1, "c": shard2}),
		"config.json": `{"model_type": "llama"}`,
	}
}

// with returns files with changes made to them; an empty name's content of "-" removes.
func with(files map[string]string, changes ...string) map[string]string {
	out := maps.Clone(files)
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == "-" {
			delete(out, changes[i])
		} else {
			out[changes[i]] = changes[i+1]
		}
	}
	return out
}

func load(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func mustOpen(t testing.TB, dir string) *formats.Checkpoint {
	t.Helper()
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// everything describes everything below a directory: names, kinds, contents.
func everything(t testing.TB, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&out, "%s %s", rel, d.Type())
		switch {
		case d.Type().IsRegular():
			fmt.Fprintf(&out, " %x", sha256.Sum256([]byte(load(t, path))))
		case d.Type()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			fmt.Fprintf(&out, " %s", target)
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// checkError checks an error's class, that each problem is one line, and what it says.
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
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want it to say %q", err, w)
		}
	}
}

// tensors describes a checkpoint's tensors and their bytes.
func tensors(t testing.TB, c *formats.Checkpoint) string {
	t.Helper()
	var out strings.Builder
	for _, s := range c.Shards() {
		for _, x := range s.Tensors {
			data, err := x.ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, "%s/%s %x\n", s.Name, x.Name, data)
		}
	}
	return out.String()
}

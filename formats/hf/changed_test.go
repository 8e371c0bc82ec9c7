package hf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-b982eded/graft/formats"
)

// manyShards is a model of n shards with one tensor of three bytes each.
func manyShards(t testing.TB, n int) map[string]string {
	files := map[string]string{"config.json": "{}"}
	index := map[string]string{}
	for i := range n {
		name, file := fmt.Sprintf("t%d", i), fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, n)
		head := fmt.Sprintf(`{"__metadata__":{"format":"pt"},"%s":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}`, name)
		for len(head)%8 != 0 {
			head += " "
		}
		files[file] = string(byte(len(head))) + strings.Repeat("\x00", 7) + head + string([]byte{byte(i), byte(i >> 8), 7})
		index[name] = file
	}
	files[index0] = indexText(3*n, index)
	return files
}

// TestInputChangesBeforeItIsRead changes files after they were opened, while they are
// not kept open because there are many.
func TestInputChangesBeforeItIsRead(t *testing.T) {
	first := "model-00001-of-00100.safetensors"
	twin := func(path string) error { // the same bytes, in another file of the same age
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path+".new", data, 0o666); err != nil {
			return err
		}
		if err := os.Chtimes(path+".new", time.Time{}, info.ModTime()); err != nil {
			return err
		}
		return os.Rename(path+".new", path)
	}
	for name, c := range map[string]struct {
		file   string
		change func(path string) error
		want   string
	}{
		"cut short":           {first, func(path string) error { return os.Truncate(path, 9) }, "it was changed or replaced"},
		"longer":              {first, func(path string) error { return os.Truncate(path, 1000) }, "it was changed or replaced"},
		"touched":             {first, func(path string) error { return os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)) }, "it was changed or replaced"},
		"replaced":            {first, twin, "it was changed or replaced"},
		"removed":             {first, os.Remove, "no such file"},
		"a directory":         {first, func(path string) error { os.Remove(path); return os.Mkdir(path, 0o777) }, "not a regular file"},
		"side file cut short": {"config.json", func(path string) error { return os.Truncate(path, 1) }, "it was changed or replaced"},
		"side file removed":   {"config.json", os.Remove, "no such file"},
		"index replaced":      {index0, twin, "it was changed or replaced"},
	} {
		parent, dir := place(t, manyShards(t, 100))
		ckpt := mustOpen(t, dir)
		path := filepath.Join(dir, c.file)
		if err := c.change(path); err != nil {
			t.Fatal(err)
		}
		before := everything(t, parent)
		err := Write(t.Context(), ckpt, filepath.Join(parent, "out"), WriteOptions{NoSync: true})
		checkError(t, err, formats.ErrInput, "reading "+formats.Quote(path), c.want)
		if after := everything(t, parent); after != before {
			t.Errorf("%s: before\n%safter\n%s", name, before, after)
		}
	}
}

// TestInputCutShortWhileItIsRead truncates a file in the middle of the work, when some of
// it was read: under a tensor that is made and under one that is copied.
func TestInputCutShortWhileItIsRead(t *testing.T) {
	for _, copied := range []bool{false, true} {
		parent, dir := place(t, bigModel(t))
		path := filepath.Join(dir, "model-00004-of-00004.safetensors") // k4, m4
		if !copied {
			path = filepath.Join(dir, "model-00002-of-00004.safetensors") // m2, m3
		}
		var once sync.Once
		var opts WriteOptions
		opts.Observe = func(formats.Tensor, int64, []byte) error {
			once.Do(func() { os.Truncate(path, 3000) })
			return nil
		}
		checkError(t, rewrite(t, parent, opts), formats.ErrInput, "reading "+formats.Quote(path), "unexpected EOF", `tensor "`)
		if names, err := os.ReadDir(parent); err != nil || len(names) != 1 {
			t.Errorf("left behind: %v, %v", names, err)
		}
	}
}

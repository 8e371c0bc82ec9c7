package hf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

const rev = "0123456789abcdef0123456789abcdef01234567"

// cache returns the files of a model in the Hugging Face cache, whose snapshot is links.
func cache(t testing.TB) map[string]string {
	return map[string]string{
		"blobs/aaaa": weights(t, "a"),
		"blobs/bbbb": `{"model_type": "llama"}`,
		"blobs/cccc": "code",
		"refs/main":  rev,
		"snapshots/" + rev + "/model.safetensors":   "->../../blobs/aaaa",
		"snapshots/" + rev + "/config.json":         "->../../blobs/bbbb",
		"snapshots/" + rev + "/sub/x.py":            "->../../../blobs/cccc",
		"snapshots/" + rev + "/real.txt":            "no link",
		".no_exist/" + rev + "/added_tokens.json":   "",
		"../models--org--other/blobs/dddd":          weights(t, "d"),
		"../models--org--other/snapshots/r/a.empty": "",
	}
}

func TestOpenCache(t *testing.T) {
	dir := tree(t, with(cache(t), "../link", "->model/snapshots/"+rev, "../folder", "->model"))
	snapshot := filepath.Join(dir, "snapshots", rev)
	for _, path := range []string{snapshot, dir, dir + "/", filepath.Join(dir, "..", "link"), filepath.Join(dir, "..", "folder")} {
		c := mustOpen(t, path)
		if c.Len() != 1 || c.Shards()[0].Name != "model.safetensors" {
			t.Errorf("%s: got %+v", path, c.Shards())
		}
		if got, err := c.ReadSideFile("sub/x.py", 10); string(got) != "code" {
			t.Errorf("%s: side file %q, %v", path, got, err)
		}
	}
	t.Chdir(snapshot)
	if got := mustOpen(t, "."); got.Len() != 1 {
		t.Errorf("the current directory: got %d tensors", got.Len())
	}
	out := filepath.Join(dir, "..", "out")
	if err := Write(t.Context(), mustOpen(t, snapshot), out, WriteOptions{NoSync: true}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"config.json": "blobs/bbbb", "sub/x.py": "blobs/cccc", "model.safetensors": "blobs/aaaa"} {
		info, err := os.Lstat(filepath.Join(out, name))
		if err != nil || !info.Mode().IsRegular() || load(t, filepath.Join(out, name)) != load(t, filepath.Join(dir, want)) {
			t.Errorf("%s was not written as a file of its own: %v", name, err)
		}
	}
}

func TestWhichSnapshot(t *testing.T) {
	other := "snapshots/ffff/model.safetensors"
	for name, c := range map[string]struct {
		files map[string]string
		want  string // "" : opens
	}{
		"newline after the name": {with(cache(t), "refs/main", rev+"\n"), ""},
		"one and no refs":        {with(cache(t), "refs/main", "-"), ""},
		"two and main":           {with(cache(t), other, "->../../blobs/aaaa"), ""},
		"two and no refs":        {with(cache(t), "refs/main", "-", other, "->../../blobs/aaaa"), "a cache folder with 2 snapshots and no refs/main"},
		"main is not there":      {with(cache(t), "refs/main", "eeee"), "no such file"},
		"main leads out":         {with(cache(t), "refs/main", "../../../etc"), "is not a plain name"},
		"main leads up":          {with(cache(t), "refs/main", ".."), "is not a plain name"},
		"main is empty":          {with(cache(t), "refs/main", ""), "is not a plain name"},
		"main is long":           {with(cache(t), "refs/main", strings.Repeat("f", 1<<20)), "is not a plain name"},
		"main is a folder":       {with(cache(t), "refs/main", "-", "refs/main/", ""), ""},
	} {
		c0, err := Open(tree(t, c.files))
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			c0.Close()
			continue
		}
		checkError(t, err, formats.ErrInput, c.want)
	}
}

// TestCacheLinksElsewhere has links from a snapshot that do not lead into the blobs
// beside it.
func TestCacheLinksElsewhere(t *testing.T) {
	link := "snapshots/" + rev + "/model.safetensors"
	for name, files := range map[string]map[string]string{
		"another model's blobs":  with(cache(t), link, "->../../../models--org--other/blobs/dddd"),
		"beside the blobs":       with(cache(t), link, "->../../loose", "loose", weights(t, "a")),
		"through the blobs":      with(cache(t), link, "->../../blobs/../loose", "loose", weights(t, "a")),
		"a blob that leads out":  with(cache(t), link, "->../../blobs/eeee", "blobs/eeee", "->../loose", "loose", weights(t, "a")),
		"absolute and outside":   with(cache(t), link, "->/etc/passwd"),
		"no blobs of their own":  {"snapshots/r/model.safetensors": "->../../blob", "blob": weights(t, "a")},
		"no snapshot":            {"snap/r/model.safetensors": "->../../blobs/a", "blobs/a": weights(t, "a")},
		"a blob that is not one": with(cache(t), link, "->../../blobs/sub", "blobs/sub/x", ""),
	} {
		dir := tree(t, files)
		at := filepath.Join(dir, "snapshots", rev)
		switch name {
		case "no blobs of their own":
			at = filepath.Join(dir, "snapshots", "r")
		case "no snapshot":
			at = filepath.Join(dir, "snap", "r")
		}
		_, err := Open(at)
		checkError(t, err, formats.ErrInput, "model.safetensors")
		if err == nil {
			t.Errorf("%s was opened", name)
		}
	}
	// An absolute link into the blobs is as good as a relative one.
	dir := tree(t, cache(t))
	at := filepath.Join(dir, "snapshots", rev)
	if err := os.Remove(filepath.Join(at, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "blobs", "aaaa"), filepath.Join(at, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, at)
}

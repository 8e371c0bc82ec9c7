package confined

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// put writes files below a directory; a content that starts with "->" is a link's target.
func put(t testing.TB, dir string, files ...[2]string) {
	t.Helper()
	for _, f := range files {
		path := filepath.Join(dir, f[0])
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(f[1], "->"); ok {
			if err := os.Symlink(target, path); err != nil {
				t.Skip(err)
			}
		} else if err := os.WriteFile(path, []byte(f[1]), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNames opens what may be opened, and refuses names and links that lead out.
func TestNames(t *testing.T) {
	parent := t.TempDir()
	put(t, parent, [2]string{"secret", "s"}, [2]string{"blobs/x", "not of a cache"}, [2]string{"dir/a", "1"}, [2]string{"dir/sub/b", "2"},
		[2]string{"dir/to a", "->a"}, [2]string{"dir/sub/up", "->../a"}, [2]string{"dir/out", "->../secret"}, [2]string{"dir/blob", "->../blobs/x"},
		[2]string{"dir/root", "->/etc/passwd"}, [2]string{"dir/nowhere", "->none"}, [2]string{"dir/loop", "->loop"})
	d, err := Open(filepath.Join(parent, "dir"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for name, want := range map[string]string{"a": "1", "sub/b": "2", "to a": "1", "sub/up": "1", "sub/../a": "1"} {
		f, err := d.Open(name)
		if err != nil {
			t.Error(err)
			continue
		}
		got, err := io.ReadAll(f)
		f.Close()
		if err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		src, err := d.Source(name)
		if err != nil {
			t.Error(err)
			continue
		}
		data := make([]byte, src.Size())
		if err := formats.ReadFullAt(src, data, 0); err != nil || string(data) != want {
			t.Errorf("%s: got %q, %v", name, data, err)
		}
		src.Close()
	}
	for name, want := range map[string]string{
		"../secret": "", "sub/../../secret": "", "/etc/passwd": "", filepath.Join(parent, "secret"): "", "": "", "none": "no such file", "a/b": "",
		"out": "leads out", "blob": "leads out", "root": "leads out", "nowhere": "leads nowhere", "loop": "leads nowhere", "sub": "not a regular file", ".": "not a regular file",
	} {
		_, err := d.Open(name)
		_, err2 := d.Source(name)
		for _, err := range []error{err, err2} {
			var e *formats.Error
			if !errors.As(err, &e) || e.Class != formats.ErrInput || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: got %v, want an input error with %q", name, err, want)
			}
		}
	}
	if _, err := d.ReadDir(".."); !errors.Is(err, formats.ErrInput) {
		t.Errorf("listing what is above: %v", err)
	}
}

// TestSnapshot opens a snapshot of a cache, whose links lead to the blobs beside it and
// nowhere else.
func TestSnapshot(t *testing.T) {
	parent := t.TempDir()
	put(t, parent, [2]string{"blobs/x", "1"}, [2]string{"secret", "s"}, [2]string{"snapshots/r/a", "->../../blobs/x"}, [2]string{"snapshots/r/out", "->../../secret"})
	d, err := Open(filepath.Join(parent, "snapshots", "r"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	f, err := d.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != "1" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := d.Open("out"); !errors.Is(err, formats.ErrInput) {
		t.Errorf("got %v", err)
	}
	list, err := d.ReadDir(".")
	if err != nil || len(list) != 2 || list[0].Name() != "a" || list[1].Name() != "out" {
		t.Errorf("got %v, %v", list, err)
	}
	if _, err := Open(filepath.Join(parent, "none")); !errors.Is(err, formats.ErrInput) {
		t.Errorf("got %v", err)
	}
}

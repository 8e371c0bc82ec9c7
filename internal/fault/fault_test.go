package fault

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// everything does each operation once and returns the first error.
func everything(dir string) error {
	path := filepath.Join(dir, "a", "b", "f")
	first := func(steps ...func() error) error {
		for _, s := range steps {
			if err := s(); err != nil {
				return err
			}
		}
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var f *os.File
	opened := func(g *os.File, err error) error {
		if err == nil {
			g.Close()
		}
		return err
	}
	return first(
		func() error { return Mkdir(filepath.Join(dir, "a")) },
		func() error { return MkdirAll(filepath.Dir(path)) },
		func() error { f, err = OpenFile(path, os.O_CREATE|os.O_RDWR); return err },
		func() error { return Truncate(f, 4) },
		func() error { _, err := WriteAt(f, []byte("abcd"), 0); return err },
		func() error { _, err := ReadAt(f, make([]byte, 4), 0); return err },
		func() error { return Sync(f) },
		func() error { return Close(f) },
		func() error { return opened(OpenFile(path, os.O_RDWR)) },
		func() error { return Rename(path, path+"2") },
		func() error { return Link(path+"2", path+"3") },
		func() error { return opened(Open(path + "2")) },
		func() error { return opened(OpenIn(root, "a/b/f2")) },
		func() error { _, err := ReadDir(dir); return err },
		func() error { return Check(OpRename, path) },
	)
}

func TestEachCanFail(t *testing.T) {
	if err := everything(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	bad := errors.New("bad")
	kinds := map[Op]bool{}
	for n := 1; ; n++ {
		i := 0
		restore := Set(func(op Op, path string) error {
			if i++; i == n {
				kinds[op] = true
				return bad
			}
			return nil
		})
		err := everything(t.TempDir())
		restore()
		if i < n {
			if err != nil || n != 16 || len(kinds) != 10 {
				t.Errorf("%d operations of %d kinds, %v", n-1, len(kinds), err)
			}
			return
		}
		var p *fs.PathError
		if !errors.Is(err, bad) || !errors.As(err, &p) || i != n {
			t.Errorf("operation %d: got %v after %d", n, err, i)
		}
	}
}

func TestHalfIsWritten(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer Set(func(Op, string) error { return errors.New("bad") })()
	if n, err := WriteAt(f, []byte("abcd"), 0); n != 2 || err == nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	if Close(f) == nil || f.Close() == nil {
		t.Error("it was not closed, or without an error")
	}
}

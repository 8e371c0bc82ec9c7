//go:build unix

package hf

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// TestLiveStagingIsRespected holds the lock that a running process holds.
func TestLiveStagingIsRespected(t *testing.T) {
	parent, dir := place(t, sharded(t))
	grow(t, parent, map[string]string{".out.graft-live/x": "half"})
	f, err := os.Open(filepath.Join(parent, ".out.graft-live"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Skip(err)
	}
	c := mustOpen(t, dir)
	before := everything(t, parent)
	err = Write(t.Context(), c, filepath.Join(parent, "out"), WriteOptions{})
	checkError(t, err, formats.ErrOutput, "another graft is writing it", ".out.graft-live")
	if after := everything(t, parent); after != before {
		t.Errorf("before\n%safter\n%s", before, after)
	}
	// The same from inside a run: the second one must leave the first alone.
	f.Close()
	out := filepath.Join(parent, "out")
	err = Write(t.Context(), c, out, WriteOptions{ID: "first", Check: func() error {
		err := Write(t.Context(), c, out, WriteOptions{ID: "second"})
		checkError(t, err, formats.ErrOutput, "another graft is writing it")
		return nil
	}})
	if err != nil {
		t.Error(err)
	}
	if got, want := everything(t, out), everything(t, dir); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestPermissionsFollowTheUmask(t *testing.T) {
	for _, mask := range []int{0o022, 0o027, 0o077, 0o002} {
		parent, dir := place(t, with(sharded(t), "sub/x.py", "x"))
		c := mustOpen(t, dir)
		old := syscall.Umask(mask)
		err := Write(t.Context(), c, filepath.Join(parent, "out"), WriteOptions{})
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		err = filepath.WalkDir(filepath.Join(parent, "out"), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			want := fs.FileMode(0o666 &^ mask)
			if d.IsDir() {
				want = fs.FileMode(0o777 &^ mask)
			}
			if err == nil && info.Mode().Perm() != want {
				t.Errorf("umask %03o: %s has %v, want %v", mask, path, info.Mode().Perm(), want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

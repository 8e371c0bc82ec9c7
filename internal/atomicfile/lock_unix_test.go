//go:build unix

package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-b982eded/graft/internal/fault"
)

// TestLockOfWhatIsGone opens a staging that is removed, and made anew by another, before
// the lock is taken.
func TestLockOfWhatIsGone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	put(t, path, "1")
	if _, err := lock(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := lockOpen(f, path); err != nil {
		t.Error(err)
	}
	if _, err := lock(path); !errors.Is(err, errInUse) {
		t.Errorf("got %v", err)
	}
	os.Remove(path)
	if err := lockOpen(f, path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is gone: got %v", err)
	}
	put(t, path, "2")
	if err := lockOpen(f, path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another has its name: got %v", err)
	}
}

// TestPlaceIsTaken lets a second stage of the same ID take the place between the first
// one's two steps: the first must neither go on nor remove what is the second's.
func TestPlaceIsTaken(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	staging := Path(out, "id")
	var second *Stage
	stop := fault.Set(func(op fault.Op, path string) error {
		if op == fault.OpOpen && path == staging && second == nil {
			second = &Stage{} // once
			second = mustDir(t, out, Options{ID: "id"})
			put(t, filepath.Join(staging, "theirs"), "1")
		}
		return nil
	})
	_, err := NewDir(out, Options{ID: "id"})
	stop()
	checkOutput(t, err, "another graft is writing it")
	checkTree(t, dir, ".out.graft-id/ .out.graft-id/theirs=1")
	if err := second.Publish(); err != nil {
		t.Fatal(err)
	}
	checkTree(t, dir, "out/ out/theirs=1")
}

// TestOldContentIsLockedToo tries to take the staging place while it holds the old
// content, which is the case between an exchange and the removal.
func TestOldContentIsLockedToo(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	put(t, filepath.Join(out, "x"), "old")
	opts := Options{Force: true, ID: "id", Resume: true}
	s := mustDir(t, out, opts)
	put(t, filepath.Join(s.Path(), "x"), "new")
	tried := 0
	stop := fault.Set(func(op fault.Op, path string) error {
		if data, err := os.ReadFile(filepath.Join(out, "x")); op == fault.OpSync && err == nil && string(data) == "new" && tried == 0 {
			tried++
			_, err := NewDir(out, opts)
			checkOutput(t, err, "another graft is writing it")
		}
		return nil
	})
	err := s.Publish()
	stop()
	if err != nil || tried == 0 {
		t.Errorf("tried %d times, %v", tried, err)
	}
	checkTree(t, dir, "out/ out/x=new")
}

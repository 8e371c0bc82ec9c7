package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-b982eded/graft/internal/fault"
)

var errDisk = errors.New("the disk is on fire")

// failing lets the n-th operation of a kind fail until the test ends or stop is called.
func failing(t testing.TB, kind fault.Op, n int) (stop func()) {
	t.Helper()
	stop = fault.Set(func(op fault.Op, path string) error {
		if op == kind {
			if n--; n == 0 {
				return errDisk
			}
		}
		return nil
	})
	t.Cleanup(stop)
	return stop
}

// TestPublishTakesBack lets the very last step fail, the sync of the directory in which
// the name has just changed.
func TestPublishTakesBack(t *testing.T) {
	for name, c := range map[string]struct {
		dir    bool
		before func(out string)
		syncs  int
	}{
		"new directory":   {true, func(string) {}, 3},
		"empty directory": {true, func(out string) { os.Mkdir(out, 0o750) }, 3},
		"directory":       {true, func(out string) { put(t, filepath.Join(out, "old"), "1") }, 3},
		"new file":        {false, func(string) {}, 2},
		"file":            {false, func(out string) { put(t, out, "1") }, 2},
	} {
		dir := t.TempDir()
		out := filepath.Join(dir, "out")
		c.before(out)
		before := everything(t, dir)
		info, _ := os.Stat(out)
		s, err := start(&Stage{out: out, dir: c.dir, opts: Options{Force: true}})
		if err != nil {
			t.Fatal(err)
		}
		if c.dir {
			put(t, filepath.Join(s.Path(), "new"), "2")
		} else {
			put(t, s.Path(), "2")
		}
		stop := failing(t, fault.OpSync, c.syncs)
		err = s.Publish()
		stop()
		checkOutput(t, err, "publishing: the disk is on fire")
		if got := everything(t, dir); got != before {
			t.Errorf("%s: got %q, want %q", name, got, before)
		}
		if after, _ := os.Stat(out); info != nil && after.Mode() != info.Mode() {
			t.Errorf("%s: mode %v, want %v", name, after.Mode(), info.Mode())
		}
	}
}

// TestReplaceWithoutExchange takes the way of systems that cannot exchange names.
func TestReplaceWithoutExchange(t *testing.T) {
	for _, isDir := range []bool{true, false} {
		dir := t.TempDir()
		from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
		content := func(path, text string) {
			if isDir {
				path = filepath.Join(path, "x")
			}
			put(t, path, text)
		}
		content(from, "new")
		content(to, "old")
		before := everything(t, dir)
		for n := 1; n <= 2 && (isDir || n == 1); n++ {
			stop := failing(t, fault.OpRename, n)
			_, err := replace(from, to, isDir)
			stop()
			if err == nil {
				t.Errorf("rename %d: no error", n)
			}
			checkTree(t, dir, before)
		}
		done, err := replace(from, to, isDir)
		if err != nil {
			t.Fatal(err)
		}
		if err := done.undo(); err != nil {
			t.Error(err)
		}
		checkTree(t, dir, before)
		if done, err = replace(from, to, isDir); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(done.drop); err != nil {
			t.Error(err)
		}
		checkTree(t, dir, map[bool]string{true: "to/ to/x=new", false: "to=new"}[isDir])
	}
}

// TestCannotTakeBack lets both the last sync and the way back fail: the new content
// stays, the error says so, and nothing of the old content is removed.
func TestCannotTakeBack(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	put(t, filepath.Join(out, "x"), "old")
	s := mustDir(t, out, Options{Force: true, ID: "id"})
	put(t, filepath.Join(s.Path(), "x"), "new")
	syncs, renames := 0, 0
	stop := fault.Set(func(op fault.Op, path string) error {
		switch op {
		case fault.OpSync:
			if syncs++; syncs == 3 {
				return errDisk
			}
		case fault.OpRename:
			if renames++; renames == 3 { // the first finds the name taken, the second exchanges
				return errDisk
			}
		}
		return nil
	})
	err := s.Publish()
	stop()
	if renames != 3 {
		t.Skip("names are not exchanged here")
	}
	checkOutput(t, err, "it holds the new content, which could not be taken back")
	checkTree(t, dir, ".out.graft-id/ .out.graft-id/x=old out/ out/x=new")
}

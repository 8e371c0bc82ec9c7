package atomicfile

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
)

func TestResume(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	opts := Options{ID: "plan", Resume: true, Scratch: "journal"}
	put(t, filepath.Join(dir, ".out.graft-other/x"), "stale")
	s := mustDir(t, out, opts)
	if s.Path() != Path(out, "plan") {
		t.Errorf("staging at %s, Path says %s", s.Path(), Path(out, "plan"))
	}
	put(t, filepath.Join(s.Path(), "a"), "1")
	put(t, filepath.Join(s.Path(), "journal"), "a")
	s.Leave()
	s.Leave()
	s.Abort() // too late
	checkTree(t, dir, ".out.graft-plan/ .out.graft-plan/a=1 .out.graft-plan/journal=a")

	s = mustDir(t, out, opts)
	_, err := NewDir(out, opts)
	checkOutput(t, err, "another graft is writing it")
	_, err = NewDir(out, Options{ID: "other", Resume: true})
	checkOutput(t, err, "another graft is writing it")
	checkTree(t, dir, ".out.graft-plan/ .out.graft-plan/a=1 .out.graft-plan/journal=a")
	put(t, filepath.Join(s.Path(), "b"), "2")

	// Publishing fails: all but the scratch file is still there.
	stop := failing(t, fault.OpRename, 1)
	checkOutput(t, s.Publish(), "publishing: the disk is on fire")
	stop()
	checkTree(t, dir, ".out.graft-plan/ .out.graft-plan/a=1 .out.graft-plan/b=2")
	s.Leave()
	s = mustDir(t, out, opts)
	if err := s.Publish(); err != nil {
		t.Fatal(err)
	}
	checkTree(t, dir, "out/ out/a=1 out/b=2")
}

// TestWithoutResume starts anew where a staging of the same ID was left.
func TestWithoutResume(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	s := mustDir(t, out, Options{ID: "plan", Resume: true})
	put(t, filepath.Join(s.Path(), "a"), "1")
	s.Leave()
	s = mustDir(t, out, Options{ID: "plan"})
	checkTree(t, dir, ".out.graft-plan/")
	s.Abort()
	checkTree(t, dir, "")
}

func TestIDs(t *testing.T) {
	dir := t.TempDir()
	for _, id := range []string{"a/b", "..", "a.old", "a b", "\n", "é", strings.Repeat("x", 65)} {
		_, err := NewDir(filepath.Join(dir, "out"), Options{ID: id})
		if !errors.Is(err, formats.ErrUsage) {
			t.Errorf("ID %q: got %v", id, err)
		}
	}
	for _, err := range []error{
		func() error { _, err := NewDir(filepath.Join(dir, "out"), Options{Resume: true}); return err }(),
		func() error { _, err := NewFile(filepath.Join(dir, "out"), Options{Resume: true, ID: "a"}); return err }(),
	} {
		if !errors.Is(err, formats.ErrUsage) {
			t.Errorf("got %v", err)
		}
	}
	checkTree(t, dir, "")
}

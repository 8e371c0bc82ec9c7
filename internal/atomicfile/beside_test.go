package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-b982eded/graft/internal/fault"
)

// besideStage is a stage of out with b, which may exist, and c, which does not, all written.
func besideStage(t testing.TB, dir string, opts Options) *Stage {
	t.Helper()
	s, err := NewBeside(filepath.Join(dir, "out"), []string{"b", "c"}, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b", "c", "out"} {
		put(t, filepath.Join(s.Path(), name), "new")
	}
	return s
}

func TestBeside(t *testing.T) {
	for _, noSync := range []bool{false, true} {
		dir := t.TempDir()
		s := besideStage(t, dir, Options{ID: "id", NoSync: noSync, Scratch: "journal"})
		put(t, filepath.Join(s.Path(), "journal"), "x")
		if s.Path() != Path(filepath.Join(dir, "out"), "id") {
			t.Errorf("staging at %s", s.Path())
		}
		if err := s.Publish(); err != nil {
			t.Fatal(err)
		}
		checkTree(t, dir, "b=new c=new out=new")
		if _, err := NewBeside(filepath.Join(dir, "out"), nil, Options{}); err == nil {
			t.Error("what exists was taken")
		}
		put(t, filepath.Join(dir, "b"), "old")
		if err := besideStage(t, dir, Options{Force: true}).Publish(); err != nil {
			t.Fatal(err)
		}
		checkTree(t, dir, "b=new c=new out=new")
	}
}

// TestBesideAppearsMeanwhile creates each of the names after the stage has started.
func TestBesideAppearsMeanwhile(t *testing.T) {
	for _, name := range []string{"b", "c", "out"} {
		dir := t.TempDir()
		s := besideStage(t, dir, Options{})
		put(t, filepath.Join(dir, name), "theirs")
		checkOutput(t, s.Publish(), "it exists")
		checkTree(t, dir, name+"=theirs")

		// And between the last look and the step itself.
		dir = t.TempDir()
		s = besideStage(t, dir, Options{})
		stop := fault.Set(func(op fault.Op, path string) error {
			if op == fault.OpMkdir {
				put(t, filepath.Join(dir, name), "theirs")
			}
			return nil
		})
		err := s.Publish()
		stop()
		checkOutput(t, err, "file exists")
		checkTree(t, dir, name+"=theirs")
	}
}

// torn publishes and lets everything fail from a change of names on, so that nothing can be
// put back, as if the process were killed there. Without links the files move.
func torn(t testing.TB, s *Stage, from int, links bool) {
	t.Helper()
	n := 0
	stop := fault.Set(func(op fault.Op, path string) error {
		if op == fault.OpLink && !links {
			return errDisk
		}
		if op == fault.OpRename || op == fault.OpLink {
			if n++; n >= from {
				return errDisk
			}
		}
		return nil
	})
	err := s.Publish()
	stop()
	checkOutput(t, err, "publishing: the disk is on fire")
}

// TestTornIsPutBack leaves a publication at every change of names. Out is never there
// without the others, and the next stage of any kind puts everything back.
func TestTornIsPutBack(t *testing.T) {
	// Renames of out, b, (c that is not there), links or renames of b and c, rename of out.
	const changes = 6
	for _, links := range []bool{true, false} {
		for from := 1; from <= changes; from++ {
			for _, next := range []func(out string) (*Stage, error){
				func(out string) (*Stage, error) { return NewBeside(out, []string{"b"}, Options{Force: true}) },
				func(out string) (*Stage, error) {
					return NewBeside(out, []string{"b", "c"}, Options{Force: true, Resume: true, ID: "id"})
				},
				func(out string) (*Stage, error) { return NewFile(out, Options{Force: true}) },
			} {
				dir := t.TempDir()
				put(t, filepath.Join(dir, "out"), "old")
				put(t, filepath.Join(dir, "b"), "old")
				before := everything(t, dir)
				torn(t, besideStage(t, dir, Options{Force: true, ID: "id"}), from, links)
				if exists(filepath.Join(dir, "out")) && from > 1 {
					t.Errorf("from change %d on: %s", from, everything(t, dir))
				}
				s, err := next(filepath.Join(dir, "out"))
				if err != nil {
					t.Fatal(err)
				}
				s.Abort()
				want := before
				if !links && from == changes { // nobody can know that c was not there before
					want = "b=old c=new out=old"
				}
				checkTree(t, dir, want)
			}
		}
	}
}

// TestTornWithoutForce goes on without Force where the others lie there already.
func TestTornWithoutForce(t *testing.T) {
	dir := t.TempDir()
	staging := filepath.Join(dir, ".out.graft-id")
	put(t, filepath.Join(staging, "out"), "killed")
	if err := os.Mkdir(filepath.Join(staging, asideName), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b", "c"} {
		put(t, filepath.Join(staging, name), "killed")
		if err := os.Link(filepath.Join(staging, name), filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	if err := CheckBeside(filepath.Join(dir, "out"), []string{"b", "c"}, false); err != nil {
		t.Error(err)
	}
	checkOutput(t, CheckBeside(filepath.Join(dir, "other"), []string{"b", "c"}, false), "it exists")
	if err := besideStage(t, dir, Options{}).Publish(); err != nil {
		t.Error(err)
	}
	checkTree(t, dir, "b=new c=new out=new")
}

// TestTornThenTaken has somebody else's file where old content shall come back.
func TestTornThenTaken(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "out"), "old")
	torn(t, besideStage(t, dir, Options{Force: true, ID: "id"}), 2, true)
	put(t, filepath.Join(dir, "out"), "theirs")
	before := everything(t, dir)
	_, err := NewBeside(filepath.Join(dir, "out"), []string{"b", "c"}, Options{Force: true})
	checkOutput(t, err, "an interrupted run left its old content at")
	checkTree(t, dir, before)
}

// TestOldComesBackAndIsInTheWay starts without Force after a run with it was torn.
func TestOldComesBackAndIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "out"), "old")
	put(t, filepath.Join(dir, "b"), "old")
	torn(t, besideStage(t, dir, Options{Force: true}), 5, true)
	_, err := NewBeside(filepath.Join(dir, "out"), []string{"b", "c"}, Options{})
	checkOutput(t, err, "it exists")
	checkTree(t, dir, "b=old out=old")
}

// TestBesideWithoutLinks publishes where a file cannot have two names, and takes that back.
func TestBesideWithoutLinks(t *testing.T) {
	for n := 1; ; n++ {
		dir := t.TempDir()
		put(t, filepath.Join(dir, "out"), "old")
		put(t, filepath.Join(dir, "c"), "old")
		before := everything(t, dir)
		s := besideStage(t, dir, Options{Force: true})
		count, op := 0, fault.Op("")
		stop := fault.Set(func(o fault.Op, path string) error {
			if o == fault.OpLink {
				return errors.ErrUnsupported
			}
			if count++; count == n {
				op = o
				return errDisk
			}
			return nil
		})
		err := s.Publish()
		stop()
		if op == "" {
			if err != nil {
				t.Error(err)
			}
			checkTree(t, dir, "b=new c=new out=new")
			return
		}
		checkOutput(t, err, "the disk is on fire")
		if got := everything(t, dir); got != before {
			t.Errorf("operation %d (%s): got %q, want %q", n, op, got, before)
		}
	}
}

// TestMountPointInOrder publishes into a mount point and looks at every change: the last
// file of the result is never there without the others.
func TestMountPointInOrder(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "last", "z"} {
		put(t, filepath.Join(dir, name), "old")
	}
	path := filepath.Join(dir, ".graft-id")
	for _, name := range []string{"a", "last", "z"} {
		put(t, filepath.Join(path, name), "new")
	}
	l, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &Stage{out: dir, path: path, dir: true, inside: true, lock: l, opts: Options{Force: true, Last: "last"}}
	moves := 0
	stop := fault.Set(func(op fault.Op, from string) error {
		if op == fault.OpRename {
			if moves++; exists(filepath.Join(dir, "last")) || moves == 3 && filepath.Base(from) != "last" {
				t.Errorf("move %d of %s: there is %s", moves, from, everything(t, dir))
			}
		}
		return nil
	})
	err = s.Publish()
	stop()
	if err != nil || moves != 3 {
		t.Errorf("%d moves, %v", moves, err)
	}
	checkTree(t, dir, "a=new last=new z=new")
}

package atomicfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPublishDir(t *testing.T) {
	for _, noSync := range []bool{false, true} {
		dir := t.TempDir()
		s := mustDir(t, filepath.Join(dir, "out"), Options{ID: "id", NoSync: noSync})
		if s.Path() != filepath.Join(dir, ".out.graft-id") {
			t.Errorf("staging at %s", s.Path())
		}
		put(t, filepath.Join(s.Path(), "a/b/c"), "1")
		put(t, filepath.Join(s.Path(), "d"), "2")
		checkTree(t, dir, ".out.graft-id/ .out.graft-id/a/ .out.graft-id/a/b/ .out.graft-id/a/b/c=1 .out.graft-id/d=2")
		if err := s.Publish(); err != nil {
			t.Fatal(err)
		}
		s.Abort() // too late to do anything
		checkTree(t, dir, "out/ out/a/ out/a/b/ out/a/b/c=1 out/d=2")
	}
}

func TestPublishFile(t *testing.T) {
	for _, noSync := range []bool{false, true} {
		dir := t.TempDir()
		s := mustFile(t, filepath.Join(dir, "out"), Options{NoSync: noSync})
		if base := filepath.Base(s.Path()); !strings.HasPrefix(base, ".out.graft-") || len(base) != len(".out.graft-")+16 {
			t.Errorf("staging at %s", base)
		}
		put(t, s.Path(), "new")
		if err := s.Publish(); err != nil {
			t.Fatal(err)
		}
		checkTree(t, dir, "out=new")
	}
}

func TestAbort(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "old/x"), "1")
	put(t, filepath.Join(dir, "file"), "2")
	before := everything(t, dir)
	for _, s := range []*Stage{
		mustDir(t, filepath.Join(dir, "new"), Options{}), mustDir(t, filepath.Join(dir, "old"), Options{Force: true}),
	} {
		put(t, filepath.Join(s.Path(), "a/b"), "half")
		s.Abort()
		s.Abort()
	}
	for _, s := range []*Stage{
		mustFile(t, filepath.Join(dir, "new"), Options{}), mustFile(t, filepath.Join(dir, "file"), Options{Force: true}),
	} {
		put(t, s.Path(), "half")
		s.Abort()
	}
	checkTree(t, dir, before)
}

func TestForce(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "d/old/x"), "1")
	put(t, filepath.Join(dir, "f"), "old")
	d, f := filepath.Join(dir, "d"), filepath.Join(dir, "f")
	_, err := NewDir(d, Options{})
	checkOutput(t, err, "it exists")
	_, err = NewFile(f, Options{})
	checkOutput(t, err, "it exists")
	// A kind is not replaced by the other.
	_, err = NewDir(f, Options{Force: true})
	checkOutput(t, err, "it exists and is no directory")
	_, err = NewFile(d, Options{Force: true})
	checkOutput(t, err, "it exists and is no regular file")
	checkTree(t, dir, "d/ d/old/ d/old/x=1 f=old")

	s := mustDir(t, d, Options{Force: true})
	put(t, filepath.Join(s.Path(), "new"), "2")
	if err := s.Publish(); err != nil {
		t.Fatal(err)
	}
	s = mustFile(t, f, Options{Force: true})
	put(t, s.Path(), "new")
	if err := s.Publish(); err != nil {
		t.Fatal(err)
	}
	checkTree(t, dir, "d/ d/new=2 f=new")
}

func TestEmptyDirectoryIsTaken(t *testing.T) {
	for _, force := range []bool{false, true} {
		dir := t.TempDir()
		out := filepath.Join(dir, "out")
		if err := os.Mkdir(out, 0o777); err != nil {
			t.Fatal(err)
		}
		s := mustDir(t, out, Options{Force: force})
		put(t, filepath.Join(s.Path(), "x"), "1")
		if err := s.Publish(); err != nil {
			t.Fatal(err)
		}
		checkTree(t, dir, "out/ out/x=1")
	}
}

// TestAppearsMeanwhile creates the final name after the stage has started.
func TestAppearsMeanwhile(t *testing.T) {
	for _, kind := range []string{"file", "directory", "directory that was empty", "link"} {
		for _, force := range []bool{false, true} {
			dir := t.TempDir()
			out := filepath.Join(dir, "out")
			if kind == "directory that was empty" {
				if err := os.Mkdir(out, 0o777); err != nil {
					t.Fatal(err)
				}
			}
			s := mustDir(t, out, Options{Force: force})
			put(t, filepath.Join(s.Path(), "mine"), "1")
			switch kind {
			case "file":
				put(t, out, "theirs")
			case "link":
				if err := os.Symlink("elsewhere", out); err != nil {
					t.Skip(err)
				}
			default:
				put(t, filepath.Join(out, "theirs"), "2")
			}
			err := s.Publish()
			if force && strings.HasPrefix(kind, "directory") {
				if err != nil {
					t.Errorf("%s: %v", kind, err)
				}
				checkTree(t, dir, "out/ out/mine=1")
				continue
			}
			checkOutput(t, err, map[string]string{"file": "no directory", "link": "symbolic link"}[kind])
			checkTree(t, dir, map[string]string{"file": "out=theirs", "link": "out->elsewhere"}[kind]+
				map[bool]string{true: "out/ out/theirs=2"}[strings.HasPrefix(kind, "directory")])
		}
	}
	for _, force := range []bool{false, true} {
		dir := t.TempDir()
		out := filepath.Join(dir, "out")
		s := mustFile(t, out, Options{Force: force})
		put(t, s.Path(), "mine")
		put(t, out, "theirs")
		err := s.Publish()
		if force {
			if err != nil {
				t.Error(err)
			}
			checkTree(t, dir, "out=mine")
			continue
		}
		checkOutput(t, err, "it exists")
		checkTree(t, dir, "out=theirs")
	}
}

func TestSymlinksAreRefused(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "d/x"), "1")
	for name, target := range map[string]string{"to d": "d", "to x": "d/x", "to nothing": "none"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	before := everything(t, dir)
	for _, name := range []string{"to d", "to x", "to nothing"} {
		for _, force := range []bool{false, true} {
			_, err := NewDir(filepath.Join(dir, name), Options{Force: force})
			checkOutput(t, err, "symbolic link")
			_, err = NewFile(filepath.Join(dir, name), Options{Force: force})
			checkOutput(t, err, "symbolic link")
		}
	}
	checkTree(t, dir, before)
	// A link in the path above is a matter of the user's.
	s := mustFile(t, filepath.Join(dir, "to d", "new"), Options{})
	if err := s.Publish(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "d", "new")); err != nil {
		t.Error(err)
	}
}

func TestNoPlace(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "file"), "1")
	for _, out := range []string{"none/out", "file/out"} {
		_, err := NewDir(filepath.Join(dir, out), Options{})
		checkOutput(t, err, "")
		_, err = NewFile(filepath.Join(dir, out), Options{})
		checkOutput(t, err, "")
	}
	checkTree(t, dir, "file=1")
}

func TestRelativeOutputStaysWhereItWas(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "elsewhere"), 0o777); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	s := mustDir(t, "out/", Options{})
	t.Chdir("elsewhere")
	if err := s.Publish(); err != nil {
		t.Fatal(err)
	}
	checkTree(t, dir, "elsewhere/ out/")
}

func TestStale(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	put(t, filepath.Join(dir, ".out.graft-a/x"), "1")
	put(t, filepath.Join(dir, ".out.graft-b"), "2")
	mustDir(t, out, Options{}).Abort()
	checkTree(t, dir, ".out.graft-b=2")
	mustFile(t, out, Options{}).Abort()
	checkTree(t, dir, "")

	// A run of the same ID that is dead is stale too.
	put(t, filepath.Join(dir, ".out.graft-same/x"), "1")
	s := mustDir(t, out, Options{ID: "same"})
	checkTree(t, dir, ".out.graft-same/")
	_, err := NewDir(out, Options{ID: "same"})
	checkOutput(t, err, "another graft is writing it")
	_, err = NewDir(out, Options{ID: "other"})
	checkOutput(t, err, "another graft is writing it")
	checkTree(t, dir, ".out.graft-same/")
	s.Abort()
	checkTree(t, dir, "")
}

// TestOldContentAside has the old content that a system without exchange moved aside
// before it was killed: it may be all there is, and then it is not removed.
func TestOldContentAside(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	put(t, filepath.Join(dir, ".out.graft-a.old/x"), "precious")
	_, err := NewDir(out, Options{})
	checkOutput(t, err, "an interrupted run left its old content at")
	checkTree(t, dir, ".out.graft-a.old/ .out.graft-a.old/x=precious")
	put(t, filepath.Join(out, "x"), "new")
	mustDir(t, out, Options{Force: true}).Abort()
	checkTree(t, dir, "out/ out/x=new")
}

func TestCheckedRename(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "x"), "1")
	if err := checkedRename(filepath.Join(dir, "x"), dir); err == nil {
		t.Error("an existing name was taken")
	}
	if err := checkedRename(filepath.Join(dir, "x"), filepath.Join(dir, "y")); err != nil {
		t.Error(err)
	}
	checkTree(t, dir, "y=1")
}

// TestMountPoint publishes into a directory that cannot be renamed over.
func TestMountPoint(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "model.safetensors.index.json"), "old")
	put(t, filepath.Join(dir, "old/x"), "old")
	inside := func(force bool) *Stage {
		path := filepath.Join(dir, ".graft-id")
		put(t, filepath.Join(path, "model.safetensors.index.json"), "new")
		put(t, filepath.Join(path, "sub/x"), "new")
		l, err := lock(path)
		if err != nil {
			t.Fatal(err)
		}
		return &Stage{out: dir, path: path, dir: true, inside: true, lock: l, opts: Options{Force: force}}
	}
	if err := inside(true).Publish(); err != nil {
		t.Fatal(err)
	}
	checkTree(t, dir, "model.safetensors.index.json=new sub/ sub/x=new")
	inside(false).Abort()
	checkTree(t, dir, "model.safetensors.index.json=new sub/ sub/x=new")
}

func TestFreeSpace(t *testing.T) {
	dir := t.TempDir()
	n, err := FreeSpace(filepath.Join(dir, "none", "at", "all"))
	if err != nil || n <= 0 {
		t.Errorf("got %d, %v", n, err)
	}
}

package publish

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

func TestHardLinkedInput(t *testing.T) {
	dir := t.TempDir()
	in, twin := filepath.Join(dir, "in"), filepath.Join(dir, "twin")
	if err := os.WriteFile(in, []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(in, twin); err != nil {
		t.Skip(err)
	}
	checkError(t, CheckApart(in, twin), formats.ErrUsage, "overlaps input")
	if err := CheckApart(in, filepath.Join(dir, "other")); err != nil {
		t.Error(err)
	}
}

// literals is a set of files that hold their names.
func literals(in string, layout Layout, names ...string) Set {
	set := Set{Path: in, Layout: layout}
	for _, name := range names {
		set.Files = append(set.Files, fileOf(name, false, Part{Literal: []byte(name)}))
	}
	return set
}

// TestNames has names of files that must not be used, some of them from a hostile input.
func TestNames(t *testing.T) {
	parent := t.TempDir()
	grow(t, parent, map[string]string{"place/model": "x", "victim": "y"})
	in := filepath.Join(parent, "place", "model")
	out := filepath.Join(parent, "place", "out")
	before := everything(t, parent)
	weights := literals(in, Directory, "sub/w", "x")
	weights.Files[0].Weights = true
	for _, set := range []Set{
		literals(in, Directory, "../victim", "x"), literals(in, Directory, "/etc/x"), literals(in, Directory, ""), literals(in, Directory, "."),
		literals(in, Directory, "a/../../x"), literals(in, Directory, "a//b"), literals(in, Directory, "a", "a"), literals(in, Directory, ".graft-journal"),
		literals(in, Beside, "../victim", "x"), literals(in, Beside, "sub/x", "x"), literals(in, Beside, "out", "x"), literals(in, Beside, "a", "a", "x"),
		literals(in, Beside, ".graft-old", "x"), literals(in, Beside, "..", "x"), weights,
	} {
		err := Write(t.Context(), set, out, Options{Force: true})
		checkError(t, err, formats.ErrInput, formats.Quote(in), "name")
	}
	for _, set := range []Set{{Path: in}, {Path: in, Layout: OneFile}, {Path: in, Layout: Beside}, literals(in, OneFile, "a", "b")} {
		checkError(t, Write(t.Context(), set, out, Options{}), formats.ErrUsage, "do not make the output")
	}
	if after := everything(t, parent); after != before {
		t.Errorf("before\n%safter\n%s", before, after)
	}
}

// TestBesideNamesThatExist has files where the others shall lie.
func TestBesideNamesThatExist(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, map[string]string{"model": "in", "model.data": "in too", "data": "old", "dir/x": "", "link": "->data"})
	in, out := filepath.Join(dir, "model"), filepath.Join(dir, "out")
	before := everything(t, dir)
	for _, c := range []struct {
		name  string
		force bool
		class error
		want  string
	}{
		{"data", false, formats.ErrOutput, "it exists"},
		{"dir", true, formats.ErrOutput, "it exists and is no regular file"},
		{"link", true, formats.ErrOutput, "symbolic link"},
		{"model", true, formats.ErrUsage, "overlaps input"},
		{"model.data", true, formats.ErrUsage, "overlaps input"},
	} {
		err := Write(t.Context(), literals(in, Beside, "new", c.name, "out"), out, Options{Force: c.force, Inputs: []string{in + ".data"}})
		checkError(t, err, c.class, formats.Quote(filepath.Join(dir, c.name)), c.want)
	}
	if after := everything(t, dir); after != before {
		t.Errorf("before\n%safter\n%s", before, after)
	}
	for _, force := range []bool{false, true} {
		names := []string{"new", "out"}
		if force {
			names = []string{"new", "data", "out"}
		}
		t.Chdir(dir)
		if err := Write(t.Context(), literals(in, Beside, names...), "./out", Options{Force: force}); err != nil {
			t.Error(err)
		}
		for _, name := range names {
			if got := load(t, filepath.Join(dir, name)); got != name {
				t.Errorf("%s holds %q", name, got)
			}
		}
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 7 {
		t.Errorf("there is %v, %v", names, err)
	}
}

// TestPlannedWrongly has a file whose parts are not as long as they should be.
func TestPlannedWrongly(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, map[string]string{"in": "x"})
	set := literals(filepath.Join(dir, "in"), Directory, "a")
	set.Files[0].Size++
	err := Write(t.Context(), set, filepath.Join(dir, "out"), Options{})
	checkError(t, err, formats.ErrOutput, formats.Quote(filepath.Join(dir, "out", "a")), "got parts of 1 bytes, want 2")
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 || strings.Contains(names[0].Name(), "graft") {
		t.Errorf("there is %v, %v", names, err)
	}
}

package publish

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/atomicfile"
)

// Check reports what would keep [Write] from starting: an output that exists, that is or
// holds an input or lies in one, or that does not fit on the disk. It creates nothing.
func Check(set Set, out string, opts Options) error {
	set = set.under(out)
	if opts.Resume {
		if err := checkResume(set, opts.ID); err != nil {
			return err
		}
	}
	if err := checkNames(set); err != nil {
		return err
	}
	if err := checkPlaces(set, out, opts); err != nil {
		return err
	}
	var need int64
	for _, f := range set.Files {
		need += f.Size
	}
	if opts.Resume {
		need -= finishedSize(atomicfile.Path(out, opts.ID), opts.ID, set.Files)
	}
	if free, err := atomicfile.FreeSpace(out); err == nil && free < need {
		return formats.Outputf(out, nil, "no space left on device (got %d bytes free, want %d)", free, need)
	}
	return nil
}

// checkResume refuses what cannot be resumed. A single file is written in place of its
// staging, with no room for a journal beside it, and has no parts that could be finished
// one by one: the only thing that resuming would save is what one shard costs.
func checkResume(set Set, id string) error {
	if id == "" {
		return formats.Usagef("resuming needs an ID of the plan")
	}
	if set.Layout == OneFile {
		return formats.Usagef("a single file cannot be resumed: it is written whole or not at all").WithHint("leave resuming out, or cut the output into shards")
	}
	return nil
}

// stagingPrefix begins the names of files that staging needs for itself.
const stagingPrefix = ".graft-"

// checkNames refuses names that lead out of the output, that two files share, or that the
// staging needs for itself. They may come from the input.
func checkNames(set Set) error {
	if len(set.Files) == 0 || set.Layout == OneFile && len(set.Files) != 1 {
		return formats.Usagef("%d files do not make the output", len(set.Files))
	}
	seen := make(map[string]bool, len(set.Files))
	for i, f := range set.Files {
		mustBePlain := f.Weights || set.Layout == Beside
		switch isOut := set.Layout != Directory && i == len(set.Files)-1; {
		case seen[f.Name]:
			return formats.Rejectf(set.Path, "", "two files of the output have the name %s", formats.Quote(f.Name))
		case isOut:
		case f.Name == "." || path.Clean(f.Name) != f.Name || !filepath.IsLocal(filepath.FromSlash(f.Name)) || mustBePlain && filepath.Base(f.Name) != f.Name:
			return formats.Rejectf(set.Path, "", "file name %s cannot be used in the output", formats.Quote(f.Name))
		case strings.HasPrefix(f.Name, stagingPrefix):
			return formats.Rejectf(set.Path, "", "file name %s is one that graft uses itself", formats.Quote(f.Name))
		}
		seen[f.Name] = true
	}
	return nil
}

// dirOf returns the directory that a path lies in, also where it ends with a slash.
func dirOf(out string) string { return filepath.Dir(filepath.Clean(out)) }

// checkPlaces refuses places that are an input's, or taken.
func checkPlaces(set Set, out string, opts Options) error {
	places := []string{out}
	if set.Layout == Beside {
		for _, name := range set.others() {
			places = append(places, filepath.Join(dirOf(out), name))
		}
	}
	inputs := opts.Inputs
	if set.Path != "" {
		inputs = append([]string{set.Path}, inputs...)
	}
	for _, in := range inputs {
		for _, place := range places {
			if err := CheckApart(in, place); err != nil {
				return err
			}
		}
	}
	if set.Layout == Beside {
		return atomicfile.CheckBeside(out, set.others(), opts.Force)
	}
	return atomicfile.Check(out, set.Layout == Directory, opts.Force)
}

// CheckApart refuses an output that is the input, holds it, or lies in it, also
// through links.
func CheckApart(in, out string) error {
	a, err := filepath.EvalSymlinks(in)
	if err == nil {
		a, err = filepath.Abs(a)
	}
	if err != nil {
		return &formats.Error{Class: formats.ErrInput, File: in, Err: formats.Cause(err)}
	}
	b := realPath(out)
	if same(a, b) || within(a, b) || within(b, a) {
		return formats.Usagef("output %s overlaps input %s", formats.Quote(out), formats.Quote(in)).WithHint("choose another place for the output: graft never changes its inputs")
	}
	return nil
}

// realPath resolves the links of the part of a path that exists.
func realPath(name string) string {
	abs, err := filepath.Abs(name)
	if err != nil {
		return name
	}
	rest := ""
	for dir := abs; ; {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		} else if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return abs
		}
		rest = filepath.Join(filepath.Base(dir), rest)
		dir = filepath.Dir(dir)
	}
}

func same(a, b string) bool {
	if a == b {
		return true
	}
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

func within(name, dir string) bool {
	rel, err := filepath.Rel(dir, name)
	return err == nil && filepath.IsLocal(rel)
}

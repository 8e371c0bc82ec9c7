package hf

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/internal/atomicfile"
)

// CheckOutput reports what would keep [Write] from starting: an output that exists,
// that is or holds an input or lies in one, or that does not fit on the disk. It
// creates nothing.
func CheckOutput(c *formats.Checkpoint, out string, opts WriteOptions) error {
	if opts.Resume {
		if err := checkResume(c, opts.ID); err != nil {
			return err
		}
	}
	for _, in := range append([]string{c.Path()}, opts.Inputs...) {
		if err := CheckApart(in, out); err != nil {
			return err
		}
	}
	if err := atomicfile.Check(out, c.Layout() == formats.Directory, opts.Force); err != nil {
		return err
	}
	var need int64
	for _, s := range c.Shards() {
		n, err := safetensors.EncodedSize(s)
		if err != nil {
			return formats.Outputf(out, err, "")
		}
		need += n
	}
	for _, f := range c.SideFiles() {
		need += f.Size
	}
	if opts.Resume {
		need -= finishedSize(atomicfile.Path(out, opts.ID), opts.ID, c.Shards())
	}
	if free, err := atomicfile.FreeSpace(out); err == nil && free < need {
		return formats.Outputf(out, nil, "no space left on device (got %d bytes free, want %d)", free, need)
	}
	return nil
}

// checkResume refuses what cannot be resumed. A single file is written in place of its
// staging, with no room for a journal beside it, and has no parts that could be finished
// one by one: the only thing that resuming would save is what one shard costs.
func checkResume(c *formats.Checkpoint, id string) error {
	if id == "" {
		return formats.Usagef("resuming needs an ID of the plan")
	}
	if c.Layout() == formats.SingleFile {
		return formats.Usagef("a single file cannot be resumed: it is written whole or not at all").WithHint("leave resuming out, or cut the output into shards")
	}
	for _, s := range c.Shards() {
		if s.Name == journalName {
			return formats.Rejectf(c.Path(), "", "the name of shard %s is that of the journal", formats.Quote(s.Name))
		}
	}
	return nil
}

// CheckApart refuses an output that is the input, holds it, or lies in it, also
// through links.
func CheckApart(in, out string) error {
	a, err := filepath.EvalSymlinks(in)
	if err == nil {
		a, err = filepath.Abs(a)
	}
	if err != nil {
		return &formats.Error{Class: formats.ErrInput, File: in, Err: cause(err)}
	}
	b := realPath(out)
	if same(a, b) || within(a, b) || within(b, a) {
		return formats.Usagef("output %s overlaps input %s", formats.Quote(out), formats.Quote(in)).WithHint("choose another place for the output: graft never changes its inputs")
	}
	return nil
}

// realPath resolves the links of the part of a path that exists.
func realPath(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
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

func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

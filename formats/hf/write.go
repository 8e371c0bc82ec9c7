package hf

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/internal/atomicfile"
)

// WriteOptions of [Write].
type WriteOptions struct {
	safetensors.WriteOptions
	Force  bool         // replace what exists under the output's name
	NoSync bool         // leave out fsync
	ID     string       // names the staging place; random when empty
	Check  func() error // called when everything is written; an error stops the publication
	Inputs []string     // paths beside the checkpoint's own that must not be overwritten
}

// Write publishes a checkpoint at out, under the layout and file names it came in: a
// model directory with index and side files, or one file. Nothing exists at out
// before the whole result is good, and on any error nothing is left behind. Errors of
// the output are [formats.ErrOutput]; an output that is or holds an input is
// [formats.ErrUsage].
func Write(ctx context.Context, c *formats.Checkpoint, out string, opts WriteOptions) error {
	if err := CheckOutput(c, out, opts); err != nil {
		return err
	}
	stageOptions := atomicfile.Options{Force: opts.Force, ID: opts.ID, NoSync: opts.NoSync}
	if c.Layout() == formats.SingleFile {
		stage, err := atomicfile.NewFile(out, stageOptions)
		if err != nil {
			return err
		}
		err = safetensors.Write(ctx, stage.Path(), c.Shards()[0], opts.WriteOptions)
		return finish(ctx, stage, out, opts, err)
	}
	stage, err := atomicfile.NewDir(out, stageOptions)
	if err != nil {
		return err
	}
	return finish(ctx, stage, out, opts, writeDir(ctx, c, stage.Path(), opts))
}

// finish publishes the stage, or aborts it where err says that it is no good.
func finish(ctx context.Context, stage *atomicfile.Stage, out string, opts WriteOptions, err error) error {
	if err == nil && opts.Check != nil {
		err = opts.Check()
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		stage.Abort()
		return rename(err, stage.Path(), out)
	}
	return stage.Publish()
}

// rename makes an error about a staged file speak of the final one, which is what
// the user knows.
func rename(err error, staged, out string) error {
	var e *formats.Error
	if errors.As(err, &e) && e.Class == formats.ErrOutput {
		if rest, ok := strings.CutPrefix(e.File, staged); ok {
			e.File = out + rest
		}
	}
	return err
}

func writeDir(ctx context.Context, c *formats.Checkpoint, dir string, opts WriteOptions) error {
	for _, s := range c.Shards() {
		if err := safetensors.Write(ctx, filepath.Join(dir, s.Name), s, opts.WriteOptions); err != nil {
			return err
		}
	}
	var oldIndex []byte
	indexName := "model" + indexSuffix
	for _, f := range c.SideFiles() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if strings.HasSuffix(f.Name, indexSuffix) && !strings.Contains(f.Name, "/") {
			indexName = f.Name
			var err error
			if oldIndex, err = c.ReadSideFile(f.Name, formats.MaxIndexBytes); err != nil {
				return err
			}
			continue
		}
		if err := writeSide(filepath.Join(dir, filepath.FromSlash(f.Name)), f); err != nil {
			return err
		}
	}
	if oldIndex == nil && len(c.Shards()) == 1 {
		return nil
	}
	text, err := renderIndex(c, oldIndex)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, indexName)
	if err := os.WriteFile(path, text, 0o666); err != nil {
		return formats.Outputf(path, cause(err), "")
	}
	return nil
}

func writeSide(path string, f formats.SideFile) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return formats.Outputf(path, cause(err), "")
	}
	dst, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return formats.Outputf(path, cause(err), "")
	}
	src := &source{r: io.NewSectionReader(f.Data, 0, f.Size)}
	n, err := io.Copy(dst, src)
	if err2 := dst.Close(); err == nil {
		err = err2
	}
	switch {
	case src.err != nil:
		return &formats.Error{Class: formats.ErrInput, File: f.Name, Err: cause(src.err)}
	case err != nil:
		return formats.Outputf(path, cause(err), "")
	case n != f.Size:
		return formats.Rejectf(f.Name, "", "it changed while it was read (got %d bytes, want %d)", n, f.Size)
	}
	return nil
}

// source remembers a failure of what is read, to tell it from one of what is written.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// CheckOutput reports what would keep [Write] from starting: an output that exists,
// that is or holds an input or lies in one, or that does not fit on the disk. It
// creates nothing.
func CheckOutput(c *formats.Checkpoint, out string, opts WriteOptions) error {
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
	if free, err := atomicfile.FreeSpace(out); err == nil && free < need {
		return formats.Outputf(out, nil, "no space left on device (got %d bytes free, want %d)", free, need)
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

package hf

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
	"github.com/seed-b982eded/graft/internal/filecopy"
)

// confined opens files of a model directory by names that may be hostile: they
// cannot lead out of the directory, except from a Hugging Face cache's
// snapshots/REVISION into the blobs beside it, where its links point.
type confined struct {
	path  string
	root  *os.Root
	blobs *os.Root // nil unless path is a snapshot
	real  string   // of blobs
	at    string   // path, absolute and without links
}

func openConfined(path string) (*confined, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, &formats.Error{Class: formats.ErrInput, File: path, Err: cause(err)}
	}
	c := &confined{path: path, root: root}
	abs, err := filepath.Abs(path)
	if err == nil {
		c.at, err = filepath.EvalSymlinks(abs)
	}
	if err != nil || filepath.Base(filepath.Dir(c.at)) != "snapshots" {
		return c, nil
	}
	blobs, err := filepath.EvalSymlinks(filepath.Join(filepath.Dir(filepath.Dir(c.at)), "blobs"))
	if err != nil {
		return c, nil
	}
	if c.blobs, err = os.OpenRoot(blobs); err == nil {
		c.real = blobs
	}
	return c, nil
}

func (c *confined) Close() error {
	if c.blobs != nil {
		c.blobs.Close()
	}
	return c.root.Close()
}

// open opens a regular file. It stats before it opens: opening a FIFO would wait.
func (c *confined) open(name string) (*os.File, error) {
	root, rel, _, err := c.findRegular(name)
	if err != nil {
		return nil, err
	}
	f, err := fault.OpenIn(root, rel)
	if err != nil {
		return nil, &formats.Error{Class: formats.ErrInput, File: filepath.Join(c.path, name), Err: cause(err)}
	}
	return f, nil
}

// source returns a regular file that is opened when it is read.
func (c *confined) source(name string) (*filecopy.Source, error) {
	_, _, info, err := c.findRegular(name)
	if err != nil {
		return nil, err
	}
	return filecopy.NewSource(filepath.Join(c.path, name), info, func() (*os.File, error) { return c.open(name) }), nil
}

func (c *confined) findRegular(name string) (*os.Root, string, fs.FileInfo, error) {
	root, rel, info, err := c.find(name)
	if err == nil && !info.Mode().IsRegular() {
		err = formats.Rejectf(filepath.Join(c.path, name), "", "not a regular file")
	}
	return root, rel, info, err
}

// find returns where a name leads.
func (c *confined) find(name string) (*os.Root, string, fs.FileInfo, error) {
	full := filepath.Join(c.path, name)
	info, err := c.root.Stat(name)
	if err == nil {
		return c.root, name, info, nil
	}
	link, linkErr := c.root.Lstat(name)
	if linkErr == nil && link.Mode()&fs.ModeSymlink != 0 {
		target, err := filepath.EvalSymlinks(filepath.Join(c.at, name))
		if err != nil {
			return nil, "", nil, formats.Rejectf(full, "", "a link that leads nowhere")
		}
		if c.blobs != nil {
			if rel, err := filepath.Rel(c.real, target); err == nil && filepath.IsLocal(rel) {
				if info, err := c.blobs.Stat(rel); err == nil {
					return c.blobs, rel, info, nil
				}
			}
		}
		return nil, "", nil, formats.Rejectf(full, "", "a link that leads out of the model's directory").WithHint("cp -rL makes a copy with the files themselves")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil, formats.Rejectf(full, "", "no such file")
	}
	return nil, "", nil, &formats.Error{Class: formats.ErrInput, File: full, Err: cause(err)}
}

// checkShardName refuses a file name from an index that is more than a plain name.
func checkShardName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\\:\x00") || !filepath.IsLocal(name) {
		return errors.New("not a plain file name")
	}
	return nil
}

// cause strips the path that os errors repeat.
func cause(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// Package confined opens files of a directory by names that may be hostile.
package confined

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
	"github.com/seed-b982eded/graft/internal/filecopy"
)

// Dir is a directory whose files are opened by names that may be hostile: they cannot
// lead out of the directory, except from a Hugging Face cache's snapshots/REVISION into
// the blobs beside it, where its links point. Errors are [formats.ErrInput]. It is safe
// for concurrent use.
type Dir struct {
	path  string
	root  *os.Root
	blobs *os.Root // nil unless path is a snapshot
	real  string   // of blobs
	at    string   // path, absolute and without links
}

// Open opens a directory.
func Open(path string) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, &formats.Error{Class: formats.ErrInput, File: path, Err: formats.Cause(err)}
	}
	d := &Dir{path: path, root: root}
	abs, err := filepath.Abs(path)
	if err == nil {
		d.at, err = filepath.EvalSymlinks(abs)
	}
	if err != nil || filepath.Base(filepath.Dir(d.at)) != "snapshots" {
		return d, nil
	}
	blobs, err := filepath.EvalSymlinks(filepath.Join(filepath.Dir(filepath.Dir(d.at)), "blobs"))
	if err != nil {
		return d, nil
	}
	if d.blobs, err = os.OpenRoot(blobs); err == nil {
		d.real = blobs
	}
	return d, nil
}

// Path returns the path that the directory was opened by.
func (d *Dir) Path() string { return d.path }

// Close closes the directory. Files that were opened before stay open; a [filecopy.Source]
// can open its file no more.
func (d *Dir) Close() error {
	if d.blobs != nil {
		d.blobs.Close()
	}
	return d.root.Close()
}

// Open opens a regular file. It stats before it opens: opening a FIFO would wait.
func (d *Dir) Open(name string) (*os.File, error) {
	root, rel, _, err := d.findRegular(name)
	if err != nil {
		return nil, err
	}
	f, err := fault.OpenIn(root, rel)
	if err != nil {
		return nil, &formats.Error{Class: formats.ErrInput, File: filepath.Join(d.path, name), Err: formats.Cause(err)}
	}
	return f, nil
}

// Source returns a regular file that is opened when it is read.
func (d *Dir) Source(name string) (*filecopy.Source, error) {
	_, _, info, err := d.findRegular(name)
	if err != nil {
		return nil, err
	}
	return filecopy.NewSource(filepath.Join(d.path, name), info, func() (*os.File, error) { return d.Open(name) }), nil
}

// ReadDir lists a folder in the directory, in order of name; "." is the directory itself.
func (d *Dir) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := fault.OpenIn(d.root, name)
	if err == nil {
		var entries []fs.DirEntry
		entries, err = f.ReadDir(-1)
		f.Close()
		if err == nil {
			slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
			return entries, nil
		}
	}
	return nil, &formats.Error{Class: formats.ErrInput, File: filepath.Join(d.path, name), Err: formats.Cause(err)}
}

func (d *Dir) findRegular(name string) (*os.Root, string, fs.FileInfo, error) {
	root, rel, info, err := d.find(name)
	if err == nil && !info.Mode().IsRegular() {
		err = formats.Rejectf(filepath.Join(d.path, name), "", "not a regular file")
	}
	return root, rel, info, err
}

// find returns where a name leads.
func (d *Dir) find(name string) (*os.Root, string, fs.FileInfo, error) {
	full := filepath.Join(d.path, name)
	info, err := d.root.Stat(name)
	if err == nil {
		return d.root, name, info, nil
	}
	link, linkErr := d.root.Lstat(name)
	if linkErr == nil && link.Mode()&fs.ModeSymlink != 0 {
		target, err := filepath.EvalSymlinks(filepath.Join(d.at, name))
		if err != nil {
			return nil, "", nil, formats.Rejectf(full, "", "a link that leads nowhere")
		}
		if d.blobs != nil {
			if rel, err := filepath.Rel(d.real, target); err == nil && filepath.IsLocal(rel) {
				if info, err := d.blobs.Stat(rel); err == nil {
					return d.blobs, rel, info, nil
				}
			}
		}
		return nil, "", nil, formats.Rejectf(full, "", "a link that leads out of the model's directory").WithHint("cp -rL makes a copy with the files themselves")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil, formats.Rejectf(full, "", "no such file")
	}
	return nil, "", nil, &formats.Error{Class: formats.ErrInput, File: full, Err: formats.Cause(err)}
}

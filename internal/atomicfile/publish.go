package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
)

// Publish syncs everything and gives it its final name. When it succeeds the stage is
// over. On an error the name holds what it held before, and the staging is removed; with
// Options.Resume it stays, without its scratch file, until Abort or Leave.
func (s *Stage) Publish() error {
	err := s.publish()
	if err == nil {
		s.finish()
		return nil
	}
	if !s.opts.Resume {
		s.Abort()
	}
	if _, ok := err.(*formats.Error); ok {
		return err
	}
	e := formats.Outputf(s.out, formats.Cause(err), "publishing")
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
		return e.WithHint("the file system may not be able to rename: write to another one, and copy the result")
	}
	return e
}

func (s *Stage) publish() error {
	if err := s.syncTree(); err != nil {
		return err
	}
	if s.inside {
		return s.publishInside()
	}
	if s.beside {
		return s.publishBeside()
	}
	done, err := s.swap()
	if err != nil {
		return err
	}
	if err := s.syncDir(filepath.Dir(s.out)); err != nil {
		if err2 := done.undo(); err2 != nil {
			// The name holds the new content. The staging name may hold the old: it is
			// not ours to remove any more.
			s.finish()
			return fmt.Errorf("%w; it holds the new content, which could not be taken back: %v", formats.Cause(err), formats.Cause(err2))
		}
		return err
	}
	if done.drop != "" {
		// The result is published and durable: an old content that cannot be removed
		// does not change that, and a later stage tries again.
		os.RemoveAll(done.drop)
	}
	return nil
}

// swapped is a change of names that can be taken back.
type swapped struct {
	undo func() error
	drop string // where the old content is now; empty if there was none
}

// swap gives the staging its final name in one step.
func (s *Stage) swap() (swapped, error) {
	back := func() error { return fault.Rename(s.out, s.path) }
	err := renameNoReplace(s.path, s.out)
	if err == nil {
		return swapped{undo: back}, nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return swapped{}, err
	}
	if info, err := os.Lstat(s.out); s.dir && err == nil && isEmpty(s.out) {
		if err := renameOverEmpty(s.path, s.out); err != nil {
			return swapped{}, err
		}
		return swapped{undo: func() error {
			if err := back(); err != nil {
				return err
			}
			return errors.Join(fault.Mkdir(s.out), os.Chmod(s.out, info.Mode().Perm()))
		}}, nil
	}
	if err := Check(s.out, s.dir, s.opts.Force); err != nil {
		return swapped{}, err // it appeared meanwhile
	}
	// Once the names are exchanged the old content is where another process looks for
	// staging: it must find that in use until all is done.
	if s.old, err = lock(s.out); errors.Is(err, errInUse) {
		return swapped{}, err
	}
	err = exchange(s.path, s.out)
	if errors.Is(err, errors.ErrUnsupported) {
		return replace(s.path, s.out, s.dir)
	}
	return swapped{undo: func() error { return exchange(s.path, s.out) }, drop: s.path}, err
}

// publishInside moves the files of the staging into a mount point one by one. The file
// that makes the others usable goes away first and comes last, so that a reader never sees
// one that names files which are not all there.
func (s *Stage) publishInside() error {
	entries, err := fault.ReadDir(s.path)
	if err != nil {
		return err
	}
	if s.opts.Force {
		old, err := fault.ReadDir(s.out)
		if err != nil {
			return err
		}
		for _, first := range []bool{true, false} {
			for _, e := range old {
				if e.Name() == filepath.Base(s.path) || s.isLast(e.Name()) != first {
					continue
				}
				if err := os.RemoveAll(filepath.Join(s.out, e.Name())); err != nil {
					return err
				}
			}
		}
	}
	for _, last := range []bool{false, true} {
		for _, e := range entries {
			if s.isLast(e.Name()) != last {
				continue
			}
			move := renameNoReplace
			if s.opts.Force {
				move = fault.Rename
			}
			if err := move(filepath.Join(s.path, e.Name()), filepath.Join(s.out, e.Name())); err != nil {
				return err
			}
		}
		if err := s.syncDir(s.out); err != nil {
			return err
		}
	}
	return os.Remove(s.path)
}

// isLast reports whether a name is the result's last one, or an index: the old content may
// have had one where the new has none.
func (s *Stage) isLast(name string) bool {
	return name == s.opts.Last || strings.HasSuffix(name, ".index.json")
}

// syncTree syncs every file and directory of the staging, leaves first, and removes the
// scratch before the directory that it lies in, where that is what is published.
func (s *Stage) syncTree() error {
	var dirs []string
	err := filepath.WalkDir(s.path, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case s.isScratch(path) && d.IsDir():
			return fs.SkipDir
		case d.IsDir():
			dirs = append(dirs, path)
			return nil
		case s.opts.NoSync || s.isScratch(path):
			return nil
		}
		return syncFile(path)
	})
	if err == nil && s.opts.Scratch != "" && !s.beside {
		err = os.RemoveAll(filepath.Join(s.path, s.opts.Scratch))
	}
	for i := len(dirs) - 1; err == nil && i >= 0; i-- {
		err = s.syncDir(dirs[i])
	}
	return err
}

func (s *Stage) isScratch(path string) bool {
	return s.opts.Scratch != "" && path == filepath.Join(s.path, s.opts.Scratch)
}

// closing closes a file after the last thing that was done to it, and returns the first
// error of both.
func closing(f *os.File, err error) error {
	if err2 := fault.Close(f); err == nil {
		err = err2
	}
	return err
}

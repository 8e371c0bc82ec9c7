// Package atomicfile makes a file or directory appear under its name whole or not
// at all. Everything is built in a staging place beside the name, synced, and then
// renamed as the last act.
//
// # What is promised
//
// Until [Stage.Publish] returns nil, nothing exists under the final name that was
// not there before; after it, the whole result does. The old content of the name
// is either still there or replaced, never mixed. [Stage.Abort] removes the
// staging. A later stage of the same name removes what a killed process left
// behind. Permissions follow the umask.
package atomicfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-b982eded/graft/formats"
)

// Options of a stage.
type Options struct {
	// Force allows replacing what exists under the name.
	Force bool
	// ID distinguishes staging places of one name; a random one when empty.
	ID string
	// NoSync leaves out fsync: faster, and not safe against power loss.
	NoSync bool
}

// Stage is a result being built.
type Stage struct {
	out    string // final path
	path   string // staging file or directory
	dir    bool
	opts   Options
	inside bool     // out is a mount point: staging lies in it
	lock   *os.File // held while the stage lives
	done   bool
}

// NewDir starts a directory that shall appear as out. It fails with
// [formats.ErrOutput] when out exists, unless it is an empty directory or
// Options.Force is set; with Force only a directory is replaced.
func NewDir(out string, opts Options) (*Stage, error) { return start(out, true, opts) }

// NewFile starts a file that shall appear as out. It fails with
// [formats.ErrOutput] when out exists and Options.Force is not set; with Force
// only a regular file is replaced.
func NewFile(out string, opts Options) (*Stage, error) { return start(out, false, opts) }

// Check reports whether a stage of out could start, without creating anything.
func Check(out string, dir bool, force bool) error {
	info, err := os.Lstat(out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		parent := filepath.Dir(out)
		if p, err := os.Stat(parent); err != nil {
			return formats.Outputf(out, cause(err), "directory %s", formats.Quote(parent))
		} else if !p.IsDir() {
			return formats.Outputf(out, nil, "%s is no directory", formats.Quote(parent))
		}
		return nil
	case err != nil:
		return formats.Outputf(out, cause(err), "")
	case info.Mode()&fs.ModeSymlink != 0:
		return formats.Outputf(out, nil, "it is a symbolic link, and graft does not write through links").WithHint("name the place that it points to")
	case dir && !info.IsDir():
		return formats.Outputf(out, nil, "it exists and is no directory")
	case !dir && !info.Mode().IsRegular():
		return formats.Outputf(out, nil, "it exists and is no regular file")
	case force:
		return nil
	case dir && isEmpty(out):
		return nil
	}
	return formats.Outputf(out, nil, "it exists").WithHint("use --force to replace it")
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func isEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

func start(out string, dir bool, opts Options) (*Stage, error) {
	out = filepath.Clean(out)
	if err := Check(out, dir, opts.Force); err != nil {
		return nil, err
	}
	if opts.ID == "" {
		var b [8]byte
		rand.Read(b[:])
		opts.ID = hex.EncodeToString(b[:])
	}
	abs, err := filepath.Abs(out)
	if err != nil {
		return nil, formats.Outputf(out, err, "")
	}
	s := &Stage{out: abs, dir: dir, opts: opts}
	parent, prefix := filepath.Dir(abs), "."+filepath.Base(abs)+".graft-"
	if s.inside = dir && isMountPoint(abs); s.inside {
		parent, prefix = abs, ".graft-"
	}
	s.path = filepath.Join(parent, prefix+opts.ID)
	if err := removeStale(abs, parent, prefix, dir); err != nil {
		return nil, formats.Outputf(out, err, "")
	}
	if dir {
		err = os.Mkdir(s.path, 0o777)
	} else {
		var f *os.File
		if f, err = os.OpenFile(s.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666); err == nil {
			err = f.Close()
		}
	}
	if err != nil {
		return nil, formats.Outputf(out, cause(err), "staging")
	}
	if s.lock, err = lock(s.path); err != nil {
		os.RemoveAll(s.path)
		return nil, formats.Outputf(out, err, "staging")
	}
	return s, nil
}

// removeStale removes staging places that no living process holds.
func removeStale(out, parent, prefix string, dir bool) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return cause(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || e.IsDir() != dir || e.Type()&fs.ModeSymlink != 0 {
			continue
		}
		path := filepath.Join(parent, e.Name())
		if strings.HasSuffix(path, asideSuffix) && !exists(out) {
			return fmt.Errorf("an interrupted run left its old content at %s: move it back or remove it", formats.Quote(path))
		}
		f, err := lock(path)
		if err != nil {
			return fmt.Errorf("another graft is writing it (staging %s is in use)", formats.Quote(e.Name()))
		}
		err = os.RemoveAll(path)
		f.Close()
		if err != nil {
			return cause(err)
		}
	}
	return nil
}

// Path returns the staging file or directory to write into.
func (s *Stage) Path() string { return s.path }

// Publish syncs everything and gives it its final name. The stage is over
// afterwards, whatever the result; on an error the staging is removed.
func (s *Stage) Publish() error {
	if err := s.publish(); err != nil {
		s.Abort()
		if _, ok := err.(*formats.Error); ok {
			return err
		}
		return formats.Outputf(s.out, cause(err), "publishing")
	}
	s.finish()
	return nil
}

func (s *Stage) finish() {
	s.done = true
	s.lock.Close()
}

// Abort removes the staging. It does nothing after Publish.
func (s *Stage) Abort() {
	if s.done {
		return
	}
	os.RemoveAll(s.path)
	s.finish()
}

func (s *Stage) publish() error {
	if err := s.syncTree(); err != nil {
		return err
	}
	if s.inside {
		return s.publishInside()
	}
	if err := s.rename(); err != nil {
		return err
	}
	return s.syncDir(filepath.Dir(s.out))
}

// rename gives the staging its final name in one step.
func (s *Stage) rename() error {
	err := renameNoReplace(s.path, s.out)
	if err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	if s.dir && isEmpty(s.out) {
		return renameOverEmpty(s.path, s.out)
	}
	if err := Check(s.out, s.dir, s.opts.Force); err != nil {
		return err // it appeared meanwhile
	}
	if !s.dir {
		return os.Rename(s.path, s.out)
	}
	return exchange(s.path, s.out)
}

// publishInside moves the files of the staging into a mount point one by one. An
// index goes away first and comes last, so that a reader never sees one that names
// files which are not all there.
func (s *Stage) publishInside() error {
	entries, err := os.ReadDir(s.path)
	if err != nil {
		return err
	}
	if s.opts.Force {
		old, err := os.ReadDir(s.out)
		if err != nil {
			return err
		}
		for _, indexes := range []bool{true, false} {
			for _, e := range old {
				if e.Name() == filepath.Base(s.path) || isIndex(e.Name()) != indexes {
					continue
				}
				if err := os.RemoveAll(filepath.Join(s.out, e.Name())); err != nil {
					return err
				}
			}
		}
	}
	for _, indexes := range []bool{false, true} {
		for _, e := range entries {
			if isIndex(e.Name()) != indexes {
				continue
			}
			move := renameNoReplace
			if s.opts.Force {
				move = os.Rename
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

func isIndex(name string) bool { return strings.HasSuffix(name, ".index.json") }

// syncTree syncs every file and directory of the staging, leaves first.
func (s *Stage) syncTree() error {
	if s.opts.NoSync {
		return nil
	}
	var dirs []string
	err := filepath.WalkDir(s.path, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			dirs = append(dirs, path)
			return nil
		}
		return syncFile(path)
	})
	for i := len(dirs) - 1; err == nil && i >= 0; i-- {
		err = s.syncDir(dirs[i])
	}
	return err
}

// cause strips the paths that os errors repeat.
func cause(err error) error {
	switch e := err.(type) {
	case *fs.PathError:
		return e.Err
	case *os.LinkError:
		return e.Err
	}
	return err
}

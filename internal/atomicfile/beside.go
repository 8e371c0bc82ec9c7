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

// NewBeside starts files that shall appear beside one another: out, and others under plain
// names in the same directory. All are built in one staging directory, out under its base.
// Out is useless without the others: it appears last, and an old one goes away first. It
// fails with [formats.ErrOutput] when one of the names exists and Options.Force is not
// set; with Force only regular files are replaced.
func NewBeside(out string, others []string, opts Options) (*Stage, error) {
	return start(&Stage{out: out, dir: true, beside: true, others: others, opts: opts})
}

// CheckBeside reports whether a stage of files beside one another could start, without
// creating anything.
func CheckBeside(out string, others []string, force bool) error {
	out = filepath.Clean(out)
	if err := Check(out, false, force); err != nil {
		return err
	}
	for _, name := range others {
		if err := Check(filepath.Join(filepath.Dir(out), name), false, force); err != nil && !interrupted(out, name) {
			return err
		}
	}
	return nil
}

// asideName is the folder in a staging directory that old content goes to. It exists while
// files beside one another are published: where it is found, and out is still in the
// staging, the publication did not come to its end.
const asideName = ".graft-old"

// interrupted reports whether a file beside out was put there by a publication that did not
// come to its end. The next stage takes it away.
func interrupted(out, name string) bool {
	parent, prefix := filepath.Dir(out), "."+filepath.Base(out)+".graft-"
	entries, err := os.ReadDir(parent)
	if err != nil {
		return false
	}
	for _, e := range entries {
		staging := filepath.Join(parent, e.Name())
		if strings.HasPrefix(e.Name(), prefix) && unfinished(staging, out) && sameFile(filepath.Join(staging, name), filepath.Join(parent, name)) {
			return true
		}
	}
	return false
}

func unfinished(staging, out string) bool {
	return exists(filepath.Join(staging, asideName)) && exists(filepath.Join(staging, filepath.Base(out)))
}

func sameFile(a, b string) bool {
	x, err1 := os.Lstat(a)
	y, err2 := os.Lstat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// publishBeside gives the files their names. The others get them as second names, so that
// the staging still tells which they are if this is as far as it comes.
func (s *Stage) publishBeside() error {
	if err := s.check(s.out); err != nil {
		return err // it appeared meanwhile
	}
	if err := fault.Mkdir(filepath.Join(s.path, asideName)); err != nil {
		return err
	}
	moved, err := s.moveBeside()
	if err == nil {
		os.RemoveAll(s.path)
		return nil
	}
	if err2 := s.takeBack(moved); err2 != nil {
		// The staging holds old content: it is not ours to remove any more.
		s.finish()
		return fmt.Errorf("%w; what was there before could not be put back, and will be by the next run: %v", formats.Cause(err), formats.Cause(err2))
	}
	return err
}

// moveBeside returns also which of the other files have left the staging, where a file
// cannot have two names.
func (s *Stage) moveBeside() (moved []string, err error) {
	dir, name := filepath.Split(s.out)
	if s.opts.Force {
		for _, n := range append([]string{name}, s.others...) {
			if err := s.putAside(dir, n); err != nil {
				return nil, err
			}
		}
	}
	for _, n := range s.others {
		from, to := filepath.Join(s.path, n), filepath.Join(dir, n)
		if err := fault.Link(from, to); err == nil {
			continue
		}
		if err := renameNoReplace(from, to); err != nil {
			return moved, err
		}
		moved = append(moved, n)
	}
	if err := s.syncDir(dir); err != nil {
		return moved, err
	}
	if err := renameNoReplace(filepath.Join(s.path, name), s.out); err != nil {
		return moved, err
	}
	return moved, s.syncDir(dir)
}

// putAside moves old content into the staging, if there is any. Out's is gone for good
// before the others change.
func (s *Stage) putAside(dir, name string) error {
	aside := filepath.Join(s.path, asideName)
	err := fault.Rename(filepath.Join(dir, name), filepath.Join(aside, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && name == filepath.Base(s.out) {
		if err = s.syncDir(aside); err == nil {
			err = s.syncDir(dir)
		}
	}
	return err
}

// takeBack undoes moveBeside.
func (s *Stage) takeBack(moved []string) error {
	dir, name := filepath.Split(s.out)
	if !exists(filepath.Join(s.path, name)) {
		moved = append([]string{name}, moved...) // out first, as the others belong to it
	}
	for _, n := range moved {
		if err := fault.Rename(filepath.Join(dir, n), filepath.Join(s.path, n)); err != nil {
			return err
		}
	}
	return s.putBack(s.path)
}

// putBack puts everything beside a staging directory back as it was before files were
// published from it, unless that came to its end or never began.
func (s *Stage) putBack(staging string) error {
	if !unfinished(staging, s.out) {
		return nil
	}
	dir, name := filepath.Split(s.out)
	aside := filepath.Join(staging, asideName)
	files, err := fault.ReadDir(staging)
	if err != nil {
		return formats.Cause(err)
	}
	old, err := fault.ReadDir(aside)
	if err != nil {
		return formats.Cause(err)
	}
	for _, e := range files {
		if path := filepath.Join(dir, e.Name()); e.Name() != name && sameFile(filepath.Join(staging, e.Name()), path) {
			if err := os.Remove(path); err != nil {
				return formats.Cause(err)
			}
		}
	}
	for _, last := range []bool{false, true} {
		for _, e := range old {
			if (e.Name() == name) != last {
				continue
			}
			to := filepath.Join(dir, e.Name())
			// What left the staging is what is there now; else it is somebody's.
			if exists(to) && exists(filepath.Join(staging, e.Name())) {
				return oldContent(aside)
			}
			if err := fault.Rename(filepath.Join(aside, e.Name()), to); err != nil {
				return formats.Cause(err)
			}
		}
	}
	return os.Remove(aside)
}

func oldContent(path string) error {
	return fmt.Errorf("an interrupted run left its old content at %s: move it back or remove it", formats.Quote(path))
}

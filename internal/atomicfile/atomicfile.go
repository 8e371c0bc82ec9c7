// Package atomicfile makes a file or directory appear under its name whole or not
// at all. Everything is built in a staging place beside the name, synced, and then
// renamed as the last act.
//
// # What is promised
//
// Until [Stage.Publish] returns nil, nothing exists under the final name that was
// not there before; after it, the whole result does. The old content of the name
// is either still there or replaced, never mixed, and it is removed only when the new
// one is durable. [Stage.Abort] removes the staging, [Stage.Leave] lets it stay for
// a later stage with Options.Resume. A later stage of the same name removes what a
// killed process left behind; two living ones of a name are not possible. Permissions
// follow the umask.
//
// Three cases promise less, for want of a step that changes everything at once: a mount
// point is filled file by file; where names cannot be exchanged (anywhere but on
// Linux, and on some file systems there) a replaced directory is missing for a moment;
// and files beside one another ([NewBeside]) appear one by one, with the one that makes
// the others usable missing until all are there. Killed then, the next stage of the name
// puts everything back.
package atomicfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
)

// Options of a stage.
type Options struct {
	// Force allows replacing what exists under the name.
	Force bool
	// ID distinguishes staging places of one name; a random one when empty. It is made
	// of letters, digits, "-" and "_".
	ID string
	// NoSync leaves out fsync: faster, and not safe against power loss.
	NoSync bool
	// Resume takes over the staging directory that an earlier stage of the same ID left,
	// with all that is in it, and lets it stay when Publish fails.
	Resume bool
	// Scratch names a file or directory in the staging directory that is no part of the result. It is
	// never published: a directory loses it once all else is synced.
	Scratch string
	// Last names the file in a directory that makes the others usable, such as an index. In
	// a mount point it goes away first and comes last, so that a reader never sees one that
	// names files which are not all there.
	Last string
}

// Stage is a result being built.
type Stage struct {
	out    string   // final path
	path   string   // staging file or directory
	dir    bool     // staging is a directory
	beside bool     // it holds files that shall lie beside one another
	others []string // names of those of them that are not out
	opts   Options
	inside bool     // out is a mount point: staging lies in it
	lock   *os.File // held while the stage lives
	old    *os.File // a lock on what is being replaced, or nil
	done   bool
}

// NewDir starts a directory that shall appear as out. It fails with
// [formats.ErrOutput] when out exists, unless it is an empty directory or
// Options.Force is set; with Force only a directory is replaced.
func NewDir(out string, opts Options) (*Stage, error) {
	return start(&Stage{out: out, dir: true, opts: opts})
}

// NewFile starts a file that shall appear as out. It fails with
// [formats.ErrOutput] when out exists and Options.Force is not set; with Force
// only a regular file is replaced. A file cannot be resumed.
func NewFile(out string, opts Options) (*Stage, error) { return start(&Stage{out: out, opts: opts}) }

// Check reports whether a stage of out could start, without creating anything.
func Check(out string, dir bool, force bool) error {
	if err := checkName(out); err != nil {
		return err
	}
	info, err := os.Lstat(out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		parent := filepath.Dir(out)
		if p, err := os.Stat(parent); err != nil {
			return formats.Outputf(out, formats.Cause(err), "directory %s", formats.Quote(parent))
		} else if !p.IsDir() {
			return formats.Outputf(out, nil, "%s is no directory", formats.Quote(parent))
		}
		return nil
	case err != nil:
		return formats.Outputf(out, formats.Cause(err), "")
	case info.Mode()&fs.ModeSymlink != 0:
		return formats.Outputf(out, nil, "it is a symbolic link, and graft does not write through links").WithHint("name the place that it points to")
	case dir && !info.IsDir():
		return formats.Outputf(out, nil, "it exists and is no directory")
	case !dir && !info.Mode().IsRegular():
		return formats.Outputf(out, nil, "it exists and is no regular file")
	case force:
		return nil
	case dir && isVacant(out):
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

// isVacant reports whether a directory holds nothing, or is a mount point that holds
// nothing but the staging of a run that was stopped.
func isVacant(dir string) bool {
	if !isMountPoint(dir) {
		return isEmpty(dir)
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), insidePrefix) {
			return false
		}
	}
	return err == nil
}

// insidePrefix begins the names of staging places in a mount point.
const insidePrefix = ".graft-"

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Path returns the staging directory that a stage of out with an ID uses.
func Path(out, id string) string {
	if abs, err := filepath.Abs(out); err == nil {
		out = abs
	}
	parent, prefix := stagingPlace(out)
	return filepath.Join(parent, prefix+id)
}

func stagingPlace(out string) (parent, prefix string) {
	if isMountPoint(out) {
		return out, insidePrefix
	}
	return filepath.Dir(out), "." + filepath.Base(out) + ".graft-"
}

// start starts a stage of which out, the kind and the options are given.
func start(s *Stage) (*Stage, error) {
	if s.opts.ID == "" && !s.opts.Resume {
		var b [8]byte
		rand.Read(b[:])
		s.opts.ID = hex.EncodeToString(b[:])
	}
	if !idPattern.MatchString(s.opts.ID) {
		return nil, formats.Usagef("staging ID %s is not made of 1 to 64 letters, digits, - and _", formats.Quote(s.opts.ID))
	}
	if s.opts.Resume && !s.dir {
		return nil, formats.Usagef("a single file cannot be resumed")
	}
	out := filepath.Clean(s.out)
	if err := s.check(out); err != nil {
		return nil, err
	}
	var err error
	if s.out, err = filepath.Abs(out); err != nil {
		return nil, formats.Outputf(out, err, "")
	}
	parent, prefix := stagingPlace(s.out)
	s.inside = parent == s.out
	s.path = filepath.Join(parent, prefix+s.opts.ID)
	if err := s.removeStale(parent, prefix); err != nil {
		return nil, formats.Outputf(out, err, "")
	}
	if err := s.claim(); err != nil {
		return nil, formats.Outputf(out, formats.Cause(err), "staging")
	}
	if s.beside { // what a killed run had put aside may have come back
		if err := s.check(out); err != nil {
			s.Abort()
			return nil, err
		}
	}
	return s, nil
}

// check reports whether the stage may give its names.
func (s *Stage) check(out string) error {
	if s.beside {
		return CheckBeside(out, s.others, s.opts.Force)
	}
	return Check(out, s.dir, s.opts.Force)
}

// errInUse says that a living process holds a place.
var errInUse = errors.New("another graft is writing it")

// claim makes the staging place, or takes over what is there, and locks it.
func (s *Stage) claim() error {
	err := s.create()
	made := err == nil
	if err != nil && !(s.opts.Resume && errors.Is(err, fs.ErrExist)) {
		return err
	}
	s.lock, err = lock(s.path)
	switch {
	case err == nil && !made: // the killed run may have begun to publish
		if err = s.putBack(s.path); err != nil {
			s.lock.Close()
		}
	case err == nil:
	case errors.Is(err, errInUse) || errors.Is(err, fs.ErrNotExist):
		return errInUse // between the two steps a second process was faster: the place is its
	case made:
		os.Remove(s.path)
	}
	return err
}

func (s *Stage) create() error {
	if s.dir {
		return fault.Mkdir(s.path)
	}
	f, err := fault.OpenFile(s.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
	if err != nil {
		return err
	}
	if err := fault.Close(f); err != nil {
		os.Remove(s.path)
		return err
	}
	return nil
}

// removeStale removes staging places that no living process holds, except one that this
// stage takes over.
func (s *Stage) removeStale(parent, prefix string) error {
	entries, err := fault.ReadDir(parent)
	if err != nil {
		return formats.Cause(err)
	}
	for _, e := range entries {
		path := filepath.Join(parent, e.Name())
		kind := e.IsDir() == s.dir || exists(filepath.Join(path, asideName))
		if !strings.HasPrefix(e.Name(), prefix) || !kind || e.Type()&fs.ModeSymlink != 0 || s.opts.Resume && path == s.path {
			continue
		}
		if strings.HasSuffix(path, asideSuffix) && !exists(s.out) {
			return oldContent(path)
		}
		f, err := lock(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // its process has just ended
		case errors.Is(err, errInUse):
			return fmt.Errorf("%w (staging %s is in use)", err, formats.Quote(e.Name()))
		case err != nil:
			return fmt.Errorf("staging %s of another run: %w", formats.Quote(e.Name()), err)
		}
		if err = s.putBack(path); err == nil {
			if err = os.RemoveAll(path); errors.Is(err, fs.ErrPermission) {
				err = nil // another user's, which is in nobody's way: see Left
			}
		}
		f.Close()
		if err != nil {
			return formats.Cause(err)
		}
	}
	return nil
}

// Path returns the staging file or directory to write into.
func (s *Stage) Path() string { return s.path }

// Over reports whether the stage has ended, so that its staging is not its own any more.
func (s *Stage) Over() bool { return s.done }

// Abort removes the staging. It does nothing when the stage is over.
func (s *Stage) Abort() {
	if s.done {
		return
	}
	os.RemoveAll(s.path)
	s.finish()
}

// Leave ends the stage and lets the staging stay. It does nothing when the stage is over.
func (s *Stage) Leave() {
	if !s.done {
		s.finish()
	}
}

func (s *Stage) finish() {
	s.done = true
	s.lock.Close()
	if s.old != nil {
		s.old.Close()
	}
}

// Package publish writes the files of a result and makes them appear under their names
// whole or not at all, for every format.
//
// # How to choose
//
// A format describes its result as a [Set]: files made of parts, each part a literal or a
// tensor's data. [Write] publishes a set; [Check] says before what would keep it from
// starting. [WriteFile] writes one file without any ceremony, into a place that the caller
// has staged; [Replay] shows what it made once more.
//
// # What is promised
//
// Output appears whole or not at all: whatever fails, and whenever the process is
// killed, the output's name holds what it held before, or the whole result; of files
// beside one another see [Beside]. Old content is removed once the new one is durable.
// With Options.Resume the weight files that are finished stay in the staging directory
// beside the output, with a journal of their lengths and checksums; a later call of the
// same plan reads them back, takes those that are still right and makes the rest.
//
// Memory is workers × block, whatever the size of the tensors, and the parts of a few files,
// which are written at once by the same workers.
package publish

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/atomicfile"
)

// Layout says what a set's files are under the output's name.
type Layout uint8

const (
	// Directory: the output is a directory that holds all files.
	Directory Layout = iota
	// OneFile: the output is the only file.
	OneFile
	// Beside: the output is the last file, and the others lie beside it under their own
	// names, as a model does that keeps its weights in other files. The others appear
	// first. When old content is replaced the old output goes away first, so that killed
	// midway there is no output rather than one with another's weights; the next call for
	// the same name puts everything back as it was before it begins.
	Beside
)

// File is a file of a set.
type File struct {
	// Name is slash-separated and in the output. Of OneFile, and of the last file of
	// Beside, it is ignored: it is the output's. The others of Beside have plain names.
	Name string
	Size int64
	// Parts returns what the file is made of, Size bytes in all. It is called when the file
	// is written: a set may have thousands. Parts of weights must come in the same blocks
	// whenever they are asked for, so that Replay shows what WriteFile did.
	Parts func() ([]Part, error)
	// Weights marks a file that is worth keeping for a later run with Options.Resume, whose
	// blocks are shown to Observe and whose bytes are counted by Progress. It has a plain
	// name.
	Weights bool
}

// Set is what is published together.
type Set struct {
	Path   string // the input's path, if there is one; it names the set in messages and is not overwritten
	Layout Layout
	Files  []File // in the order of writing; the last makes the others usable
}

// under returns the set with the names that its files have when it is published at out.
func (s Set) under(out string) Set {
	if s.Layout != Directory && len(s.Files) > 0 {
		s.Files = slices.Clone(s.Files)
		s.Files[len(s.Files)-1].Name = filepath.Base(out)
	}
	return s
}

// weights returns how many files hold weights.
func (s Set) weights() (n int) {
	for _, f := range s.Files {
		if f.Weights {
			n++
		}
	}
	return n
}

// others returns the names of all files but the last.
func (s Set) others() []string {
	names := make([]string, len(s.Files)-1)
	for i := range names {
		names[i] = s.Files[i].Name
	}
	return names
}

// Options of [Write]. The zero value is good.
type Options struct {
	BlockOptions
	Force  bool         // replace what exists under the output's names
	NoSync bool         // leave out fsync
	ID     string       // names the staging place; random when empty
	Check  func() error // called when everything is written; an error stops the publication
	Inputs []string     // paths beside the set's own that must not be overwritten

	// Resume lets finished weight files stay when Write fails, is interrupted or killed,
	// and goes on from those that an earlier call left. It needs ID, which must differ
	// whenever the output would: a hash of all that the plan is made of. Errors after
	// which something stays are of the type [ResumableError].
	Resume bool
	// File, if set, is called for every file of the output once it is complete, one after
	// another. What it is told comes from reading the file back, which is done for it
	// alone. An error stops the writing.
	File func(FileResult) error
	// SHA256 adds that sum to what File is told.
	SHA256 bool
}

// ResumableError is a failure of [Write] after which finished weight files stay in the
// staging directory Dir, where a call with the same ID and Resume finds them. It reads as
// Err.
type ResumableError struct {
	Dir              string
	Finished, Shards int // how many weight files are finished, of how many; 0 also where the journal could not be read
	Err              error
}

func (e *ResumableError) Error() string { return e.Err.Error() }
func (e *ResumableError) Unwrap() error { return e.Err }

// Write publishes a set at out. Nothing exists at out before the whole result is good, and
// on any error what was there stays as it was and nothing is left beside it, but for what
// Options.Resume keeps. Errors of the output are [formats.ErrOutput]; an output that is or
// holds an input is [formats.ErrUsage].
func Write(ctx context.Context, set Set, out string, opts Options) error {
	if err := Check(set, out, opts); err != nil {
		return err
	}
	set = set.under(out)
	stage, err := newStage(set, out, opts)
	if err != nil {
		return err
	}
	w := &writer{set: set, place: stage.Path(), opts: opts}
	err = w.write(ctx)
	if err == nil {
		if err = stage.Publish(); err == nil {
			return nil
		}
		if stage.Over() {
			return err
		}
		w.journal.restore()
	}
	if set.Layout == Beside {
		out = dirOf(out)
	}
	err = rename(err, stage.Path(), out)
	if !w.keep() {
		stage.Abort()
		return err
	}
	stage.Leave()
	return &ResumableError{Dir: stage.Path(), Finished: w.journal.finished(), Shards: set.weights(), Err: err}
}

func newStage(set Set, out string, opts Options) (*atomicfile.Stage, error) {
	o := atomicfile.Options{Force: opts.Force, ID: opts.ID, NoSync: opts.NoSync, Resume: opts.Resume}
	if opts.Resume {
		o.Scratch = journalName
	}
	switch set.Layout {
	case OneFile:
		return atomicfile.NewFile(out, o)
	case Beside:
		return atomicfile.NewBeside(out, set.others(), o)
	}
	o.Last, _, _ = strings.Cut(set.Files[len(set.Files)-1].Name, "/")
	return atomicfile.NewDir(out, o)
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

package publish

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
)

// writer writes the files of a set into their staging place.
type writer struct {
	set     Set
	place   string // the staging directory, or file of OneFile
	opts    Options
	journal *journal // nil without Resume
}

func (w *writer) write(ctx context.Context) error {
	if w.opts.Resume {
		var err error
		if w.journal, err = openJournal(w.place, w.opts.ID, w.opts.NoSync); err != nil {
			return err
		}
		if err := w.clean(); err != nil {
			return err
		}
	}
	for _, f := range w.set.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.file(ctx, f); err != nil {
			return err
		}
	}
	if w.opts.Check != nil {
		if err := w.opts.Check(); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.journal.close()
}

// clean removes everything from the staging directory but the journal and the files
// that it vouches for.
func (w *writer) clean() error {
	entries, err := fault.ReadDir(w.place)
	if err != nil {
		return formats.Outputf(w.place, cause(err), "")
	}
	for _, e := range entries {
		if _, ok := w.journal.done[e.Name()]; e.Type().IsRegular() && (ok || e.Name() == journalName) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(w.place, e.Name())); err != nil {
			return formats.Outputf(filepath.Join(w.place, e.Name()), cause(err), "")
		}
	}
	return nil
}

// keep reports whether the staging directory is worth keeping after a failure, and
// leaves only the finished files in it. One whose journal cannot be read stays as it is:
// that may pass.
func (w *writer) keep() bool {
	if !w.opts.Resume {
		return false
	}
	if w.journal == nil {
		entries, err := os.ReadDir(w.place)
		return err == nil && slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() != journalName })
	}
	return len(w.journal.done) > 0 && w.journal.close() == nil && w.clean() == nil
}

// file makes a file, unless an earlier run has.
func (w *writer) file(ctx context.Context, f File) error {
	staged, flag := w.place, os.O_TRUNC
	if w.set.Layout != OneFile {
		// A name that is there already is one that the file system takes for another.
		staged, flag = filepath.Join(w.place, filepath.FromSlash(f.Name)), os.O_EXCL
	}
	parts, err := f.Parts()
	if err != nil {
		return err
	}
	if n := sizeOf(parts); n != f.Size {
		return formats.Outputf(staged, nil, "it is planned wrongly (got parts of %d bytes, want %d)", n, f.Size)
	}
	if done, err := w.finished(ctx, staged, f, parts); done || err != nil {
		return err
	}
	if path.Dir(f.Name) != "." {
		if err := fault.MkdirAll(filepath.Dir(staged)); err != nil {
			return formats.Outputf(staged, cause(err), "")
		}
	}
	opts := w.opts.BlockOptions
	if !f.Weights {
		opts.Observe, opts.Progress = nil, nil
	}
	if err := writeFile(ctx, staged, flag, parts, opts); err != nil {
		return err
	}
	journaled := f.Weights && w.journal != nil
	if !journaled && w.opts.File == nil {
		return nil
	}
	if journaled && !w.opts.NoSync {
		if err := syncFile(staged); err != nil {
			return err
		}
	}
	r, err := readBack(ctx, staged, w.opts)
	if err != nil {
		return err
	}
	if journaled {
		if err := w.journal.add(entry{f.Name, r.Size, r.CRC32C}); err != nil {
			return err
		}
	}
	return w.tell(f.Name, r)
}

// finished reports whether a file is there from an earlier run: the journal knows it,
// with the length that it must have, and its bytes are still those. Its made blocks are
// shown to Observe, which has not seen them in this run.
func (w *writer) finished(ctx context.Context, staged string, f File, parts []Part) (bool, error) {
	if !f.Weights || w.journal == nil {
		return false, nil
	}
	e, ok := w.journal.done[f.Name]
	if !ok {
		return false, nil
	}
	delete(w.journal.done, f.Name) // until it is proved
	r, err := readBack(ctx, staged, w.opts)
	if err := ctx.Err(); err != nil {
		w.journal.done[f.Name] = e // nothing speaks against it
		return false, err
	}
	if err != nil || f.Size != e.size || r.Size != e.size || r.CRC32C != e.crc {
		if err := os.Remove(staged); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, formats.Outputf(staged, cause(err), "")
		}
		return false, nil
	}
	w.journal.done[f.Name] = e
	if err := Replay(ctx, staged, parts, w.opts.BlockOptions); err != nil {
		return false, err
	}
	if w.opts.Progress != nil {
		w.opts.Progress(r.Size)
	}
	return true, w.tell(f.Name, r)
}

func (w *writer) tell(name string, r FileResult) error {
	if w.opts.File == nil {
		return nil
	}
	r.Name = name
	return w.opts.File(r)
}

// syncFile makes a file's content durable.
func syncFile(name string) error {
	f, err := fault.OpenFile(name, os.O_RDWR)
	if err == nil {
		err = fault.Sync(f)
		if err2 := fault.Close(f); err == nil {
			err = err2
		}
	}
	if err != nil {
		return formats.Outputf(name, cause(err), "")
	}
	return nil
}

package publish

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
)

// writer writes the files of a set into their staging place.
type writer struct {
	set     Set
	place   string // the staging directory, or file of OneFile
	opts    Options
	journal *journal // nil without Resume

	mu sync.Mutex // held while the journal is looked at or changed
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
	for files := w.set.Files; len(files) > 0; {
		n := 1
		for files[0].Weights && n < len(files) && files[n].Weights {
			n++
		}
		if err := w.files(ctx, files[:n]); err != nil {
			return err
		}
		files = files[n:]
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
		return formats.Outputf(w.place, formats.Cause(err), "")
	}
	for _, e := range entries {
		if _, ok := w.journal.done[e.Name()]; e.Type().IsRegular() && (ok || e.Name() == journalName) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(w.place, e.Name())); err != nil {
			return formats.Outputf(filepath.Join(w.place, e.Name()), formats.Cause(err), "")
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

// maxLanes bounds how many weight files are written at once, by the same workers. Systems
// let one writer at a time into a file, so that several workers on one wait for each other.
const maxLanes = 4

// files makes some files, several of them at once, and tells of them in their order.
func (w *writer) files(ctx context.Context, files []File) error {
	opts := w.opts.BlockOptions.withDefaults()
	lanes := min(maxLanes, opts.Workers, len(files))
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	report := &inOrder{files: files, tell: w.opts.File, done: make([]*FileResult, len(files))}
	var next atomic.Int64
	var first firstError
	var wg sync.WaitGroup
	for range lanes {
		wg.Go(func() {
			for inner.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(files) {
					return
				}
				r, err := w.file(inner, files[i], opts)
				if err == nil {
					err = report.finish(i, r)
				}
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						first.set(i, err)
					}
					cancel()
				}
			}
		})
	}
	wg.Wait()
	if first.err != nil {
		return first.err
	}
	return ctx.Err()
}

// inOrder tells of finished files in their order, each as soon as those before it are.
type inOrder struct {
	files []File
	tell  func(FileResult) error // may be nil

	mu   sync.Mutex
	done []*FileResult
	told int
}

func (o *inOrder) finish(i int, r *FileResult) error {
	if o.tell == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done[i] = r
	for o.told < len(o.done) && o.done[o.told] != nil {
		r := *o.done[o.told]
		r.Name = o.files[o.told].Name
		o.told++
		if err := o.tell(r); err != nil {
			return err
		}
	}
	return nil
}

// file makes a file, unless an earlier run has, and returns how it was read back, where
// anybody asks for that.
func (w *writer) file(ctx context.Context, f File, opts BlockOptions) (*FileResult, error) {
	staged, flag := w.place, os.O_TRUNC
	if w.set.Layout != OneFile {
		// A name that is there already is one that the file system takes for another.
		staged, flag = filepath.Join(w.place, filepath.FromSlash(f.Name)), os.O_EXCL
	}
	parts, err := f.Parts()
	if err != nil {
		return nil, err
	}
	if n := sizeOf(parts); n != f.Size {
		return nil, formats.Outputf(staged, nil, "it is planned wrongly (got parts of %d bytes, want %d)", n, f.Size)
	}
	if r, err := w.finished(ctx, staged, f, parts, opts); r != nil || err != nil {
		return r, err
	}
	if path.Dir(f.Name) != "." {
		if err := fault.MkdirAll(filepath.Dir(staged)); err != nil {
			return nil, formats.Outputf(staged, formats.Cause(err), "")
		}
	}
	if !f.Weights {
		opts.Observe, opts.Progress = nil, nil
	}
	if err := writeFile(ctx, staged, flag, parts, opts); err != nil {
		return nil, err
	}
	journaled := f.Weights && w.journal != nil
	if !journaled && w.opts.File == nil {
		return nil, nil
	}
	if journaled && !w.opts.NoSync {
		if err := syncFile(staged); err != nil {
			return nil, err
		}
	}
	r, err := readBack(ctx, staged, w.opts)
	if err != nil {
		return nil, err
	}
	if journaled {
		w.mu.Lock()
		defer w.mu.Unlock()
		if err := w.journal.add(entry{f.Name, r.Size, r.CRC32C}); err != nil {
			return nil, err
		}
	}
	return &r, nil
}

// finished returns a file that is there from an earlier run: the journal knows it, with
// the length that it must have, and its bytes are still those. Its made blocks are shown
// to Observe, which has not seen them in this run. Else it returns nil.
func (w *writer) finished(ctx context.Context, staged string, f File, parts []Part, opts BlockOptions) (*FileResult, error) {
	if !f.Weights || w.journal == nil {
		return nil, nil
	}
	e, ok := w.take(f.Name)
	if !ok {
		return nil, nil
	}
	r, err := readBack(ctx, staged, w.opts)
	if err := ctx.Err(); err != nil {
		w.put(e) // nothing speaks against it
		return nil, err
	}
	if err != nil || f.Size != e.size || r.Size != e.size || r.CRC32C != e.crc {
		if err := os.Remove(staged); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, formats.Outputf(staged, formats.Cause(err), "")
		}
		return nil, nil
	}
	w.put(e)
	if err := Replay(ctx, staged, parts, opts); err != nil {
		return nil, err
	}
	if w.opts.Progress != nil {
		w.opts.Progress(r.Size)
	}
	return &r, nil
}

// take removes a file from those that the journal vouches for, until it is proved.
func (w *writer) take(name string) (entry, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, ok := w.journal.done[name]
	delete(w.journal.done, name)
	return e, ok
}

func (w *writer) put(e entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.journal.done[e.name] = e
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
		return formats.Outputf(name, formats.Cause(err), "")
	}
	return nil
}

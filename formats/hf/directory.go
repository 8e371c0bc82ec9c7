package hf

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/internal/fault"
)

// directory is a model directory being written.
type directory struct {
	c       *formats.Checkpoint
	dir     string // staging
	opts    WriteOptions
	journal *journal // nil without Resume
}

// write makes all files. The side files come first: they are read late, so what is wrong
// with them shows before the long work. The index comes last: a directory with one is
// whole.
func (d *directory) write(ctx context.Context) error {
	if d.opts.Resume {
		var err error
		if d.journal, err = openJournal(d.dir, d.opts.ID, d.opts.NoSync); err != nil {
			return err
		}
		if err := d.clean(); err != nil {
			return err
		}
	}
	var oldIndex []byte
	index := indexName
	for _, f := range d.c.SideFiles() {
		if err := ctx.Err(); err != nil {
			return err
		}
		var err error
		if isIndex(f.Name) {
			index = f.Name
			oldIndex, err = d.c.ReadSideFile(f.Name, formats.MaxIndexBytes)
		} else {
			err = d.file(ctx, f.Name, f.Data, f.Size)
		}
		if err != nil {
			return err
		}
	}
	for _, s := range d.c.Shards() {
		if err := d.shard(ctx, s); err != nil {
			return err
		}
	}
	if oldIndex != nil || len(d.c.Shards()) != 1 {
		text, err := renderIndex(d.c, oldIndex)
		if err != nil {
			return err
		}
		if err := d.file(ctx, index, bytes.NewReader(text), int64(len(text))); err != nil {
			return err
		}
	}
	if err := approve(ctx, d.opts); err != nil {
		return err
	}
	return d.journal.close()
}

// isIndex reports whether a side file is the index of the weights.
func isIndex(name string) bool {
	return strings.HasSuffix(name, indexSuffix) && !strings.Contains(name, "/")
}

// clean removes everything from the staging directory but the journal and the files
// that it vouches for.
func (d *directory) clean() error {
	entries, err := fault.ReadDir(d.dir)
	if err != nil {
		return formats.Outputf(d.dir, cause(err), "")
	}
	for _, e := range entries {
		if _, ok := d.journal.done[e.Name()]; e.Type().IsRegular() && (ok || e.Name() == journalName) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(d.dir, e.Name())); err != nil {
			return formats.Outputf(filepath.Join(d.dir, e.Name()), cause(err), "")
		}
	}
	return nil
}

// keep reports whether the staging directory is worth keeping after a failure, and
// leaves only the finished shards in it. One whose journal cannot be read stays as it is:
// that may pass.
func (d *directory) keep() bool {
	if !d.opts.Resume {
		return false
	}
	if d.journal == nil {
		entries, err := os.ReadDir(d.dir)
		return err == nil && slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() != journalName })
	}
	return len(d.journal.done) > 0 && d.journal.close() == nil && d.clean() == nil
}

// shard makes a weight file, unless an earlier run has.
func (d *directory) shard(ctx context.Context, s formats.Shard) error {
	path := filepath.Join(d.dir, s.Name)
	if done, err := d.finished(ctx, path, s); done || err != nil {
		return err
	}
	if err := safetensors.Write(ctx, path, s, d.opts.WriteOptions); err != nil {
		return err
	}
	if d.journal == nil && d.opts.File == nil {
		return nil
	}
	if d.journal != nil && !d.opts.NoSync {
		if err := syncFile(path); err != nil {
			return err
		}
	}
	r, err := readBack(ctx, path, d.opts)
	if err != nil {
		return err
	}
	if err := d.journal.add(entry{s.Name, r.Size, r.CRC32C}); err != nil {
		return err
	}
	return d.tell(s.Name, r)
}

// finished reports whether a shard is there from an earlier run: the journal knows it,
// with the length that it must have, and its bytes are still those. Its made blocks are
// shown to Observe, which has not seen them in this run.
func (d *directory) finished(ctx context.Context, path string, s formats.Shard) (bool, error) {
	if d.journal == nil {
		return false, nil
	}
	e, ok := d.journal.done[s.Name]
	if !ok {
		return false, nil
	}
	delete(d.journal.done, s.Name) // until it is proved
	if size, err := safetensors.EncodedSize(s); err != nil || size != e.size {
		return false, nil
	}
	r, err := readBack(ctx, path, d.opts)
	if err := ctx.Err(); err != nil {
		d.journal.done[s.Name] = e // nothing speaks against it
		return false, err
	}
	if err != nil || r.Size != e.size || r.CRC32C != e.crc {
		return false, nil
	}
	d.journal.done[s.Name] = e
	if err := safetensors.Replay(ctx, path, s, d.opts.WriteOptions); err != nil {
		return false, err
	}
	if d.opts.Progress != nil {
		d.opts.Progress(r.Size)
	}
	return true, d.tell(s.Name, r)
}

// file makes a side file or the index.
func (d *directory) file(ctx context.Context, name string, data io.ReaderAt, size int64) error {
	path := filepath.Join(d.dir, filepath.FromSlash(name))
	if dir := filepath.Dir(path); dir != d.dir {
		if err := fault.MkdirAll(dir); err != nil {
			return formats.Outputf(path, cause(err), "")
		}
	}
	if err := writeFile(path, name, data, size); err != nil {
		return err
	}
	if d.opts.File == nil {
		return nil
	}
	r, err := readBack(ctx, path, d.opts)
	if err != nil {
		return err
	}
	return d.tell(name, r)
}

func (d *directory) tell(name string, r FileResult) error {
	if d.opts.File == nil {
		return nil
	}
	r.Name = name
	return d.opts.File(r)
}

// copyBytes is how much of a side file is held at once.
const copyBytes = 1 << 20

// writeFile copies data into a new file; name is what the data is called in messages.
func writeFile(path, name string, data io.ReaderAt, size int64) error {
	dst, err := fault.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
	if err != nil {
		return formats.Outputf(path, cause(err), "")
	}
	buf := make([]byte, min(size, copyBytes))
	for off := int64(0); off < size && err == nil; off += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), size-off)]
		if err = formats.ReadFullAt(data, buf, off); err != nil {
			err = sideError(name, err)
		} else if _, err = fault.WriteAt(dst, buf, off); err != nil {
			err = formats.Outputf(path, cause(err), "")
		}
	}
	if err2 := fault.Close(dst); err == nil && err2 != nil {
		err = formats.Outputf(path, cause(err2), "")
	}
	return err
}

// sideError makes a failure to read a side file an error that names it.
func sideError(name string, err error) error {
	var e *formats.Error
	switch {
	case errors.As(err, &e):
		return err
	case err == io.ErrUnexpectedEOF:
		return formats.Rejectf(name, "", "it was cut short while it was read")
	}
	return &formats.Error{Class: formats.ErrInput, File: name, Err: cause(err)}
}

// syncFile makes a file's content durable.
func syncFile(path string) error {
	f, err := fault.OpenFile(path, os.O_RDWR)
	if err == nil {
		err = fault.Sync(f)
		if err2 := fault.Close(f); err == nil {
			err = err2
		}
	}
	if err != nil {
		return formats.Outputf(path, cause(err), "")
	}
	return nil
}

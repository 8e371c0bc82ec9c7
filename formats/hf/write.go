package hf

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/internal/atomicfile"
)

// WriteOptions of [Write].
type WriteOptions struct {
	safetensors.WriteOptions
	Force  bool         // replace what exists under the output's name
	NoSync bool         // leave out fsync
	ID     string       // names the staging place; random when empty
	Check  func() error // called when everything is written; an error stops the publication
	Inputs []string     // paths beside the checkpoint's own that must not be overwritten

	// Resume lets finished shards stay when Write fails, is interrupted or killed, and
	// goes on from those that an earlier call left. It needs ID, which must differ
	// whenever the output would: a hash of all that the plan is made of. Errors after
	// which something stays are of the type [ResumableError].
	Resume bool
	// File, if set, is called for every file of the output once it is complete, weights
	// and side files, one after another. What it is told comes from reading the file
	// back, which is done for it alone. An error stops the writing.
	File func(FileResult) error
	// SHA256 adds that sum to what File is told.
	SHA256 bool
}

// ResumableError is a failure of [Write] after which finished shards stay in the staging
// directory Dir, where a call with the same ID and Resume finds them. It reads as Err.
type ResumableError struct {
	Dir              string
	Finished, Shards int // how many shards are finished, of how many; 0 also where the journal could not be read
	Err              error
}

func (e *ResumableError) Error() string { return e.Err.Error() }
func (e *ResumableError) Unwrap() error { return e.Err }

// Write publishes a checkpoint at out, under the layout and file names it came in: a
// model directory with index and side files, or one file. Nothing exists at out
// before the whole result is good, and on any error what was there stays as it was and
// nothing is left beside it, but for what WriteOptions.Resume keeps. Errors of
// the output are [formats.ErrOutput]; an output that is or holds an input is
// [formats.ErrUsage].
func Write(ctx context.Context, c *formats.Checkpoint, out string, opts WriteOptions) error {
	if err := CheckOutput(c, out, opts); err != nil {
		return err
	}
	stageOptions := atomicfile.Options{Force: opts.Force, ID: opts.ID, NoSync: opts.NoSync}
	if c.Layout() == formats.SingleFile {
		stage, err := atomicfile.NewFile(out, stageOptions)
		if err != nil {
			return err
		}
		if err := writeSingle(ctx, c.Shards()[0], stage.Path(), filepath.Base(out), opts); err != nil {
			stage.Abort()
			return rename(err, stage.Path(), out)
		}
		return stage.Publish()
	}
	if opts.Resume {
		stageOptions.Resume, stageOptions.Scratch = true, journalName
	}
	stage, err := atomicfile.NewDir(out, stageOptions)
	if err != nil {
		return err
	}
	d := &directory{c: c, dir: stage.Path(), opts: opts}
	err = d.write(ctx)
	if err == nil {
		if err = stage.Publish(); err == nil {
			return nil
		}
		if stage.Over() {
			return err
		}
		d.journal.restore()
	}
	err = rename(err, stage.Path(), out)
	if !d.keep() {
		stage.Abort()
		return err
	}
	stage.Leave()
	return &ResumableError{Dir: stage.Path(), Finished: d.journal.finished(), Shards: len(c.Shards()), Err: err}
}

func writeSingle(ctx context.Context, s formats.Shard, path, name string, opts WriteOptions) error {
	if err := safetensors.Write(ctx, path, s, opts.WriteOptions); err != nil {
		return err
	}
	if opts.File != nil {
		r, err := readBack(ctx, path, opts)
		if err != nil {
			return err
		}
		r.Name = name
		if err := opts.File(r); err != nil {
			return err
		}
	}
	return approve(ctx, opts)
}

// approve is the last thing before the publication.
func approve(ctx context.Context, opts WriteOptions) error {
	if opts.Check != nil {
		if err := opts.Check(); err != nil {
			return err
		}
	}
	return ctx.Err()
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

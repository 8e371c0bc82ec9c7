package formats

import (
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
)

// Layout says how a checkpoint lies on disk, and so how it is written again.
type Layout uint8

const (
	// SingleFile is one weight file and nothing else.
	SingleFile Layout = iota
	// Directory is a model directory: one or more weight files with side files.
	Directory
)

// MetadataEntry is one string pair of a file's metadata.
type MetadataEntry struct{ Key, Value string }

// Shard is one weight file: its plain name, its metadata in file order, and its
// tensors in the order of their bytes.
type Shard struct {
	Name     string
	Metadata []MetadataEntry
	Tensors  []Tensor
}

// Size returns the bytes of all tensors of the shard, without the header.
func (s Shard) Size() int64 {
	var n int64
	for _, t := range s.Tensors {
		n += t.Size()
	}
	return n
}

// SideFile is a file that belongs to a model and holds no weights: configs,
// tokenizers, templates, code. Name is its slash-separated path in the directory.
type SideFile struct {
	Name string
	Size int64
	Data io.ReaderAt
}

// Checkpoint is an ordered, immutable list of tensors with its side files. Methods
// are safe for concurrent use.
type Checkpoint struct {
	path    string
	layout  Layout
	shards  []Shard
	side    []SideFile
	byName  map[string]place
	closers []io.Closer
}

type place struct{ shard, tensor int }

// NewCheckpoint makes a checkpoint. path names it in messages. It fails when two
// tensors share a name. Close closes the closers.
func NewCheckpoint(path string, layout Layout, shards []Shard, side []SideFile, closers ...io.Closer) (*Checkpoint, error) {
	c := &Checkpoint{path: path, layout: layout, shards: shards, side: side, closers: closers, byName: map[string]place{}}
	for i, s := range shards {
		for j, t := range s.Tensors {
			if old, ok := c.byName[t.Name]; ok {
				return nil, Rejectf(path, t.Name, "duplicate name: it is in %s and in %s", Quote(shards[old.shard].Name), Quote(s.Name))
			}
			c.byName[t.Name] = place{i, j}
		}
	}
	return c, nil
}

// Path returns the path that the checkpoint was opened by.
func (c *Checkpoint) Path() string { return c.path }

// Layout returns how the checkpoint lies on disk.
func (c *Checkpoint) Layout() Layout { return c.layout }

// Shards returns the weight files in order. The caller must not change them.
func (c *Checkpoint) Shards() []Shard { return c.shards }

// SideFiles returns the side files in order of name. The caller must not change them.
func (c *Checkpoint) SideFiles() []SideFile { return c.side }

// Tensors yields all tensors, shard by shard.
func (c *Checkpoint) Tensors() iter.Seq[Tensor] {
	return func(yield func(Tensor) bool) {
		for _, s := range c.shards {
			for _, t := range s.Tensors {
				if !yield(t) {
					return
				}
			}
		}
	}
}

// Len returns the number of tensors.
func (c *Checkpoint) Len() int { return len(c.byName) }

// Tensor returns the tensor with the given name.
func (c *Checkpoint) Tensor(name string) (Tensor, bool) {
	p, ok := c.byName[name]
	if !ok {
		return Tensor{}, false
	}
	return c.shards[p.shard].Tensors[p.tensor], true
}

// SideFile returns the side file with the given name.
func (c *Checkpoint) SideFile(name string) (SideFile, bool) {
	for _, f := range c.side {
		if f.Name == name {
			return f, true
		}
	}
	return SideFile{}, false
}

// Size returns the bytes of all tensors.
func (c *Checkpoint) Size() int64 {
	var n int64
	for _, s := range c.shards {
		n += s.Size()
	}
	return n
}

// MapTensors returns a checkpoint whose tensors are f of this one's, in the same
// files and order. f must keep names. The result shares open files with c, which
// must stay open while it is read.
func (c *Checkpoint) MapTensors(f func(Tensor) Tensor) *Checkpoint {
	out := *c
	out.closers = nil
	out.shards = make([]Shard, len(c.shards))
	for i, s := range c.shards {
		tensors := make([]Tensor, len(s.Tensors))
		for j, t := range s.Tensors {
			tensors[j] = f(t)
		}
		s.Tensors = tensors
		out.shards[i] = s
	}
	return &out
}

// WithSideFile returns a checkpoint with a side file added, or in the place of the one of
// that name. The result shares open files with c.
func (c *Checkpoint) WithSideFile(f SideFile) *Checkpoint {
	out := *c
	out.closers = nil
	out.side = slices.Clone(c.side)
	i := slices.IndexFunc(out.side, func(old SideFile) bool { return old.Name == f.Name })
	if i < 0 {
		out.side = append(out.side, f)
		slices.SortFunc(out.side, func(a, b SideFile) int { return strings.Compare(a.Name, b.Name) })
	} else {
		out.side[i] = f
	}
	return &out
}

// ReadSideFile returns a side file's bytes, refusing more than limit.
func (c *Checkpoint) ReadSideFile(name string, limit int64) ([]byte, error) {
	f, ok := c.SideFile(name)
	if !ok {
		return nil, Rejectf(c.path, "", "there is no %s", name)
	}
	if f.Size > limit {
		return nil, Rejectf(c.path, "", "%s is too large (got %d bytes, want at most %d)", name, f.Size, limit)
	}
	buf := make([]byte, f.Size)
	if err := ReadFullAt(f.Data, buf, 0); err != nil {
		var e *Error
		if errors.As(err, &e) {
			return nil, err // it names the file
		}
		return nil, &Error{Class: ErrInput, File: c.path, Detail: name, Err: err}
	}
	return buf, nil
}

// Close closes the files behind the checkpoint.
func (c *Checkpoint) Close() error {
	var errs []error
	for _, x := range c.closers {
		errs = append(errs, x.Close())
	}
	return errors.Join(errs...)
}

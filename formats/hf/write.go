package hf

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/formats/safetensors"
)

// WriteOptions of [Write].
type WriteOptions = publish.Options

// Write publishes a checkpoint at out, under the layout and file names it came in: a
// model directory with index and side files, or one file. See [publish.Write].
func Write(ctx context.Context, c *formats.Checkpoint, out string, opts WriteOptions) error {
	set, err := Files(c, out)
	if err != nil {
		return err
	}
	return publish.Write(ctx, set, out, opts)
}

// CheckOutput reports what would keep [Write] from starting: an output that exists,
// that is or holds an input or lies in one, or that does not fit on the disk. It
// creates nothing.
func CheckOutput(c *formats.Checkpoint, out string, opts WriteOptions) error {
	set, err := Files(c, out)
	if err != nil {
		return err
	}
	return publish.Check(set, out, opts)
}

// Files returns the files that a checkpoint becomes; out names them in messages. The side
// files come first: they are read late, so what is wrong with them shows before the long
// work. The index comes last: a directory with one is whole.
func Files(c *formats.Checkpoint, out string) (publish.Set, error) {
	set := publish.Set{Path: c.Path(), Layout: publish.Directory}
	if c.Layout() == formats.SingleFile {
		set.Layout = publish.OneFile
		f, err := weightFile(c.Shards()[0], out)
		set.Files = []publish.File{f}
		return set, err
	}
	var oldIndex []byte
	index := indexName
	for _, f := range c.SideFiles() {
		if !isIndex(f.Name) {
			set.Files = append(set.Files, sideFile(f))
			continue
		}
		index = f.Name
		var err error
		if oldIndex, err = c.ReadSideFile(f.Name, formats.MaxIndexBytes); err != nil {
			return set, err
		}
	}
	for _, s := range c.Shards() {
		f, err := weightFile(s, out)
		if err != nil {
			return set, err
		}
		set.Files = append(set.Files, f)
	}
	if oldIndex == nil && len(c.Shards()) == 1 {
		return set, nil
	}
	text, err := renderIndex(c, oldIndex)
	if err != nil {
		return set, err
	}
	set.Files = append(set.Files, publish.File{Name: index, Size: int64(len(text)), Parts: func() ([]publish.Part, error) {
		return []publish.Part{{Literal: text}}, nil
	}})
	return set, nil
}

// isIndex reports whether a side file is the index of the weights.
func isIndex(name string) bool {
	return strings.HasSuffix(name, indexSuffix) && !strings.Contains(name, "/")
}

func weightFile(s formats.Shard, out string) (publish.File, error) {
	size, err := safetensors.EncodedSize(s)
	if err != nil {
		return publish.File{}, formats.Outputf(out, err, "")
	}
	return publish.File{Name: s.Name, Size: size, Weights: true, Parts: func() ([]publish.Part, error) {
		parts, err := safetensors.Parts(s)
		if err != nil {
			return nil, formats.Outputf(out, err, "")
		}
		return parts, nil
	}}, nil
}

func sideFile(f formats.SideFile) publish.File {
	return publish.File{Name: f.Name, Size: f.Size, Parts: func() ([]publish.Part, error) {
		return []publish.Part{{Tensor: formats.Tensor{DType: formats.U8, Shape: []int64{f.Size}, Data: sideData{f}}}}, nil
	}}
}

// sideData is a side file's content, with errors that name it.
type sideData struct{ formats.SideFile }

func (d sideData) ReadAt(p []byte, off int64) (int, error) {
	n, err := d.Data.ReadAt(p, off)
	var e *formats.Error
	switch {
	case n == len(p) || errors.As(err, &e):
		return n, err
	case err == nil || err == io.EOF || err == io.ErrUnexpectedEOF:
		return n, formats.Rejectf(d.Name, "", "it was cut short while it was read")
	}
	return n, &formats.Error{Class: formats.ErrInput, File: d.Name, Err: formats.Cause(err)}
}

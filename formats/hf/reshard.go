package hf

import (
	"fmt"

	"github.com/seed-b982eded/graft/formats"
)

// Names that transformers gives to weights: of one file, of one of several, and of the
// index that goes with them.
const (
	singleName = "model.safetensors"
	shardName  = "model-%05d-of-%05d.safetensors"
	indexName  = "model" + indexSuffix
)

// Reshard returns a checkpoint with the same tensors in the same order, cut into files
// of at most maxBytes of tensor data each, under the names that transformers gives them.
// A tensor that is larger alone has a file of its own. Where all fits into one file it
// has no index; else [Write] makes one, with the entries of the old one that are not
// about files. A single file that is cut becomes a directory.
//
// A file has the metadata of the first source file of which it has a tensor; where it
// has tensors of others too, theirs is not carried.
//
// The tensors may be lazy; the result shares open files with c, which must stay open
// while it is read. [LeftOut] is about what lies on disk: ask it about c.
func Reshard(c *formats.Checkpoint, maxBytes int64) (*formats.Checkpoint, error) {
	if maxBytes <= 0 {
		return nil, formats.Usagef("a shard must have room for at least one byte (got %d)", maxBytes)
	}
	shards := cut(c.Shards(), maxBytes)
	if len(shards) > formats.MaxShards {
		return nil, formats.Usagef("shards of %d bytes would be too many (got %d, want at most %d)", maxBytes, len(shards), formats.MaxShards)
	}
	layout := formats.Directory
	if len(shards) == 1 {
		layout = c.Layout()
		shards[0].Name = singleName
	} else {
		for i := range shards {
			shards[i].Name = fmt.Sprintf(shardName, i+1, len(shards))
		}
	}
	var side []formats.SideFile
	for _, f := range c.SideFiles() {
		if isIndex(f.Name) {
			if len(shards) == 1 {
				continue
			}
			f.Name = indexName
		}
		side = append(side, f)
	}
	return formats.NewCheckpoint(c.Path(), layout, shards, side)
}

// cut deals the tensors out to files in order. There is always one file, if only for the
// metadata of a checkpoint without tensors.
func cut(from []formats.Shard, maxBytes int64) []formats.Shard {
	var out []formats.Shard
	var size int64 // of the last file
	for _, s := range from {
		for _, t := range s.Tensors {
			n := t.Size()
			if len(out) == 0 || len(out[len(out)-1].Tensors) > 0 && n > maxBytes-size {
				out = append(out, formats.Shard{Metadata: s.Metadata})
				size = 0
			}
			last := &out[len(out)-1]
			last.Tensors = append(last.Tensors, t)
			size += n
		}
	}
	if len(out) == 0 {
		out = append(out, formats.Shard{})
		if len(from) > 0 {
			out[0].Metadata = from[0].Metadata
		}
	}
	return out
}

// Package safetensors reads and writes the safetensors format, one file at a time.
//
// # How to choose
//
// [Open] opens one file as a checkpoint. Model directories, sharded or not, are
// formats/hf's business, which calls [OpenShard] for each file. [Write] streams a
// shard into a new file; [Parts] says what the file is made of, for formats/publish, which
// formats/hf hands the shards of a directory to.
//
// # What is promised
//
// A file is accepted only when the format allows all of it: one reading of the
// header, tensors that cover the file exactly, known dtypes. Reading takes memory for
// the header alone; tensor bytes are read with pread when asked for, never mapped, so
// that a file cut short under the reader is an error and not a crash. A file is open
// while it is read and a while after; one that is another when it is opened again, or
// has changed, is refused.
//
// Files are written with the header compact, "format": "pt" present, tensors in the
// order given, padded with spaces to 8 bytes as the Rust library does; a file that
// that library wrote comes out byte for byte.
//
// The format: https://github.com/huggingface/safetensors, README, "Format".
package safetensors

import (
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
	"github.com/seed-b982eded/graft/internal/filecopy"
)

// Open opens one safetensors file as a checkpoint of one shard. Errors are
// [formats.ErrInput].
func Open(path string) (*formats.Checkpoint, error) {
	info, err := statRegular(path)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path) // it may be opened again from another directory
	if err != nil {
		abs = path
	}
	src := filecopy.NewSource(path, info, func() (*os.File, error) { return OpenRegular(abs) })
	shard, err := OpenShard(src, path)
	if err != nil {
		src.Close()
		return nil, err
	}
	shard.Name = filepath.Base(path)
	return formats.NewCheckpoint(path, formats.SingleFile, []formats.Shard{shard}, nil, src)
}

// OpenRegular opens a file for reading after making sure that it is one: opening a
// FIFO would wait for ever, and a device has no end.
func OpenRegular(path string) (*os.File, error) {
	if _, err := statRegular(path); err != nil {
		return nil, err
	}
	f, err := fault.Open(path)
	if err != nil {
		return nil, &formats.Error{Class: formats.ErrInput, File: path, Err: formats.Cause(err)}
	}
	return f, nil
}

func statRegular(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, &formats.Error{Class: formats.ErrInput, File: path, Err: formats.Cause(err)}
	}
	if !info.Mode().IsRegular() {
		return nil, formats.Rejectf(path, "", "not a regular file")
	}
	return info, nil
}

// OpenShard reads the header of a file, which the returned tensors read from and which
// the caller closes when they are no longer used. file names it in messages. The shard's
// Name is the base of file.
func OpenShard(f formats.SourceFile, file string) (formats.Shard, error) {
	h, err := readHeader(f, f.Size(), file)
	if err != nil {
		return formats.Shard{}, err
	}
	s := formats.Shard{Name: filepath.Base(file), Metadata: h.metadata, Tensors: make([]formats.Tensor, len(h.entries))}
	for i, e := range h.entries {
		s.Tensors[i] = formats.Tensor{
			Name: e.name, DType: e.dtype, Shape: e.shape,
			Data: &filecopy.Section{File: f, Off: h.start + e.begin, N: e.end - e.begin, Tensor: e.name},
		}
	}
	return s, nil
}

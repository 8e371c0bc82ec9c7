// Package safetensors reads and writes the safetensors format, one file at a time.
//
// # How to choose
//
// [Open] opens one file as a checkpoint. Model directories, sharded or not, are
// formats/hf's business, which calls [OpenShard] for each file. [Write] streams a
// shard into a new file; formats/hf calls it for each shard of a directory.
//
// # What is promised
//
// A file is accepted only when the format allows all of it: one reading of the
// header, tensors that cover the file exactly, known dtypes. Reading takes memory for
// the header alone; tensor bytes are read with pread when asked for, never mapped, so
// that a file cut short under the reader is an error and not a crash.
//
// Files are written with the header compact, "format": "pt" present, tensors in the
// order given, padded with spaces to 8 bytes as the Rust library does; a file that
// that library wrote comes out byte for byte.
//
// The format: https://github.com/huggingface/safetensors, README, "Format".
package safetensors

import (
	"io"
	"os"
	"path/filepath"

	"github.com/seed-b982eded/graft/formats"
)

// Open opens one safetensors file as a checkpoint of one shard. Errors are
// [formats.ErrInput].
func Open(path string) (*formats.Checkpoint, error) {
	f, err := OpenRegular(path)
	if err != nil {
		return nil, err
	}
	shard, err := OpenShard(f, path)
	if err != nil {
		f.Close()
		return nil, err
	}
	shard.Name = filepath.Base(path)
	return formats.NewCheckpoint(path, formats.SingleFile, []formats.Shard{shard}, nil, f)
}

// OpenRegular opens a file for reading after making sure that it is one: opening a
// FIFO would wait for ever, and a device has no end.
func OpenRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, &formats.Error{Class: formats.ErrInput, File: path, Err: pathCause(err)}
	}
	if !info.Mode().IsRegular() {
		return nil, formats.Rejectf(path, "", "not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, &formats.Error{Class: formats.ErrInput, File: path, Err: pathCause(err)}
	}
	return f, nil
}

// pathCause strips the path that os errors repeat.
func pathCause(err error) error {
	if e, ok := err.(*os.PathError); ok {
		return e.Err
	}
	return err
}

// OpenShard reads the header of an open file, which the returned tensors read from
// and which the caller closes when they are no longer used. file names it in messages.
// The shard's Name is the base of file.
func OpenShard(f *os.File, file string) (formats.Shard, error) {
	info, err := f.Stat()
	if err != nil {
		return formats.Shard{}, &formats.Error{Class: formats.ErrInput, File: file, Err: pathCause(err)}
	}
	h, err := readHeader(f, info.Size(), file)
	if err != nil {
		return formats.Shard{}, err
	}
	s := formats.Shard{Name: filepath.Base(file), Metadata: h.metadata, Tensors: make([]formats.Tensor, len(h.entries))}
	for i, e := range h.entries {
		s.Tensors[i] = formats.Tensor{
			Name: e.name, DType: e.dtype, Shape: e.shape,
			Data: &fileRange{f, h.start + e.begin, e.end - e.begin},
		}
	}
	return s, nil
}

// fileRange is a tensor's bytes as they lie in a file.
type fileRange struct {
	f      *os.File
	off, n int64
}

func (r *fileRange) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > r.n {
		return 0, io.EOF
	}
	want := len(p)
	if left := r.n - off; int64(want) > left {
		p = p[:left]
	}
	n, err := r.f.ReadAt(p, r.off+off)
	if err == nil && n < want {
		err = io.EOF
	}
	return n, err
}

// FileRange implements [formats.FileRanger].
func (r *fileRange) FileRange() (f *os.File, off, n int64, ok bool) {
	return r.f, r.off, r.n, true
}

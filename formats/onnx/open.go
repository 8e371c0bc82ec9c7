package onnx

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/internal/confined"
	"github.com/seed-b982eded/graft/internal/filecopy"
)

// Open opens an ONNX file and the files of its external data. Errors are
// [formats.ErrInput].
func Open(path string) (*Model, error) {
	f, err := safetensors.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	f.Close()
	if err != nil {
		return nil, formats.ReadError(path, "", err)
	}
	abs, err := filepath.Abs(path) // it may be opened again from another directory
	if err != nil {
		abs = path
	}
	src := filecopy.NewSource(path, info, func() (*os.File, error) { return safetensors.OpenRegular(abs) })
	ext := &externals{dir: filepath.Dir(path), model: info}
	m, err := read(src, path, ext.open, src, ext)
	if err != nil {
		ext.Close()
		src.Close()
		return nil, err
	}
	return m, nil
}

// read reads a model from a file. The closers are closed with it.
func read(file formats.SourceFile, path string, open opener, closers ...io.Closer) (*Model, error) {
	size := file.Size()
	if size == 0 {
		return nil, formats.Rejectf(path, "", "0 bytes: not an ONNX model")
	}
	if size > formats.MaxProtobufBytes {
		return nil, formats.Rejectf(path, "", "%d bytes (want at most %d, which is all that protobuf allows)", size, formats.MaxProtobufBytes).
			WithHint("larger models keep their weights in external data")
	}
	p, err := parse(file, path)
	if err == nil {
		err = p.name()
	}
	if err != nil {
		if kind := looksLike(file); kind != "" {
			return nil, formats.Rejectf(path, "", "not an ONNX model: %s", kind)
		}
		return nil, err
	}
	m := p.m
	if err := m.openExternals(open); err != nil {
		return nil, err
	}
	m.checkpoint, err = formats.NewCheckpoint(path, formats.SingleFile, m.shards(), nil, closers...)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// looksLike names what a file that is no ONNX model seems to be.
func looksLike(r formats.SourceFile) string {
	head := make([]byte, min(32, r.Size()))
	if err := formats.ReadFullAt(r, head, 0); err != nil {
		return ""
	}
	for _, k := range []struct{ magic, kind string }{
		{"version https://git-lfs", `a Git LFS pointer: run "git lfs pull" to get the file itself`},
		{"<!DOCTYPE", "a web page"}, {"<html", "a web page"},
		{"PK\x03\x04", "a zip archive"},
		{"\x1f\x8b", "gzip"},
		{"GGUF", "GGUF"},
	} {
		if bytes.HasPrefix(head, []byte(k.magic)) {
			return k.kind
		}
	}
	if len(head) > 9 && head[8] == '{' && head[7] == 0 {
		return "safetensors"
	}
	return ""
}

// shards returns the model file and the files of external data with their tensors.
func (m *Model) shards() []formats.Shard {
	main := formats.Shard{Name: filepath.Base(m.Path)}
	for _, p := range m.Metadata {
		main.Metadata = append(main.Metadata, formats.MetadataEntry(p))
	}
	for _, t := range m.tensors {
		if t.HasData && t.External == nil {
			main.Tensors = append(main.Tensors, t.Data)
		}
	}
	shards := []formats.Shard{main}
	for _, x := range m.externals {
		s := formats.Shard{Name: x.location}
		for _, t := range x.tensors {
			s.Tensors = append(s.Tensors, t.Data)
		}
		shards = append(shards, s)
	}
	return shards
}

// externals opens files of external data from a model's directory.
type externals struct {
	dir     string
	model   os.FileInfo
	root    *confined.Dir
	below   string // the model's directory in root
	sources []*filecopy.Source
}

// snapshot returns the directory that a model's files are confined to and where in it they
// are: the model's own, or where that is below a snapshot of a Hugging Face cache, as
// "onnx" often is, the snapshot, whose links lead to the cache's blobs.
func snapshot(dir string) (root, below string) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		abs, err = filepath.EvalSymlinks(abs)
	}
	if err != nil {
		return dir, "."
	}
	for at := filepath.Dir(abs); at != filepath.Dir(at); at = filepath.Dir(at) {
		if filepath.Base(filepath.Dir(at)) == "snapshots" {
			if below, err = filepath.Rel(at, abs); err == nil {
				return at, below
			}
		}
	}
	return dir, "."
}

// open is an [opener].
func (e *externals) open(location string) (formats.SourceFile, error) {
	if e.root == nil {
		path, below := snapshot(e.dir)
		root, err := confined.Open(path)
		if err != nil {
			return nil, err
		}
		e.root, e.below = root, below
	}
	src, err := e.root.Source(filepath.Join(e.below, filepath.FromSlash(location)))
	if err != nil {
		return nil, err
	}
	e.sources = append(e.sources, src)
	return src, src.Use(func(f *os.File) error {
		info, err := f.Stat()
		if err == nil && os.SameFile(info, e.model) {
			err = formats.Rejectf(src.Name(), "", "the model file itself as external data")
		}
		return err
	})
}

// Close closes the files.
func (e *externals) Close() error {
	var errs []error
	for _, s := range e.sources {
		errs = append(errs, s.Close())
	}
	if e.root != nil {
		errs = append(errs, e.root.Close())
	}
	return errors.Join(errs...)
}

// Is reports whether a file that begins with head may be a model: its first field is one
// that a ModelProto has, of the right wire type. Protobuf has no magic number.
func Is(head []byte) bool {
	if len(head) < 2 {
		return false
	}
	const varint, bytes = 0, 2
	switch number, wireType := head[0]>>3, head[0]&7; number {
	case 1, 5: // ir_version, model_version
		return wireType == varint && (number != 1 || head[1] > 0 && head[1] < 0x80)
	case 2, 3, 4, 6, 7, 8, 14:
		return wireType == bytes
	}
	return false
}

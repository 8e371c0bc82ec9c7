package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/ortadapter"
	"github.com/seed-b982eded/graft/formats/peft"
)

// inputFile identifies a file that a job reads, without reading its tensors.
type inputFile struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	Header string `json:"header_sha256,omitempty"` // of what is no tensor data, or of all of a file without such
	mtime  int64
}

// weightFiles identifies the weight files of a checkpoint.
func weightFiles(c *formats.Checkpoint) ([]inputFile, error) {
	var out []inputFile
	for _, s := range c.Shards() {
		path := c.Path()
		if c.Layout() == formats.Directory {
			path = filepath.Join(path, s.Name)
		}
		f, err := identify(path, true)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// files identifies all weight files that the operands are read from.
func (o *operands) files() ([]inputFile, error) {
	out, err := o.baseFiles()
	if o.weights != nil && err == nil { // they decide which layer is which module
		var files []inputFile
		files, err = weightFiles(o.weights)
		out = append(out, files...)
	}
	for _, w := range o.adapters {
		var files []inputFile
		if err == nil {
			files, err = adapterFiles(w.Adapter)
		}
		out = append(out, files...)
	}
	return out, err
}

// baseFiles identifies the files of the base. Of an ONNX model what counts as the header is
// all that is no tensor data; files of external data have none.
func (o *operands) baseFiles() ([]inputFile, error) {
	if o.graph == nil {
		return weightFiles(o.base)
	}
	var out []inputFile
	for i, path := range append([]string{o.graph.Path}, o.graph.ExternalPaths()...) {
		info, err := os.Stat(path)
		if err != nil {
			return nil, &formats.Error{Class: formats.ErrInput, File: path, Err: formats.Cause(err)}
		}
		f := inputFile{Path: path, Size: info.Size(), mtime: mtime(info)}
		if i == 0 {
			sum, err := o.graph.SkeletonSHA256()
			if err != nil {
				return nil, err
			}
			f.Header = hex.EncodeToString(sum[:])
		}
		out = append(out, f)
	}
	return out, nil
}

// adapterFiles identifies the files of an adapter.
func adapterFiles(a *adapter.Adapter) ([]inputFile, error) {
	if a.Dialect == ortadapter.Dialect { // tables lie between its data
		f, err := identify(a.Path, false)
		return []inputFile{f}, err
	}
	config, err := identify(filepath.Join(a.Path, peft.ConfigName), false)
	if err != nil {
		return nil, err
	}
	weights, err := identify(filepath.Join(a.Path, peft.WeightsName), true)
	return []inputFile{config, weights}, err
}

func identify(path string, header bool) (inputFile, error) {
	fail := func(err error) (inputFile, error) {
		return inputFile{}, &formats.Error{Class: formats.ErrInput, File: path, Err: formats.Cause(err)}
	}
	f, err := os.Open(path)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	n := info.Size()
	if header { // it was read and found good when the file was opened
		var length [8]byte
		if _, err := f.ReadAt(length[:], 0); err != nil {
			return fail(err)
		}
		n = min(n, 8+int64(binary.LittleEndian.Uint64(length[:])&(1<<40-1)))
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, n)); err != nil {
		return fail(err)
	}
	return inputFile{path, info.Size(), hex.EncodeToString(h.Sum(nil)), mtime(info)}, nil
}

func mtime(info fs.FileInfo) int64 { return info.ModTime().UnixNano() }

// jobID names a job by all that decides its output: the inputs, as they are now, the
// options, and the program's version.
func jobID(inputs []inputFile, options ...any) (string, error) {
	v := readVersion()
	job := []any{v.Version, v.Revision, options}
	for _, f := range inputs {
		job = append(job, f, f.mtime)
	}
	text, err := json.Marshal(job)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}

// Package open opens whatever a user names: it looks at the content, never at the
// ending of a name, and hands over to the format's own package. It is the only
// package that knows all readers.
//
// Use [Checkpoint] for models and [Adapter] for adapters. Both read headers and
// configs only; tensors stay on disk until they are read.
package open

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/formats/ortadapter"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/formats/safetensors"
)

// Checkpoint opens a model: a safetensors file, a Hugging Face model directory, or
// a cache folder. Errors are [formats.ErrInput].
func Checkpoint(path string) (*formats.Checkpoint, error) {
	info, err := stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return hf.Open(path)
	}
	return safetensors.Open(path)
}

// Adapter opens an adapter: a PEFT directory, or an ONNX Runtime adapter file. Errors are
// [formats.ErrInput] for damaged files and [formats.ErrUnfit] for what graft does not
// implement.
func Adapter(path string) (*adapter.Adapter, error) {
	info, err := stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return peft.Read(path)
	}
	is, err := isORT(path)
	if err != nil {
		return nil, err
	}
	if !is {
		return nil, formats.Rejectf(path, "", "an adapter is a directory with %s and adapter_model.safetensors, or an .onnx_adapter file", peft.ConfigName).WithHint("if it is a file of such a directory, name the directory")
	}
	return ortadapter.Read(path)
}

// IsAdapter reports whether path is a directory that holds an adapter, or an adapter file.
func IsAdapter(path string) bool {
	if is, err := isORT(path); err == nil {
		return is
	}
	_, err := os.Stat(filepath.Join(path, peft.ConfigName))
	return err == nil
}

// isORT reports whether a file is an ONNX Runtime adapter. It fails where path is no file
// that can be read.
func isORT(path string) (bool, error) {
	f, err := safetensors.OpenRegular(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, 8)
	n, _ := io.ReadFull(f, head) // a file that is shorter is none
	return ortadapter.Is(head[:n]), nil
}

func stat(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		var e *fs.PathError
		if errors.As(err, &e) {
			err = e.Err
		}
		return nil, &formats.Error{Class: formats.ErrInput, File: path, Err: err}
	}
	return info, nil
}

// Package open opens whatever a user names: it looks at the content, never at the
// ending of a name, and hands over to the format's own package. It is the only
// package that knows all readers.
//
// Use [Checkpoint] for models and [Adapter] for adapters. Both read headers and
// configs only; tensors stay on disk until they are read.
package open

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
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

// Adapter opens an adapter: a PEFT directory. Errors are [formats.ErrInput] for
// damaged files and [formats.ErrUnfit] for what graft does not implement.
func Adapter(path string) (*adapter.Adapter, error) {
	info, err := stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, formats.Rejectf(path, "", "an adapter is a directory with %s and adapter_model.safetensors", peft.ConfigName).WithHint("name the directory")
	}
	return peft.Read(path)
}

// IsAdapter reports whether path is a directory that holds an adapter.
func IsAdapter(path string) bool {
	_, err := os.Stat(filepath.Join(path, peft.ConfigName))
	return err == nil
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

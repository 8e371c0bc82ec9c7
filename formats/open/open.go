// Package open opens whatever a user names: it looks at the content, never at the
// ending of a name, and hands over to the format's own package. It is the only
// package that knows all readers.
//
// Use [Checkpoint] for models, [Model] where an ONNX model is welcome too, and [Adapter]
// for adapters. All read headers and configs only; tensors stay on disk until they are
// read.
package open

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/formats/onnx"
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
	if IsONNX(path) {
		return nil, formats.Rejectf(path, "", "it is an ONNX model, which this command does not take").WithHint("merge, verify, inject, inspect and diff do")
	}
	return safetensors.Open(path)
}

// Model opens a model as [Checkpoint] does, or an ONNX model: then graph is not nil, and
// the checkpoint is the graph's.
func Model(path string) (c *formats.Checkpoint, graph *onnx.Model, err error) {
	if !IsONNX(path) {
		c, err = Checkpoint(path)
		return c, nil, err
	}
	if graph, err = onnx.Open(path); err != nil {
		return nil, nil, err
	}
	return graph.Checkpoint(), graph, nil
}

// IsONNX reports whether path is a file that begins as an ONNX model does, or one that is
// called so and does not begin as anything else.
func IsONNX(path string) bool {
	f, err := safetensors.OpenRegular(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 9)
	n, _ := io.ReadFull(f, head)
	if n == len(head) && head[8] == '{' {
		return false // a safetensors header
	}
	return onnx.Is(head[:n]) || strings.HasSuffix(path, ".onnx")
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
		return nil, formats.ReadError(path, "", err)
	}
	return info, nil
}

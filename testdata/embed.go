// Package testdata holds the model that "graft quickstart" ships, which tests use
// too. It was trained from scratch for this project on public-domain English.
package testdata

import (
	"embed"
	"io/fs"
)

//go:embed tiny-llama/*.json tiny-llama/model.safetensors
var files embed.FS

// TinyLlama returns the files of a Llama of 0.94 M parameters: weights, configs and
// tokenizer.
func TinyLlama() fs.FS {
	sub, err := fs.Sub(files, "tiny-llama")
	if err != nil {
		panic(err) // the directory is embedded above
	}
	return sub
}

package hf

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/formats/safetensors"
)

// BenchmarkWrite copies a model of four shards of 64 MiB, and does what costs a read
// of the result. Set TMPDIR to choose the disk.
func BenchmarkWrite(b *testing.B) {
	const shards, size = 4, 64 << 20
	if os.Getenv("TMPDIR") == "" {
		inMemory(b)
	}
	parent := b.TempDir()
	data := make([]byte, size)
	rand.Read(data)
	var list []formats.Shard
	for i := range shards {
		list = append(list, formats.Shard{Name: fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, shards), Tensors: []formats.Tensor{
			{Name: fmt.Sprint(i), DType: formats.U8, Shape: []int64{1024, size / 1024}, Data: byteReader(data)},
		}})
	}
	c, err := formats.NewCheckpoint(parent, formats.Directory, list, nil)
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range list {
		path := filepath.Join(parent, "model", s.Name)
		os.MkdirAll(filepath.Dir(path), 0o777)
		if err := safetensors.Write(b.Context(), path, s, safetensors.WriteOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	index, err := renderIndex(c, nil)
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(parent, "model", indexName), index, 0o666); err != nil {
		b.Fatal(err)
	}
	in := mustOpen(b, filepath.Join(parent, "model"))
	told := func(publish.FileResult) error { return nil }
	for _, x := range []struct {
		name string
		opts WriteOptions
	}{
		{"copy", WriteOptions{}},
		{"copy and CRC", WriteOptions{File: told}},
		{"copy and SHA-256", WriteOptions{File: told, SHA256: true}},
		{"copy, resumable", WriteOptions{Resume: true, ID: "plan"}},
	} {
		b.Run(x.name, func(b *testing.B) {
			b.SetBytes(shards * size)
			x.opts.NoSync, x.opts.Force = true, true
			for b.Loop() {
				if err := Write(b.Context(), in, filepath.Join(parent, "out"), x.opts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type byteReader []byte

func (r byteReader) ReadAt(p []byte, off int64) (int, error) { return copy(p, r[off:]), nil }

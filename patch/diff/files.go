package diff

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
)

// What is between two sides.
const (
	OnlyA   = "only in A"
	OnlyB   = "only in B"
	Differs = "differs"
)

// File is a file beside the weights that is not the same in both.
type File struct {
	Name string `json:"name"`
	What string `json:"what"` // OnlyA, OnlyB or Differs
}

// SideFiles compares files by name and bytes. Indexes of shards are left out: they say how
// a model lies in files and nothing about it.
func SideFiles(ctx context.Context, a, b []formats.SideFile) ([]File, error) {
	var out []File
	index := func(list []formats.SideFile, name string) int {
		return slices.IndexFunc(list, func(f formats.SideFile) bool { return f.Name == name })
	}
	for _, f := range a {
		i := index(b, f.Name)
		switch {
		case isIndex(f):
		case i < 0:
			out = append(out, File{f.Name, OnlyA})
		default:
			same, err := sameFile(ctx, f, b[i])
			if err != nil {
				return nil, err
			}
			if !same {
				out = append(out, File{f.Name, Differs})
			}
		}
	}
	for _, f := range b {
		if !isIndex(f) && index(a, f.Name) < 0 {
			out = append(out, File{f.Name, OnlyB})
		}
	}
	return out, nil
}

func isIndex(f formats.SideFile) bool {
	return strings.HasSuffix(f.Name, ".safetensors.index.json")
}

// sameFile compares the bytes of two files.
func sameFile(ctx context.Context, a, b formats.SideFile) (bool, error) {
	if a.Size != b.Size {
		return false, nil
	}
	x, y := make([]byte, min(a.Size, blockBytes)), make([]byte, min(a.Size, blockBytes))
	for off := int64(0); off < a.Size; off += blockBytes {
		n := min(blockBytes, a.Size-off)
		if err := ctx.Err(); err != nil {
			return false, err
		}
		for _, side := range []struct {
			f   formats.SideFile
			buf []byte
		}{{a, x[:n]}, {b, y[:n]}} {
			if err := formats.ReadFullAt(side.f.Data, side.buf, off); err != nil {
				return false, formats.ReadError(side.f.Name, "", err)
			}
		}
		if !bytes.Equal(x[:n], y[:n]) {
			return false, nil
		}
	}
	return true, nil
}

const configName = "config.json"

// besides compares what lies beside the weights of two model directories: config.json by
// its members, all else by bytes. A model that is one file has nothing beside it, and
// nothing is compared then.
func (r *Result) besides(ctx context.Context, a, b *formats.Checkpoint) error {
	if a.Layout() != formats.Directory || b.Layout() != formats.Directory {
		return nil
	}
	files, err := SideFiles(ctx, a.SideFiles(), b.SideFiles())
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Name != configName || f.What != Differs {
			r.Files = append(r.Files, f)
			continue
		}
		x, err := a.ReadSideFile(configName, formats.MaxConfigBytes)
		if err != nil {
			return err
		}
		y, err := b.ReadSideFile(configName, formats.MaxConfigBytes)
		if err != nil {
			return err
		}
		if r.Config, err = Configs(configName, filepath.Join(a.Path(), configName), x, filepath.Join(b.Path(), configName), y); err != nil {
			return err
		}
	}
	return nil
}

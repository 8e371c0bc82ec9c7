package hf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/internal/confined"
)

// Open opens a model directory: one safetensors file or a sharded set with its
// index, and the side files. It also takes the cache folder of a model
// (models--org--name), of which it opens the revision "main", or the only one.
// Errors are [formats.ErrInput].
func Open(dir string) (*formats.Checkpoint, error) {
	dir, err := snapshot(dir)
	if err != nil {
		return nil, err
	}
	c, err := confined.Open(dir)
	if err != nil {
		return nil, err
	}
	o := &opener{c: c, files: []io.Closer{c}}
	ckpt, err := o.open(dir)
	if err != nil {
		o.Close()
		return nil, err
	}
	return ckpt, nil
}

// maxRevisionBytes bounds refs/main, which holds a commit's name of 40 letters.
const maxRevisionBytes = 256

// snapshot returns the snapshot to open where dir is a cache folder, else dir.
func snapshot(dir string) (string, error) {
	snapshots := filepath.Join(dir, "snapshots")
	if info, err := os.Stat(snapshots); err != nil || !info.IsDir() {
		return dir, nil
	}
	if info, err := os.Stat(filepath.Join(dir, "blobs")); err != nil || !info.IsDir() {
		return dir, nil
	}
	refs := filepath.Join(dir, "refs", "main")
	if f, err := safetensors.OpenRegular(refs); err == nil {
		rev, err := readLimited(f, maxRevisionBytes)
		f.Close()
		name := strings.TrimSpace(string(rev))
		if err != nil || checkShardName(name) != nil {
			return "", formats.Rejectf(refs, "", "revision %s is not a plain name", formats.Quote(name))
		}
		return filepath.Join(snapshots, name), nil
	}
	entries, err := os.ReadDir(snapshots)
	if err != nil {
		return "", &formats.Error{Class: formats.ErrInput, File: snapshots, Err: formats.Cause(err)}
	}
	if len(entries) != 1 {
		return "", formats.Rejectf(dir, "", "a cache folder with %d snapshots and no refs/main", len(entries)).WithHint("name one of the directories in %s", formats.Quote(snapshots))
	}
	return filepath.Join(snapshots, entries[0].Name()), nil
}

// opener collects what is to be closed together: the directory, through which files are
// opened again, and the files.
type opener struct {
	c     *confined.Dir
	files []io.Closer
}

func (o *opener) Close() {
	for _, f := range o.files {
		f.Close()
	}
}

func (o *opener) open(dir string) (*formats.Checkpoint, error) {
	listing, err := list(o.c)
	if err != nil {
		return nil, err
	}
	var names []string
	var x *index
	switch n := len(listing.weights) + len(listing.indexes); {
	case len(listing.indexes) == 1 && !slices.Contains(listing.weights, strings.TrimSuffix(listing.indexes[0], ".index.json")):
		if x, err = o.readIndex(listing.indexes[0]); err != nil {
			return nil, err
		}
		names = x.shards
		if stray := strayShards(listing, x); len(stray) > 0 {
			return nil, formats.Rejectf(filepath.Join(dir, listing.indexes[0]), "", "the index does not name %q, which looks like one of its shards", stray)
		}
	case n == 0:
		return nil, noWeights(dir, listing)
	case len(listing.weights) == 1 && len(listing.indexes) == 0:
		names = listing.weights
	case len(listing.indexes) == 0 && slices.Contains(listing.weights, "model.safetensors"):
		names = []string{"model.safetensors"}
	default:
		return nil, indexError(dir, append(listing.indexes, listing.weights...))
	}
	shards := make([]formats.Shard, len(names))
	for i, name := range names {
		f, err := o.c.Source(name)
		if err != nil {
			return nil, err
		}
		o.files = append(o.files, f)
		if shards[i], err = safetensors.OpenShard(f, filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	if x != nil {
		if err := x.checkAgainst(shards, filepath.Join(dir, listing.indexes[0])); err != nil {
			return nil, err
		}
	}
	side, err := o.sideFiles(listing, names)
	if err != nil {
		return nil, err
	}
	return formats.NewCheckpoint(dir, formats.Directory, shards, side, o.files...)
}

func (o *opener) readIndex(name string) (*index, error) {
	f, err := o.c.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	file := filepath.Join(o.c.Path(), name)
	data, err := readLimited(f, formats.MaxIndexBytes)
	if err != nil {
		return nil, formats.Rejectf(file, "", "%v", err)
	}
	return parseIndex(data, file)
}

func readLimited(f *os.File, limit int64) ([]byte, error) {
	if info, err := f.Stat(); err == nil && info.Size() > limit { // before memory is taken for it
		return nil, fmt.Errorf("too large (got %d bytes, want at most %d)", info.Size(), limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, formats.Cause(err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("too large (want at most %d bytes)", limit)
	}
	return data, nil
}

// strayShards returns weight files that share the numbering of the index's shards
// without being named by it.
func strayShards(l *listing, x *index) []string {
	var stray []string
	for _, name := range l.weights {
		stem, _, ok := strings.Cut(name, "-of-")
		if !ok || slices.Contains(x.shards, name) {
			continue
		}
		prefix := strings.TrimRight(stem, "0123456789")
		if slices.ContainsFunc(x.shards, func(s string) bool { return strings.HasPrefix(s, prefix) }) {
			stray = append(stray, name)
		}
	}
	return stray
}

func noWeights(dir string, l *listing) error {
	if slices.ContainsFunc(l.leftOut, func(s string) bool { return strings.HasPrefix(path.Base(s), "adapter_model.") }) {
		return formats.Rejectf(dir, "", "it holds an adapter and no model").WithHint("a model is asked for here: name the one that the adapter is for")
	}
	err := formats.Rejectf(dir, "", "no safetensors file in it")
	if slices.ContainsFunc(l.leftOut, func(s string) bool { return strings.HasSuffix(s, ".bin") }) {
		return err.WithHint("it has PyTorch .bin files: convert them with safetensors' convert script first")
	}
	return err
}

// listing sorts the files of a directory by what they are.
type listing struct {
	indexes []string // X.safetensors.index.json at the top
	weights []string // *.safetensors at the top
	side    []string // carried along, slash-separated
	leftOut []string // not carried: weights in other forms, hidden files, what lies too deep
}

// LeftOut returns the files in a model's directory that are neither its weights nor
// carried with it: weights in other formats, adapters, hidden files.
func LeftOut(c *formats.Checkpoint) ([]string, error) {
	if c.Layout() != formats.Directory {
		return nil, nil
	}
	dir, err := confined.Open(c.Path())
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	l, err := list(dir)
	if err != nil {
		return nil, err
	}
	out := l.leftOut
	for _, name := range l.weights {
		if !slices.ContainsFunc(c.Shards(), func(s formats.Shard) bool { return s.Name == name }) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// maxSideDepth bounds the folders below a model's directory that are looked into.
const maxSideDepth = 4

func list(c *confined.Dir) (*listing, error) {
	l := &listing{}
	err := l.walk(c, ".", 0)
	return l, err
}

func (l *listing) walk(c *confined.Dir, dir string, depth int) error {
	entries, err := c.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case isHidden(name):
			if !e.IsDir() {
				l.leftOut = append(l.leftOut, name)
			}
		case e.IsDir():
			if err := l.folder(c, name, depth+1); err != nil {
				return err
			}
		case depth == 0 && strings.HasSuffix(name, indexSuffix):
			l.indexes = append(l.indexes, name)
		case depth == 0 && strings.HasSuffix(name, ".safetensors") && !strings.HasPrefix(name, "adapter_"):
			l.weights = append(l.weights, name)
		case isOtherWeights(name):
			l.leftOut = append(l.leftOut, name)
		default:
			l.side = append(l.side, name)
		}
		if len(l.side)+len(l.weights)+len(l.leftOut) > formats.MaxSideFiles+formats.MaxShards {
			return formats.Rejectf(c.Path(), "", "too many files")
		}
	}
	return nil
}

// modulePattern is the name of a folder of a sentence-transformers model: "1_Pooling",
// "2_Dense". Its weights belong to the model and are not the base's.
var modulePattern = regexp.MustCompile(`^[0-9]+_[A-Za-z]+$`)

// folder takes in a folder below the model's. One that holds weights is a model of its
// own, an export or a checkpoint, and stays behind whole: carrying half of it would be
// worse than either.
func (l *listing) folder(c *confined.Dir, name string, depth int) error {
	if depth > maxSideDepth {
		l.leftOut = append(l.leftOut, name+"/")
		return nil
	}
	inner := &listing{}
	if err := inner.walk(c, name, depth); err != nil {
		return err
	}
	if modulePattern.MatchString(name) {
		for _, n := range inner.leftOut {
			if isHidden(n) || strings.HasSuffix(n, "/") {
				l.leftOut = append(l.leftOut, n)
			} else {
				l.side = append(l.side, n)
			}
		}
		l.side = append(l.side, inner.side...)
		return nil
	}
	if slices.ContainsFunc(inner.leftOut, func(n string) bool { return !isHidden(n) }) {
		l.leftOut = append(l.leftOut, name+"/")
		return nil
	}
	l.side = append(l.side, inner.side...)
	l.leftOut = append(l.leftOut, inner.leftOut...)
	return nil
}

func isHidden(name string) bool { return strings.HasPrefix(path.Base(name), ".") }

// otherWeights are endings of files that hold weights in forms that are not carried,
// because after a change of the model they would be wrong.
var otherWeights = []string{
	".safetensors", ".bin", ".bin.index.json", ".index.json", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".ot",
	".onnx", ".onnx_data", ".onnx.data", ".gguf", ".ggml", ".npz", ".npy", ".pkl", ".tflite", ".mlmodel", ".pb",
}

func isOtherWeights(name string) bool {
	base := path.Base(name)
	return strings.HasPrefix(base, "adapter_") ||
		slices.ContainsFunc(otherWeights, func(ext string) bool { return strings.HasSuffix(base, ext) })
}

func (o *opener) sideFiles(l *listing, shards []string) ([]formats.SideFile, error) {
	var side []formats.SideFile
	names := append(slices.Clone(l.side), l.indexes...)
	names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(shards, name) })
	slices.Sort(names)
	if len(names) > formats.MaxSideFiles {
		return nil, formats.Rejectf(o.c.Path(), "", "too many files beside the weights (got %d, want at most %d)", len(names), formats.MaxSideFiles)
	}
	for _, name := range names {
		f, err := o.c.Source(name)
		if err != nil {
			return nil, err
		}
		if f.Size() > formats.MaxSideFileBytes {
			return nil, formats.Rejectf(f.Name(), "", "too large for a side file (got %d bytes, want at most %d)", f.Size(), formats.MaxSideFileBytes)
		}
		o.files = append(o.files, f)
		side = append(side, formats.SideFile{Name: name, Size: f.Size(), Data: f})
	}
	return side, nil
}

// checkShardName refuses a file name from an index that is more than a plain name.
func checkShardName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\\:\x00") || !filepath.IsLocal(name) {
		return errors.New("not a plain file name")
	}
	return nil
}

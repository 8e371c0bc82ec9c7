package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/internal/atomicfile"
	"github.com/seed-b982eded/graft/patch/extract"
)

// layerStage is the staging place of an adapter, with a file for each layer that is finished.
// It implements [extract.Store].
type layerStage struct {
	*atomicfile.Stage
	out  string
	dir  string // of the layers
	opts atomicfile.Options

	mu   sync.Mutex
	open []*formats.Checkpoint
	kept int
}

// layersName is the directory of finished layers in the staging place, which is not published.
const layersName = ".layers"

func newLayerStage(out string, opts atomicfile.Options) (*layerStage, error) {
	opts.Scratch = layersName
	stage, err := atomicfile.NewDir(out, opts)
	if err != nil {
		return nil, err
	}
	s := &layerStage{Stage: stage, out: out, dir: filepath.Join(stage.Path(), layersName), opts: opts}
	if err := os.MkdirAll(s.dir, 0o777); err != nil {
		return nil, s.abandon(formats.Outputf(out, formats.Cause(err), ""))
	}
	return s, nil
}

// layerFacts is what a layer's file has beside its factors.
const layerFacts = "graft.layer"

func (s *layerStage) path(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(s.dir, hex.EncodeToString(sum[:16])+".safetensors")
}

// Load implements [extract.Store]. A file that is there is whole: it got its name last. One
// that cannot be read is made again.
func (s *layerStage) Load(key string) (*extract.Layer, error) {
	if !s.opts.Resume {
		return nil, nil
	}
	return s.read(s.path(key)), nil
}

func (s *layerStage) read(path string) *extract.Layer {
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	ckpt, err := safetensors.Open(path)
	if err != nil {
		return nil
	}
	l := new(extract.Layer)
	facts := ""
	for _, kv := range ckpt.Shards()[0].Metadata {
		if kv.Key == layerFacts {
			facts = kv.Value
		}
	}
	err = json.Unmarshal([]byte(facts), l)
	var okA, okB bool
	l.A, okA = ckpt.Tensor("A")
	l.B, okB = ckpt.Tensor("B")
	if wanted := len(l.Spectrum) > 0; err != nil || okA != wanted || okB != wanted {
		ckpt.Close()
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, ckpt)
	s.kept++
	return l
}

// Save implements [extract.Store].
func (s *layerStage) Save(key string, l *extract.Layer) (*extract.Layer, error) {
	facts, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	shard := formats.Shard{Metadata: []formats.MetadataEntry{{Key: layerFacts, Value: string(facts)}}}
	if len(l.Spectrum) > 0 {
		a, b := l.A, l.B
		a.Name, b.Name = "A", "B"
		shard.Tensors = []formats.Tensor{a, b}
	}
	path := s.path(key)
	if err := s.write(path, shard); err != nil {
		var e *formats.Error
		if errors.As(err, &e) && e.Class != formats.ErrOutput {
			return nil, err
		}
		return nil, formats.Outputf(s.out, formats.Cause(err), "keeping a finished layer")
	}
	kept := s.read(path)
	if kept == nil {
		return nil, formats.Outputf(s.out, nil, "a finished layer cannot be read back from %s", formats.Quote(s.dir))
	}
	return kept, nil
}

// write writes a file under another name, waits for the disk where a later run may rely on
// it, and gives it its own.
func (s *layerStage) write(path string, shard formats.Shard) error {
	draft := strings.TrimSuffix(path, ".safetensors") + ".new"
	if err := safetensors.Write(context.Background(), draft, shard, safetensors.WriteOptions{}); err != nil {
		return err
	}
	if s.opts.Resume {
		f, err := os.OpenFile(draft, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		err = f.Sync()
		if err2 := f.Close(); err == nil {
			err = err2
		}
		if err != nil {
			return err
		}
	}
	return os.Rename(draft, path)
}

func (s *layerStage) close() {
	for _, c := range s.open {
		c.Close()
	}
}

// Publish makes the adapter appear, without the layers.
func (s *layerStage) Publish() error {
	s.close()
	return s.Stage.Publish()
}

// abandon ends a stage that failed. With Resume finished layers stay.
func (s *layerStage) abandon(err error) error {
	s.close()
	err = finalName(err, s.Path(), s.out)
	if s.Over() {
		return err
	}
	if !s.opts.Resume || s.kept == 0 {
		s.Abort()
		return err
	}
	// What else was written is made again.
	if entries, err := os.ReadDir(s.Path()); err == nil {
		for _, e := range entries {
			if e.Name() != layersName {
				os.RemoveAll(filepath.Join(s.Path(), e.Name()))
			}
		}
	}
	s.Leave()
	return &layersLeft{err, fmt.Sprintf("%s finished and stay in %s: the same command goes on from there", countOf(s.kept, "layer"), formats.Quote(s.Path()))}
}

// layersLeft is a failure after which finished layers stay.
type layersLeft struct {
	err  error
	text string
}

func (l *layersLeft) Error() string { return l.err.Error() }
func (l *layersLeft) Unwrap() error { return l.err }

var _ extract.Store = (*layerStage)(nil)

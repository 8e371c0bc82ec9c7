package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/atomicfile"
	"github.com/seed-b982eded/graft/patch/extract"
)

// Finished layers outlive a run that fails or is killed, for the same job alone; those that
// were damaged are made again, and nothing stays without Resume or when all is done.
func TestLayersStay(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	stage := func(id string, resume bool) *layerStage {
		t.Helper()
		s, err := newLayerStage(out, atomicfile.Options{ID: id, Resume: resume})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	layer := &extract.Layer{
		A: formats.FromFloat32s("a", []int64{2, 3}, []float32{1, 2, 3, 4, 5, 6}), B: formats.FromFloat32s("b", []int64{1, 2}, []float32{7, 8}),
		Spectrum: []float64{0.1, 1e-300}, Residual: 0.3, Stats: extract.Stats{Norm: 2}, Signal: 1,
	}
	failure := errors.New("failure")
	save := func(s *layerStage) {
		t.Helper()
		for _, key := range []string{"one", "two"} {
			if kept, err := s.Save(key, layer); err != nil || len(kept.Spectrum) != 2 {
				t.Fatal(kept, err)
			}
		}
		if _, err := s.Save("none", &extract.Layer{Whole: "beyond"}); err != nil {
			t.Fatal(err)
		}
	}
	check := func(s *layerStage, key string, want bool) {
		t.Helper()
		l, err := s.Load(key)
		if err != nil || (l != nil) != want {
			t.Fatalf("%s: got %v, %v, want one: %v", key, l, err, want)
		}
		if want && key != "none" {
			a, err1 := l.A.ReadAll()
			b, err2 := layer.A.ReadAll()
			if err1 != nil || err2 != nil || !bytes.Equal(a, b) || !slices.Equal(l.Spectrum, layer.Spectrum) || l.Residual != 0.3 || l.Stats != layer.Stats || l.Signal != 1 {
				t.Errorf("%s: got %+v", key, l)
			}
		}
	}

	s := stage("x", true)
	save(s)
	err := s.abandon(failure)
	if text, ok := resumable(err); !ok || !errors.Is(err, failure) {
		t.Errorf("got %v, %q", err, text)
	}
	s = stage("x", true)
	check(s, "one", true)
	check(s, "none", true)
	check(s, "three", false)
	if err := os.WriteFile(s.path("two"), []byte("torn"), 0o666); err != nil {
		t.Fatal(err)
	}
	check(s, "two", false)
	s.abandon(failure)

	s = stage("y", true) // another job removes what the first one left
	check(s, "one", false)
	save(s)
	// Killed: nobody gets to clean up. Only the lock goes.
	s.close()
	s.Leave()
	s = stage("y", true)
	check(s, "two", true)
	if err := os.WriteFile(filepath.Join(s.Path(), "result"), []byte("r"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := s.Publish(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(out)
	if err != nil || len(entries) != 1 || entries[0].Name() != "result" {
		t.Errorf("published: %v, %v", entries, err)
	}
	os.RemoveAll(out)

	s = stage("z", false)
	save(s)
	check(s, "one", false)
	if err := s.abandon(failure); err != failure {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(out)); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

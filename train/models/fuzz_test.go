package models

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// Whatever a config says, it is read or refused, and what was read can be computed with.
func FuzzReadSpec(f *testing.F) {
	paths, err := filepath.Glob(filepath.Join(decoders, "*", "config.json"))
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		doc, err := strictjson.ParseObject([]byte(text), formats.MaxJSONDepth)
		if err != nil {
			return
		}
		kind, _ := doc.Get("model_type").(string)
		family, ok := families[kind]
		if !ok {
			return
		}
		const tensors = 50
		s, err := readSpec("config", doc, family, tensors)
		if err != nil {
			return
		}
		if len(s.layers) < 1 || len(s.layers) > tensors || s.heads%s.keyValueHeads != 0 || s.glu == nil || s.maxPositions < 1 {
			t.Fatalf("spec is %+v", s)
		}
		for _, l := range s.layers {
			if r := s.ropes[l.rope]; l.window < 0 || len(r.frequencies) < 1 || 2*len(r.frequencies) > s.headDim {
				t.Fatalf("layer is %+v, with %d frequencies for heads of %d", l, len(r.frequencies), s.headDim)
			}
		}
	})
}

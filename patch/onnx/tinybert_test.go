package onnx

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/formats/safetensors"
)

// TestTinyBERT merges adapters that PyTorch trained into exports of the model, and compares
// every tensor: targets with what PyTorch's merge gave, turned where the graph stores
// (in, out), and all others with the base.
func TestTinyBERT(t *testing.T) {
	const dir = "../../testdata/tiny-bert"
	for _, export := range []string{"model-opset14", "model-opset17-nofold"} {
		for _, name := range []string{"all-r4", "qv-r8"} {
			t.Run(export+"/"+name, func(t *testing.T) {
				base, err := wire.Open(filepath.Join(dir, "onnx", export+".onnx"))
				if err != nil {
					t.Fatal(err)
				}
				defer base.Close()
				a, err := peft.Read(filepath.Join(dir, "reference", name, "adapter"))
				if err != nil {
					t.Fatal(err)
				}
				defer a.Close()
				want, err := safetensors.Open(filepath.Join(dir, "reference", name, "merged_targets.safetensors"))
				if err != nil {
					t.Fatal(err)
				}
				defer want.Close()
				compareMerged(t, base, a, want)
			})
		}
	}
}

func compareMerged(t *testing.T, base *wire.Model, a *adapter.Adapter, want *formats.Checkpoint) {
	t.Helper()
	b := mustBind(t, base, nil, a)
	m, _, err := productOf(t, base, "merge", a)
	if err != nil {
		t.Fatal(err)
	}
	changed := map[string]bool{}
	stored := map[bool]int{}
	for _, module := range b.order {
		found := b.of[module]
		if len(found) != 1 {
			t.Fatalf("%s is found at %d layers", module, len(found))
		}
		l := found[0]
		ref, ok := referenceOf(want, module)
		if !ok {
			t.Errorf("%s is no target of the reference", module)
			continue
		}
		stored[l.InOut]++
		if l.InOut {
			ref = adapter.Transposed(ref)
		}
		changed[l.Weight.Key] = true
		got, ok := m.Checkpoint().Tensor(l.Weight.Key)
		if !ok || !sameTensor(t, got, ref) {
			t.Errorf("%s (%s, stored in_out %v) is not what PyTorch merged", module, l.Weight.Key, l.InOut)
		}
	}
	if len(changed) != want.Len() || stored[true] > 0 == (stored[false] > 0) {
		t.Errorf("%d tensors changed, want %d; %d are stored (in, out), %d (out, in)", len(changed), want.Len(), stored[true], stored[false])
	}
	if m.Checkpoint().Len() != base.Checkpoint().Len() {
		t.Errorf("%d tensors, the base has %d", m.Checkpoint().Len(), base.Checkpoint().Len())
	}
	for old := range base.Checkpoint().Tensors() {
		got, ok := m.Checkpoint().Tensor(old.Name)
		if !ok || !changed[old.Name] && !sameTensor(t, got, old) {
			t.Errorf("%s is not the base's", old.Name)
		}
	}
}

// referenceOf finds a module's weight; the reference's paths may begin further out.
func referenceOf(want *formats.Checkpoint, module string) (formats.Tensor, bool) {
	for w := range want.Tensors() {
		if w.Name == module+".weight" || strings.HasSuffix(w.Name, "."+module+".weight") {
			return w, true
		}
	}
	return formats.Tensor{}, false
}

func sameTensor(t *testing.T, a, b formats.Tensor) bool {
	t.Helper()
	x, err := a.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y) && a.DType == b.DType && fmt.Sprint(a.Shape) == fmt.Sprint(b.Shape)
}

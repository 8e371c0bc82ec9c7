package onnx

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/patch"
)

// fixture is an export with an adapter, and where the adapter's modules are in it: found by
// the values of the weights when it was made. See testdata/gen/onnx_fixtures.py.
type fixture struct {
	dir       string
	Reference string
	Modules   map[string]struct {
		Kind  string
		Sites []fixtureSite
	}
}

type fixtureSite struct {
	Graph, Node, Op string
	Operand         int
	Leaf, Stored    string
	Rows            []int64
}

func fixtures(t *testing.T) map[string]fixture {
	t.Helper()
	paths, err := filepath.Glob("../../testdata/onnx/*/fixture.json")
	if err != nil || len(paths) < 30 {
		t.Fatalf("%d fixtures, %v", len(paths), err)
	}
	all := map[string]fixture{}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		f := fixture{dir: filepath.Dir(p)}
		if err := json.Unmarshal(text, &f); err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(f.dir)] = f
	}
	return all
}

func (f fixture) open(t *testing.T) (*wire.Model, *adapter.Adapter) {
	t.Helper()
	m, err := wire.Open(filepath.Join(f.dir, "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	a, err := peft.Read(filepath.Join(f.dir, "adapter"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return m, a
}

// weights opens the checkpoint that the fixture was exported from, or returns nil.
func (f fixture) weights(t *testing.T) *patch.Model {
	t.Helper()
	c, err := safetensors.Open(filepath.Join(f.dir, "weights.safetensors"))
	if err != nil {
		return nil
	}
	t.Cleanup(func() { c.Close() })
	m, err := patch.NewModel(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// unread are fixtures whose adapters graft does not read.
var unread = map[string]string{"conv-ts11-grouped": "LoRA on a convolution of 2 groups is not supported"}

// byValue are fixtures without names.
var byValue = []string{"mlp-dyn21-stripped"}

// TestBind finds the modules of every export.
func TestBind(t *testing.T) {
	for name, f := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			if why, ok := unread[name]; ok {
				_, err := peft.Read(filepath.Join(f.dir, "adapter"))
				if err == nil || !errors.Is(err, formats.ErrUnfit) {
					t.Fatalf("got %v, want %s", err, why)
				}
				return
			}
			m, a := f.open(t)
			var ways []*patch.Model
			if !slices.Contains(byValue, name) {
				ways = append(ways, nil)
			}
			if w := f.weights(t); w != nil {
				ways = append(ways, w)
			}
			for _, w := range ways {
				b, err := Bind(m, w, a)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(f.want(), got(b)); diff != "" {
					t.Errorf("with weights %v: (-want +got)\n%s", w != nil, diff)
				}
			}
		})
	}
}

func (f fixture) want() map[string][]string {
	out := map[string][]string{}
	for module, m := range f.Modules {
		for _, s := range m.Sites {
			rows := ""
			if s.Rows != nil {
				rows = fmt.Sprint(s.Rows)
			}
			out[module] = append(out[module], fmt.Sprint(s.Node, " ", s.Op, " ", s.Operand, " ", s.Leaf, " ", s.Stored, rows))
		}
		slices.Sort(out[module])
	}
	return out
}

func got(b *Binding) map[string][]string {
	out := map[string][]string{}
	for module, list := range b.of {
		for _, x := range list {
			stored, rows := "out_in", ""
			if x.InOut && x.Kind != patch.Embedding { // (vocabulary, dim) is out_in there
				stored = "in_out"
			}
			if x.outs > 0 {
				rows = fmt.Sprint([]int64{x.first, x.first + x.outs})
			}
			leaf := x.Weight.Name
			if leaf == "" {
				leaf = x.chain.leafName()
			}
			out[module] = append(out[module], fmt.Sprint(x.Node.Name, " ", x.Node.OpType, " ", x.arg, " ", leaf, " ", stored, rows))
		}
		slices.Sort(out[module])
	}
	return out
}

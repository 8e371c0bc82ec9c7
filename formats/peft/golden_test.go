package peft

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// TestRefused has adapters of PEFT's own making that graft must not read as plain LoRA.
func TestRefused(t *testing.T) {
	_, refused := goldenCases(t)
	dirs, err := os.ReadDir(filepath.Join(golden, "refuse"))
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) != len(refused) || len(dirs) < 13 {
		t.Errorf("%d directories for %d cases", len(dirs), len(refused))
	}
	for _, d := range dirs {
		t.Run(d.Name(), func(t *testing.T) {
			a, err := Read(filepath.Join(golden, "refuse", d.Name()))
			if err == nil {
				a.Close()
			}
			checkError(t, err, formats.ErrUnfit, refused[d.Name()], ConfigName)
		})
	}
}

// TestReadGolden reads what PEFT saved: modules, ranks and scales are PEFT's, every key
// of the file is used once, and the config is kept byte for byte.
func TestReadGolden(t *testing.T) {
	cases, _ := goldenCases(t)
	for _, c := range cases {
		for i, name := range c.Adapters {
			t.Run(c.Name+"/"+name, func(t *testing.T) {
				dir := filepath.Join(golden, c.Name, name)
				a := mustRead(t, dir)
				if a.Dialect != "peft" || a.Path != dir || !bytes.Equal(a.Config, load(t, dir, ConfigName)) {
					t.Errorf("got %+v", a)
				}
				low := 0
				var used []string
				for _, e := range a.Entries {
					used = append(used, e.Keys...)
					if len(e.Keys) != len(e.Update.Tensors()) {
						t.Errorf("%s: %d keys for %d tensors", e.Module, len(e.Keys), len(e.Update.Tensors()))
					}
					u, ok := adapter.LowRankOf(e.Update)
					if !ok {
						continue
					}
					low++
					want, ok := c.Targets[i][e.Module]
					if !ok || u.Rank() != want.R || !close64(u.Scale, want.Scaling) || u.Embedding != (want.Kind == "Embedding") {
						t.Errorf("%s: got rank %d, scale %v, embedding %v; want %+v", e.Module, u.Rank(), u.Scale, u.Embedding, want)
					}
				}
				if low != len(c.Targets[i]) {
					t.Errorf("got %d targets, want %d", low, len(c.Targets[i]))
				}
				slices.Sort(used)
				want := slices.DeleteFunc(keysOfFile(t, dir), func(key string) bool {
					// A third time the same, and a bias that is no longer used.
					return strings.HasSuffix(key, ".modules_to_save.bias") || strings.HasSuffix(key, ".original_module.bias")
				})
				if !slices.Equal(used, want) {
					t.Errorf("used %q\nof %q", used, want)
				}
			})
		}
	}
}

func keysOfFile(t testing.TB, dir string) []string {
	t.Helper()
	_, header, _ := bytes.Cut(load(t, dir, WeightsName), []byte("{"))
	var keys []string
	for _, part := range strings.Split(string(header), `":{"dtype"`) {
		keys = append(keys, part[strings.LastIndexByte(part, '"')+1:])
	}
	keys = keys[:len(keys)-1]
	slices.Sort(keys)
	return keys
}

// TestWriteGolden writes what was read. Files whose tensors are of one type come out
// byte for byte as PEFT wrote them.
func TestWriteGolden(t *testing.T) {
	cases, _ := goldenCases(t)
	same := 0
	for _, c := range cases {
		for _, name := range c.Adapters {
			t.Run(c.Name+"/"+name, func(t *testing.T) {
				dir := filepath.Join(golden, c.Name, name)
				a, out := mustRead(t, dir), t.TempDir()
				if err := Write(out, a); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(load(t, out, ConfigName), a.Config) {
					t.Error("the config was changed")
				}
				if bytes.Equal(load(t, out, WeightsName), load(t, dir, WeightsName)) {
					same++
				} else if c.Name == "linear-f32" {
					t.Error("the weights file differs from PEFT's")
				}
				b := mustRead(t, out)
				if len(a.Entries) != len(b.Entries) {
					t.Fatalf("got %d entries, want %d", len(b.Entries), len(a.Entries))
				}
				for _, x := range a.Entries {
					i := slices.IndexFunc(b.Entries, func(y adapter.Entry) bool {
						return y.Module == x.Module && y.Update.Kind() == x.Update.Kind() && sameParam(x, y)
					})
					if i < 0 {
						t.Errorf("%s is lost", x.Module)
						continue
					}
					for j, want := range x.Update.Tensors() {
						got := b.Entries[i].Update.Tensors()[j]
						v, err1 := got.ReadAll()
						w, err2 := want.ReadAll()
						if err1 != nil || err2 != nil || !bytes.Equal(v, w) || got.DType != want.DType || !slices.Equal(got.Shape, want.Shape) {
							t.Errorf("%s: got %s %v, %v, %v", want.Name, got.DType, got.Shape, err1, err2)
						}
					}
				}
			})
		}
	}
	if same < 20 {
		t.Errorf("only %d files came out as PEFT wrote them", same)
	}
}

func sameParam(x, y adapter.Entry) bool {
	a, ok := x.Update.(*adapter.Replace)
	if !ok {
		return true
	}
	b, ok := y.Update.(*adapter.Replace)
	return ok && a.Param == b.Param
}

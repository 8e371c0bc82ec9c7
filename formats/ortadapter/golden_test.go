package ortadapter

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/peft"
)

func goldenFiles(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(golden, "*.onnx_adapter"))
	if err != nil || len(paths) < 12 {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	for i, p := range paths {
		paths[i] = strings.TrimSuffix(filepath.Base(p), ".onnx_adapter")
	}
	return paths
}

// TestOpenGolden reads what ONNX Runtime wrote.
func TestOpenGolden(t *testing.T) {
	for _, name := range goldenFiles(t) {
		t.Run(name, func(t *testing.T) {
			f := mustOpen(t, filepath.Join(golden, name+".onnx_adapter"))
			want := numbers(t, name)
			checkTensors(t, f.Parameters, want)
			for _, m := range want.Shards()[0].Metadata {
				if got := fmt.Sprint(f.AdapterVersion, f.ModelVersion); m.Key == "versions" && got != m.Value {
					t.Errorf("got versions %s, want %s", got, m.Value)
				}
			}
		})
	}
}

// TestRewriteGolden writes what was read, and reads that again.
func TestRewriteGolden(t *testing.T) {
	for _, name := range goldenFiles(t) {
		t.Run(name, func(t *testing.T) {
			f := mustOpen(t, filepath.Join(golden, name+".onnx_adapter"))
			out := filepath.Join(t.TempDir(), "out")
			opts := WriteOptions{AdapterVersion: f.AdapterVersion, ModelVersion: f.ModelVersion}
			if err := WriteParameters(t.Context(), out, f.Parameters, opts); err != nil {
				t.Fatal(err)
			}
			again := mustOpen(t, out)
			checkTensors(t, again.Parameters, numbers(t, name))
			if again.AdapterVersion != f.AdapterVersion || again.ModelVersion != f.ModelVersion {
				t.Errorf("got versions %d and %d, want %d and %d", again.AdapterVersion, again.ModelVersion, f.AdapterVersion, f.ModelVersion)
			}
			for i, x := range again.Parameters {
				if x.Name != f.Parameters[i].Name {
					t.Errorf("parameter %d is %q, want %q", i, x.Name, f.Parameters[i].Name)
				}
				if _, off, _, ok := x.Data.(formats.FileRanger).FileRange(); !ok || off%64 != 0 {
					t.Errorf("%s: data begin at %d", x.Name, off)
				}
			}
		})
	}
}

// converted are the golden files that hold a PEFT adapter.
var converted = []struct {
	peft  string
	names Names
}{
	{"linear-f32", Olive}, {"linear-f64", Olive}, {"rslora", PEFT}, {"adapter-bf16", GenAI},
	{"patterns", GenAI}, {"alpha-negative", PEFT}, {"gpt2-conv1d", Olive}, {"conv2d", Olive},
}

// TestWriteAdapterGolden turns PEFT adapters into files with the same parameters as
// Olive's recipe gives, bit for bit.
func TestWriteAdapterGolden(t *testing.T) {
	for _, c := range converted {
		t.Run(c.peft, func(t *testing.T) {
			a := readPEFT(t, filepath.Join(peftTD, c.peft, "adapter"))
			out := filepath.Join(t.TempDir(), "out")
			if err := Write(t.Context(), a, out, WriteOptions{Names: c.names, AdapterVersion: 1}); err != nil {
				t.Fatal(err)
			}
			checkTensors(t, mustOpen(t, out).Parameters, numbers(t, c.peft+"-"+string(c.names)))
		})
	}
}

// TestReadAdapterGolden reads them as the adapters that they were: the same modules, A bit
// for bit, B as the recipe made it, and the scale in it.
func TestReadAdapterGolden(t *testing.T) {
	for _, c := range converted {
		t.Run(c.peft, func(t *testing.T) {
			name := c.peft + "-" + string(c.names)
			want := readPEFT(t, filepath.Join(peftTD, c.peft, "adapter"))
			got := mustRead(t, filepath.Join(golden, name+".onnx_adapter"))
			stored := numbers(t, name)
			if got.Dialect != Dialect || got.Config != nil || len(got.Entries) != len(want.Entries) {
				t.Errorf("got %+v", got)
			}
			for _, e := range want.Entries {
				i := slices.IndexFunc(got.Entries, func(x adapter.Entry) bool { return x.Module == e.Module })
				if i < 0 {
					t.Errorf("%s is lost", e.Module)
					continue
				}
				u, v := e.Update.(*adapter.LowRank), got.Entries[i].Update.(*adapter.LowRank)
				if v.Scale != 1 || v.Embedding || !slices.Equal(u.A.Shape, v.A.Shape) || !slices.Equal(u.B.Shape, v.B.Shape) {
					t.Errorf("%s: got %+v", e.Module, v)
				}
				if !bytes.Equal(bytesOf(t, u.A), bytesOf(t, v.A)) {
					t.Errorf("%s: A differs", e.Module)
				}
				b, ok := stored.Tensor(got.Entries[i].Keys[1])
				if !ok {
					t.Fatalf("%s has keys %q", e.Module, got.Entries[i].Keys)
				}
				if len(b.Shape) == 2 {
					if turned := turn(bytesOf(t, b), b); !bytes.Equal(bytesOf(t, v.B), turned) {
						t.Errorf("%s: B differs", e.Module)
					}
				} else if !bytes.Equal(bytesOf(t, v.B), bytesOf(t, b)) {
					t.Errorf("%s: B differs", e.Module)
				}
			}
		})
	}
}

// turn transposes a matrix the plain way.
func turn(data []byte, t formats.Tensor) []byte {
	rows, cols := t.Matrix()
	size := t.DType.Bits() / 8
	out := make([]byte, len(data))
	for i := range rows {
		for j := range cols {
			copy(out[(j*rows+i)*size:][:size], data[(i*cols+j)*size:])
		}
	}
	return out
}

// TestRoundTrip goes from PEFT to a file and back: factors are the same bit for bit where
// the scale is a power of two, and else B has the scale, with one rounding.
func TestRoundTrip(t *testing.T) {
	for _, c := range []struct {
		peft  string
		scale float64 // in place of PEFT's where it is not 0
	}{
		{"linear-f32", 0}, {"linear-f32", 0.25}, {"linear-f32", 1}, {"adapter-bf16", -64}, {"adapter-bf16", 0}, {"linear-f64", 4}, {"linear-f64", 0},
		{"patterns", 0}, {"rslora", 0}, {"alpha-zero", 0}, {"conv2d", 8}, {"conv1d", 0}, {"gpt2-square", 0.5},
	} {
		for _, names := range []Names{Olive, PEFT, GenAI} {
			t.Run(fmt.Sprintf("%s/%v/%s", c.peft, c.scale, names), func(t *testing.T) {
				a := readPEFT(t, filepath.Join(peftTD, c.peft, "adapter"))
				for i := range a.Entries {
					if c.scale != 0 {
						a.Entries[i].Update.(*adapter.LowRank).Scale = c.scale
					}
				}
				out := filepath.Join(t.TempDir(), "out")
				if err := Write(t.Context(), a, out, WriteOptions{Names: names}); err != nil {
					t.Fatal(err)
				}
				back := readBack(t, mustRead(t, out))
				if len(back.Entries) != len(a.Entries) {
					t.Fatalf("got %d modules, want %d", len(back.Entries), len(a.Entries))
				}
				for _, e := range a.Entries {
					i := slices.IndexFunc(back.Entries, func(x adapter.Entry) bool { return x.Module == e.Module })
					if i < 0 {
						t.Errorf("%s is lost", e.Module)
						continue
					}
					checkSameDelta(t, e.Module, e.Update.(*adapter.LowRank), back.Entries[i].Update.(*adapter.LowRank))
				}
			})
		}
	}
}

// readBack writes an adapter as PEFT does and reads it.
func readBack(t testing.TB, a *adapter.Adapter) *adapter.Adapter {
	t.Helper()
	cfg, err := peft.ConfigFor(a)
	if err != nil {
		t.Fatal(err)
	}
	with, dir := *a, t.TempDir()
	with.Config = cfg.Encode()
	if err := peft.Write(dir, &with); err != nil {
		t.Fatal(err)
	}
	return readPEFT(t, dir)
}

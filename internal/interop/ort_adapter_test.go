package interop

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/ortadapter"
)

// ortFile is what ONNX Runtime makes of an adapter file.
type ortFile struct {
	Error      string
	Loads      bool
	Versions   []int32 // of the format, the adapter and the model
	Parameters map[string]ortParameter
}

// ortParameter is type, shape and bytes in hex.
type ortParameter [3]any

// ortTypes are ONNX Runtime's names of the types.
var ortTypes = map[formats.DType]string{
	formats.F32: "tensor(float)", formats.F16: "tensor(float16)", formats.BF16: "tensor(bfloat16)", formats.F64: "tensor(double)",
	formats.U8: "tensor(uint8)", formats.I8: "tensor(int8)", formats.U16: "tensor(uint16)", formats.I16: "tensor(int16)",
	formats.U32: "tensor(uint32)", formats.I32: "tensor(int32)", formats.U64: "tensor(uint64)", formats.I64: "tensor(int64)",
	formats.F8E4M3: "tensor(float8e4m3fn)", formats.F8E4M3FNUZ: "tensor(float8e4m3fnuz)", formats.F8E5M2: "tensor(float8e5m2)", formats.F8E5M2FNUZ: "tensor(float8e5m2fnuz)",
}

func readByORT(t *testing.T, dir string) map[string]ortFile {
	t.Helper()
	var files map[string]ortFile
	if err := json.Unmarshal([]byte(python(t, interopPython, nil, "check_ort_adapter.py", "read", dir)), &files); err != nil {
		t.Fatal(err)
	}
	return files
}

// sameAsORT compares what graft reads in a file with what ONNX Runtime does.
func sameAsORT(t *testing.T, path string, want ortFile) {
	t.Helper()
	f, err := ortadapter.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	if want.Error != "" || !want.Loads {
		t.Errorf("%s: graft reads it, ONNX Runtime does not: %s", filepath.Base(path), want.Error)
		return
	}
	if !slices.Equal(want.Versions, []int32{1, f.AdapterVersion, f.ModelVersion}) || len(want.Parameters) != len(f.Parameters) {
		t.Errorf("%s: versions %d, %d and %d parameters, ONNX Runtime has %v and %d", filepath.Base(path), f.AdapterVersion, f.ModelVersion, len(f.Parameters), want.Versions, len(want.Parameters))
	}
	for _, x := range f.Parameters {
		data, err := x.ReadAll()
		if err != nil {
			t.Error(err)
			return
		}
		got := fmt.Sprint([]any{ortTypes[x.DType], x.Shape, hex.EncodeToString(data)})
		if p := want.Parameters[x.Name]; got != fmt.Sprint(p[:]) {
			t.Errorf("%s: %q is %.200s, ONNX Runtime has %.200s", filepath.Base(path), x.Name, got, fmt.Sprint(p[:]))
		}
	}
}

// TestORTReadsAdapterFiles writes the fixtures anew, of which ONNX Runtime made the
// originals, and adapters under all namings.
func TestORTReadsAdapterFiles(t *testing.T) {
	light(t)
	dir := t.TempDir()
	originals, err := filepath.Glob(fixture("onnx_adapter", "*.onnx_adapter"))
	if err != nil || len(originals) < 12 {
		t.Fatalf("%d files, %v", len(originals), err)
	}
	for _, path := range originals {
		f, err := ortadapter.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		opts := ortadapter.WriteOptions{AdapterVersion: f.AdapterVersion, ModelVersion: f.ModelVersion}
		err = ortadapter.WriteParameters(t.Context(), filepath.Join(dir, filepath.Base(path)), f.Parameters, opts)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []string{"linear-f32", "adapter-bf16", "linear-f64", "conv2d", "patterns"} {
		for _, names := range []string{"olive", "peft", "genai"} {
			graft(t, "convert", fixture("peft", c, "adapter"), "--to", "onnx_adapter", "--names", names, "--out", filepath.Join(dir, c+"-by-"+names+".onnx_adapter"))
		}
	}
	byORT := readByORT(t, dir)
	if len(byORT) != len(originals)+15 {
		t.Fatalf("%d files were read", len(byORT))
	}
	for name, want := range byORT {
		sameAsORT(t, filepath.Join(dir, name), want)
	}
}

// TestORTAgreesOnDamage changes single bytes of a file: what graft still reads,
// ONNX Runtime reads in the same way.
func TestORTAgreesOnDamage(t *testing.T) {
	light(t)
	src, dir := t.TempDir(), t.TempDir()
	path := filepath.Join(src, "x")
	err := ortadapter.WriteParameters(t.Context(), path, []formats.Tensor{
		{Name: "a", DType: formats.U8, Shape: []int64{2, 1}, Data: strings.NewReader("xy")},
		{Name: "b", DType: formats.I8, Shape: []int64{1, 2}, Data: strings.NewReader("zw")},
	}, ortadapter.WriteOptions{AdapterVersion: 3})
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var accepted []string
	refused := 0
	for at := range good {
		for _, mask := range []byte{1, 2, 4, 0x80, 0xff} {
			name := filepath.Join(dir, fmt.Sprintf("%03d-%02x.onnx_adapter", at, mask))
			content := slices.Clone(good)
			content[at] ^= mask
			if err := os.WriteFile(name, content, 0o666); err != nil {
				t.Fatal(err)
			}
			f, err := ortadapter.Open(name)
			if err != nil {
				refused++
				continue
			}
			f.Close()
			accepted = append(accepted, name)
		}
	}
	if len(accepted) < 100 || refused < 300 {
		t.Errorf("%d of %d files were accepted", len(accepted), len(accepted)+refused)
	}
	byORT := readByORT(t, dir)
	for _, name := range accepted {
		sameAsORT(t, name, byORT[filepath.Base(name)])
	}
}

// TestORTRunsAdapterFiles lets sessions take the factors and compares what they compute
// with PEFT's own files.
func TestORTRunsAdapterFiles(t *testing.T) {
	light(t)
	for _, c := range []string{"linear-f32", "linear-f64", "alpha-negative"} {
		for _, names := range []string{"olive", "peft", "genai"} {
			out := filepath.Join(t.TempDir(), "x.onnx_adapter")
			graft(t, "convert", fixture("peft", c, "adapter"), "--to", "onnx_adapter", "--names", names, "--out", out)
			var got struct {
				Modules        int
				Worst, Without float64
			}
			text := python(t, interopPython, nil, "check_ort_adapter.py", "run", out, names, fixture("peft", c, "adapter"))
			if err := json.Unmarshal([]byte(text), &got); err != nil {
				t.Fatal(err)
			}
			// B is rounded once, and of the rank's products and sums each.
			most := 4 * 0x1p-24
			if c == "linear-f64" {
				most = 4 * 0x1p-53
			}
			if got.Modules < 2 || got.Worst > most || got.Without != 0 {
				t.Errorf("%s, %s: %+v, want at most %g", c, names, got, most)
			}
		}
	}
}

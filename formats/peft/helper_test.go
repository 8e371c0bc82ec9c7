package peft

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/safetensors"
)

const golden = "../../testdata/peft"

// plainConfig is the smallest config that the tests' factors fit: rank 3, alpha 7.
func plainConfig(changes ...string) string {
	m := map[string]string{"peft_type": `"LORA"`, "r": "3", "lora_alpha": "7", "target_modules": `["q_proj"]`}
	for i := 0; i < len(changes); i += 2 {
		m[changes[i]] = changes[i+1]
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] != "-" {
			parts = append(parts, fmt.Sprintf("%q: %s", k, m[k]))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// shape is a tensor of a file that is made up.
type shape struct {
	name  string
	dtype formats.DType
	dims  []int64
}

func f32(name string, dims ...int64) shape { return shape{name, formats.F32, dims} }

// save writes an adapter's directory.
func save(t testing.TB, config string, tensors ...shape) string {
	t.Helper()
	dir := t.TempDir()
	var s formats.Shard
	for _, x := range tensors {
		size, err := formats.ByteSize(x.dtype, x.dims)
		if err != nil {
			t.Fatal(err)
		}
		s.Tensors = append(s.Tensors, formats.Tensor{Name: x.name, DType: x.dtype, Shape: x.dims, Data: bytes.NewReader(make([]byte, size))})
	}
	if err := safetensors.Write(t.Context(), filepath.Join(dir, WeightsName), s, safetensors.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ConfigName), []byte(config), 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mustRead(t testing.TB, dir string) *adapter.Adapter {
	t.Helper()
	a, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func load(t testing.TB, elements ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// checkError checks an error's class and what it says, one problem a line.
func checkError(t testing.TB, err, class error, want ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", want)
		return
	}
	var e *formats.Error
	if !errors.As(err, &e) || e.Class != class {
		t.Errorf("got %v (%T), want the class %v", err, err, class)
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		if !strings.HasPrefix(line, "reading ") && !strings.HasPrefix(line, "and ") && !strings.HasPrefix(line, "writing ") {
			t.Errorf("the line names no file: %q", line)
		}
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want it to say %q", err, w)
		}
	}
}

// goldenCase is what cases.json says about an adapter that PEFT saved.
type goldenCase struct {
	Name     string
	Adapters []string
	Targets  []map[string]struct {
		Kind    string
		R       int64
		Scaling float64
	}
	Replaced []string
}

func goldenCases(t testing.TB) (cases []goldenCase, refused map[string]string) {
	t.Helper()
	var doc struct {
		Cases  []goldenCase
		Refuse []struct {
			Name string
			For  string `json:"refused_for"`
		}
	}
	if err := json.Unmarshal(load(t, golden, "cases.json"), &doc); err != nil {
		t.Fatal(err)
	}
	refused = map[string]string{}
	for _, r := range doc.Refuse {
		refused[r.Name] = r.For
	}
	return doc.Cases, refused
}

func close64(a, b float64) bool { return a == b || math.Abs(a-b) <= 1e-15*math.Abs(b) }

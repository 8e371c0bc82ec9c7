package open

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

const data = "../../testdata"

// TestByContent opens models and adapters under names that say nothing.
func TestByContent(t *testing.T) {
	dir := t.TempDir()
	raw, err := os.ReadFile(filepath.Join(data, "tiny-llama", "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(dir, "weights.bin")
	if err := os.WriteFile(odd, raw, 0o666); err != nil {
		t.Fatal(err)
	}
	for path, layout := range map[string]formats.Layout{odd: formats.SingleFile, filepath.Join(data, "tiny-llama"): formats.Directory, filepath.Join(data, "odd-llama"): formats.Directory} {
		c, err := Checkpoint(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if c.Layout() != layout || c.Len() < 20 || c.Path() != path {
			t.Errorf("%s: layout %d, %d tensors", path, c.Layout(), c.Len())
		}
		c.Close()
	}
	lora := filepath.Join(data, "peft", "linear-f32", "adapter")
	a, err := Adapter(lora)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if len(a.Entries) != 6 || !IsAdapter(lora) || IsAdapter(filepath.Join(data, "tiny-llama")) {
		t.Errorf("got %d entries", len(a.Entries))
	}
}

// TestAdapterFile opens an ONNX Runtime adapter under a name that says nothing.
func TestAdapterFile(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(data, "onnx_adapter", "linear-f32-olive.onnx_adapter"))
	if err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(t.TempDir(), "weights.safetensors")
	if err := os.WriteFile(odd, raw, 0o666); err != nil {
		t.Fatal(err)
	}
	a, err := Adapter(odd)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if len(a.Entries) != 6 || a.Path != odd || a.Dialect != "onnx_adapter" || !IsAdapter(odd) || IsAdapter(filepath.Join(data, "tiny-llama", "model.safetensors")) {
		t.Errorf("got %+v", a)
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	model := func(path string) error { _, err := Checkpoint(path); return err }
	lora := func(path string) error { _, err := Adapter(path); return err }
	for _, c := range []struct {
		open func(string) error
		path string
		want string
	}{
		{model, filepath.Join(dir, "none"), "no such file"},
		{model, empty, "too short"},
		{model, dir, "no safetensors file in it"},
		{model, filepath.Join(data, "peft", "linear-f32", "adapter"), "it holds an adapter and no model"},
		{model, "", "no such file"},
		{lora, filepath.Join(dir, "none"), "no such file"},
		{lora, empty, "an adapter is a directory with adapter_config.json and adapter_model.safetensors, or an .onnx_adapter file"},
		{lora, filepath.Join(data, "tiny-llama", "model.safetensors"), "an adapter is a directory with adapter_config.json"},
		{lora, dir, "no such file"},
		{lora, filepath.Join(data, "tiny-llama"), "adapter_config.json"},
	} {
		err := c.open(c.path)
		if !errors.Is(err, formats.ErrInput) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %q", c.path, err, c.want)
		}
	}
}

package hf

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

func sideNames(c *formats.Checkpoint) []string {
	var names []string
	for _, f := range c.SideFiles() {
		names = append(names, f.Name)
	}
	return names
}

func TestOpenOneFile(t *testing.T) {
	for _, name := range []string{"model.safetensors", "pytorch_model.safetensors", "consolidated.safetensors"} {
		c := mustOpen(t, tree(t, map[string]string{name: weights(t, "a"), "config.json": "{}"}))
		if c.Layout() != formats.Directory || len(c.Shards()) != 1 || c.Shards()[0].Name != name || c.Len() != 1 {
			t.Errorf("%s: got %+v", name, c.Shards())
		}
	}
	// model.safetensors is what transformers loads, whatever lies beside it.
	c := mustOpen(t, tree(t, map[string]string{"model.safetensors": weights(t, "a"), "consolidated.safetensors": weights(t, "b"), "tf_model.h5": "x"}))
	if c.Shards()[0].Name != "model.safetensors" || len(c.Shards()) != 1 {
		t.Errorf("got %+v", c.Shards())
	}
	left, err := LeftOut(c)
	if err != nil || !slices.Equal(left, []string{"consolidated.safetensors", "tf_model.h5"}) {
		t.Errorf("left out: %q, %v", left, err)
	}
}

func TestOpenSharded(t *testing.T) {
	c := mustOpen(t, tree(t, with(sharded(t), "consolidated.safetensors", weights(t, "a", "b", "c"))))
	if len(c.Shards()) != 2 || c.Shards()[0].Name != shard1 || c.Shards()[1].Name != shard2 || c.Len() != 3 {
		t.Errorf("got %+v", c.Shards())
	}
	if want := []string{"config.json", index0}; !slices.Equal(sideNames(c), want) {
		t.Errorf("side files: got %q, want %q", sideNames(c), want)
	}
}

func TestOpenOddIndexes(t *testing.T) {
	shards := map[string]string{"a": shard1, "b": shard1, "c": shard2}
	for name, files := range map[string]map[string]string{
		"wrong total":        with(sharded(t), index0, indexText(1, shards)),
		"no metadata":        with(sharded(t), index0, `{"weight_map":{"a":"`+shard1+`","b":"`+shard1+`","c":"`+shard2+`"}}`),
		"other name":         with(sharded(t), index0, "-", "diffusion.safetensors.index.json", indexText(9, shards)),
		"one shard":          {"x.safetensors": weights(t, "a"), index0: indexText(3, map[string]string{"a": "x.safetensors"})},
		"a hidden file":      with(sharded(t), ".gitattributes", "x"),
		"a link inside":      with(sharded(t), shard2, "->real/c", "real/c", weights(t, "c")),
		"PyTorch beside":     with(sharded(t), "pytorch_model.bin.index.json", "{}", "pytorch_model-00001-of-00002.bin", "x"),
		"an adapter beside":  with(sharded(t), "adapter_config.json", "{}", "adapter_model.safetensors", weights(t, "z")),
		"weights below":      with(sharded(t), "text_encoder/model.safetensors", weights(t, "z")),
		"numbers elsewhere":  with(sharded(t), "vae-00001-of-00001.safetensors", weights(t, "z")),
		"shards unlike them": {"odd name.dat": weights(t, "a"), index0: indexText(3, map[string]string{"a": "odd name.dat"})},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, files)
			c := mustOpen(t, dir)
			for _, s := range c.Shards() {
				if slices.Contains(sideNames(c), s.Name) {
					t.Errorf("%s is a shard and a side file", s.Name)
				}
			}
			out := filepath.Join(filepath.Dir(dir), "out")
			if err := Write(t.Context(), c, out, WriteOptions{NoSync: true}); err != nil {
				t.Fatal(err)
			}
			if got, want := tensors(t, mustOpen(t, out)), tensors(t, c); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestSideFilesAndLeftOut(t *testing.T) {
	carried := map[string]string{
		"config.json": "{\r\n}", "chat_template.jinja": "{% x %}\n", "modeling_x.py": "print()\n", "tokenizer.json": "{}", "tokenizer.model": "\x00\xff",
		"README.md": "", "LICENSE": "l", "sub/dir/code.py": "1", "additional_chat_templates/a.jinja": "a", "a/b/c/d/deep.txt": "d", "name with space": "x",
		// a module of a sentence-transformers model, which has weights of its own
		"1_Pooling/config.json": "{}", "2_Dense/config.json": "{}", "2_Dense/model.safetensors": "weights",
	}
	left := []string{
		".gitattributes", ".hidden.json", "adapter_config.json", "flax_model.msgpack", "model.onnx", "optimizer.pt", "pytorch_model.bin",
		"tf_model.h5", "x.gguf", "sub/.DS_Store", "2_Dense/.gitkeep",
		"onnx/", "checkpoint-5/", "2_Dense/onnx/", "deep/", // whole folders: a model in them is not this one
	}
	files := map[string]string{
		"model.safetensors": weights(t, "a"), ".cache/huggingface/x": "x", ".git/config": "x", "empty/": "",
		"onnx/model.onnx": "x", "onnx/config.json": "{}", "checkpoint-5/model.safetensors": "x", "checkpoint-5/state.json": "x",
		"2_Dense/onnx/model.onnx": "x", "deep/b/c/d/e/f": "x", "deep/x": "x",
	}
	for name, content := range carried {
		files[name] = content
	}
	for _, name := range left {
		if !strings.HasSuffix(name, "/") {
			files[name] = "left"
		}
	}
	dir := tree(t, files)
	c := mustOpen(t, dir)
	if len(c.SideFiles()) != len(carried) || !slices.IsSorted(sideNames(c)) {
		t.Errorf("got side files %q", sideNames(c))
	}
	slices.Sort(left)
	if got, err := LeftOut(c); err != nil || !slices.Equal(got, left) {
		t.Errorf("left out:\ngot  %q\nwant %q, %v", got, left, err)
	}
	out := filepath.Join(filepath.Dir(dir), "out")
	if err := Write(t.Context(), c, out, WriteOptions{NoSync: true}); err != nil {
		t.Fatal(err)
	}
	for name, content := range carried {
		if got := load(t, filepath.Join(out, filepath.FromSlash(name))); got != content {
			t.Errorf("%s: got %q, want %q", name, got, content)
		}
	}
	for _, name := range append(left, ".git", ".cache", "empty") {
		if _, err := os.Lstat(filepath.Join(out, name)); err == nil {
			t.Errorf("%s was carried along", name)
		}
	}
	if got, err := LeftOut(&formats.Checkpoint{}); got != nil || err != nil {
		t.Errorf("a single file leaves nothing out, got %q, %v", got, err)
	}
}

// TestClosesWhatItOpened opens and fails, and opens and closes, many times over.
func TestClosesWhatItOpened(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc here")
		}
		return len(entries)
	}
	good, bad := tree(t, sharded(t)), tree(t, with(sharded(t), shard2, "too short"))
	before := count()
	for range 20 {
		if c, err := Open(good); err != nil {
			t.Fatal(err)
		} else if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(bad); err == nil {
			t.Fatal("no error")
		}
	}
	if after := count(); after > before {
		t.Errorf("%d files are open, %d before", after, before)
	}
}

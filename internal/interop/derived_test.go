package interop

import (
	"path/filepath"
	"strconv"
	"testing"
)

// TestDerivedForPEFT has PEFT load and merge adapters that graft made of others.
func TestDerivedForPEFT(t *testing.T) {
	full(t)
	trained := func(name string) string { return fixture("tiny-llama", "reference", name, "trained") }
	for _, c := range []struct {
		name string
		args []string
	}{
		{"cat", []string{"combine", "--adapter", trained("qv-r8") + "=0.7", "--adapter", trained("all-r4-rslora") + "=-0.4"}},
		{"svd", []string{"combine", "--adapter", trained("qv-r8"), "--adapter", trained("all-r4-rslora"), "--method", "svd", "--rank", "5"}},
		{"ties", []string{"combine", "--adapter", trained("qv-r8"), "--adapter", trained("qv-r8") + "=0.5", "--method", "ties", "--density", "0.5"}},
		{"energy", []string{"resize", "--adapter", trained("all-r4-rslora"), "--energy", "0.9"}},
		{"size", []string{"resize", "--adapter", trained("all-r4-rslora"), "--size", "30kB"}},
		{"common", []string{"resize", "--adapter", trained("all-r4-rslora"), "--rank", "6", "--common", "--dtype", "bf16"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "adapter")
			graft(t, append(c.args, "--quiet", "--out", out)...)
			mergeAndCheck(t, fixture("tiny-llama"), out)
		})
	}
}

// TestCombineFreshSeed makes the adapters and what PEFT combines them into again, with
// another seed, and runs the golden test on them.
func TestCombineFreshSeed(t *testing.T) {
	full(t)
	tree := t.TempDir()
	t.Log(python(t, genPython, nil, "combine_fixtures.py", "--seed", strconv.FormatUint(seed(t), 10), "--out", filepath.Join(tree, "testdata", "combine")))
	golden(t, tree, "patch", "^TestCombineGolden$", 30)
}

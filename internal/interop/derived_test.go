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

// TestSlimForPEFT has PEFT load and merge adapters of which graft left out what changes
// nothing: ranks of zeros, modules that are zero, a head that is the base's.
func TestSlimForPEFT(t *testing.T) {
	full(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	llama, saved := fixture("tiny-llama"), fixture("peft", "save-lm-head")
	for _, args := range [][]string{
		{"resize", "--adapter", filepath.Join(llama, "reference", "qv-r8", "trained"), "--rank", "12", "--common", "--dtype", "bf16", "--out", at("padded")},
		{"init", "--base", llama, "--target-modules", "q_proj,o_proj", "--rank", "3", "--alpha", "5", "--out", at("fresh")},
		{"combine", "--adapter", at("padded") + "=0.7", "--adapter", at("fresh"), "--method", "cat", "--dtype", "f32", "--out", at("both")},
		{"merge", "--base", filepath.Join(saved, "base"), "--adapter", filepath.Join(saved, "adapter"), "--out", at("with-head")},
	} {
		graft(t, append(args, "--quiet")...)
	}
	for _, c := range []struct{ name, from, base string }{
		{"ranks", at("padded"), llama},
		{"modules", at("both"), llama},
		{"head", filepath.Join(saved, "adapter"), at("with-head")},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "slim")
			graft(t, "resize", "--adapter", c.from, "--slim", "--base", c.base, "--quiet", "--out", out)
			mergeAndCheck(t, c.base, out)
		})
	}
}

// TestHealthFreshSeed makes the adapters of all states of health again, with another seed, and
// runs the golden test on them.
func TestHealthFreshSeed(t *testing.T) {
	full(t)
	tree := t.TempDir()
	t.Log(python(t, genPython, nil, "health.py", "--seed", strconv.FormatUint(seed(t), 10), "--out", filepath.Join(tree, "testdata", "health")))
	golden(t, tree, "patch/health", "^TestNumbers$", 1)
}

// TestCombineFreshSeed makes the adapters and what PEFT combines them into again, with
// another seed, and runs the golden test on them.
func TestCombineFreshSeed(t *testing.T) {
	full(t)
	tree := t.TempDir()
	t.Log(python(t, genPython, nil, "combine_fixtures.py", "--seed", strconv.FormatUint(seed(t), 10), "--out", filepath.Join(tree, "testdata", "combine")))
	golden(t, tree, "patch", "^TestCombineGolden$", 30)
}

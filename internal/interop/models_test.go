package interop

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// TestDecodersForPEFT has PEFT load adapters that graft makes for each family of decoders,
// fused layers among them, and compares what both merge.
func TestDecodersForPEFT(t *testing.T) {
	full(t)
	for _, name := range []string{"mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3"} {
		t.Run(name, func(t *testing.T) {
			base, out := fixture("models", name), filepath.Join(t.TempDir(), "adapter")
			graft(t, "init", "--quiet", "--base", base, "--target-modules", "all-linear", "--rank", "3", "--alpha", "7",
				"--init-lora-weights", "false", "--seed", "5", "--out", out)
			mergeAndCheck(t, base, out)
		})
	}
}

// TestDecodersFreshSeed makes the decoders again with another seed, and what PEFT takes out of their weights to start
// from, and runs the golden tests on them.
func TestDecodersFreshSeed(t *testing.T) {
	full(t)
	tree := t.TempDir()
	s, data := strconv.FormatUint(seed(t), 10), filepath.Join(tree, "testdata", "models")
	t.Log(python(t, genPython, nil, "decoders.py", "--seed", s, "--out", data))
	golden(t, tree, "train/models", "^Test(DecodersMatch|DecodersTrain|DecoderSessions|DecoderRows|AllLinearOfDecoders)", 5*15)
	if err := os.CopyFS(filepath.Join(data, "gpt2"), os.DirFS(fixture("models", "gpt2"))); err != nil {
		t.Fatal(err)
	}
	t.Log(python(t, genPython, nil, "inits.py", "--seed", s, "--models", data, "--out", filepath.Join(tree, "testdata", "init")))
	golden(t, tree, "patch", "^TestInitO", 1+5+1)
}

package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// checkFull compares a merged model with what PEFT makes of the same base and adapters:
// loading, weights and logits. Options are those of check_full.py.
func checkFull(t *testing.T, base, merged string, adapters []string, options ...string) {
	t.Helper()
	args := append([]string{"--base", base, "--merged", merged}, options...)
	for _, a := range adapters {
		args = append(args, "--adapter", a)
	}
	t.Log(python(t, genPython, nil, "check_full.py", args...))
}

// mergeAndCheck merges one adapter and compares.
func mergeAndCheck(t *testing.T, base, adapter string) {
	t.Helper()
	checkFull(t, base, merge(t, base, []string{adapter}), []string{adapter})
}

// TestAdaptersOfPEFT merges what PEFT trained.
func TestAdaptersOfPEFT(t *testing.T) {
	full(t)
	for _, r := range references {
		t.Run(r.model+"/"+r.name, func(t *testing.T) {
			mergeAndCheck(t, fixture(r.model), fixture(r.model, "reference", r.name, "trained"))
		})
	}
}

// TestAdaptersForPEFT has PEFT load what graft made.
func TestAdaptersForPEFT(t *testing.T) {
	full(t)
	for _, m := range made {
		t.Run("init/"+m.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "adapter")
			graft(t, append([]string{"init", "--quiet", "--base", fixture(m.base), "--out", out}, m.args...)...)
			mergeAndCheck(t, fixture(m.base), out)
		})
	}
	t.Run("train", func(t *testing.T) {
		mergeAndCheck(t, fixture("tiny-llama"), trainTiny(t, "--target-modules", "all-linear", "--rank", "5", "--lora-dropout", "0.1"))
	})
	t.Run("train on", func(t *testing.T) {
		start := fixture("tiny-llama", "reference", "all-r4-rslora", "init")
		mergeAndCheck(t, fixture("tiny-llama"), trainTiny(t, "--adapter", start))
	})
	// Whatever factors start from, what is trained belongs to the base as it was.
	for _, kind := range []string{"pissa", "pissa_niter_8", "olora", "orthogonal"} {
		t.Run("train from "+kind, func(t *testing.T) {
			mergeAndCheck(t, fixture("tiny-llama"), trainTiny(t, "--target-modules", "all-linear", "--rank", "6", "--alpha", "5", "--use-rslora",
				"--rank-pattern", "v_proj=4", "--init-lora-weights", kind))
		})
	}
	for _, kind := range []string{"pissa", "olora"} {
		t.Run("residual of "+kind, func(t *testing.T) {
			base, out := filepath.Join(t.TempDir(), "residual"), filepath.Join(t.TempDir(), "adapter")
			graft(t, "init", "--quiet", "--base", fixture("tiny-llama"), "--target-modules", "q_proj,down_proj", "--init-lora-weights", kind, "--out", out, "--residual", base)
			mergeAndCheck(t, base, out)
		})
	}
	t.Run("quickstart", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "q")
		graft(t, "quickstart", "--quiet", "--out", out)
		checkFull(t, filepath.Join(out, "base"), filepath.Join(out, "merged"), []string{filepath.Join(out, "adapter")})
	})
}

// TestFreshSeed makes the fixtures again with another seed, so that nothing holds for the
// committed numbers alone: graft merges them and PEFT compares, and the packages' own
// golden tests run on them.
func TestFreshSeed(t *testing.T) {
	full(t)
	s := strconv.FormatUint(seed(t), 10)
	tree := t.TempDir()
	data := filepath.Join(tree, "testdata")
	if err := os.CopyFS(filepath.Join(data, "tiny-llama"), os.DirFS(fixture("tiny-llama"))); err != nil {
		t.Fatal(err)
	}
	odd, peft := filepath.Join(data, "odd-llama"), filepath.Join(data, "peft")
	t.Log(python(t, genPython, nil, "odd_llama.py", "--seed", s, "--out", odd))
	t.Log(python(t, genPython, nil, "peft_fixtures.py", "--seed", s, "--out", peft))

	t.Run("golden/train/models", func(t *testing.T) { golden(t, tree, "train/models", "LogitsMatchPyTorch|TrainingMatchesPyTorch", 10) })
	t.Run("golden/patch", func(t *testing.T) { golden(t, tree, "patch", "PyTorch|PEFT", 28) })
	for _, r := range references {
		if r.model != "odd-llama" {
			continue
		}
		t.Run("odd-llama/"+r.name, func(t *testing.T) {
			mergeAndCheck(t, odd, filepath.Join(odd, "reference", r.name, "trained"))
		})
	}
	for _, c := range peftCases(t, peft) {
		if c.Name == "tied-lora" {
			continue // PEFT merges it twice; its generator compares with what PEFT computes
		}
		t.Run("peft/"+c.Name, func(t *testing.T) {
			base := filepath.Join(peft, c.Name, "base")
			merged := mergeCase(t, peft, c)
			checkMerged(t, base, merged, c.Changed)
			if _, err := os.Stat(filepath.Join(base, "config.json")); err != nil {
				return // a bare module, which transformers cannot load; patch's golden test has it
			}
			var adapters, options []string
			for _, a := range c.Adapters {
				adapters = append(adapters, filepath.Join(peft, c.Name, a))
			}
			switch wide := c.DType == "F32" || c.DType == "F64"; {
			case strings.HasPrefix(c.Name, "dora-") && wide:
				// Norms are sums that PyTorch forms in another order; 16-bit weights do not show it.
				options = []string{"--share", "1", "--ulps", "16"}
			case c.Name == "dora-two":
				// To unmerge the first adapter PEFT takes off what it has merged, in BF16.
				options = []string{"--share", "1", "--ulps", "4"}
			}
			checkFull(t, base, merged, adapters, options...)
		})
	}
}

var passed = regexp.MustCompile(`(?m)^ *--- PASS: `)

// golden runs a package's own tests against the fixtures below tree. They find
// testdata by a relative path, so they are compiled and run from a directory that lies
// in tree as the package lies in the repository.
func golden(t *testing.T, tree, pkg, pattern string, atLeast int) {
	t.Helper()
	dir := filepath.Join(tree, filepath.FromSlash(pkg))
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "golden.test")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	build := exec.Command("go", "test", "-c", "-o", binary, "./"+pkg)
	build.Dir = root
	execute(t, build)
	tests := exec.Command(binary, "-test.v", "-test.run", pattern)
	tests.Dir = dir
	out := execute(t, tests)
	// A pattern that no longer fits would test nothing.
	if n := len(passed.FindAllString(out, -1)); n < atLeast {
		t.Errorf("%d tests passed (want %d or more)\n%s", n, atLeast, out)
	}
}

package interop

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// TestExtractedForPEFT has PEFT compute with adapters that graft found between pairs of
// models, made with a fresh seed, and graft merge them.
func TestExtractedForPEFT(t *testing.T) {
	full(t)
	dir, adapters := t.TempDir(), t.TempDir()
	python(t, genPython, nil, "extract_pairs.py", "make", "--seed", strconv.FormatUint(seed(t), 10), "--out", dir)
	text, err := os.ReadFile(filepath.Join(dir, "pairs.json"))
	if err != nil {
		t.Fatal(err)
	}
	var pairs []struct{ Name string }
	if err := json.Unmarshal(text, &pairs); err != nil || len(pairs) < 11 {
		t.Fatalf("%d pairs: %v", len(pairs), err)
	}
	for _, p := range pairs {
		base, tuned, out := filepath.Join(dir, p.Name, "base"), filepath.Join(dir, p.Name, "tuned"), filepath.Join(adapters, p.Name)
		graft(t, "extract", "--quiet", "--base", base, "--tuned", tuned, "--rank", "6", "--out", out)
		graft(t, "diff", "--quiet", tuned, merge(t, base, []string{out}), "--exit-code", "--tolerance", "1e-6")
		exact := out + "-exact"
		graft(t, "extract", "--quiet", "--base", base, "--tuned", tuned, "--max-error", "0", "--out", exact)
		graft(t, "diff", "--quiet", tuned, merge(t, base, []string{exact}), "--exit-code", "--tolerance", "0")
	}
	t.Log(python(t, genPython, nil, "extract_pairs.py", "check", "--dir", dir, "--adapters", adapters))
}

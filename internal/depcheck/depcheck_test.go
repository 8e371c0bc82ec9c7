// Package depcheck holds the test that guards the directions of imports.
package depcheck

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/seed-b982eded/graft/"

// rules say what a package may import from this module, by the longest prefix of its
// path that is listed. An entry allows the package itself and, with a slash at its
// end, everything below.
var rules = []struct {
	in    string
	allow []string
	why   string
}{
	{"formats", nil, "formats is the ground that everything stands on: the standard library only"},
	{"formats/", []string{"formats", "formats/adapter", "formats/publish", "formats/safetensors", "internal/"}, "one format does not know another"},
	{"formats/publish", []string{"formats", "internal/"}, "what publishes files knows no format"},
	{"formats/open", []string{"formats/", "formats", "internal/"}, "formats/open alone knows all readers"},
	{"patch", []string{"formats", "formats/adapter", "formats/hf", "patch/", "internal/"}, "patching knows checkpoints and adapters, and no reader or writer"},
	{"patch/onnx", []string{"formats", "formats/adapter", "formats/onnx", "formats/ortadapter", "patch", "internal/"}, "patch/onnx is the one place that knows a format and patching"},
	{"patch/extract", []string{"formats", "formats/adapter", "formats/hf", "patch", "patch/", "internal/"}, "extraction sees two models as merging does"},
	{"patch/lowrank", []string{"formats", "formats/adapter"}, "linear algebra knows factors, and nothing of what is done with them"},
	{"patch/", []string{"formats", "formats/adapter", "patch/", "internal/"}, "arithmetic knows no files"},
	{"train", []string{"formats", "formats/adapter", "formats/hf", "train/", "internal/"}, "training makes adapters and writes no checkpoints"},
	{"train/", []string{"formats", "formats/adapter", "formats/hf", "train/", "internal/"}, "training makes adapters and writes no checkpoints"},
	{"internal/", []string{"formats", "internal/"}, "internal packages are leaves"},
	{"testdata", nil, "data knows nothing"},
	{"cmd/", []string{"formats", "formats/", "patch", "patch/", "train", "train/", "internal/", "testdata"}, "commands wire everything"},
}

type pkg struct {
	ImportPath string
	Dir        string
	Imports    []string
	GoFiles    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,GoFiles", "./...", "./testdata")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func TestImportDirections(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		best := -1
		for i, r := range rules {
			if covers(r.in, path) && (best < 0 || len(r.in) > len(rules[best].in)) {
				best = i
			}
		}
		if best < 0 {
			t.Errorf("package %s has no place in the layout: see docs/architecture.md", path)
			continue
		}
		for _, imp := range p.Imports {
			own, ok := strings.CutPrefix(imp, module)
			if !ok {
				continue
			}
			allowed := false
			for _, a := range rules[best].allow {
				allowed = allowed || covers(a, own)
			}
			if !allowed {
				t.Errorf("%s imports %s: %s", path, own, rules[best].why)
			}
		}
	}
}

// covers reports whether a rule's path is the package, or with a slash at its end holds it.
func covers(rule, path string) bool {
	return rule == path || strings.HasSuffix(rule, "/") && strings.HasPrefix(path, rule)
}

func TestOutsideImports(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		for _, imp := range p.Imports {
			if path == "formats" && strings.Contains(imp, ".") {
				t.Errorf("formats imports %s: it uses the standard library only", imp)
			}
			if strings.HasPrefix(imp, "github.com/urfave/cli") && !strings.HasPrefix(path, "cmd/") {
				t.Errorf("%s imports %s: only commands parse command lines", path, imp)
			}
		}
		for _, name := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(text, []byte("blas32.Use(")) && !strings.HasPrefix(path, "cmd/") {
				t.Errorf("%s/%s calls blas32.Use: which implementation runs is the program's choice", path, name)
			}
		}
	}
}

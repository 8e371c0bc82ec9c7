package interop

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats/safetensors"
)

// checked is what check_light.py prints.
type checked struct {
	Kind      string
	Tensors   int
	Differing []string
	Targets   int
}

// checkLight opens what graft made with the real safetensors and compares it with its base.
func checkLight(t *testing.T, base, out string) checked {
	t.Helper()
	var c checked
	if err := json.Unmarshal([]byte(python(t, interopPython, nil, "check_light.py", base, out)), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// checkMerged is checkLight of a merged model in which certain tensors differ from the base's.
func checkMerged(t *testing.T, base, out string, differing []string) {
	t.Helper()
	c := checkLight(t, base, out)
	slices.Sort(differing)
	if c.Kind != "model" || !slices.Equal(c.Differing, differing) {
		t.Errorf("got a %s in which %q differ, want %q", c.Kind, c.Differing, differing)
	}
}

// references are the models with adapters that PyTorch trained.
var references = []struct{ model, name string }{
	{"tiny-llama", "qv-r8"}, {"tiny-llama", "all-r4-rslora"}, {"odd-llama", "mixed-r5"}, {"odd-llama", "regex-r3-rslora"},
}

// peftCase is an entry of cases.json.
type peftCase struct {
	Name     string
	DType    string
	Adapters []string
	Changed  []string
}

// peftCases returns the cases below dir that graft merges.
func peftCases(t *testing.T, dir string) []peftCase {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Cases []peftCase }
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	// A weight that the head shares is refused.
	cases := slices.DeleteFunc(doc.Cases, func(c peftCase) bool { return c.Name == "embedding-tied" })
	if len(cases) < 20 {
		t.Fatalf("%d cases", len(cases))
	}
	return cases
}

// mergeCase merges a case's adapters and rounds as PEFT does.
func mergeCase(t *testing.T, dir string, c peftCase) string {
	t.Helper()
	var adapters []string
	for _, a := range c.Adapters {
		adapters = append(adapters, filepath.Join(dir, c.Name, a))
	}
	return merge(t, filepath.Join(dir, c.Name, "base"), adapters, "--rounding", "peft")
}

func TestMergedModelsOpen(t *testing.T) {
	light(t)
	for _, r := range references {
		t.Run(r.model+"/"+r.name, func(t *testing.T) {
			ref := fixture(r.model, "reference", r.name)
			want, err := safetensors.Open(filepath.Join(ref, "merged_targets.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer want.Close()
			var names []string
			for x := range want.Tensors() {
				names = append(names, x.Name)
			}
			out := merge(t, fixture(r.model), []string{filepath.Join(ref, "trained")})
			checkMerged(t, fixture(r.model), out, names)
		})
	}
	dir := fixture("peft")
	for _, c := range peftCases(t, dir) {
		t.Run("peft/"+c.Name, func(t *testing.T) {
			checkMerged(t, filepath.Join(dir, c.Name, "base"), mergeCase(t, dir, c), c.Changed)
		})
	}
}

// made are adapters of graft's own making: a base, and the arguments of init.
var made = []struct {
	name, base string
	targets    int
	args       []string
}{
	{"list", "tiny-llama", 8, []string{"--target-modules", "q_proj,v_proj", "--rank", "5", "--alpha", "7.5"}},
	{"rslora", "tiny-llama", 28, []string{"--target-modules", "all-linear", "--rank", "3", "--use-rslora", "--init-lora-weights", "false"}},
	{"regex", "odd-llama", 6, []string{"--target-modules", `.*layers\.(0|2)\.(self_attn\.(q|o)_proj|mlp\.up_proj)`, "--init-lora-weights", "gaussian"}},
	{
		"patterns", "odd-llama", 12,
		[]string{
			"--target-modules", "k_proj,down_proj,gate_proj,o_proj", "--rank", "4", "--init-lora-weights", "false",
			"--rank-pattern", "mlp.down_proj=7", "--rank-pattern", `layers\.1\..*=2`, "--alpha-pattern", "o_proj=3.25",
		},
	},
	{"conv1d", "peft/gpt2-conv1d/base", 6, []string{"--target-modules", "c_attn,c_proj", "--rank", "2", "--init-lora-weights", "false"}},
	{"classifier", "peft/save-classifier/base", 4, []string{"--target-modules", "query,key", "--rank", "3", "--init-lora-weights", "false"}},
}

func TestFreshAdaptersOpen(t *testing.T) {
	light(t)
	for _, m := range made {
		t.Run(m.name, func(t *testing.T) {
			base, out := fixture(m.base), filepath.Join(t.TempDir(), "adapter")
			graft(t, append([]string{"init", "--quiet", "--base", base, "--out", out}, m.args...)...)
			if c := checkLight(t, base, out); c.Kind != "adapter" || c.Targets != m.targets {
				t.Errorf("got %+v, want an adapter of %d targets", c, m.targets)
			}
		})
	}
}

// trainTiny trains an adapter on tiny-llama for a few steps.
func trainTiny(t *testing.T, args ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "adapter")
	graft(t, append([]string{
		"train", "--quiet", "--base", fixture("tiny-llama"), "--data", lessons(t), "--max-steps", "3", "--learning-rate", "0.01", "--out", out,
	}, args...)...)
	return out
}

func TestTrainedAdaptersOpen(t *testing.T) {
	light(t)
	base := fixture("tiny-llama")
	out := trainTiny(t, "--target-modules", "all-linear")
	if c := checkLight(t, base, out); c.Kind != "adapter" || c.Targets != 28 {
		t.Errorf("got %+v, want an adapter of 28 targets", c)
	}
	again := trainTiny(t, "--adapter", out)
	if c := checkLight(t, base, again); c.Kind != "adapter" || c.Targets != 28 {
		t.Errorf("trained on: got %+v, want an adapter of 28 targets", c)
	}
}

func TestQuickstartOpens(t *testing.T) {
	light(t)
	out := filepath.Join(t.TempDir(), "q")
	graft(t, "quickstart", "--quiet", "--out", out)
	base := filepath.Join(out, "base")
	c := checkLight(t, base, filepath.Join(out, "adapter"))
	m := checkLight(t, base, filepath.Join(out, "merged"))
	if c.Kind != "adapter" || m.Kind != "model" || c.Targets == 0 || len(m.Differing) != c.Targets {
		t.Errorf("an adapter of %d targets, a model in which %d tensors differ", c.Targets, len(m.Differing))
	}
	if slices.ContainsFunc(m.Differing, func(s string) bool { return !strings.HasSuffix(s, "_proj.weight") }) {
		t.Errorf("%q differ", m.Differing)
	}
}

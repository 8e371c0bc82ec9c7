package patch_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/patch"
)

// selection is the golden file of what PEFT selects.
type selection struct {
	Models map[string]struct {
		ModelType    *string `json:"model_type"`
		Architecture string
		Tensors      map[string][]int64
	}
	Cases []selectionCase
}

type selectionCase struct {
	Name, Model, Error string
	Config             map[string]json.RawMessage
	Modules            []string
	Numbers            map[string]struct {
		R       int64
		Scaling float64
	}
}

func readSelection(t *testing.T) selection {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(peftData, "selection.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s selection
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Cases) < 70 {
		t.Fatalf("only %d cases", len(s.Cases))
	}
	return s
}

// model builds a checkpoint with a golden model's tensors.
func (s selection) model(t *testing.T, name string) *patch.Model {
	t.Helper()
	g := s.Models[name]
	config, err := json.Marshal(map[string]any{"model_type": g.ModelType, "architectures": []string{g.Architecture}})
	if err != nil {
		t.Fatal(err)
	}
	var tensors []formats.Tensor
	for name, shape := range g.Tensors {
		tensors = append(tensors, formats.Tensor{Name: name, DType: formats.F32, Shape: shape})
	}
	slices.SortFunc(tensors, func(a, b formats.Tensor) int { return strings.Compare(a.Name, b.Name) })
	m, err := patch.NewModel(fakeBase(t, string(config), tensors...))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Where graft differs from PEFT on purpose.
const (
	noDefaults  = "graft has no table of default targets: they must be named"
	noExclusion = "graft refuses an exclusion that hits no layer"
	noTask      = "a classifier's head is never adapted by all-linear, whatever task_type says"
)

var differences = map[string]string{
	"default llama": noDefaults, "default gpt2": noDefaults, "default bert": noDefaults,
	"all-linear in BERT":         noTask,
	"all-linear with exclusions": noExclusion, "exclude a container": noExclusion, "exclude that hits nothing": noExclusion,
}

func TestSelectLikePEFT(t *testing.T) {
	s := readSelection(t)
	for _, c := range s.Cases {
		t.Run(c.Name, func(t *testing.T) {
			m := s.model(t, c.Model)
			cfg, err := parseCase(c)
			var sites []patch.Site
			if err == nil {
				sites, err = patch.Select(m, cfg.Selection)
			}
			want := c.Modules
			switch differences[c.Name] {
			case noDefaults:
				checkClass(t, err, formats.ErrUnfit, "targets no module")
				return
			case noExclusion:
				checkClass(t, err, formats.ErrUnfit, "exclude_modules ", ": no module is called so")
				cfg.Selection.ExcludeModules = slices.DeleteFunc(cfg.Selection.ExcludeModules, func(name string) bool {
					return !slices.ContainsFunc(m.Sites, func(s patch.Site) bool { return strings.HasSuffix("."+s.Module, "."+name) })
				})
				sites, err = patch.Select(m, cfg.Selection)
			case noTask:
				want = slices.DeleteFunc(slices.Clone(want), func(m string) bool { return m == "classifier" })
			}
			if c.Error != "" {
				if err == nil {
					t.Errorf("PEFT refuses with %s; got %d modules", c.Error, len(sites))
				}
				return
			}
			// graft refuses a name that hits nothing; without it both agree.
			if hit, rest := splitDead(m, cfg.Selection.TargetModules); len(rest) > 0 {
				checkClass(t, err, formats.ErrUnfit, "no module is called "+formats.Quote(rest[0]), "modules that can be targeted: ")
				cfg.Selection.TargetModules = hit
				sites, err = patch.Select(m, cfg.Selection)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := modulesOf(sites); !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			checkNumbers(t, cfg, c)
		})
	}
}

func parseCase(c selectionCase) (*peft.Config, error) {
	c.Config["peft_type"] = json.RawMessage(`"LORA"`)
	text := "{"
	// by hand, to keep the order of the patterns' keys
	for k, v := range c.Config {
		text += string(mustJSON(k)) + ":" + string(v) + ","
	}
	return peft.ParseConfig([]byte(strings.TrimSuffix(text, ",")+"}"), "config")
}

func mustJSON(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

func modulesOf(sites []patch.Site) []string {
	var names []string
	for _, s := range sites {
		names = append(names, s.Module)
	}
	slices.Sort(names)
	return names
}

// splitDead tells names that some module has from those that none has.
func splitDead(m *patch.Model, names []string) (hit, dead []string) {
	for _, n := range names {
		if slices.ContainsFunc(m.Sites, func(s patch.Site) bool { return s.Module == n || strings.HasSuffix(s.Module, "."+n) }) {
			hit = append(hit, n)
		} else {
			dead = append(dead, n)
		}
	}
	return hit, dead
}

func checkNumbers(t *testing.T, cfg *peft.Config, c selectionCase) {
	t.Helper()
	scaling, err := cfg.Scaling()
	if err != nil {
		t.Fatal(err)
	}
	for module, want := range c.Numbers {
		r, scale, err := scaling.Of(module)
		if err != nil || r != want.R || math.Abs(scale-want.Scaling) > 1e-15*math.Abs(want.Scaling) {
			t.Errorf("%s: got rank %d, scale %v, %v; want %d, %v", module, r, scale, err, want.R, want.Scaling)
		}
	}
}

// TestShortNames shortens every selection of PEFT's: the names select the same again.
func TestShortNames(t *testing.T) {
	s := readSelection(t)
	shortest := 0
	for _, c := range s.Cases {
		if len(c.Modules) == 0 {
			continue
		}
		m := s.model(t, c.Model)
		var sites []patch.Site
		for _, name := range c.Modules {
			site, ok := m.Site(name)
			if !ok {
				t.Fatalf("%s: no %s", c.Name, name)
			}
			sites = append(sites, site)
		}
		names := patch.ShortNames(m, sites)
		again, err := patch.Select(m, adapter.Selection{TargetModules: names})
		if err != nil || !slices.Equal(modulesOf(again), c.Modules) {
			t.Errorf("%s: %q selects %q, %v", c.Name, names, modulesOf(again), err)
		}
		if !slices.IsSorted(names) {
			t.Errorf("%s: %q is not sorted", c.Name, names)
		}
		if len(names) < len(c.Modules) {
			shortest++
		}
	}
	if shortest < 20 {
		t.Errorf("only %d lists became shorter", shortest)
	}
}

func TestSelectRefuses(t *testing.T) {
	norm, conv := typed("model.norm.weight", formats.F32, []int64{4}, 1, 1, 1, 1), formats.Tensor{Name: "model.conv.weight", DType: formats.F32, Shape: []int64{4, 4, 3}}
	packed := formats.Tensor{Name: "model.packed.weight", DType: formats.I8, Shape: []int64{4, 4}}
	tied := `{"model_type":"llama","architectures":["LlamaForCausalLM"],"tie_word_embeddings":true}`
	m, err := patch.NewModel(fakeBase(t, tied, norm, conv, packed, whole("model.q_proj.weight", formats.F32, 1, 4, 4)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sel   adapter.Selection
		class error
		want  []string
	}{
		{adapter.Selection{TargetModules: []string{"norm"}}, formats.ErrUnfit, []string{`module "model.norm" is selected but is no linear layer or embedding (its weight is [4])`}},
		{adapter.Selection{TargetModules: []string{"conv", "q_proj"}}, formats.ErrUnfit, []string{`"model.conv"`, "[4 4 3]"}},
		{adapter.Selection{TargetModules: []string{"packed"}}, formats.ErrUnfit, []string{`module "model.packed" is selected but its weight is I8`}},
		{adapter.Selection{TargetModules: []string{"q_proj", "x", "y"}}, formats.ErrUnfit, []string{`no module is called "x"`, `no module is called "y"`}},
		{adapter.Selection{TargetModules: []string{"lm_head"}}, formats.ErrUnfit, []string{"tied to its input embedding"}},
		{adapter.Selection{TargetRegex: "nothing"}, formats.ErrUnfit, []string{`targets no module of "the base"`, `"model.q_proj"`}},
		{adapter.Selection{}, formats.ErrUnfit, []string{"targets no module"}},
		{adapter.Selection{TargetRegex: "("}, formats.ErrUsage, []string{"bad regular expression"}},
		{adapter.Selection{TargetModules: []string{"q_proj"}, LayersPattern: []string{"h"}}, formats.ErrUsage, []string{"layers_pattern needs layers_to_transform"}},
	} {
		_, err := patch.Select(m, c.sel)
		checkClass(t, err, c.class, c.want...)
	}
}

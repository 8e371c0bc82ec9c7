package patch

import (
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
)

// Select returns the sites that a selection targets, in the order of the checkpoint,
// by PEFT's rules; "all-linear" is every linear layer but the output head. A name
// that selects nothing is an error, [formats.ErrUnfit], also where PEFT would let it
// pass; so is a selected module that is neither linear nor an embedding.
func Select(m *Model, sel adapter.Selection) ([]Site, error) {
	matcher, err := sel.Compile()
	if err != nil {
		return nil, formats.Usagef("%v", err)
	}
	var out []Site
	var problems formats.Problems
	for _, s := range m.Sites {
		if sel.AllLinear && (s.Kind != Linear || s.Head || isClassifier(m, s)) {
			continue
		}
		hit, err := matcher.Match(s.Module)
		if err != nil {
			return nil, formats.Usagef("matching module %s: %v", formats.Quote(s.Module), err)
		}
		if !hit {
			continue
		}
		if s.Kind != Linear && s.Kind != Embedding {
			problems.Add(formats.Unfitf("", "", "module %s is selected but is no linear layer or embedding (its weight is %v)", formats.Quote(s.Module), s.Weight.Shape))
			continue
		}
		if !s.Weight.DType.IsFloat() {
			problems.Add(formats.Unfitf("", "", "module %s is selected but its weight is %s (want F64, F32, F16 or BF16)", formats.Quote(s.Module), s.Weight.DType))
			continue
		}
		if m.tiedEnd(s.Module) != notTied {
			problems.Add(tiedError(s.Module, func(format string, args ...any) *formats.Error { return formats.Unfitf("", "", format, args...) }))
		}
		out = append(out, s)
	}
	problems.Add(checkContainers(m, sel, matcher))
	problems.Add(checkUsed(m, sel))
	for _, name := range sel.TargetModules {
		if !slices.ContainsFunc(m.Sites, func(s Site) bool { return s.Module == name || strings.HasSuffix(s.Module, "."+name) }) {
			problems.Add(noModule(m, name))
		}
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, formats.Unfitf("", "", "the selection targets no module of %s", formats.Quote(m.Checkpoint.Path())).WithHint("modules there are, for example: %s", strings.Join(quoteAll(m.examples(6)), ", "))
	}
	return out, nil
}

// checkContainers refuses a selection that also hits a module that only holds others,
// such as "self_attn": PEFT cannot adapt one and fails on it.
func checkContainers(m *Model, sel adapter.Selection, matcher *adapter.Matcher) error {
	if sel.AllLinear {
		return nil
	}
	seen := map[string]bool{}
	for _, s := range m.Sites {
		for path := parent(s.Module); path != "" && !seen[path]; path = parent(path) {
			seen[path] = true
			hit, err := matcher.Match(path)
			if err != nil {
				return formats.Usagef("matching module %s: %v", formats.Quote(path), err)
			}
			if hit {
				return formats.Unfitf("", "", "the selection also targets %s, which is no layer but holds some", formats.Quote(path)).
					WithHint("end names and expressions with the layer's own name, such as q_proj")
			}
		}
	}
	return nil
}

// checkUsed refuses an exclusion or a layer number that decides nothing: a slip of the pen.
func checkUsed(m *Model, sel adapter.Selection) error {
	var problems formats.Problems
	for _, name := range sel.ExcludeModules {
		if !slices.ContainsFunc(m.Sites, func(s Site) bool { return s.Module == name || strings.HasSuffix(s.Module, "."+name) }) {
			problems.Add(formats.Unfitf("", "", "exclude_modules %s: no module is called so", formats.Quote(name)))
		}
	}
	for _, layer := range sel.LayersToTransform {
		one := sel
		one.LayersToTransform = []int64{layer}
		matcher, err := one.Compile()
		if err != nil {
			return formats.Usagef("%v", err)
		}
		hit := false
		for _, s := range m.Sites {
			ok, err := matcher.Match(s.Module)
			if err != nil {
				return formats.Usagef("matching module %s: %v", formats.Quote(s.Module), err)
			}
			// A module that is named whole is targeted whatever the layer.
			hit = hit || ok && !slices.Contains(sel.TargetModules, s.Module)
		}
		if !hit {
			problems.Add(formats.Unfitf("", "", "layers_to_transform %d: no targeted module is in that layer", layer))
		}
	}
	return problems.Err()
}

// parent returns the path of the module that holds another; "" at the top.
func parent(path string) string { return path[:max(0, strings.LastIndexByte(path, '.'))] }

// isClassifier reports whether a site belongs to the head of a classifier, which
// all-linear leaves out: a head is trained whole or not at all.
func isClassifier(m *Model, s Site) bool {
	if !slices.ContainsFunc(m.Config.Architectures, func(a string) bool {
		return strings.Contains(a, "Classification") || strings.Contains(a, "QuestionAnswering")
	}) {
		return false
	}
	first, _, _ := strings.Cut(s.Module, ".")
	return first == "score" || first == "classifier" || first == "qa_outputs"
}

func noModule(m *Model, name string) error {
	err := formats.Unfitf("", "", "no module is called %s", formats.Quote(name))
	if m.tied && hf.IsOutputHead(name) {
		return err.WithHint("the head of this model is tied to its input embedding and has no weight of its own")
	}
	var last []string
	for _, s := range m.Sites {
		if s.Kind == Linear || s.Kind == Embedding {
			last = append(last, s.Module[strings.LastIndexByte(s.Module, '.')+1:])
		}
	}
	slices.Sort(last)
	last = slices.Compact(last)
	return err.WithHint("modules that can be targeted: %s", strings.Join(last[:min(len(last), 20)], ", "))
}

// examples returns the paths of the first linear modules.
func (m *Model) examples(n int) []string {
	var out []string
	for _, s := range m.Sites {
		if s.Kind == Linear && len(out) < n {
			out = append(out, s.Module)
		}
	}
	return out
}

func quoteAll(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = formats.Quote(n)
	}
	return out
}

// ShortNames returns the shortest list of names that, as target_modules, selects
// exactly the given sites: last parts of paths where no other module has them, else
// whole paths. PEFT shortens what all-linear found in the same spirit.
func ShortNames(m *Model, sites []Site) []string {
	chosen := map[string]bool{}
	for _, s := range sites {
		chosen[s.Module] = true
	}
	var others []string // all other paths, of inner modules too
	for _, s := range m.Sites {
		for path := s.Module; path != ""; path = parent(path) {
			if !chosen[path] {
				others = append(others, path)
			}
		}
	}
	names := map[string]bool{}
	for _, s := range sites {
		last := s.Module[strings.LastIndexByte(s.Module, '.')+1:]
		clash := slices.ContainsFunc(others, func(path string) bool { return path == last || strings.HasSuffix(path, "."+last) })
		if clash {
			last = s.Module
		}
		names[last] = true
	}
	out := make([]string, 0, len(names))
	for n := range names {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

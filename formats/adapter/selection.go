package adapter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dlclark/regexp2"
)

// Selection says which modules an adapter targets, in PEFT's words. The rules are
// those of PEFT 0.21 (tuners/tuners_utils.py, check_target_module_exists).
type Selection struct {
	// TargetModules are names: a module is targeted when its path is one of them or
	// ends with one after a dot.
	TargetModules []string
	// TargetRegex, a Python regular expression that must match the whole path, takes
	// the place of TargetModules.
	TargetRegex string
	// AllLinear targets every linear layer but the output head.
	AllLinear bool
	// ExcludeModules and ExcludeRegex are of the same forms, and win.
	ExcludeModules []string
	ExcludeRegex   string
	// LayersToTransform keeps only these layer numbers, of modules that end with a
	// name in TargetModules; a module whose whole path is named is kept.
	LayersToTransform []int64
	// LayersPattern names the list whose index is the layer number; by default the
	// first number in a path that is not in its first two segments counts.
	LayersPattern []string
	// ModulesToSave are trained whole; nothing in them is targeted.
	ModulesToSave []string
}

// Pattern gives modules whose path matches Key a value of their own, in PEFT's
// rank_pattern and alpha_pattern.
type Pattern struct {
	Key   string
	Value float64
}

// matchTimeout bounds one match of an expression that somebody else wrote.
const matchTimeout = 2 * time.Second

// compile compiles a Python regular expression.
func compile(expr string) (*regexp2.Regexp, error) {
	re, err := regexp2.Compile(strings.ReplaceAll(expr, "(?P<", "(?<"), regexp2.None)
	if err != nil {
		return nil, fmt.Errorf("bad regular expression %q: %v", expr, err)
	}
	re.MatchTimeout = matchTimeout
	return re, nil
}

// fullMatch compiles an expression that has to match a whole path.
func fullMatch(expr string) (*regexp2.Regexp, error) {
	if _, err := compile(expr); err != nil { // before the brackets can change its meaning
		return nil, err
	}
	return compile(`^(?:` + expr + `)\z`)
}

// Matcher is a compiled [Selection].
type Matcher struct {
	s       Selection
	target  *regexp2.Regexp
	exclude *regexp2.Regexp
	saved   []*regexp2.Regexp
	layer   []*regexp2.Regexp
}

// Compile prepares the selection for matching. It fails when an expression is bad or
// options contradict each other.
func (s Selection) Compile() (*Matcher, error) {
	m := &Matcher{s: s}
	var err error
	if s.TargetRegex != "" {
		if len(s.LayersToTransform) > 0 || len(s.LayersPattern) > 0 {
			return nil, fmt.Errorf("layers_to_transform and layers_pattern work with a list of target_modules, not with a regular expression")
		}
		if m.target, err = fullMatch(s.TargetRegex); err != nil {
			return nil, fmt.Errorf("target_modules: %w", err)
		}
	}
	if len(s.LayersPattern) > 0 && len(s.LayersToTransform) == 0 {
		return nil, fmt.Errorf("layers_pattern needs layers_to_transform")
	}
	if s.ExcludeRegex != "" {
		if m.exclude, err = fullMatch(s.ExcludeRegex); err != nil {
			return nil, fmt.Errorf("exclude_modules: %w", err)
		}
	}
	for _, name := range s.ModulesToSave {
		re, err := compile(`^(?:(^|.*\.)` + name + `($|\..*))`)
		if err != nil {
			return nil, fmt.Errorf("modules_to_save: %w", err)
		}
		m.saved = append(m.saved, re)
	}
	if len(s.LayersPattern) == 0 {
		re, _ := compile(`^.*?\.[^.]*\.(?<idx>\d+)\.`)
		m.layer = []*regexp2.Regexp{re}
	}
	for _, p := range s.LayersPattern {
		re, err := compile(`^(?:^|.*?\.)` + p + `\.(?<idx>\d+)\.`)
		if err != nil {
			return nil, fmt.Errorf("layers_pattern: %w", err)
		}
		m.layer = append(m.layer, re)
	}
	return m, nil
}

// Match reports whether the module with the given path is targeted. With AllLinear
// every module matches that is not excluded: the caller offers linear layers only.
// It fails when an expression takes too long.
func (m *Matcher) Match(module string) (bool, error) {
	excluded, err := m.excluded(module)
	if excluded || err != nil {
		return false, err
	}
	switch {
	case m.s.AllLinear:
		return true, nil
	case m.target != nil:
		return m.target.MatchString(module)
	case slices.Contains(m.s.TargetModules, module):
		return true, nil
	case !hasSuffixIn(module, m.s.TargetModules):
		return false, nil
	case len(m.s.LayersToTransform) == 0:
		return true, nil
	}
	return m.inLayers(module)
}

func (m *Matcher) excluded(module string) (bool, error) {
	if m.exclude != nil {
		if hit, err := m.exclude.MatchString(module); hit || err != nil {
			return hit, err
		}
	}
	if slices.Contains(m.s.ExcludeModules, module) || hasSuffixIn(module, m.s.ExcludeModules) {
		return true, nil
	}
	for _, re := range m.saved {
		if hit, err := re.MatchString(module); hit || err != nil {
			return hit, err
		}
	}
	return false, nil
}

func (m *Matcher) inLayers(module string) (bool, error) {
	for _, re := range m.layer {
		hit, err := re.FindStringMatch(module)
		if err != nil {
			return false, err
		}
		if hit == nil {
			continue
		}
		layer, err := strconv.ParseInt(hit.GroupByName("idx").String(), 10, 64)
		return err == nil && slices.Contains(m.s.LayersToTransform, layer), nil
	}
	return false, nil
}

func hasSuffixIn(module string, names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(module, "."+name) })
}

// PatternMatcher is a compiled list of patterns.
type PatternMatcher struct {
	patterns []Pattern
	compiled []*regexp2.Regexp
}

// CompilePatterns prepares a rank_pattern or alpha_pattern. option names it in errors.
func CompilePatterns(option string, patterns []Pattern) (*PatternMatcher, error) {
	m := &PatternMatcher{patterns: patterns}
	for _, p := range patterns {
		re, err := compile(`^(?:(.*\.)?(` + p.Key + `)$)`)
		if err != nil {
			if _, alone := compile(p.Key); alone != nil { // it says the user's own words
				err = alone
			}
			return nil, fmt.Errorf("%s: %w", option, err)
		}
		m.compiled = append(m.compiled, re)
	}
	return m, nil
}

// Find returns the index of the first pattern, in order, that matches a module's path,
// or -1. A key is an expression for the end of a path, from a dot on (PEFT 0.21,
// utils/other.py, get_pattern_key).
func (m *PatternMatcher) Find(module string) (int, error) {
	for i, re := range m.compiled {
		if hit, err := re.MatchString(module); err != nil {
			return -1, err
		} else if hit {
			return i, nil
		}
	}
	return -1, nil
}

// Value returns the value of the first pattern that matches, or otherwise.
func (m *PatternMatcher) Value(module string, otherwise float64) (float64, error) {
	i, err := m.Find(module)
	if err != nil || i < 0 {
		return otherwise, err
	}
	return m.patterns[i].Value, nil
}

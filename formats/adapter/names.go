package adapter

import (
	"github.com/seed-b982eded/graft/formats"
)

// NameFilter chooses modules or tensors by patterns in the form of PEFT's rank_pattern, and
// knows which of them have chosen something. It is not safe for concurrent use.
type NameFilter struct {
	what     string
	patterns []string
	each     []*PatternMatcher
	used     []bool
}

// NewNameFilter compiles patterns. what says in messages what they are, such as "only". Bad
// ones are [formats.ErrUsage].
func NewNameFilter(what string, patterns []string) (*NameFilter, error) {
	f := &NameFilter{what: what, patterns: patterns, used: make([]bool, len(patterns))}
	for _, p := range patterns {
		m, err := CompilePatterns(what, []Pattern{{Key: p}})
		if err != nil {
			return nil, formats.Usagef("%v", err)
		}
		f.each = append(f.each, m)
	}
	return f, nil
}

// Matches reports whether one of the names matches a pattern.
func (f *NameFilter) Matches(names ...string) (hit bool, err error) {
	for i, m := range f.each {
		for _, name := range names {
			at, err := m.Find(name)
			if err != nil {
				return false, formats.Usagef("%s: %v", f.what, err)
			}
			if at >= 0 {
				hit, f.used[i] = true, true
			}
		}
	}
	return hit, nil
}

// Unused returns an error that lists the patterns that matched nothing; thing says what there
// was to match, such as "tensor".
func (f *NameFilter) Unused(thing string) error {
	var problems formats.Problems
	for i, ok := range f.used {
		if !ok {
			problems.Add(formats.Usagef("%s %s matches no %s", f.what, formats.Quote(f.patterns[i]), thing))
		}
	}
	return problems.Err()
}

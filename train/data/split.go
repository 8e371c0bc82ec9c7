package data

import (
	"math"
	"slices"

	"github.com/seed-b982eded/graft/formats"
)

// Split sets a share of the examples aside for evaluation: round(share·n), at least
// one, chosen by the seed. Both parts keep the order of s. Pieces of one text are
// kept together, as a model that learned one half knows much of the other.
//
// It is an error if share is not in (0, 1) or if nothing is left to train on.
func (s *Set) Split(share float64, seed uint64) (train, held *Set, err error) {
	if !(share > 0 && share < 1) {
		return nil, nil, formats.Usagef("held-out share (got %v, want more than 0 and less than 1)", share)
	}
	groups := s.groups()
	want := max(1, int(math.Round(share*float64(len(groups)))))
	if want >= len(groups) {
		return nil, nil, formats.Usagef("held-out share %v of %d records leaves nothing to train on", share, len(groups))
	}
	train, held = s.split(groups, want, seed)
	return train, held, nil
}

// SplitCount is Split with a number of records in place of a share.
func (s *Set) SplitCount(count int, seed uint64) (train, held *Set, err error) {
	groups := s.groups()
	if count < 1 || count >= len(groups) {
		return nil, nil, formats.Usagef("held-out records (got %d, want 1 to %d of the %d)", count, len(groups)-1, len(groups))
	}
	train, held = s.split(groups, count, seed)
	return train, held, nil
}

func (s *Set) split(groups [][]Example, want int, seed uint64) (train, held *Set) {
	chosen := permutation(newPCG(seed, streamSplit, 0), len(groups))[:want]
	slices.Sort(chosen)

	train, held = &Set{Task: s.Task, Classes: s.Classes}, &Set{Task: s.Task, Classes: s.Classes}
	for g, group := range groups {
		into := train
		if len(chosen) > 0 && chosen[0] == int32(g) {
			into, chosen = held, chosen[1:]
		}
		into.Examples = append(into.Examples, group...)
	}
	return train, held
}

// groups cuts the examples into runs of one origin.
func (s *Set) groups() [][]Example {
	var groups [][]Example
	for from := 0; from < len(s.Examples); {
		to := from + 1
		for to < len(s.Examples) && s.Examples[to].Origin == s.Examples[from].Origin {
			to++
		}
		groups = append(groups, s.Examples[from:to])
		from = to
	}
	return groups
}

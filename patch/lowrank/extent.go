package lowrank

import "github.com/seed-b982eded/graft/formats"

// CheckExtent refuses what makes no sense of how far to go with an approximation, with
// [formats.ErrUsage]: of a largest rank, a share of the energy Σσ², a largest relative error and
// a number of bytes exactly one is given. Those that are not are 0, and nil for the error.
func CheckExtent(rank int64, energy float64, maxError *float64, size int64) error {
	given := 0
	for _, set := range []bool{rank != 0, energy != 0, maxError != nil, size != 0} {
		if set {
			given++
		}
	}
	switch {
	case given != 1:
		return formats.Usagef("a rank, an energy, an error or a size says how far to go (got %d of them, want 1)", given)
	case rank < 0 || rank > formats.MaxAdapterRank:
		return formats.Usagef("the rank must be from 1 to %d (got %d)", formats.MaxAdapterRank, rank)
	case energy != 0 && !(energy > 0 && energy <= 1):
		return formats.Usagef("the energy is a share above 0 and at most 1 (got %g)", energy)
	case maxError != nil && !(*maxError >= 0 && *maxError < 1):
		return formats.Usagef("the error is relative, from 0 to less than 1 (got %g)", *maxError)
	case size < 0:
		return formats.Usagef("the size must be 1 byte or more (got %d)", size)
	}
	return nil
}

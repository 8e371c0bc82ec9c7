package patch

import (
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
)

// renaming maps an adapter's module paths to those of a model. Adapters carry the
// paths of the model they were trained in, which may have had another wrapper around
// the same body.
type renaming struct {
	strip, add string
}

func (r renaming) apply(module string) string {
	if hf.IsHead(module) {
		return module
	}
	rest, ok := strings.CutPrefix(module, r.strip)
	if !ok {
		return module
	}
	return r.add + rest
}

// resolve finds the one renaming under which the adapter fits the model best: the
// paths as they are if all of them exist, else the body's name added or taken off.
// The renaming is the same for all modules, so it cannot make two of them one. Two
// renamings that both fit are an error.
func resolve(m *Model, a *adapter.Adapter) (renaming, error) {
	candidates := []renaming{{}}
	for _, p := range []string{hf.FamilyOf(m.Config.ModelType).Prefix, "model", "transformer", "bert", "roberta"} {
		if p == "" {
			continue
		}
		for _, r := range []renaming{{strip: p + "."}, {add: p + "."}} {
			if !slices.Contains(candidates, r) {
				candidates = append(candidates, r)
			}
		}
	}
	best, bestHits, fits := candidates[0], -1, 0
	for _, r := range candidates {
		hits := 0
		for _, e := range a.Entries {
			if _, ok := m.Site(r.apply(e.Module)); ok {
				hits++
			}
		}
		if hits > bestHits {
			best, bestHits = r, hits
		}
		if hits == len(a.Entries) {
			fits++
		}
	}
	if fits > 1 && best != (renaming{}) {
		return best, formats.Unfitf(a.Path, "", "its modules are found in the base in %d ways, for example with %s as %s", fits,
			formats.Quote(a.Entries[0].Module), formats.Quote(best.apply(a.Entries[0].Module)))
	}
	return best, nil
}

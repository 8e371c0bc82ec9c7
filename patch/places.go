package patch

import (
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// Place is where an entry of an adapter applies.
type Place struct {
	Tensor formats.Tensor // of the base
	InOut  bool           // the base stores the weight as (in, out)
}

// Places fits an adapter to a base as [NewModelPlan] does, and returns the tensor that each
// entry changes, entry by entry; the first of several. A place without data is of an entry
// that changes nothing: a bias of zeros for a layer that has none.
func Places(m *Model, a *adapter.Adapter) ([]Place, error) {
	if _, err := NewModelPlan(m, RoundOnce, Weighted{Adapter: a, Weight: 1}); err != nil {
		return nil, err
	}
	find, err := NewFinder(m, a)
	if err != nil {
		return nil, err
	}
	out := make([]Place, len(a.Entries))
	for i, e := range a.Entries {
		module := find.names.apply(e.Module)
		if len(m.sitesOf(module)) == 0 && m.tiedEnd(module) == tiedHead {
			// The plan has found that it does what the embedding's entry does.
			at := slices.IndexFunc(m.Sites, func(s Site) bool { return m.tiedEnd(s.Module) == tiedInput })
			out[i] = Place{Tensor: m.Sites[at].Weight}
			continue
		}
		if _, ok := e.Update.(*adapter.BiasDelta); ok {
			if params := m.params(module, "bias"); len(params) > 0 {
				out[i] = Place{Tensor: params[0].Tensor}
			}
			continue
		}
		if u, ok := e.Update.(*adapter.Replace); ok {
			p := m.params(module, u.Param)[0] // the plan has found it
			out[i] = Place{p.Tensor, p.inOut}
			continue
		}
		site, err := find.Site(e)
		if err != nil {
			return nil, err
		}
		out[i] = Place{site.Weight, site.InOut}
	}
	return out, nil
}

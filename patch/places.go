package patch

import (
	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// Place is where an entry of an adapter applies.
type Place struct {
	Tensor formats.Tensor // of the base
	InOut  bool           // the base stores the weight as (in, out)
}

// Places fits an adapter to a base as [NewModelPlan] does, and returns the tensor that each
// entry changes, entry by entry; the first of several.
func Places(m *Model, a *adapter.Adapter) ([]Place, error) {
	if _, err := NewModelPlan(m, RoundOnce, Weighted{Adapter: a, Weight: 1}); err != nil {
		return nil, err
	}
	r, err := resolve(m, a)
	if err != nil {
		return nil, err
	}
	out := make([]Place, len(a.Entries))
	for i, e := range a.Entries {
		module := r.apply(e.Module)
		if u, ok := e.Update.(*adapter.Replace); ok {
			p := m.params(module, u.Param)[0] // the plan has found it
			out[i] = Place{p.Tensor, p.inOut}
			continue
		}
		low, _ := adapter.LowRankOf(e.Update)
		site := m.sitesOf(module)[0]
		inOut, err := orientation(m, site, low, func(format string, args ...any) *formats.Error {
			return formats.Unfitf(a.Path, firstKey(e), format, args...)
		})
		if err != nil {
			return nil, err
		}
		out[i] = Place{site.Weight, inOut}
	}
	return out, nil
}

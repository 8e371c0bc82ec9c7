package patch

import (
	"errors"
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// Place is where an entry of an adapter applies.
type Place struct {
	Tensor formats.Tensor // of the base
	InOut  bool           // the base stores the weight as (in, out)
	// First and Outs are the outputs of the weight that the entry speaks of; Outs is 0 for all.
	First, Outs int64
}

// Misfit is something that [NewModelPlan] refuses.
type Misfit struct {
	Entry int  // an index of the adapter's entries; −1 where it is about all of it
	Found bool // the base has what the entry changes, but it cannot be merged there
	Err   error
}

// Places fits an adapter to a base as [NewModelPlan] does, and returns the tensor that each
// entry changes, entry by entry; the first of several. A place without data is of an entry
// that changes nothing: a bias of zeros for a layer that has none.
func Places(m *Model, a *adapter.Adapter) ([]Place, error) {
	places, misfits, err := Fit(m, a)
	if err != nil {
		return nil, err
	}
	var problems formats.Problems
	for _, x := range misfits {
		problems.Add(x.Err)
	}
	return places, problems.Err()
}

// Fit is [Places] for who measures a base and changes nothing: entries that do not fit are
// reported one by one, and have a place without data unless they could not be merged only.
// It fails with [formats.ErrUnfit] where the names fit in several ways, and where a file
// cannot be read.
func Fit(m *Model, a *adapter.Adapter) ([]Place, []Misfit, error) {
	find, err := NewFinder(m, a)
	if err != nil {
		return nil, nil, err
	}
	p := &Plan{base: m.Checkpoint, rounding: RoundOnce, byName: map[string]*Target{}, cache: newFactorCache(factorBudget)}
	places := make([]Place, len(a.Entries))
	var misfits []Misfit
	for i, e := range a.Entries {
		refused := p.add(m, Weighted{Adapter: a, Weight: 1}, e, find.names)
		place, err := find.place(e)
		switch {
		case refused != nil && !errors.Is(refused, formats.ErrUnfit):
			return nil, nil, refused
		case refused != nil:
			misfits = append(misfits, Misfit{Entry: i, Found: err == nil, Err: refused})
		case err != nil:
			return nil, nil, err
		}
		if err == nil {
			places[i] = place
		}
	}
	for _, refused := range []error{checkComplete(m, a, find.names), checkSaved(m, a, find.names)} {
		switch {
		case errors.Is(refused, formats.ErrUnfit):
			misfits = append(misfits, Misfit{Entry: -1, Err: refused})
		case refused != nil:
			return nil, nil, refused
		}
	}
	return places, misfits, nil
}

// place finds what an entry changes. A tied head that is not stored is the embedding.
func (p *Finder) place(e adapter.Entry) (Place, error) {
	m, module := p.model, p.names.apply(e.Module)
	sites := m.sitesOf(module)
	if len(sites) == 0 && m.tiedEnd(module) == tiedHead {
		if at := slices.IndexFunc(m.Sites, func(s Site) bool { return m.tiedEnd(s.Module) == tiedInput }); at >= 0 && slices.Equal(m.Sites[at].Weight.Shape, e.Update.Shape()) {
			return Place{Tensor: m.Sites[at].Weight}, nil
		}
	}
	unfit := func(format string, args ...any) *formats.Error {
		return formats.Unfitf(p.adapter.Path, firstKey(e), format, args...)
	}
	switch u := e.Update.(type) {
	case *adapter.BiasDelta:
		params := m.params(module, "bias")
		if len(params) > 0 {
			return Place{Tensor: params[0].Tensor}, nil
		}
		return Place{}, nil // also without such a module, which the update of its weight says
	case *adapter.Replace:
		params := m.params(module, u.Param)
		if len(params) == 0 {
			return Place{}, missing(m, unfit, module)
		}
		value := u.Value
		if params[0].inOut && len(value.Shape) == 2 {
			value = adapter.Transposed(value)
		}
		if !slices.Equal(params[0].Shape, value.Shape) {
			return Place{}, unfit("shape differs from %s (got %v, want %v)", formats.Quote(params[0].Name), value.Shape, params[0].Shape)
		}
		return Place{Tensor: params[0].Tensor, InOut: params[0].inOut}, nil
	}
	site, err := p.Site(e)
	return Place{site.Weight, site.InOut, site.First, site.Outs}, err
}

package patch

import (
	"math"
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// combineModule is a module with the updates that several adapters have for it.
type combineModule struct {
	module string
	parts  []combinePart
}

type combinePart struct {
	place  int // of the adapter in the list
	path   string
	weight float64
	update *adapter.LowRank
}

// widest is F64 where a factor is, else F32.
func (m *combineModule) widest() formats.DType {
	for _, p := range m.parts {
		if p.update.A.DType == formats.F64 || p.update.B.DType == formats.F64 {
			return formats.F64
		}
	}
	return formats.F32
}

// gather lists the modules of all adapters, in the order of their first appearance, and
// the parameters that are saved whole. It refuses what cannot be combined.
func gather(list []Weighted, method CombineMethod) ([]*combineModule, []adapter.Entry, error) {
	var problems formats.Problems
	var modules []*combineModule
	var saved []adapter.Entry
	byName := map[string]*combineModule{}
	savedBy := map[string]int{} // place in the list, by module
	for i, w := range list {
		path := w.Adapter.Path
		if math.IsNaN(w.Weight) || math.IsInf(w.Weight, 0) {
			problems.Add(formats.Usagef("the weight of %s is not finite", formats.Quote(path)))
			continue
		}
		problems.Add(checkTiedFactors(w.Adapter))
		for _, e := range w.Adapter.Entries {
			switch u := e.Update.(type) {
			case *adapter.LowRank:
				m, ok := byName[e.Module]
				if !ok {
					m = &combineModule{module: e.Module}
					byName[e.Module] = m
					modules = append(modules, m)
				}
				problems.Add(m.add(combinePart{i, path, w.Weight, u}, method))
			case *adapter.Replace:
				if j, twice := savedBy[e.Module]; twice && j != i {
					problems.Add(formats.Unfitf(path, u.Value.Name, "parameters saved whole (modules_to_save) cannot be combined, and %s saves those of module %s too", formats.Quote(list[j].Adapter.Path), formats.Quote(e.Module)))
				} else if w.Weight != 1 {
					problems.Add(formats.Unfitf(path, u.Value.Name, "a parameter saved whole (modules_to_save) cannot be weighted (got weight %v, want 1)", w.Weight))
				}
				savedBy[e.Module] = i
				saved = append(saved, e)
			case *adapter.Magnitude:
				problems.Add(formats.Unfitf(path, "", "module %s: DoRA's magnitudes cannot be combined, for what they do depends on the base's weights", formats.Quote(e.Module)).
					WithHint("merge each adapter into the base instead"))
			case *adapter.BiasDelta:
				problems.Add(formats.Unfitf(path, "", "module %s: a bias on B (lora_bias) cannot be combined", formats.Quote(e.Module)))
			default:
				problems.Add(formats.Unfitf(path, "", "module %s: an update of kind %s cannot be combined", formats.Quote(e.Module), u.Kind()))
			}
		}
	}
	for name, place := range savedBy {
		m := byName[name]
		if m == nil {
			continue
		}
		for _, p := range m.parts {
			if p.place != place {
				problems.Add(formats.Unfitf(p.path, p.update.A.Name, "%s saves module %s whole (modules_to_save): what this is added to is not the base", formats.Quote(list[place].Adapter.Path), formats.Quote(name)))
			}
		}
	}
	if err := problems.Err(); err != nil {
		return nil, nil, err
	}
	if len(modules) == 0 {
		return nil, nil, formats.Unfitf(list[0].Adapter.Path, "", "there are no low-rank updates to combine")
	}
	return modules, saved, nil
}

// add adds a part that fits those that are there.
func (m *combineModule) add(p combinePart, method CombineMethod) error {
	u := p.update
	if err := u.Check(); err != nil {
		return formats.Unfitf(p.path, u.A.Name, "%v", err)
	}
	m.parts = append(m.parts, p)
	first := m.parts[0]
	switch w := first.update; {
	case len(m.parts) == 1:
		return nil
	case p.place == m.parts[len(m.parts)-2].place:
		return formats.Unfitf(p.path, u.A.Name, "a second update of module %s", formats.Quote(m.module))
	case !slices.Equal(u.Shape(), w.Shape()):
		return formats.Unfitf(p.path, u.A.Name, "module %s has another shape than in %s (got %v, want %v)", formats.Quote(m.module), formats.Quote(first.path), u.Shape(), w.Shape())
	case u.Embedding != w.Embedding || !u.Embedding && u.FanInFanOut != w.FanInFanOut:
		return formats.Unfitf(p.path, u.A.Name, "module %s is stored the other way round than in %s (fan_in_fan_out, or an embedding)", formats.Quote(m.module), formats.Quote(first.path))
	case method.onFactors() && u.Rank() != w.Rank():
		return formats.Unfitf(p.path, u.A.Name, "method %s needs one rank: module %s has %d here and %d in %s", method, formats.Quote(m.module), u.Rank(), w.Rank(), formats.Quote(first.path)).
			WithHint("cat, svd and the _svd methods take any ranks")
	}
	return nil
}

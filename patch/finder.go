package patch

import (
	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// Finder finds where the updates of an adapter go in a base, by the rules of a plan, for who
// measures the base and changes nothing: modules that the adapter lacks, and weights that
// layers share, are no matter here.
type Finder struct {
	model   *Model
	adapter *adapter.Adapter
	names   renaming
}

// NewFinder finds the names that a base has for an adapter's modules. It fails with
// [formats.ErrUnfit] where there are several ways.
func NewFinder(m *Model, a *adapter.Adapter) (*Finder, error) {
	r, err := resolve(m, a)
	return &Finder{m, a, r}, err
}

// Site returns where the low-rank update of an entry goes: the first of the module's sites,
// with InOut as the update needs it. It fails with [formats.ErrUnfit] where the base has no
// such module, the shapes do not fit, or the weight is of no float type; and where the entry
// is no low-rank update.
func (p *Finder) Site(e adapter.Entry) (Site, error) {
	unfit := func(format string, args ...any) *formats.Error {
		return formats.Unfitf(p.adapter.Path, firstKey(e), format, args...)
	}
	u, ok := adapter.LowRankOf(e.Update)
	if !ok {
		return Site{}, unfit("module %s: an update of kind %s has no factors", formats.Quote(e.Module), e.Update.Kind())
	}
	module := p.names.apply(e.Module)
	site, ok := p.model.Site(module)
	if !ok {
		return site, missing(p.model, unfit, module)
	}
	if !site.Weight.DType.IsFloat() {
		return site, unfit("the base's %s is %s (want F64, F32, F16 or BF16)", formats.Quote(site.Weight.Name), site.Weight.DType)
	}
	var err error
	if site.Outs > 0 {
		if u, err = spread(u, site); err != nil {
			return site, unfit("%v", err)
		}
	}
	site.InOut, err = orientation(p.model, site, u, unfit)
	return site, err
}

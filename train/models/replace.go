package models

import (
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// slot finds the parameter that an entry replaces.
func (h *host) slot(module, param string) (name string, slot **autodiff.Value) {
	for _, path := range h.spellings(module) {
		if slot := h.slots[path+"."+param]; slot != nil {
			return path + "." + param, slot
		}
	}
	return "", nil
}

// replace plans a new value of a parameter, which is trained where the adapter is.
func (p *attachment) replace(i int, u *adapter.Replace) {
	e := p.ad.Entries[i]
	name, slot := p.host.slot(e.Module, u.Param)
	if slot == nil || *slot == nil {
		p.noModule(e, "or it has no parameter "+formats.Quote(u.Param))
		return
	}
	old, flipped := *slot, p.host.flipped[name]
	rows, cols := old.Rows, old.Cols
	if flipped {
		rows, cols = cols, rows
	}
	if !sameShape(u.Value.Shape, rows, cols) {
		p.unfit(e, "%s does not fit (got %v, want %d×%d)", u.Param, u.Value.Shape, rows, cols)
		return
	}
	if p.weight != 1 {
		p.unfit(e, "a replaced parameter cannot be weighted (got a weight of %g)", p.weight)
		return
	}
	if p.host.replaced[name] || p.replaces[name] != nil {
		p.unfit(e, "%s is replaced twice", u.Param)
		return
	}
	data := p.read(e, u.Value)
	if data == nil {
		return
	}
	if flipped {
		data = transposed(data, rows, cols)
	}
	if p.train && !p.savedAlong(e, u) {
		p.replaces[name] = p.trained(i, name, u.Value.Shape, old.Rows, old.Cols, data, flipped)
	} else {
		p.replaces[name] = autodiff.Frozen(old.Rows, old.Cols, data)
	}
}

// savedAlong reports whether an entry is the weight of an embedding or a head that PEFT
// saved beside what was trained (save_embedding_layers) and does not train.
func (p *attachment) savedAlong(e adapter.Entry, u *adapter.Replace) bool {
	if u.Param != "weight" || p.ad.Selection == nil {
		return false
	}
	if slices.ContainsFunc(p.ad.Selection.ModulesToSave, func(name string) bool {
		return strings.HasSuffix(e.Module, name) || strings.Contains("."+e.Module+".", "."+name+".")
	}) {
		return false
	}
	names := p.host.spellings(e.Module)
	return slices.Contains(names, "lm_head") || slices.ContainsFunc(p.host.tables, func(t *table) bool { return slices.Contains(names, t.path) })
}

// sameShape reports whether a stored shape is that of a parameter: rows and columns, or
// the columns alone for a vector.
func sameShape(shape []int64, rows, cols int) bool {
	if len(shape) == 1 {
		return rows == 1 && shape[0] == int64(cols)
	}
	return len(shape) == 2 && shape[0] == int64(rows) && shape[1] == int64(cols)
}

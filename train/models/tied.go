package models

import (
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// headPath is the module that scores tokens.
const headPath = "lm_head"

// ties are an adapter's entries for the two ends of a weight that embedding and head
// share, −1 where there is none.
type ties struct {
	table, head int
	alike       bool // the head's is the embedding's once more
}

// tiesOf finds the entries of an adapter that are meant for both ends (ensure_weight_tying).
// Without that word each end has what its own entry says, and an end without one keeps the
// base's weight.
func (h *host) tiesOf(ad *adapter.Adapter) (ties, error) {
	t := ties{table: -1, head: -1}
	if h.tied == nil || !ad.Tied {
		return t, nil
	}
	find := func(path string, low bool) int {
		return slices.IndexFunc(ad.Entries, func(e adapter.Entry) bool {
			_, isLow := adapter.LowRankOf(e.Update)
			u, whole := e.Update.(*adapter.Replace)
			return (low && isLow || !low && whole && u.Param == "weight") && slices.Contains(h.spellings(e.Module), path)
		})
	}
	for _, low := range []bool{true, false} { // factors, which may have the weight saved along
		if t.table = find(h.tied.path, low); t.table >= 0 {
			t.head = find(headPath, low)
			break
		}
	}
	if t.table < 0 || t.head < 0 {
		return t, nil
	}
	var err error
	t.alike, err = alike(ad, ad.Entries[t.table], ad.Entries[t.head])
	return t, err
}

// alike reports whether two entries do the same to the weight that an embedding and a head
// share: the head's factors are the embedding's the other way round.
func alike(ad *adapter.Adapter, table, head adapter.Entry) (bool, error) {
	switch u := table.Update.(type) {
	case *adapter.Replace:
		if v, ok := head.Update.(*adapter.Replace); ok {
			return sameTensor(ad, u.Value, v.Value)
		}
	case *adapter.LowRank:
		v, ok := head.Update.(*adapter.LowRank)
		if !ok || !u.Embedding || v.Embedding || len(u.A.Shape) != 2 || len(u.B.Shape) != 2 || len(v.A.Shape) != 2 || len(v.B.Shape) != 2 {
			return false, nil
		}
		same, err := sameTensor(ad, u.A, adapter.Transposed(v.B))
		if err != nil || !same {
			return false, err
		}
		return sameTensor(ad, u.B, adapter.Transposed(v.A))
	}
	return false, nil
}

func sameTensor(ad *adapter.Adapter, t, u formats.Tensor) (bool, error) {
	if t.DType != u.DType || !slices.Equal(t.Shape, u.Shape) {
		return false, nil
	}
	return formats.SameBytes(ad.Path, t, ad.Path, u, nil)
}

// tie gives the head what is planned for the embedding. Both are one parameter then, whose
// gradients add up.
func (p *attachment) tie(t ties) {
	if p.host.tied == nil {
		return
	}
	path, head := p.host.tied.path, headPath+".weight"
	if p.replaces[path+".weight"] != nil && p.replaces[head] == nil && !p.host.replaced[head] && p.isSavedAlong(path) {
		// That goes into the parameter that both have.
		p.replaces[head] = p.replaces[path+".weight"]
	}
	if t.table < 0 || t.head >= 0 && !t.alike {
		return
	}
	e := p.ad.Entries[t.table]
	switch e.Update.(type) {
	case *adapter.Magnitude:
		p.unfit(e, "a magnitude on an embedding that the head is tied to (ensure_weight_tying) is not implemented for training and running")
	case *adapter.Replace:
		if p.host.replaced[head] {
			p.unfit(e, "weight is replaced twice")
			return
		}
		p.replaces[head] = p.replaces[path+".weight"]
		if t.head >= 0 {
			p.parts[t.head] = p.parts[t.table]
		}
	default:
		p.tieFactors(t)
	}
}

// tieFactors puts the embedding's factors on the head.
func (p *attachment) tieFactors(t ties) {
	at := slices.IndexFunc(p.grafts, func(g *graft) bool { return g.entry == t.table })
	g := p.grafts[at]
	both := &graft{path: headPath, entry: t.head, on: &p.host.byPath[headPath].branches, branch: branch{a: g.a, b: g.b, scale: g.scale, turned: true}}
	if p.train {
		both.number = uint64(len(p.grafts)) + 1
	}
	if t.head >= 0 {
		// The scale is the head's own: a pattern may give it another.
		both.scale = float32(p.weight * p.ad.Entries[t.head].Update.(*adapter.LowRank).Scale)
		if p.train {
			a, b := p.parts[t.table][0], p.parts[t.table][1]
			a.turned, b.turned = true, true
			p.parts[t.head] = []part{b, a}
		}
	}
	p.grafts = append(p.grafts, both)
}

// isSavedAlong reports whether the embedding's new weight is one that PEFT saved along.
func (p *attachment) isSavedAlong(path string) bool {
	return slices.ContainsFunc(p.ad.Entries, func(e adapter.Entry) bool {
		u, ok := e.Update.(*adapter.Replace)
		return ok && slices.Contains(p.host.spellings(e.Module), path) && p.savedAlong(e, u)
	})
}

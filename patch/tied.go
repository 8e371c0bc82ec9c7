package patch

import (
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
)

// tiedEnd says which end of a weight that two layers share a module is.
type tiedEnd uint8

const (
	notTied tiedEnd = iota
	tiedInput
	tiedHead
)

func (m *Model) tiedEnd(module string) tiedEnd {
	if !m.tied {
		return notTied
	}
	if site, ok := m.Site(module); ok && site.Kind == Embedding && isInputEmbedding(module) {
		return tiedInput
	}
	if hf.IsOutputHead(module) {
		return tiedHead
	}
	return notTied
}

// checkTied refuses a change of one of two layers that share a weight, unless the adapter
// changes both alike or says that it means both. done says that there is nothing to do for
// the entry: it is the head's copy of what is done to the embedding.
func checkTied(m *Model, w Weighted, e adapter.Entry, module string, r renaming, unfit func(string, ...any) *formats.Error) (done bool, err error) {
	end := m.tiedEnd(module)
	if end == notTied {
		return false, nil
	}
	alike := false
	for _, other := range w.Adapter.Entries {
		if of := m.tiedEnd(r.apply(other.Module)); of != notTied && of != end && !alike {
			if alike, err = sameChange(w.Adapter.Path, e, other, end == tiedHead); err != nil {
				return false, err
			}
		}
	}
	stored := slices.ContainsFunc(m.Sites, func(s Site) bool { return m.tiedEnd(s.Module) == tiedHead })
	if alike || end == tiedInput && w.Adapter.Tied && !stored {
		return end == tiedHead && !stored, nil
	}
	return false, tiedError(module, unfit)
}

func tiedError(module string, unfit func(string, ...any) *formats.Error) error {
	return unfit("module %s shares its weight with another (tie_word_embeddings): changing one would change both", formats.Quote(module)).
		WithHint("untie the base first: save it with tie_word_embeddings false and both weights")
}

// sameChange reports whether two entries do the same to the weight that an embedding and a
// head share. The head's factors are the embedding's the other way round.
func sameChange(path string, e, other adapter.Entry, head bool) (bool, error) {
	if head {
		e, other = other, e
	}
	switch u := e.Update.(type) {
	case *adapter.Replace:
		v, ok := other.Update.(*adapter.Replace)
		if !ok || u.Param != v.Param {
			return false, nil
		}
		return sameTensor(path, u.Value, v.Value)
	case *adapter.LowRank:
		v, ok := other.Update.(*adapter.LowRank)
		if !ok || !u.Embedding || v.Embedding || u.Scale != v.Scale || len(v.A.Shape) != 2 || len(v.B.Shape) != 2 {
			return false, nil
		}
		same, err := sameTensor(path, u.A, adapter.Transposed(v.B))
		if err != nil || !same {
			return false, err
		}
		return sameTensor(path, u.B, adapter.Transposed(v.A))
	}
	return false, nil
}

// sameTensor compares types, shapes and bytes.
func sameTensor(path string, t, u formats.Tensor) (bool, error) {
	if t.DType != u.DType || !slices.Equal(t.Shape, u.Shape) {
		return false, nil
	}
	return formats.SameBytes(path, t, path, u, nil)
}

// checkTiedFactors refuses factors of an embedding that are the head's too: made anew they would
// be two changes of one weight.
func checkTiedFactors(a *adapter.Adapter) error {
	for _, e := range a.Entries {
		if u, ok := e.Update.(*adapter.LowRank); ok && a.Tied && u.Embedding {
			return formats.Unfitf(a.Path, "", "module %s: its factors are those of the head too (ensure_weight_tying), and cannot be made anew apart from them", formats.Quote(e.Module))
		}
	}
	return nil
}

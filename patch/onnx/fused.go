package onnx

import (
	"strings"

	"github.com/seed-b982eded/graft/formats/adapter"
)

// together are modules that exporters put into one layer, in the order of its outputs. The
// names are those of ONNX Runtime's model builder.
var together = []struct {
	whole string
	parts []string
}{
	{"qkv_proj", []string{"q_proj", "k_proj", "v_proj"}},
	{"gate_up_proj", []string{"gate_proj", "up_proj"}},
}

// partsOf returns the layers that hold a module's numbers among others.
func (b *Binding) partsOf(a *adapter.Adapter, e adapter.Entry) ([]*bound, error) {
	var found []*Layer
	var out []*bound
	for _, l := range b.Layers {
		for _, p := range l.parts {
			if p.module == e.Module {
				found = append(found, l)
				out = append(out, &bound{l, e.Module, p.first, p.outs})
			}
		}
	}
	for _, l := range found {
		if !sameModule(found[0], l) {
			return nil, ambiguous(a, e, found)
		}
	}
	return out, nil
}

// fused finds a module in a layer that holds several side by side. Where it begins is told
// by the sizes: two parts are as large as each other, of three the second and third are,
// and the first is no smaller.
func (b *Binding) fused(a *adapter.Adapter, e adapter.Entry) ([]*bound, error) {
	u, ok := adapter.LowRankOf(e.Update)
	if !ok || u.Check() != nil {
		return nil, nil
	}
	dot, outs := strings.LastIndexByte(e.Module, '.'), u.B.Shape[0]
	for _, t := range together {
		for i, part := range t.parts {
			if e.Module[dot+1:] != part {
				continue
			}
			found, err := b.match(a, adapter.Entry{Module: e.Module[:dot+1] + t.whole, Keys: e.Keys})
			if err != nil || len(found) == 0 {
				return nil, err
			}
			for _, x := range found {
				first, ok := partBegins(x.Out, outs, i, len(t.parts))
				if !ok {
					return nil, nil
				}
				x.module, x.first, x.outs = e.Module, first, outs
			}
			return found, nil
		}
	}
	return nil, nil
}

// partBegins returns where part i of 2 or 3 begins, which has outs of a layer's all outputs.
func partBegins(all, outs int64, i, parts int) (first int64, ok bool) {
	switch {
	case parts == 2:
		return int64(i) * outs, all == 2*outs
	case i == 0:
		rest := all - outs
		return 0, rest > 0 && rest%2 == 0 && rest/2 <= outs
	}
	return all - int64(parts-i)*outs, all >= 3*outs
}

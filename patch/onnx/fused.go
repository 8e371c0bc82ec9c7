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
func (b *Binding) partsOf(module string) []*bound {
	var out []*bound
	for _, l := range b.Layers {
		for _, p := range l.parts {
			if p.module == module {
				out = append(out, &bound{l, module, p.first, p.outs})
			}
		}
	}
	return out
}

// fused finds a module in a layer that holds several side by side. Where it begins is told
// by the sizes: the first part begins at 0, the last ends at the end, and of three the
// second and third are as large.
func (b *Binding) fused(e adapter.Entry) ([]*bound, error) {
	u, ok := adapter.LowRankOf(e.Update)
	dot := strings.LastIndexByte(e.Module, '.')
	if !ok || dot < 0 {
		return nil, nil
	}
	outs := u.B.Shape[0]
	for _, t := range together {
		for i, part := range t.parts {
			if e.Module[dot+1:] != part {
				continue
			}
			found, err := b.match(&adapter.Adapter{}, adapter.Entry{Module: e.Module[:dot+1] + t.whole})
			if err != nil || len(found) == 0 {
				return nil, err
			}
			for _, x := range found {
				x.module, x.outs = e.Module, outs
				switch {
				case i == 0:
				case i == len(t.parts)-1:
					x.first = x.Out - outs
				default:
					x.first = x.Out - 2*outs
				}
				if x.first < 0 || x.first+outs > x.Out {
					return nil, nil
				}
			}
			return found, nil
		}
	}
	return nil, nil
}

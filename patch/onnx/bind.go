package onnx

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/patch"
)

// agreement says how well two paths of modules agree.
type agreement int

const (
	none    agreement = iota
	mangled           // one ends with the other where dots are written as underscores
	suffix            // one ends with the other: the export began at another module
	alias             // equal but for the name of attention
	equal
)

// agrees compares two paths of modules.
func agrees(a, b string) agreement {
	if a == b {
		return equal
	}
	a, b = withoutSelf(a), withoutSelf(b)
	if a == b {
		return alias
	}
	if endsWith(a, b, '.') || endsWith(b, a, '.') {
		return suffix
	}
	a, b = strings.ReplaceAll(a, ".", "_"), strings.ReplaceAll(b, ".", "_")
	if a == b || endsWith(a, b, '_') || endsWith(b, a, '_') {
		return mangled
	}
	return none
}

func endsWith(long, short string, sep byte) bool {
	return short != "" && len(long) > len(short) && long[len(long)-len(short)-1] == sep && strings.HasSuffix(long, short)
}

// withoutSelf gives attention one name: the model builder of ONNX Runtime calls it attn.
func withoutSelf(path string) string {
	parts := strings.Split(path, ".")
	for i, p := range parts {
		if p == "self_attn" {
			parts[i] = "attn"
		}
	}
	return strings.Join(parts, ".")
}

// Binding is a model with the layers that adapters change.
type Binding struct {
	Model  *wire.Model
	Layers []*Layer

	index *index
	of    map[string][]*bound // by the adapters' module paths
	order []string            // of the modules
}

// bound is a layer as a module, or the part of one that is.
type bound struct {
	*Layer
	module      string
	first, outs int64 // outs is 0 for all
}

// Bind finds the layers that adapters speak of. Modules that no layer is are left to the
// plan, which refuses them; a module that may be several layers, or a layer that may be
// several modules, is a [formats.ErrUnfit] that names them. weights is as for [Find].
func Bind(m *wire.Model, weights *patch.Model, adapters ...*adapter.Adapter) (*Binding, error) {
	x := newIndex(m)
	layers, err := x.find(weights)
	if err != nil {
		return nil, err
	}
	b := &Binding{Model: m, Layers: layers, index: x, of: map[string][]*bound{}}
	var problems formats.Problems
	for _, a := range adapters {
		for _, e := range a.Entries {
			if _, ok := b.of[e.Module]; ok {
				continue
			}
			found, err := b.match(a, e)
			if err != nil {
				problems.Add(err)
				continue
			}
			if len(found) > 0 {
				b.of[e.Module] = found
				b.order = append(b.order, e.Module)
			}
		}
	}
	problems.Add(b.checkApart(adapters))
	return b, problems.Err()
}

// match finds the layers of a module: those that agree with it best, of those the ones with
// the strongest evidence.
func (b *Binding) match(a *adapter.Adapter, e adapter.Entry) ([]*bound, error) {
	best, strongest := none, 0
	var found []*Layer
	for _, l := range b.Layers {
		q, rank := l.agreesWith(e.Module)
		if q == none || q < best || q == best && rank > strongest {
			continue
		}
		if q > best || rank < strongest {
			found = nil
		}
		best, strongest = q, rank
		found = append(found, l)
	}
	if best < equal {
		if parts := b.partsOf(e.Module); len(parts) > 0 {
			return parts, nil
		}
	}
	if len(found) == 0 {
		return b.fused(e)
	}
	out := make([]*bound, len(found))
	for i, l := range found {
		if i > 0 && !sameModule(found[0], l) {
			return nil, ambiguous(a, e, found)
		}
		out[i] = &bound{Layer: l, module: e.Module}
	}
	return out, nil
}

// agreesWith returns how well the layer's evidence agrees with a module at best, and how
// far down in it that is said first.
func (l *Layer) agreesWith(module string) (best agreement, rank int) {
	for _, ev := range l.Evidence {
		if q := agrees(ev.Path, module); q > best {
			best, rank = q, slices.Index(rules, ev.Rule)
		}
	}
	return best, rank
}

// sameModule reports whether two layers are one module used twice: in two branches of an
// If, with one weight, or under one name that was numbered.
func sameModule(a, b *Layer) bool {
	if a.In != b.In || a.Out != b.Out || a.Kind != b.Kind {
		return false
	}
	if inBranches(a.Node.Graph, b.Node.Graph) {
		return true
	}
	if a.frame == nil && b.frame == nil && a.base() != "" {
		return a.base() == b.base()
	}
	return a.Weight == b.Weight
}

// inBranches reports whether two graphs lie in different branches of one If.
func inBranches(a, b *wire.Graph) bool {
	branch := map[*wire.Node]*wire.Graph{}
	for g := a; g != nil && g.ParentNode != nil; g = g.Parent {
		if g.ParentNode.OpType == "If" {
			branch[g.ParentNode] = g
		}
	}
	for g := b; g != nil && g.ParentNode != nil; g = g.Parent {
		if other, ok := branch[g.ParentNode]; ok {
			return other != g
		}
	}
	return false
}

func ambiguous(a *adapter.Adapter, e adapter.Entry, layers []*Layer) error {
	var names []string
	for _, l := range layers {
		names = append(names, l.describe())
	}
	more := ""
	if len(names) > 5 {
		more = fmt.Sprintf(" and %d more", len(names)-5)
	}
	return formats.Unfitf(a.Path, firstKey(e), "module %s could be any of %s%s", formats.Quote(e.Module), strings.Join(names[:min(5, len(names))], ", "), more)
}

// describe names a layer for messages.
func (l *Layer) describe() string {
	name := l.Node.Name
	if name == "" {
		name = l.Node.Outputs[0]
	}
	if l.Path == "" {
		return fmt.Sprintf("node %s", formats.Quote(name))
	}
	return fmt.Sprintf("node %s (%s by its %s)", formats.Quote(name), formats.Quote(l.Path), l.Evidence[0].Rule)
}

func firstKey(e adapter.Entry) string {
	if len(e.Keys) > 0 {
		return e.Keys[0]
	}
	return e.Module
}

// checkApart refuses two modules that were found in the same layer.
func (b *Binding) checkApart(adapters []*adapter.Adapter) error {
	owner := map[*Layer]*bound{}
	var problems formats.Problems
	for _, module := range b.order {
		for _, x := range b.of[module] {
			old, ok := owner[x.Layer]
			if !ok {
				owner[x.Layer] = x
				continue
			}
			if old.outs > 0 && x.outs > 0 && (old.first+old.outs <= x.first || x.first+x.outs <= old.first) {
				continue
			}
			problems.Add(formats.Unfitf(adapters[0].Path, "", "modules %s and %s are both found in %s", formats.Quote(old.module), formats.Quote(module), x.describe()))
		}
	}
	return problems.Err()
}

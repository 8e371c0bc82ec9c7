package onnx

import (
	"cmp"
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
	mangled           // one is the other, or ends with it, with underscores for the dots
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
	if isMangled(a, b) || isMangled(b, a) {
		return mangled
	}
	return none
}

// isMangled reports whether a name without dots is a path, or the end of it from one of its
// modules on, with underscores for the dots; there may be more before that.
func isMangled(name, path string) bool {
	if strings.Contains(name, ".") {
		return false
	}
	name = attn(name)
	for at := 0; strings.Contains(path[at:], "."); at += strings.IndexByte(path[at:], '.') + 1 {
		end := underscored(path[at:])
		if name == end || at == 0 && endsWith(name, end, '_') {
			return true
		}
	}
	return false
}

// common counts the modules that two paths end with alike.
func common(a, b string) int {
	x, y := strings.Split(withoutSelf(a), "."), strings.Split(withoutSelf(b), ".")
	n := 0
	for n < len(x) && n < len(y) && x[len(x)-1-n] == y[len(y)-1-n] {
		n++
	}
	return n
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
	named []string            // the modules that the adapters speak of
	near  *candidates         // made when it is first needed

	pathNames map[string]bool // of modules and what holds them, anywhere in the evidence
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
	b := &Binding{Model: m, Layers: layers, index: x, of: map[string][]*bound{}, pathNames: map[string]bool{}}
	for _, l := range layers {
		for _, ev := range l.Evidence {
			for _, name := range strings.Split(ev.Path, ".") {
				b.pathNames[name] = true
			}
		}
	}
	for _, a := range adapters {
		for _, e := range a.Entries {
			b.named = append(b.named, e.Module)
		}
	}
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
	if b.near == nil {
		b.near = newCandidates(b.Layers)
	}
	best, longest, strongest := none, 0, 0
	var found []*Layer
	for _, l := range b.near.of(e.Module) {
		q, length, rank := l.agreesWith(e.Module)
		order := cmp.Or(cmp.Compare(q, best), cmp.Compare(length, longest), cmp.Compare(strongest, rank))
		if q == none || order < 0 {
			continue
		}
		if order > 0 {
			found = nil
		}
		best, longest, strongest = q, length, rank
		found = append(found, l)
	}
	if best < equal {
		if parts, err := b.partsOf(a, e); err != nil || len(parts) > 0 {
			return parts, err
		}
	}
	if len(found) == 0 {
		return b.fused(a, e)
	}
	if best <= suffix {
		if err := b.checkTower(a, e, found[0]); err != nil {
			return nil, err
		}
	}
	out := make([]*bound, len(found))
	for i, l := range found {
		if why := l.folded(); why != "" {
			return nil, formats.Unfitf(b.Model.Path, l.Weight.Name, "%s is module %s, but %s: its weight is no longer the module's", l.describe(), formats.Quote(e.Module), why).
				WithHint("export again without that: torch.onnx.export(..., optimize=False), or training=TrainingMode.PRESERVE and do_constant_folding=False")
		}
		if i > 0 && !sameModule(found[0], l) {
			return nil, ambiguous(a, e, found)
		}
		out[i] = &bound{Layer: l, module: e.Module}
	}
	if again := b.usesAgain(found); len(again) > 0 {
		return nil, ambiguous(a, e, append(found, again...)).WithHint("a module that is used again looks like another with an equal weight: --weights DIR tells them apart")
	}
	return out, nil
}

// towers are names of parts of a model that have layers of the same names, of which an export
// may hold one alone, without its name.
var towers = []string{
	"encoder", "decoder", "text_model", "vision_model", "audio_model", "text_encoder", "vision_encoder", "audio_encoder", "image_encoder",
	"text_tower", "vision_tower", "audio_tower", "language_model",
}

// checkTower refuses a module of which the layer's name leaves out the part of the model that
// it is in, where no name in the graph has that: it may be another part.
func (b *Binding) checkTower(a *adapter.Adapter, e adapter.Entry, l *Layer) error {
	short := strings.Split(e.Module, ".")
	short = short[:max(0, len(short)-common(e.Module, l.closest(e.Module)))]
	for _, name := range short {
		if slices.Contains(towers, name) && !b.pathNames[name] {
			return formats.Unfitf(a.Path, firstKey(e), "module %s may be %s, but nothing in the graph is called %s: its layers may be those of another part of the model", formats.Quote(e.Module), l.describe(), formats.Quote(name)).
				WithHint("--prefix %s takes the adapter's modules below that for the graph's", strings.Join(short, "."))
		}
	}
	return nil
}

// closest returns the path in the evidence that agrees best with a module.
func (l *Layer) closest(module string) string {
	best := ""
	for _, ev := range l.Evidence {
		if agrees(ev.Path, module) != none && common(ev.Path, module) >= common(best, module) {
			best = ev.Path
		}
	}
	return best
}

// usesAgain returns the layers that may be the found module's further uses: TorchScript
// numbers those, and only a name that the module's bias has tells "fc_1", the second use
// of fc, from a module fc_1 with an equal weight.
func (b *Binding) usesAgain(found []*Layer) []*Layer {
	var out []*Layer
	for _, l := range b.near.withWeight(found[0].Weight) {
		own, ok := l.at(ruleNode)
		if !ok || l.Evidence[0] != own || l.frame != nil || slices.Contains(found, l) {
			continue
		}
		first := reused.ReplaceAllString(own.Path, "")
		e, ok := found[0].at(ruleNode)
		if !ok || first == own.Path || first != e.Path {
			continue
		}
		if !slices.ContainsFunc(b.named, func(module string) bool { return agrees(own.Path, module) >= suffix }) {
			out = append(out, l)
		}
	}
	return out
}

// agreesWith returns how well the layer's evidence agrees with a module at best, and how
// far down in it that is said first.
func (l *Layer) agreesWith(module string) (best agreement, length, rank int) {
	if ev, ok := l.at(ruleValue); ok && agrees(ev.Path, module) == none {
		return none, 0, 0 // numbers are stronger than any name
	}
	for _, ev := range l.Evidence {
		q, n := agrees(ev.Path, module), common(ev.Path, module)
		if q > best || q == best && q != none && n > length {
			best, length, rank = q, n, slices.Index(rules, ev.Rule)
		}
	}
	return best, length, rank
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
	return a.Weight == b.Weight || sameFold(a, b)
}

// sameFold reports whether the weights of two layers were made from one parameter: an
// exporter that folds a transposition does so for each use of a module.
func sameFold(a, b *Layer) bool {
	x, ok := a.at(ruleWeight)
	y, also := b.at(ruleWeight)
	return ok && also && x == y && strings.HasPrefix(x.From, "[") && a.Path == b.Path
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

func ambiguous(a *adapter.Adapter, e adapter.Entry, layers []*Layer) *formats.Error {
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

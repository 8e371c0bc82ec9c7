package onnx

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/patch"
)

// copied is a weight that gets a tensor of its own, because others use the one it has.
type copied struct {
	leaf   *wire.Tensor
	layers []*Layer // that take the copy
	graph  *wire.Graph
	name   string
	tensor formats.Tensor // its data, of the base, under its new key
}

// Sites is what a plan needs to know of a graph: the base with the copies of shared weights
// that the adapters' modules need, and where each module's weight is.
type Sites struct {
	Model *patch.Model

	binding *Binding
	copies  map[string]*copied      // by key
	tensors map[string]*wire.Tensor // the others, by key
}

// Sites makes the modules of the binding into ones that a plan can change. It fails with
// [formats.ErrUnfit] where a weight is quantised, or cannot change alone.
func (b *Binding) Sites() (*Sites, error) {
	s := &Sites{binding: b, copies: map[string]*copied{}, tensors: map[string]*wire.Tensor{}}
	var problems formats.Problems
	weight := map[*Layer]formats.Tensor{}
	byLeaf := map[*wire.Tensor][]*Layer{}
	seen := map[*Layer]bool{}
	var leaves []*wire.Tensor
	for _, module := range b.order {
		for _, x := range b.of[module] {
			if x.Quantized != "" || !x.Weight.Data.DType.IsFloat() {
				problems.Add(notFloats(b.Model.Path, module, x.Layer))
				continue
			}
			if x.Kind == patch.Embedding && !x.InOut {
				problems.Add(formats.Unfitf(b.Model.Path, x.Weight.Name, "cannot merge into the weight of module %s: an embedding that is stored transposed is not supported", formats.Quote(module)).
					WithHint("graft inject adds the adapter to the graph"))
				continue
			}
			if seen[x.Layer] {
				continue
			}
			seen[x.Layer] = true
			if byLeaf[x.Weight] == nil {
				leaves = append(leaves, x.Weight)
			}
			byLeaf[x.Weight] = append(byLeaf[x.Weight], x.Layer)
		}
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	used, modules, having := b.names(), b.modules(), map[*wire.Tensor]int{}
	for _, l := range b.Layers {
		having[l.Weight]++
	}
	for _, leaf := range leaves {
		problems.Add(s.share(leaf, byLeaf[leaf], having[leaf], used, modules, weight))
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	base, err := s.base()
	if err != nil {
		return nil, err
	}
	s.Model = patch.NewGraphModel(base, s.sites(weight))
	return s, nil
}

// notFloats refuses to merge into a weight that is no float numbers.
func notFloats(file, module string, l *Layer) error {
	if l.Quantized == "" {
		return formats.Unfitf(file, l.Weight.Name, "cannot merge into the weight of module %s: it is %s (want floats)", formats.Quote(module), l.Weight.DataType)
	}
	err := formats.Unfitf(file, l.Weight.Name, "cannot merge into the weight of module %s: it is quantised (%s)", formats.Quote(module), l.Quantized)
	if l.Kind != patch.Linear {
		return err
	}
	return err.WithHint("graft inject adds the adapter to the graph beside it")
}

// share decides which layers keep a weight, which having layers have, and which get copies
// of it.
func (s *Sites) share(leaf *wire.Tensor, layers []*Layer, having int, used *nameSet, modules map[*Layer]string, weight map[*Layer]formats.Tensor) error {
	b := s.binding
	groups := map[string][]*Layer{}
	var order []string
	for _, l := range layers {
		key := modules[l]
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], l)
	}
	others := b.others(leaf, layers, having)
	for i, key := range order {
		if i == 0 && others == 0 {
			s.tensors[leaf.Key] = leaf
			for _, l := range groups[key] {
				weight[l] = leaf.Data
			}
			continue
		}
		c := &copied{leaf: leaf, layers: groups[key], graph: layers[0].chain.graph}
		if err := b.apart(leaf, c.layers); err != nil {
			return err
		}
		module, _, _ := strings.Cut(key, "\x00")
		c.name = fresh(used, module+".weight")
		c.tensor = leaf.Data
		c.tensor.Name = c.name
		if c.graph.Scope != "" {
			c.tensor.Name = c.graph.Scope + "/" + c.name
		}
		s.copies[c.tensor.Name] = c
		for _, l := range c.layers {
			weight[l] = c.tensor
		}
	}
	return nil
}

// modules returns the modules that each layer is, joined by zero bytes, of those that are
// any.
func (b *Binding) modules() map[*Layer]string {
	all := map[*Layer]string{}
	for _, module := range b.order {
		for _, x := range b.of[module] {
			old, ok := all[x.Layer]
			switch {
			case !ok:
				all[x.Layer] = module
			case old != module && !strings.HasSuffix(old, "\x00"+module):
				all[x.Layer] = old + "\x00" + module
			}
		}
	}
	return all
}

// others counts the uses of a weight by anything but some of the layers that have it.
func (b *Binding) others(leaf *wire.Tensor, layers []*Layer, having int) int {
	n := 0
	at := byNode(layers)
	b.leafEnds(leaf, layers[0].chain, func(e end) {
		if !at.has(e) {
			n++
		}
	})
	// Inside of a function a weight serves every call, and the walk saw one.
	return n + having - len(layers)
}

// nodeLayers are some layers by their nodes.
type nodeLayers map[callNode][]*Layer

// callNode is a node in a call of the function that it is in, or in none.
type callNode struct{ node, call *wire.Node }

func callNodeOf(n *wire.Node, f *frame) callNode {
	if f == nil {
		return callNode{node: n}
	}
	return callNode{n, f.call}
}

func byNode(layers []*Layer) nodeLayers {
	at := nodeLayers{}
	for _, l := range layers {
		key := callNodeOf(l.Node, l.frame)
		at[key] = append(at[key], l)
	}
	return at
}

// has reports whether an end is the weight operand of one of the layers.
func (at nodeLayers) has(e end) bool {
	return slices.ContainsFunc(at[callNodeOf(e.node, e.frame)], func(l *Layer) bool { return l.isAt(e) })
}

// leafEnds calls f for all uses of a weight.
func (b *Binding) leafEnds(leaf *wire.Tensor, c chain, f func(end)) {
	b.index.ends(place{c.graph, c.leafName(), c.frame}, f)
}

// leafName is what the value is called that the weight is.
func (c *chain) leafName() string { return c.names[len(c.names)-1] }

// isAt reports whether an end is the layer's weight operand.
func (l *Layer) isAt(e end) bool {
	if l.Node != e.node || l.arg != e.arg {
		return false
	}
	a, b := l.frame, e.frame
	for a != nil && b != nil && a.call == b.call {
		a, b = a.up, b.up
	}
	return a == nil && b == nil
}

// apart reports what stands in the way of giving some layers a weight of their own.
func (b *Binding) apart(leaf *wire.Tensor, layers []*Layer) error {
	at, seen := byNode(layers), map[use]bool{}
	for _, l := range layers {
		if l.chain.frame != nil {
			return formats.Unfitf(b.Model.Path, leaf.Name, "it lies in a function that is called more than once, and %s cannot change alone", l.describe())
		}
		call, inside := l.outermostCall()
		if !inside || seen[call] {
			continue
		}
		seen[call] = true
		// The weight is given to the call: all that the function does with it changes.
		fn := b.index.called(call.node)
		shared := false
		b.index.ends(place{fn.Body, fn.Inputs[call.arg], &frame{call.node, nil}}, func(e end) {
			shared = shared || !at.has(e)
		})
		if shared {
			return formats.Unfitf(b.Model.Path, leaf.Name, "function %s uses it for more than %s, which cannot change alone", formats.Quote(fn.Name), l.describe())
		}
	}
	return nil
}

// outermostCall returns the argument that the weight comes through, if the layer is in a
// function: of nested calls the one around all others.
func (l *Layer) outermostCall() (use, bool) {
	for _, s := range slices.Backward(l.chain.steps) {
		if s.node == nil {
			return s.call, true
		}
	}
	return use{}, false
}

// nameSet is a set of names that are used.
type nameSet struct {
	used map[string]bool
	next map[string]int // the first number that may be free behind a name
}

// names returns every name that a value of the model has.
func (b *Binding) names() *nameSet {
	used := map[string]bool{}
	for g, gi := range b.index.graphs {
		for _, name := range g.SparseNames {
			used[name] = true
		}
		for name := range gi.produced {
			used[name] = true
		}
		for name := range gi.initializers {
			used[name] = true
		}
		for name := range gi.inputs {
			used[name] = true
		}
		for name := range gi.uses {
			used[name] = true
		}
	}
	return &nameSet{used, map[string]int{}}
}

// fresh returns a name that is not used yet, and uses it: the name, or the first of
// name_1, name_2 and so on.
func fresh(names *nameSet, name string) string {
	try, i := name, names.next[name]
	if i > 0 { // of many equal names, what was used before is not tried again
		try = fmt.Sprintf("%s_%d", name, i)
	}
	for names.used[try] {
		i++
		try = fmt.Sprintf("%s_%d", name, i)
	}
	names.used[try] = true
	names.next[name] = i
	return try
}

// base is the model's checkpoint with the copies in the model file.
func (s *Sites) base() (*formats.Checkpoint, error) {
	c := s.binding.Model.Checkpoint()
	if len(s.copies) == 0 {
		return c, nil
	}
	shards := slices.Clone(c.Shards())
	first := &shards[0]
	first.Tensors = slices.Clone(first.Tensors)
	for _, key := range s.copyKeys() {
		first.Tensors = append(first.Tensors, s.copies[key].tensor)
	}
	return formats.NewCheckpoint(c.Path(), c.Layout(), shards, c.SideFiles())
}

func (s *Sites) copyKeys() []string {
	var keys []string
	for key := range s.copies {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// sites lists the modules of the binding, and after them the layers that no adapter names,
// under the paths that the evidence gives them.
func (s *Sites) sites(weight map[*Layer]formats.Tensor) []patch.Site {
	b := s.binding
	var out []patch.Site
	for _, module := range b.order {
		seen := map[string]bool{}
		for _, x := range b.of[module] {
			w := weight[x.Layer]
			if seen[w.Name] { // a module that is used twice
				continue
			}
			seen[w.Name] = true
			site := patch.Site{Module: module, Kind: x.Kind, Weight: w, InOut: x.InOut, First: x.first, Outs: x.outs}
			if x.biasT != nil && b.ownsBias(x.Layer) {
				site.Bias = x.biasT.Data
				s.tensors[x.biasT.Key] = x.biasT
			}
			out = append(out, site)
		}
	}
	for _, l := range b.unnamed() {
		if l.Weight.HasData {
			out = append(out, patch.Site{Module: l.Path, Kind: l.Kind, Weight: l.Weight.Data, InOut: l.InOut})
		}
	}
	return out
}

// unnamed returns the layers that no adapter names, one for each path that the evidence gives.
func (b *Binding) unnamed() []*Layer {
	taken, bound := map[string]bool{}, b.modules()
	for _, module := range b.order {
		taken[module] = true
	}
	var out []*Layer
	for _, l := range b.Layers {
		if _, ok := bound[l]; ok || l.Path == "" || taken[l.Path] {
			continue
		}
		taken[l.Path] = true
		out = append(out, l)
	}
	return out
}

// ownsBias reports whether nothing but the layer uses its bias.
func (b *Binding) ownsBias(l *Layer) bool {
	c, ok := b.index.trace(place{l.after.Graph, l.bias, l.frame})
	if !ok || c.leaf != l.biasT || c.frame != nil {
		return false
	}
	n := 0
	b.index.ends(place{c.graph, c.leafName(), nil}, func(end) { n++ })
	return n == 1
}

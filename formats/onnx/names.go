package onnx

import (
	"fmt"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/filecopy"
)

// namer gives graphs their scopes and tensors their keys.
type namer struct {
	p            *parser
	keys, scopes map[string]int // how many wanted a name
}

// name names everything in a model that has been read.
func (p *parser) name() error {
	n := &namer{p: p, keys: map[string]int{}, scopes: map[string]int{}}
	m := p.m
	for _, g := range m.allGraphs() {
		if err := uniqueInitializers(m.Path, g); err != nil {
			return err
		}
	}
	for _, t := range m.Graph.Initializers {
		n.keys[t.Name] = 1
		t.Key = t.Name
	}
	if err := n.graph(m.Graph); err != nil {
		return err
	}
	for i, g := range m.training {
		if err := n.scope(g, fmt.Sprintf("training_info.%d", i)); err != nil {
			return err
		}
	}
	for _, f := range m.Functions {
		scope := f.Domain + "." + f.Name
		if f.Overload != "" {
			scope += "." + f.Overload
		}
		if err := n.scope(f.Body, scope); err != nil {
			return err
		}
		for _, a := range f.Defaults {
			if err := n.attribute(f.Body, a, a.Name); err != nil {
				return err
			}
		}
	}
	for _, t := range m.tensors {
		t.Data.Name = t.Key
		switch d := t.Data.Data.(type) {
		case *filecopy.Section:
			d.Tensor = t.Key
		case *typedData:
			d.name = t.Key
		}
	}
	return nil
}

// uniqueInitializers refuses two initializers of a graph that have the same name.
func uniqueInitializers(path string, g *Graph) error {
	seen := make(map[string]bool, len(g.Initializers))
	names := func(name string) error {
		if name != "" && seen[name] {
			return formats.Rejectf(path, name, "two initializers of a graph have this name")
		}
		seen[name] = true
		return nil
	}
	for _, t := range g.Initializers {
		if err := names(t.Name); err != nil {
			return err
		}
	}
	for _, name := range g.SparseNames {
		if err := names(name); err != nil {
			return err
		}
	}
	return nil
}

// scope names a graph, and what is in it.
func (n *namer) scope(g *Graph, want string) error {
	scope, err := n.unique(n.scopes, want, g.chunks)
	if err != nil {
		return err
	}
	g.Scope = scope
	for _, t := range g.Initializers {
		if err := n.key(t, t.Name); err != nil {
			return err
		}
	}
	return n.graph(g)
}

// graph names what is in a graph, but for its initializers.
func (n *namer) graph(g *Graph) error {
	for _, s := range g.sparse {
		if err := n.sparseTensor(s, s.name()); err != nil {
			return err
		}
	}
	for _, node := range g.Nodes {
		for _, a := range node.Attributes {
			if err := n.nodeAttribute(g, node, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// nodeAttribute names what is in a node's attribute. Most have nothing to be named, and get
// no name made up: a long one, made for each, would take its time.
func (n *namer) nodeAttribute(g *Graph, node *Node, a *Attribute) error {
	if a.T != nil || len(a.Tensors) > 0 || len(a.sparse) > 0 {
		name := node.label() + "." + a.Name
		if node.OpType == "Constant" && len(node.Outputs) > 0 && node.Outputs[0] != "" {
			name = node.Outputs[0]
		}
		if err := n.attribute(g, a, name); err != nil {
			return err
		}
	}
	if a.G == nil && len(a.Graphs) == 0 {
		return nil
	}
	where := node.label() + "." + a.Name
	if g.Scope != "" {
		where = g.Scope + "/" + where
	}
	if a.G != nil {
		if err := n.scope(a.G, where); err != nil {
			return err
		}
	}
	for i, sub := range a.Graphs {
		if err := n.scope(sub, fmt.Sprintf("%s.%d", where, i)); err != nil {
			return err
		}
	}
	return nil
}

// attribute names the tensors of an attribute.
func (n *namer) attribute(g *Graph, a *Attribute, name string) error {
	if a.T != nil {
		if err := n.key(a.T, name); err != nil {
			return err
		}
	}
	for i, t := range a.Tensors {
		if err := n.key(t, fmt.Sprintf("%s.%d", name, i)); err != nil {
			return err
		}
	}
	for i, s := range a.sparse {
		if i > 0 {
			name = fmt.Sprintf("%s.%d", name, i)
		}
		if err := n.sparseTensor(s, name); err != nil {
			return err
		}
	}
	return nil
}

func (n *namer) sparseTensor(s *sparseTensor, name string) error {
	if s.values != nil {
		if err := n.key(s.values, name+".values"); err != nil {
			return err
		}
	}
	if s.indices != nil {
		return n.key(s.indices, name+".indices")
	}
	return nil
}

// key gives a tensor the key that is nearest to its name in its graph.
func (n *namer) key(t *Tensor, name string) (err error) {
	if t.Graph.Scope != "" {
		name = t.Graph.Scope + "/" + name
	}
	t.Key, err = n.unique(n.keys, name, []*message{t.msg})
	return err
}

// unique returns want, with a number if it is taken. The place is for messages.
func (n *namer) unique(taken map[string]int, want string, place []*message) (string, error) {
	if err := n.p.charge(place[0].tag, 2*int64(len(want))+2*costString); err != nil {
		return "", err
	}
	name := want
	for taken[name] > 0 {
		taken[want]++
		name = fmt.Sprintf("%s#%d", want, taken[want])
	}
	taken[name] = 1
	return name, nil
}

// label is a name for a node: its own, or that of its first output, or its kind and place.
func (n *Node) label() string {
	if n.Name != "" {
		return n.Name
	}
	for _, out := range n.Outputs {
		if out != "" {
			return out
		}
	}
	return fmt.Sprintf("%s#%d", n.OpType, n.Index)
}

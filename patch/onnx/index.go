package onnx

import (
	"slices"

	wire "github.com/seed-b982eded/graft/formats/onnx"
)

// index knows where the values of a model come from and where they go.
type index struct {
	model     *wire.Model
	graphs    map[*wire.Graph]*graphIndex
	functions map[functionName]*wire.Function
}

type functionName struct{ domain, name, overload string }

type graphIndex struct {
	produced     map[string]*wire.Node
	initializers map[string]*wire.Tensor
	inputs       map[string]int
	uses         map[string][]use // by the graph's own nodes
	outputs      map[string]bool
	described    map[string][]*wire.ValueInfo // by value_info
	inner        []*wire.Graph                // of its nodes
}

// use is a place where a node reads a value.
type use struct {
	node *wire.Node
	arg  int
}

func newIndex(m *wire.Model) *index {
	x := &index{model: m, graphs: map[*wire.Graph]*graphIndex{}, functions: map[functionName]*wire.Function{}}
	for g := range m.Graphs() {
		x.graphs[g] = indexGraph(g)
	}
	for _, f := range m.Functions {
		x.functions[functionName{domainOf(f.Domain), f.Name, f.Overload}] = f
	}
	return x
}

func indexGraph(g *wire.Graph) *graphIndex {
	gi := &graphIndex{
		produced: map[string]*wire.Node{}, initializers: map[string]*wire.Tensor{}, inputs: map[string]int{},
		uses: map[string][]use{}, outputs: map[string]bool{}, described: map[string][]*wire.ValueInfo{},
	}
	for _, t := range g.Initializers {
		gi.initializers[t.Name] = t
	}
	for i, v := range g.Inputs {
		gi.inputs[v.Name] = i
	}
	if g.Function != nil && g.ParentNode == nil {
		for i, name := range g.Function.Inputs {
			gi.inputs[name] = i
		}
		for _, name := range g.Function.Outputs {
			gi.outputs[name] = true
		}
	}
	for _, v := range g.ValueInfos {
		gi.described[v.Name] = append(gi.described[v.Name], v)
	}
	for _, v := range g.Outputs {
		gi.outputs[v.Name] = true
	}
	for _, n := range g.Nodes {
		for _, name := range n.Outputs {
			if name != "" {
				gi.produced[name] = n
			}
		}
		for i, name := range n.Inputs {
			if name != "" {
				gi.uses[name] = append(gi.uses[name], use{n, i})
			}
		}
		for _, a := range n.Attributes {
			gi.inner = append(gi.inner, graphsOf(a)...)
		}
	}
	return gi
}

// graphsOf returns the graphs that an attribute holds.
func graphsOf(a *wire.Attribute) []*wire.Graph {
	if a.G == nil {
		return a.Graphs
	}
	return slices.Concat([]*wire.Graph{a.G}, a.Graphs)
}

// domainOf makes the two names of the standard domain one.
func domainOf(domain string) string {
	if domain == "ai.onnx" {
		return ""
	}
	return domain
}

// called returns the function of the model that a node calls, or nil.
func (x *index) called(n *wire.Node) *wire.Function {
	return x.functions[functionName{domainOf(n.Domain), n.OpType, n.Overload}]
}

// attr returns a node's attribute, or nil. In a function it may stand for what the call
// gives, or for the function's default.
func (x *index) attr(n *wire.Node, name string, f *frame) *wire.Attribute {
	a := n.Attr(name)
	for a != nil && a.Ref != "" {
		if f == nil {
			return nil
		}
		call, ref := f.call, a.Ref
		f = f.up
		if a = call.Attr(ref); a != nil {
			continue
		}
		for _, d := range x.called(call).Defaults {
			if d.Name == ref {
				return d
			}
		}
	}
	return a
}

// flag reports whether an attribute is there and not 0.
func (x *index) flag(n *wire.Node, name string, f *frame) bool {
	a := x.attr(n, name, f)
	return a != nil && a.I != 0
}

// frame is a call of a function, and the calls around it; nil outside of functions.
type frame struct {
	call *wire.Node
	up   *frame
}

func (f *frame) depth() int {
	n := 0
	for ; f != nil; f = f.up {
		n++
	}
	return n
}

// place is a value as a node of a graph sees it.
type place struct {
	graph *wire.Graph
	name  string
	frame *frame
}

// origin is what a value is made by: a node, or a tensor of the file. Both are nil for
// what is given from outside.
type origin struct {
	at     place // in the graph that defines it
	node   *wire.Node
	tensor *wire.Tensor
	calls  []use // arguments of calls that it was followed through, innermost first
}

// origin follows a value's name through the scopes around a graph and the calls of functions.
func (x *index) origin(p place) origin {
	var o origin
	for p.graph != nil && p.name != "" {
		gi := x.graphs[p.graph]
		if n := gi.produced[p.name]; n != nil {
			o.at, o.node = p, n
			return o
		}
		if t := gi.initializers[p.name]; t != nil {
			o.at, o.tensor = p, t
			return o
		}
		i, isInput := gi.inputs[p.name]
		switch {
		case isInput && p.graph.Parent == nil && p.graph.Function != nil && p.frame != nil:
			call := p.frame.call
			if i >= len(call.Inputs) {
				return o
			}
			o.calls = append(o.calls, use{call, i})
			p = place{call.Graph, call.Inputs[i], p.frame.up}
		case isInput:
			return o
		default:
			p.graph = p.graph.Parent
		}
	}
	return o
}

// defines reports whether a graph gives a name a meaning of its own.
func (gi *graphIndex) defines(name string) bool {
	_, isInput := gi.inputs[name]
	return isInput || gi.produced[name] != nil || gi.initializers[name] != nil
}

// visit calls f for every use of a value that a graph defines: by its nodes, by nodes of the
// graphs in them, and as an output (with a nil node).
func (x *index) visit(g *wire.Graph, name string, f func(use)) {
	gi := x.graphs[g]
	for _, u := range gi.uses[name] {
		f(u)
	}
	if gi.outputs[name] {
		f(use{})
	}
	for _, inner := range gi.inner {
		if !x.graphs[inner].defines(name) {
			x.visit(inner, name, f)
		}
	}
}

package onnx

import (
	"slices"

	"github.com/seed-b982eded/graft/formats"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/patch"
)

// Merge makes a plan for the sites' model an edit of the file: targets get their merged
// bytes, copies of shared weights become initializers, and the layers that they are for
// read them. Nothing else of the graph changes.
func (s *Sites) Merge(plan *patch.Plan) *wire.Edit {
	e := wire.NewEdit(s.binding.Model)
	merged := plan.Merge()
	for _, t := range plan.Targets() {
		data, _ := merged.Tensor(t.Tensor.Name)
		if old, ok := s.tensors[data.Name]; ok {
			e.SetData(old, data)
		}
	}
	used := s.binding.names()
	for _, key := range s.copyKeys() {
		c := s.copies[key]
		data, _ := merged.Tensor(key)
		addInitializer(e, s.binding.Model, c.graph, c.name, data)
		for _, l := range c.layers {
			at := l.attachment()
			name := c.name
			// What stands between the weight and the operand stands between the copy and it.
			for _, n := range slices.Backward(at.between) {
				out := fresh(used, n.Outputs[0]+"_"+c.name)
				e.AddNode(at.node.Graph, at.node, wire.NewNode{
					Name: fresh(used, n.Name+"_"+c.name), OpType: n.OpType, Domain: n.Domain, Metadata: n.Metadata,
					Inputs: append([]string{name}, n.Inputs[1:]...), Outputs: []string{out}, Attributes: attributes(n),
				})
				name = out
			}
			e.SetInput(at.node, at.arg, name)
		}
	}
	return e
}

// attachment is the operand at which a layer's weight can be exchanged without changing
// what other nodes read: the layer's own, or the argument of the outermost call around it.
type attachment struct {
	node    *wire.Node
	arg     int
	from    int          // the step of the chain that the value at the operand comes from
	between []*wire.Node // from the operand back to the weight
	inOut   bool         // how the value at the operand lies
}

func (l *Layer) attachment() attachment {
	at := attachment{node: l.Node, arg: l.arg, inOut: l.InOut}
	for i, s := range l.chain.steps {
		if s.node == nil {
			at.node, at.arg, at.from, at.between = s.call.node, s.call.arg, i+1, nil
			continue
		}
		at.between = append(at.between, s.node)
	}
	for _, n := range at.between {
		if n.OpType == "Transpose" {
			at.inOut = !at.inOut
		}
	}
	return at
}

// addInitializer adds an initializer, which up to IR version 3 has to be an input too.
func addInitializer(e *wire.Edit, m *wire.Model, g *wire.Graph, name string, data formats.Tensor) {
	e.AddInitializer(g, name, data)
	if m.IRVersion >= 4 || g != m.Graph {
		return
	}
	elem, _ := wire.DataTypeOf(data.DType)
	v := wire.NewValueInfo{Name: name, ElemType: elem}
	for _, n := range data.Shape {
		v.Dims = append(v.Dims, wire.Dim{Value: n, Known: true})
	}
	e.AddInput(g, v)
}

// attributes copies the attributes of a node that passes a value on: numbers all of them.
func attributes(n *wire.Node) []wire.NewAttribute {
	var out []wire.NewAttribute
	for _, a := range n.Attributes {
		out = append(out, wire.NewAttribute{Name: a.Name, Ref: a.Ref, Type: a.Type, I: a.I, F: a.F, S: a.S, Ints: a.Ints, Floats: a.Floats})
	}
	return out
}

// Base returns the checkpoint that plans are made for: the model's, with the copies of
// shared weights.
func (s *Sites) Base() *formats.Checkpoint { return s.Model.Checkpoint }

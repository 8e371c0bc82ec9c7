package onnx

import (
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

func (p *parser) node(g *Graph, parent *message, f field) error {
	m, err := p.message(parent, f, "a node")
	if err != nil {
		return err
	}
	if err := p.charge(f.start, costNode); err != nil {
		return err
	}
	n := &Node{Graph: g, Index: len(g.Nodes), msg: m}
	g.Nodes = append(g.Nodes, n)
	err = p.fields(m, func(f field) error {
		switch f.num {
		case nodeInput:
			return p.texts(&n.Inputs, f, "a node's input")
		case nodeOutput:
			return p.texts(&n.Outputs, f, "a node's output")
		case nodeName:
			return p.text(&n.Name, f, "a node's name")
		case nodeOpType:
			return p.word(&n.OpType, f, "a node's op_type")
		case nodeAttribute:
			return p.attribute(&n.Attributes, m, f, g, n)
		case nodeDomain:
			return p.word(&n.Domain, f, "a node's domain")
		case nodeOverload:
			return p.word(&n.Overload, f, "a node's overload")
		case nodeMetadata:
			return p.pair(&n.Metadata, m, f)
		}
		return nil
	})
	if err == nil && n.OpType == "" {
		return p.rejectAt(f.start, "a node without an op_type")
	}
	return err
}

// attribute reads an AttributeProto of a node, or with node nil a default of a function.
func (p *parser) attribute(dst *[]*Attribute, parent *message, f field, g *Graph, node *Node) error {
	m, err := p.message(parent, f, "an attribute")
	if err != nil {
		return err
	}
	if err := p.charge(f.start, costAttribute); err != nil {
		return err
	}
	a := &Attribute{}
	*dst = append(*dst, a)
	tensor := func(f field) (*Tensor, error) {
		return p.tensor(m, f, &Tensor{Graph: g, Node: node, role: roleAttribute})
	}
	body := func(f field) (*Graph, error) {
		sub := &Graph{Parent: g, ParentNode: node, model: p.m}
		return sub, p.graph(sub, m, f)
	}
	seen := map[number]bool{}
	return p.fields(m, func(f field) (err error) {
		switch f.num {
		case attributeName:
			return p.word(&a.Name, f, "an attribute's name")
		case attributeRef:
			return p.word(&a.Ref, f, "ref_attr_name")
		case attributeType:
			a.Type = AttributeType(f.value)
			return p.want(f, protowire.VarintType, "an attribute's type")
		case attributeF:
			a.F = math.Float32frombits(uint32(f.value))
			return p.want(f, protowire.Fixed32Type, "an attribute's f")
		case attributeI:
			return p.integer(&a.I, f, "an attribute's i")
		case attributeS:
			a.S, err = p.bytes(f, "an attribute's s")
			return err
		case attributeFloats:
			return p.floats(&a.Floats, f)
		case attributeInts:
			return p.integers(&a.Ints, f, "an attribute's ints")
		case attributeStrings:
			s, err := p.bytes(f, "an attribute's strings")
			a.Strings = append(a.Strings, s)
			return err
		case attributeT:
			if err := p.once(seen, f, "an attribute's tensor"); err != nil {
				return err
			}
			a.T, err = tensor(f)
			return err
		case attributeTensors:
			t, err := tensor(f)
			a.Tensors = append(a.Tensors, t)
			return err
		case attributeG:
			if err := p.once(seen, f, "an attribute's graph"); err != nil {
				return err
			}
			a.G, err = body(f)
			return err
		case attributeGraphs:
			sub, err := body(f)
			a.Graphs = append(a.Graphs, sub)
			return err
		case attributeSparseTensor, attributeSparseTensors:
			if f.num == attributeSparseTensor {
				if err := p.once(seen, f, "an attribute's sparse tensor"); err != nil {
					return err
				}
			}
			s, err := p.sparse(m, f, g, node)
			a.sparse = append(a.sparse, s)
			return err
		}
		return nil
	})
}

// floats reads one float of a repeated field, or a run of packed ones.
func (p *parser) floats(dst *[]float32, f field) error {
	const what = "an attribute's floats"
	if f.typ != protowire.BytesType {
		*dst = append(*dst, math.Float32frombits(uint32(f.value)))
		if err := p.charge(f.start, costNumber); err != nil {
			return err
		}
		return p.want(f, protowire.Fixed32Type, what)
	}
	if (f.end-f.begin)%4 != 0 {
		return p.rejectAt(f.start, "%s take %d bytes (want a multiple of 4)", what, f.end-f.begin)
	}
	if err := p.charge(f.start, (f.end-f.begin)/4*costNumber); err != nil {
		return err
	}
	for at := f.begin; at < f.end; at += 4 {
		b, err := p.window(at, f.end, 4)
		if err != nil {
			return err
		}
		*dst = append(*dst, math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	return nil
}

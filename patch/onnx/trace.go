package onnx

import (
	"slices"

	"github.com/seed-b982eded/graft/formats"
	wire "github.com/seed-b982eded/graft/formats/onnx"
)

// chain is the way from a tensor of the file to an operand.
type chain struct {
	leaf    *wire.Tensor
	graph   *wire.Graph // that holds the leaf
	frame   *frame      // calls around that
	steps   []step      // from the operand back to the leaf
	flipped bool        // the operand is the leaf transposed
	quant   *wire.Node  // DequantizeLinear on the way, or nil
	names   []string    // of the value, from the operand back to the leaf
}

// step is a node that passes a value on, or the argument of a call.
type step struct {
	node  *wire.Node // passes on its first input
	frame *frame     // calls around the node
	call  use        // node is nil then
}

const maxSteps = 100 // on the way to a weight; a loop would be endless

// trace follows an operand back to the tensor that it is. ok is false where it depends on
// more than one, or on an input.
func (x *index) trace(p place) (c chain, ok bool) {
	for range maxSteps {
		o := x.origin(p)
		c.names = append(c.names, p.name)
		for _, call := range o.calls {
			c.steps = append(c.steps, step{call: call})
			c.names = append(c.names, call.node.Inputs[call.arg])
		}
		if o.tensor != nil {
			c.leaf, c.graph, c.frame = o.tensor, o.at.graph, o.at.frame
			return c, true
		}
		n := o.node
		if n == nil {
			return c, false
		}
		if t := constantOf(n); t != nil {
			c.leaf, c.graph, c.frame = t, o.at.graph, o.at.frame
			return c, true
		}
		if domainOf(n.Domain) != "" || len(n.Inputs) == 0 {
			return c, false
		}
		switch n.OpType {
		case "Identity", "Cast", "CastLike":
		case "Transpose":
			if !x.swapsTwo(n, o.at.frame) {
				return c, false
			}
			c.flipped = !c.flipped
		case "DequantizeLinear":
			c.quant = n
		default:
			return c, false
		}
		c.steps = append(c.steps, step{node: n, frame: o.at.frame})
		p = place{o.at.graph, n.Inputs[0], o.at.frame}
	}
	return c, false
}

// dtype returns the type of a chain's value behind its steps from one on, counted from the
// operand; 0 where it is not known.
func (x *index) dtype(c *chain, from int) formats.DType {
	for _, s := range c.steps[from:] {
		switch {
		case s.node == nil:
		case s.node.OpType == "Cast":
			if to := x.attr(s.node, "to", s.frame); to != nil {
				return wire.DataType(to.I).DType()
			}
			return 0
		case s.node.OpType == "CastLike":
			return 0
		case s.node.OpType == "DequantizeLinear":
			if to := x.attr(s.node, "output_dtype", s.frame); to != nil && to.I != 0 {
				return wire.DataType(to.I).DType()
			}
			return x.dtypeOf(s.node, 1, s.frame)
		}
	}
	return c.leaf.Data.DType
}

// dtypeOf returns the type of a node's operand if it comes from a tensor of the file.
func (x *index) dtypeOf(n *wire.Node, arg int, f *frame) formats.DType {
	if arg >= len(n.Inputs) {
		return 0
	}
	c, ok := x.trace(place{n.Graph, n.Inputs[arg], f})
	if !ok {
		return 0
	}
	return x.dtype(&c, 0)
}

// constantOf returns the tensor of a Constant node.
func constantOf(n *wire.Node) *wire.Tensor {
	if n.OpType != "Constant" || domainOf(n.Domain) != "" {
		return nil
	}
	if a := n.Attr("value"); a != nil {
		return a.T
	}
	return nil
}

// swapsTwo reports whether a Transpose exchanges the dimensions of a matrix. Without perm
// it reverses them; whether there are two is seen from the leaf.
func (x *index) swapsTwo(n *wire.Node, f *frame) bool {
	perm := x.attr(n, "perm", f)
	return perm == nil || slices.Equal(perm.Ints, []int64{1, 0})
}

// end is where a value of the file ends up: at operands of nodes that do something with
// it, with nil nodes for outputs.
type end struct {
	node  *wire.Node
	arg   int
	frame *frame
}

// ends follows a value forward, through nodes that pass it on and into functions.
func (x *index) ends(p place, f func(end)) { x.endsWithin(p, maxSteps, f) }

func (x *index) endsWithin(p place, steps int, f func(end)) {
	if steps == 0 {
		f(end{})
		return
	}
	x.visit(p.graph, p.name, func(u use) {
		n := u.node
		if n == nil {
			f(end{})
			return
		}
		if fn := x.called(n); fn != nil && u.arg < len(fn.Inputs) {
			x.endsWithin(place{fn.Body, fn.Inputs[u.arg], &frame{n, p.frame}}, steps-1, f)
			return
		}
		passes := u.arg == 0 && domainOf(n.Domain) == "" &&
			slices.Contains([]string{"Identity", "Cast", "CastLike", "Transpose", "DequantizeLinear"}, n.OpType)
		if passes && len(n.Outputs) > 0 {
			x.endsWithin(place{n.Graph, n.Outputs[0], p.frame}, steps-1, f)
			return
		}
		f(end{n, u.arg, p.frame})
	})
}

package onnx

import (
	"slices"

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
	node *wire.Node // passes on its first input
	call use        // node is nil then
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
			if !swapsTwo(n) {
				return c, false
			}
			c.flipped = !c.flipped
		case "DequantizeLinear":
			c.quant = n
		default:
			return c, false
		}
		c.steps = append(c.steps, step{node: n})
		p = place{o.at.graph, n.Inputs[0], o.at.frame}
	}
	return c, false
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
func swapsTwo(n *wire.Node) bool {
	perm := n.Attr("perm")
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

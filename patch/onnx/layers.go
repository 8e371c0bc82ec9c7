package onnx

import (
	"github.com/seed-b982eded/graft/formats"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/patch"
)

// Layer is an operator with a weight that can take an adapter.
type Layer struct {
	Node   *wire.Node
	Kind   patch.Kind
	Weight *wire.Tensor // where the operand comes from; of a quantised layer the quantised numbers
	InOut  bool         // Weight is stored as (in, out)
	In     int64        // of a convolution, with the kernel
	Out    int64
	Groups int64   // of a convolution, else 1
	Alpha  float64 // what a Gemm multiplies its product with, else 1

	// Quantized is the operator that makes numbers of the weight, such as "MatMulNBits" or
	// "DequantizeLinear"; empty for a weight of floats.
	Quantized string

	// Path is the module of the original model by the strongest Evidence; empty without any.
	Path     string
	Evidence []Evidence

	differs string // the checkpoint's tensor of that name, where it has other numbers
	parts   []part // modules that have some of the outputs each, by value
	frame   *frame // calls around the node
	arg     int    // the operand that is the weight
	left    bool   // the weight is the first factor: the layer computes W·X
	chain   chain
	input   place // what the layer is applied to
	turned  bool  // transposed first
	biasT   *wire.Tensor
	bias    string       // the value that is added to the product; empty if none
	after   *wire.Node   // whose output is the layer's: the node itself, or the Add of the bias
	tail    []*wire.Node // between the node and after, both included
}

// Find lists the layers of a model, graph by graph in the order of their nodes. A function
// is looked into once for every call of it. weights, if it is not nil, is the checkpoint
// that the model was exported from: its numbers tell which module a layer is where no name
// does.
func Find(m *wire.Model, weights *patch.Model) ([]*Layer, error) {
	return newIndex(m).find(weights)
}

// maxLayers bounds layers and calls: functions that call functions multiply.
const maxLayers = 1_000_000

func (x *index) find(weights *patch.Model) ([]*Layer, error) {
	var layers []*Layer
	visited := 0
	var walk func(g *wire.Graph, f *frame) error
	walk = func(g *wire.Graph, f *frame) error {
		for _, n := range g.Nodes {
			if visited++; visited > maxLayers {
				return formats.Rejectf(x.model.Path, "", "functions call each other more than %d times", maxLayers)
			}
			if fn := x.called(n); fn != nil {
				if f.depth() >= maxSteps {
					return formats.Rejectf(x.model.Path, "", "functions call each other more than %d deep, at node %s", maxSteps, formats.Quote(n.Name))
				}
				if err := walk(fn.Body, &frame{n, f}); err != nil {
					return err
				}
				continue
			}
			if l := x.layer(n, f); l != nil {
				layers = append(layers, l)
			}
			for _, a := range n.Attributes {
				for _, inner := range graphsOf(a) {
					if err := walk(inner, f); err != nil {
						return err
					}
				}
			}
		}
		return nil
	}
	if err := walk(x.model.Graph, nil); err != nil {
		return nil, err
	}
	x.gatherEvidence(layers)
	if weights != nil {
		if err := matchValues(layers, weights); err != nil {
			return nil, err
		}
	}
	for _, l := range layers {
		if len(l.Evidence) > 0 {
			l.Path = l.Evidence[0].Path
		}
	}
	return layers, nil
}

// layer returns the layer that a node is, or nil.
func (x *index) layer(n *wire.Node, f *frame) *Layer {
	domain := domainOf(n.Domain)
	if domain != "" && domain != "com.microsoft" || len(n.Outputs) == 0 {
		return nil
	}
	l := &Layer{Node: n, frame: f, Groups: 1, Alpha: 1, after: n, tail: []*wire.Node{n}}
	ok := false
	switch n.OpType {
	case "MatMul", "FusedMatMul":
		ok = x.product(l, n.OpType == "FusedMatMul")
	case "Gemm":
		ok = x.gemm(l)
	case "Conv":
		ok = x.conv(l)
	case "Gather":
		ok = x.gather(l)
	case "MatMulNBits":
		ok = x.matMulNBits(l)
	case "MatMulInteger":
		ok = x.matMulInteger(l)
	case "DynamicQuantizeMatMul":
		ok = x.dynamicQuantize(l)
	}
	if !ok {
		return nil
	}
	if l.chain.quant != nil && l.Quantized == "" {
		l.Quantized = "DequantizeLinear"
	}
	if l.bias == "" {
		x.findBias(l)
	}
	return l
}

func (x *index) value(l *Layer, arg int) place {
	if arg >= len(l.Node.Inputs) {
		return place{}
	}
	return place{l.Node.Graph, l.Node.Inputs[arg], l.frame}
}

// matrix makes an operand the layer's weight if it is a matrix of the file; inOut tells how
// the operator takes it.
func (x *index) matrix(l *Layer, arg int, inOut bool) bool {
	c, ok := x.trace(x.value(l, arg))
	if !ok || len(c.leaf.Dims) != 2 {
		return false
	}
	l.Kind, l.arg, l.chain, l.Weight = patch.Linear, arg, c, c.leaf
	l.InOut = inOut != c.flipped
	l.In, l.Out = c.leaf.Dims[1], c.leaf.Dims[0]
	if l.InOut {
		l.In, l.Out = l.Out, l.In
	}
	return true
}

// product is MatMul: X·W with W (in, out), or W·X with W (out, in). FusedMatMul may
// transpose its operands.
func (x *index) product(l *Layer, fused bool) bool {
	if len(l.Node.Inputs) != 2 {
		return false
	}
	flag := func(name string) bool { return fused && x.flag(l.Node, name, l.frame) }
	if flag("transBatchA") || flag("transBatchB") {
		return false
	}
	if fused {
		x.setAlpha(l)
	}
	_, leftConstant := x.trace(x.value(l, 0))
	_, rightConstant := x.trace(x.value(l, 1))
	switch {
	case leftConstant == rightConstant:
		return false
	case rightConstant:
		l.input, l.turned = x.value(l, 0), flag("transA")
		return x.matrix(l, 1, !flag("transB"))
	}
	l.left, l.input, l.turned = true, x.value(l, 1), flag("transB")
	return x.matrix(l, 0, flag("transA"))
}

// gemm is α·X·W + β·C with W (in, out), or (out, in) with transB.
func (x *index) gemm(l *Layer) bool {
	if len(l.Node.Inputs) < 2 {
		return false
	}
	if _, constant := x.trace(x.value(l, 0)); constant {
		return false
	}
	l.input, l.turned = x.value(l, 0), x.flag(l.Node, "transA", l.frame)
	x.setAlpha(l)
	if len(l.Node.Inputs) > 2 {
		x.setBias(l, x.value(l, 2))
	}
	return x.matrix(l, 1, !x.flag(l.Node, "transB", l.frame))
}

func (x *index) setAlpha(l *Layer) {
	if a := x.attr(l.Node, "alpha", l.frame); a != nil {
		l.Alpha = float64(a.F)
	}
}

// conv has a weight (out, in/groups, kernel…).
func (x *index) conv(l *Layer) bool {
	if len(l.Node.Inputs) < 2 {
		return false
	}
	c, ok := x.trace(x.value(l, 1))
	if !ok || c.flipped || len(c.leaf.Dims) < 3 || len(c.leaf.Dims) > 5 {
		return false
	}
	l.Kind, l.arg, l.chain, l.Weight, l.input = patch.Conv, 1, c, c.leaf, x.value(l, 0)
	l.Out, l.In = c.leaf.Dims[0], 1
	for _, d := range c.leaf.Dims[1:] {
		l.In *= d
	}
	if a := x.attr(l.Node, "group", l.frame); a != nil {
		l.Groups = a.I
	}
	if len(l.Node.Inputs) > 2 {
		x.setBias(l, x.value(l, 2))
	}
	return true
}

// gather looks rows up in a table (vocabulary, dim).
func (x *index) gather(l *Layer) bool {
	if len(l.Node.Inputs) != 2 {
		return false
	}
	if x.flag(l.Node, "axis", l.frame) {
		return false
	}
	if _, constant := x.trace(x.value(l, 1)); constant {
		return false // a fixed row or two: positions, a slice
	}
	if !x.matrix(l, 0, true) || l.chain.leaf.DataType == wire.Int64 || l.chain.leaf.DataType == wire.Int32 || l.chain.leaf.DataType == wire.Bool {
		return false
	}
	l.Kind, l.input = patch.Embedding, x.value(l, 1)
	return true
}

// matMulNBits is com.microsoft's product with a weight of few bits: X·dequantised(B)ᵀ, of
// which the attributes K and N are in and out.
func (x *index) matMulNBits(l *Layer) bool {
	k, n := x.attr(l.Node, "K", l.frame), x.attr(l.Node, "N", l.frame)
	if len(l.Node.Inputs) < 3 || k == nil || n == nil || k.I <= 0 || n.I <= 0 {
		return false
	}
	c, ok := x.trace(x.value(l, 1))
	if !ok {
		return false
	}
	l.Kind, l.arg, l.chain, l.Weight, l.input = patch.Linear, 1, c, c.leaf, x.value(l, 0)
	l.In, l.Out, l.Quantized = k.I, n.I, "MatMulNBits"
	if len(l.Node.Inputs) > 5 {
		x.setBias(l, x.value(l, 5))
	}
	return true
}

// matMulInteger is what dynamic quantisation makes of a product: X is quantised by
// DynamicQuantizeLinear, the product of integers cast, and scaled by a Mul.
func (x *index) matMulInteger(l *Layer) bool {
	if len(l.Node.Inputs) < 2 || !x.matrix(l, 1, true) {
		return false
	}
	o := x.origin(x.value(l, 0))
	if o.node == nil || o.node.OpType != "DynamicQuantizeLinear" || len(o.node.Inputs) == 0 || o.at.frame != l.frame {
		return false
	}
	l.input = place{o.node.Graph, o.node.Inputs[0], o.at.frame}
	l.Quantized = "MatMulInteger"
	for _, op := range []string{"Cast", "Mul"} {
		next := x.only(l.after)
		if next == nil || next.OpType != op {
			return false
		}
		l.after = next
		l.tail = append(l.tail, next)
	}
	return true
}

// dynamicQuantize is com.microsoft's fusion of all that.
func (x *index) dynamicQuantize(l *Layer) bool {
	if len(l.Node.Inputs) < 3 || !x.matrix(l, 1, true) {
		return false
	}
	l.input, l.Quantized = x.value(l, 0), "DynamicQuantizeMatMul"
	if len(l.Node.Inputs) > 4 {
		x.setBias(l, x.value(l, 4))
	}
	return true
}

// only returns the one node that reads the first output of a node, in the same graph, if
// nothing else does.
func (x *index) only(n *wire.Node) *wire.Node {
	count := 0
	var next *wire.Node
	x.visit(n.Graph, n.Outputs[0], func(u use) {
		count++
		next = u.node
	})
	if count != 1 || next == nil || next.Graph != n.Graph || len(next.Outputs) == 0 {
		return nil
	}
	return next
}

// findBias looks for an Add of a vector after a product X·W, of which the last dimension is
// that of the outputs. Exporters put the bias first or second.
func (x *index) findBias(l *Layer) {
	if l.Kind != patch.Linear || l.left {
		return
	}
	add := x.only(l.after)
	if add == nil || add.OpType != "Add" || domainOf(add.Domain) != "" || len(add.Inputs) != 2 {
		return
	}
	other := 0
	if add.Inputs[0] == l.after.Outputs[0] {
		other = 1
	}
	p := place{add.Graph, add.Inputs[other], l.frame}
	if c, ok := x.trace(p); !ok || len(c.leaf.Dims) != 1 || c.leaf.Dims[0] != l.Out {
		return
	}
	x.setBias(l, p)
	l.after = add
	l.tail = append(l.tail, add)
}

func (x *index) setBias(l *Layer, p place) {
	if p.name == "" {
		return
	}
	l.bias = p.name
	if c, ok := x.trace(p); ok {
		l.biasT = c.leaf
	}
}

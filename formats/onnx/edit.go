package onnx

import (
	"errors"
	"slices"

	"github.com/seed-b982eded/graft/formats"
)

// Edit collects changes to a model. Its methods only note them, and the model stays as
// it is; [Edit.Files] makes the changed one, and reports what was asked for in vain. An
// Edit is not safe for concurrent use.
type Edit struct {
	m   *Model
	err error // the first mistake of the caller

	data           map[*Tensor]formats.Tensor
	initializers   map[*Graph][]formats.Tensor
	added          map[*Graph]map[string]bool // their names
	nodes          map[*Graph][]newNode
	inputs         map[*Node]map[int]string
	outputs        map[*Node]map[int]string
	appended       map[*Node][]string
	graphInputs    map[*Graph][]NewValueInfo
	valueInfos     map[*Graph][]NewValueInfo
	functionInputs map[*Function][]string
	irVersion      *int64
	opsets         []Opset
	metadata       []Pair
}

type newNode struct {
	before *Node
	NewNode
}

// NewNode is a node to be added.
type NewNode struct {
	Name, OpType, Domain string
	Inputs, Outputs      []string
	Attributes           []NewAttribute
	Metadata             []Pair
}

// NewAttribute is an attribute of a node to be added. Type says which member counts: one of
// AttrFloat, AttrInt, AttrString, AttrTensor, AttrFloats, AttrInts and AttrStrings. With a
// Ref, the value is that of the function's attribute of this name.
type NewAttribute struct {
	Name, Ref string
	Type      AttributeType
	I         int64
	F         float32
	S         []byte
	Ints      []int64
	Floats    []float32
	Strings   [][]byte
	T         formats.Tensor // written into the model file, with its name
}

// NewValueInfo describes an input or another value. Without an ElemType only the name is
// written.
type NewValueInfo struct {
	Name     string
	ElemType DataType
	Dims     []Dim
}

// NewEdit starts an edit. The model must stay open until the files are written.
func NewEdit(m *Model) *Edit {
	return &Edit{
		m: m, data: map[*Tensor]formats.Tensor{}, initializers: map[*Graph][]formats.Tensor{}, added: map[*Graph]map[string]bool{}, nodes: map[*Graph][]newNode{},
		inputs: map[*Node]map[int]string{}, outputs: map[*Node]map[int]string{}, appended: map[*Node][]string{},
		graphInputs: map[*Graph][]NewValueInfo{}, valueInfos: map[*Graph][]NewValueInfo{}, functionInputs: map[*Function][]string{},
	}
}

// fail keeps the first mistake.
func (e *Edit) fail(format string, args ...any) {
	if e.err == nil {
		e.err = formats.Usagef("editing %s: "+format, append([]any{formats.Quote(e.m.Path)}, args...)...)
	}
}

func (e *Edit) owns(g *Graph) bool {
	if g == nil || g.model != e.m {
		e.fail("a part of another model")
		return false
	}
	return true
}

// SetData gives a tensor other data. Where dtype or shape are not those of t.Data,
// data_type and dims follow. The name of data is of no account.
func (e *Edit) SetData(t *Tensor, data formats.Tensor) {
	if !e.owns(t.Graph) {
		return
	}
	if !t.HasData {
		e.fail("tensor %s of %s has no data that could be set", formats.Quote(t.Key), t.DataType)
		return
	}
	if err := checkData(data); err != nil {
		e.fail("tensor %s: %v", formats.Quote(t.Key), err)
		return
	}
	if _, ok := DataTypeOf(data.DType); !ok && !sameKind(t, data) {
		e.fail("tensor %s: ONNX has no type for %s", formats.Quote(t.Key), data.DType)
		return
	}
	e.data[t] = data
}

// checkData refuses data that cannot be written.
func checkData(data formats.Tensor) error {
	n, err := formats.ByteSize(data.DType, data.Shape)
	if err == nil && n > 0 && data.Data == nil {
		err = errors.New("there is no data")
	}
	return err
}

// sameKind reports whether data has the dtype and shape of t.Data.
func sameKind(t *Tensor, data formats.Tensor) bool {
	return data.DType == t.Data.DType && slices.Equal(data.Shape, t.Data.Shape)
}

// AddInitializer adds an initializer to a graph.
func (e *Edit) AddInitializer(g *Graph, name string, data formats.Tensor) {
	if !e.owns(g) {
		return
	}
	_, known := DataTypeOf(data.DType)
	err := checkData(data)
	switch {
	case g.Function != nil:
		e.fail("initializer %s: a function has no initializers", formats.Quote(name))
	case name == "" || len(name) > formats.MaxNameBytes:
		e.fail("initializer %s: the name has %d bytes (want 1 to %d)", formats.Quote(name), len(name), formats.MaxNameBytes)
	case err != nil:
		e.fail("initializer %s: %v", formats.Quote(name), err)
	case !known:
		e.fail("initializer %s: ONNX has no type for %s", formats.Quote(name), data.DType)
	case e.added[g][name]:
		e.fail("initializer %s is added twice", formats.Quote(name))
	default:
		data.Name = name
		if e.added[g] == nil {
			e.added[g] = map[string]bool{}
		}
		e.added[g][name] = true
		e.initializers[g] = append(e.initializers[g], data)
	}
}

// AddNode adds a node to a graph, before one of its nodes, or with nil at the end. Several
// that are added at one place stay in the order of the calls.
func (e *Edit) AddNode(g *Graph, before *Node, n NewNode) {
	if !e.owns(g) {
		return
	}
	if before != nil && before.Graph != g {
		e.fail("node %s is to come before a node of another graph", formats.Quote(n.Name))
		return
	}
	if n.OpType == "" {
		e.fail("node %s has no op_type", formats.Quote(n.Name))
		return
	}
	for _, a := range n.Attributes {
		if err := a.check(); err != nil {
			e.fail("node %s: attribute %s: %v", formats.Quote(n.Name), formats.Quote(a.Name), err)
			return
		}
	}
	e.nodes[g] = append(e.nodes[g], newNode{before, n})
}

// SetInput gives a node's input i another name.
func (e *Edit) SetInput(n *Node, i int, name string) { e.rename(e.inputs, n, i, len(n.Inputs), name) }

// SetOutput gives a node's output i another name.
func (e *Edit) SetOutput(n *Node, i int, name string) {
	e.rename(e.outputs, n, i, len(n.Outputs), name)
}

func (e *Edit) rename(all map[*Node]map[int]string, n *Node, i, count int, name string) {
	if !e.owns(n.Graph) {
		return
	}
	if i < 0 || i >= count {
		e.fail("node %s: there is no input or output %d (got %d)", formats.Quote(n.label()), i, count)
		return
	}
	if all[n] == nil {
		all[n] = map[int]string{}
	}
	all[n][i] = name
}

// AppendInput gives a node one more input, after the last; calls of functions need that.
func (e *Edit) AppendInput(n *Node, name string) {
	if e.owns(n.Graph) {
		e.appended[n] = append(e.appended[n], name)
	}
}

// AddInput gives a graph one more input, after the last.
func (e *Edit) AddInput(g *Graph, v NewValueInfo) {
	if !e.owns(g) {
		return
	}
	if g.Function != nil {
		e.fail("input %s: a function's inputs are added by AddFunctionInput", formats.Quote(v.Name))
		return
	}
	e.graphInputs[g] = append(e.graphInputs[g], v)
}

// AddFunctionInput gives a function one more input, after the last. Its calls do not
// change by that: see AppendInput.
func (e *Edit) AddFunctionInput(f *Function, name string) {
	if e.owns(f.Body) {
		e.functionInputs[f] = append(e.functionInputs[f], name)
	}
}

// AddValueInfo describes a value of a graph or a function's body.
func (e *Edit) AddValueInfo(g *Graph, v NewValueInfo) {
	if e.owns(g) {
		e.valueInfos[g] = append(e.valueInfos[g], v)
	}
}

// SetIRVersion sets the model's ir_version.
func (e *Edit) SetIRVersion(v int64) { e.irVersion = &v }

// AddOpset imports an operator set. A domain that is imported already gets the version.
func (e *Edit) AddOpset(domain string, version int64) {
	e.opsets = append(e.opsets, Opset{domain, version})
}

// AddMetadata sets an entry of the model's metadata.
func (e *Edit) AddMetadata(key, value string) {
	e.metadata = append(e.metadata, Pair{key, value})
}

package onnx

import (
	"iter"
	"slices"

	"github.com/seed-b982eded/graft/formats"
)

// Model is an opened ONNX file. It does not change, and is safe for concurrent use.
type Model struct {
	Path            string // as given to Open
	IRVersion       int64  // 0 when the file does not say
	Producer        string
	ProducerVersion string
	Domain          string
	ModelVersion    int64
	Opsets          []Opset
	Metadata        []Pair
	Graph           *Graph
	Functions       []*Function

	file       formats.SourceFile
	root       *message
	training   []*Graph  // of training_info: nothing of them is shown but their tensors
	tensors    []*Tensor // all, in the order of the file
	externals  []*externalFile
	checkpoint *formats.Checkpoint
}

// Opset is an imported operator set; the domain "" is ai.onnx.
type Opset struct {
	Domain  string
	Version int64
}

// Pair is an entry of metadata_props.
type Pair struct{ Key, Value string }

// Graph is a graph, the body of an If, Loop or Scan, or the body of a function.
type Graph struct {
	Scope      string // "" for the main graph; else unique, such as "if_node.then_branch"
	Name       string
	Parent     *Graph // the graph whose values are visible here; nil for the main graph and functions
	ParentNode *Node  // the node that the graph is an attribute of; nil where Parent is
	Function   *Function

	Nodes        []*Node
	Initializers []*Tensor
	Inputs       []*ValueInfo // of a function: none, see Function.Inputs
	Outputs      []*ValueInfo
	ValueInfos   []*ValueInfo
	Metadata     []Pair

	SparseNames    []string // of sparse_initializer
	QuantAnnotated []string // names of tensors that quantization_annotation speaks of

	model  *Model
	chunks []*message // one but for a graph that the file gives in pieces
	sparse []*sparseTensor
}

// Function is a model-local function. Its weights are inputs, or Constant nodes in its body.
type Function struct {
	Name, Domain, Overload string
	Inputs, Outputs        []string
	Body                   *Graph
	Opsets                 []Opset
	Defaults               []*Attribute // attribute_proto: attributes with a default value
}

// Node is one operation.
type Node struct {
	Graph                          *Graph
	Index                          int // in Graph.Nodes
	Name, OpType, Domain, Overload string
	Inputs, Outputs                []string
	Attributes                     []*Attribute
	Metadata                       []Pair

	msg *message
}

// Attr returns the attribute with the given name, or nil.
func (n *Node) Attr(name string) *Attribute {
	for _, a := range n.Attributes {
		if a.Name == name {
			return a
		}
	}
	return nil
}

// AttributeType says which member of an [Attribute] holds its value.
type AttributeType int32

// The types of AttributeProto.
const (
	AttrUndefined AttributeType = iota
	AttrFloat
	AttrInt
	AttrString
	AttrTensor
	AttrGraph
	AttrFloats
	AttrInts
	AttrStrings
	AttrTensors
	AttrGraphs
	AttrSparseTensor
	AttrSparseTensors
	AttrTypeProto
	AttrTypeProtos
)

// Attribute is an attribute of a node. Type is as the file says; files of IR version 1
// have none. Ref names the attribute of the function that gives the value.
type Attribute struct {
	Name, Ref string
	Type      AttributeType
	I         int64
	F         float32
	S         []byte
	Ints      []int64
	Floats    []float32
	Strings   [][]byte
	T         *Tensor
	Tensors   []*Tensor
	G         *Graph
	Graphs    []*Graph

	sparse []*sparseTensor
}

// Tensor is a tensor that the file holds or names: an initializer, or an attribute's value.
type Tensor struct {
	Name     string // as in the file; attributes' tensors often have none
	Key      string // the name in Model.Checkpoint: unique in the model
	DataType DataType
	Dims     []int64
	Metadata []Pair

	// Data has the name Key. Types that formats knows are as one expects. All others
	// (elements of 6, 4 and 2 bits, COMPLEX128, what is not known) are U8: one dimension,
	// the bytes as raw_data has them. HasData is false for strings, tensors without a
	// type, and types of 6 bits or not known that are in typed fields: no Data there.
	Data    formats.Tensor
	HasData bool

	External *External // nil when the data lies in the model file
	Graph    *Graph    // that the initializer, or the node with the attribute, is in
	Node     *Node     // of an attribute's tensor; nil for initializers and defaults of functions

	msg  *message
	role role
}

// role is where in a model a tensor stands.
type role uint8

const (
	roleInitializer role = iota
	roleAttribute
	roleSparse // the values or indices of a sparse tensor
)

// External says where external data lies. Length is the size of the data even where the
// file leaves it out.
type External struct {
	Location       string
	Offset, Length int64

	checksum bool // the entry is there
	file     *externalFile
}

// ValueInfo is a value's name with what is known of its type.
type ValueInfo struct {
	Name     string
	ElemType DataType // Undefined when it is not a tensor
	Dims     []Dim
	HasShape bool // false: the rank is not known
	Metadata []Pair
}

// Dim is one dimension: a number when Known, else a symbol or, with an empty Param, nothing.
type Dim struct {
	Value int64
	Param string
	Known bool
}

// Checkpoint returns every tensor that has data, of all graphs and functions, without
// opening anything anew. Its shards are the model file, with the tensors that lie in it,
// and then each external file in order of first use, under its location. Initializers of
// the main graph have their own names. Others have the graph's scope before it, with a
// slash; the tensor of a Constant node is named as the node's output, those of other
// attributes NODE.ATTRIBUTE, and the two of a sparse tensor NAME.values and NAME.indices.
// A name that is taken gets "#2" after it, and so on. Closing it closes the model.
func (m *Model) Checkpoint() *formats.Checkpoint { return m.checkpoint }

// Graphs yields the main graph, then the graphs in its nodes, depth first, then the bodies
// of functions in the same way. Graphs of training_info are not among them.
func (m *Model) Graphs() iter.Seq[*Graph] {
	return func(yield func(*Graph) bool) {
		if !m.Graph.walk(yield) {
			return
		}
		for _, f := range m.Functions {
			if !f.Body.walk(yield) {
				return
			}
		}
	}
}

// allGraphs returns what Graphs yields, and the graphs of training_info.
func (m *Model) allGraphs() []*Graph {
	all := slices.Collect(m.Graphs())
	for _, g := range m.training {
		g.walk(func(g *Graph) bool { all = append(all, g); return true })
	}
	return all
}

// walk yields the graph and those in its nodes; false when it was told to stop.
func (g *Graph) walk(yield func(*Graph) bool) bool {
	if !yield(g) {
		return false
	}
	for _, n := range g.Nodes {
		for _, a := range n.Attributes {
			if a.G != nil && !a.G.walk(yield) {
				return false
			}
			for _, sub := range a.Graphs {
				if !sub.walk(yield) {
					return false
				}
			}
		}
	}
	return true
}

// ExternalPaths returns the paths of the files with external data, in order of first use:
// what an output must not overwrite, beside the model file.
func (m *Model) ExternalPaths() []string {
	var paths []string
	for _, x := range m.externals {
		paths = append(paths, x.file.Name())
	}
	return paths
}

// Close closes the model file and its external files.
func (m *Model) Close() error { return m.checkpoint.Close() }

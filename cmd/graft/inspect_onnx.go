package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/onnx"
)

// graphInfo is what inspect tells of an ONNX model beside its files and tensors.
type graphInfo struct {
	Producer  string       `json:"producer,omitempty"`
	Version   string       `json:"producer_version,omitempty"`
	IR        int64        `json:"ir_version"`
	Opsets    []opsetInfo  `json:"opsets"`
	Inputs    []valueInfo  `json:"inputs"`
	Outputs   []valueInfo  `json:"outputs"`
	Adapters  []valueInfo  `json:"adapter_inputs,omitempty"` // with a default of rank 0, for factors
	Nodes     int          `json:"nodes"`                    // in all graphs and functions
	Functions int          `json:"functions,omitempty"`
	Types     []typeInfo   `json:"types"`
	Layers    []graphLayer `json:"layers"`
}

type opsetInfo struct {
	Domain  string `json:"domain"`
	Version int64  `json:"version"`
}

// valueInfo is an input or output of the model. A dimension is a number, or a name that
// stands for one, or "?"; there are none at all where the file does not say.
type valueInfo struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Dims []any  `json:"dims"`
}

// typeInfo sums up the tensors of one type.
type typeInfo struct {
	Type    string `json:"type"`
	Tensors int    `json:"tensors"`
	Params  int64  `json:"parameters"`
	Bytes   int64  `json:"bytes"`
}

// graphLayer is a node that an adapter can change, or the reason why not.
type graphLayer struct {
	Node      string         `json:"node"`
	Graph     string         `json:"graph,omitempty"` // "" for the main graph
	Op        string         `json:"op"`
	Kind      string         `json:"kind"`
	Module    string         `json:"module,omitempty"` // "" where nothing tells
	Evidence  []evidenceInfo `json:"evidence,omitempty"`
	In        int64          `json:"in"`
	Out       int64          `json:"out"`
	Groups    int64          `json:"groups,omitempty"` // of a convolution of several
	Weight    string         `json:"weight"`
	DType     string         `json:"dtype"`
	Shape     []int64        `json:"shape"`
	InOut     bool           `json:"in_out,omitempty"` // the weight is stored as (in, out)
	Quantized string         `json:"quantized,omitempty"`
	Users     int            `json:"weight_users,omitempty"` // layers with this weight, if they are several
	Shared    []string       `json:"shared_with,omitempty"`  // some of the others
	Takes     []string       `json:"takes"`                  // "merge", and modes of inject
}

// evidenceInfo says why a layer is thought to be a module, the strongest reason first.
type evidenceInfo struct {
	Rule   string `json:"rule"`
	Module string `json:"module"`
	From   string `json:"from"`
}

func inspectGraph(c *cli.Context, co *console, path string) (*inspectResult, error) {
	o, err := openModel(path)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	if err := o.openWeights(c); err != nil {
		return nil, err
	}
	if err := co.checkReport("", o.paths()...); err != nil {
		return nil, err
	}
	if err := checkPage(c, o.paths()...); err != nil {
		return nil, err
	}
	weights, err := o.weightsModel()
	if err != nil {
		return nil, err
	}
	layers, err := onnx.Find(o.graph, weights)
	if err != nil {
		return nil, err
	}
	m := o.graph
	r := &inspectResult{Schema: "graft.inspect/1", Path: path, Kind: "onnx", DTypes: map[string]int{}, listLayers: c.Bool("layers"), kinds: map[string]string{}}
	for _, l := range layers {
		r.kinds[l.Weight.Key] = l.Kind.String()
	}
	r.Graph = &graphInfo{
		Producer: m.Producer, Version: m.ProducerVersion, IR: m.IRVersion, Functions: len(m.Functions),
		Outputs: valuesOf(m.Graph.Outputs), Opsets: []opsetInfo{}, Layers: layersOf(layers),
	}
	r.Graph.Inputs, r.Graph.Adapters = inputsOf(m.Graph)
	for _, s := range m.Opsets {
		r.Graph.Opsets = append(r.Graph.Opsets, opsetInfo{s.Domain, s.Version})
	}
	for _, kv := range m.Metadata {
		r.Metadata = append(r.Metadata, metadataRow{o.base.Shards()[0].Name, kv.Key, kv.Value})
	}
	for _, s := range o.base.Shards() {
		r.Files = append(r.Files, fileInfo{s.Name, len(s.Tensors), s.Size()})
	}
	r.countGraph(m, o.base)
	if c.Bool("spectrum") {
		r.listSpectrum = true
		if r.Spectrum, err = moduleSpectra(c, co, path, layersOfGraph(o.base, layers)); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// countGraph counts tensors as the model's own types have them: to the checkpoint those of
// a few bits an element are rows of bytes.
func (r *inspectResult) countGraph(m *wire.Model, ckpt *formats.Checkpoint) {
	stored := map[string]*wire.Tensor{}
	types := map[string]*typeInfo{}
	count := func(name string, shape []int64, dtype, file string, bytes int64) {
		n := elements(shape)
		r.Tensors++
		r.Params += n
		r.Bytes += bytes
		r.DTypes[dtype]++
		t := types[dtype]
		if t == nil {
			t = &typeInfo{Type: dtype}
			types[dtype] = t
		}
		t.Tensors, t.Params, t.Bytes = t.Tensors+1, t.Params+n, t.Bytes+bytes
		r.tensors = append(r.tensors, tensorInfo{name, dtype, shape, file, bytes})
	}
	for g := range m.Graphs() {
		r.Graph.Nodes += len(g.Nodes)
		for _, t := range g.Initializers {
			stored[t.Key] = t
		}
		for _, n := range g.Nodes {
			for _, a := range n.Attributes {
				if a.T != nil {
					stored[a.T.Key] = a.T
				}
				for _, t := range a.Tensors {
					stored[t.Key] = t
				}
			}
		}
	}
	for _, s := range ckpt.Shards() {
		for _, t := range s.Tensors {
			shape, dtype := t.Shape, t.DType.String()
			if own := stored[t.Name]; own != nil {
				shape, dtype = own.Dims, typeName(own.DataType)
				delete(stored, t.Name)
			}
			count(t.Name, shape, dtype, s.Name, t.Size())
		}
	}
	for _, key := range slices.Sorted(maps.Keys(stored)) { // those without data: text
		t := stored[key]
		count(key, t.Dims, typeName(t.DataType), ckpt.Shards()[0].Name, 0)
	}
	r.Graph.Types = []typeInfo{}
	for _, name := range slices.Sorted(maps.Keys(types)) {
		r.Graph.Types = append(r.Graph.Types, *types[name])
	}
}

// elements is the number of a shape's elements. Shapes were checked when the file was
// opened, but for those of text.
func elements(shape []int64) int64 {
	n, err := formats.ByteSize(formats.U8, shape)
	if err != nil {
		return 0
	}
	return n
}

// typeName is what graft calls a type elsewhere, and ONNX's name for those that only ONNX has.
func typeName(t wire.DataType) string {
	if d := t.DType(); d != formats.InvalidDType {
		return d.String()
	}
	return t.String()
}

// inputsOf describes the inputs that a caller gives, and those that an adapter does, which
// have an empty default. Old exporters list all initializers among the inputs; those are
// neither.
func inputsOf(g *wire.Graph) (given, adapters []valueInfo) {
	defaults := map[string]*wire.Tensor{}
	for _, t := range g.Initializers {
		defaults[t.Name] = t
	}
	var inputs, factors []*wire.ValueInfo
	for _, v := range g.Inputs {
		switch t := defaults[v.Name]; {
		case t == nil:
			inputs = append(inputs, v)
		case slices.Contains(t.Dims, 0):
			factors = append(factors, v)
		}
	}
	return valuesOf(inputs), valuesOf(factors)
}

func valuesOf(values []*wire.ValueInfo) []valueInfo {
	out := []valueInfo{}
	for _, v := range values {
		x := valueInfo{Name: v.Name, Type: "not a tensor"}
		if v.ElemType != wire.Undefined {
			x.Type = typeName(v.ElemType)
		}
		if v.HasShape {
			x.Dims = []any{}
		}
		for _, d := range v.Dims {
			switch {
			case d.Known:
				x.Dims = append(x.Dims, d.Value)
			case d.Param != "":
				x.Dims = append(x.Dims, d.Param)
			default:
				x.Dims = append(x.Dims, "?")
			}
		}
		out = append(out, x)
	}
	return out
}

// maxShared is how many of the layers that share a weight are named at each of them.
const maxShared = 8

func layersOf(layers []*onnx.Layer) []graphLayer {
	users := map[*wire.Tensor][]*onnx.Layer{}
	for _, l := range layers {
		users[l.Weight] = append(users[l.Weight], l)
	}
	out := []graphLayer{}
	for _, l := range layers {
		x := graphLayer{
			Node: nodeName(l.Node), Graph: l.Node.Graph.Scope, Op: l.Node.OpType, Kind: l.Kind.String(), Module: l.Path,
			In: l.In, Out: l.Out, Weight: cmp.Or(l.Weight.Key, l.Weight.Name), DType: typeName(l.Weight.DataType), Shape: l.Weight.Dims, InOut: l.InOut,
			Quantized: l.Quantized, Takes: takes(l),
		}
		if l.Groups != 1 {
			x.Groups = l.Groups
		}
		for _, e := range l.Evidence {
			x.Evidence = append(x.Evidence, evidenceInfo{e.Rule, e.Path, e.From})
		}
		if n := len(users[l.Weight]); n > 1 {
			x.Users = n
		}
		same := users[l.Weight]
		for _, other := range same[:min(len(same), maxShared+1)] {
			switch {
			case other == l || len(x.Shared) == maxShared:
			case other.Path == "" || other.Path == l.Path:
				x.Shared = append(x.Shared, nodeName(other.Node))
			default:
				x.Shared = append(x.Shared, other.Path)
			}
		}
		out = append(out, x)
	}
	return out
}

// nodeName names a node, by its output where it has no name.
func nodeName(n *wire.Node) string {
	if n.Name == "" && len(n.Outputs) > 0 {
		return n.Outputs[0]
	}
	return n.Name
}

// takes lists what can be done to a layer: "merge" and modes of inject. What an adapter
// itself may rule out, such as DoRA in a graph, is not looked at.
func takes(l *onnx.Layer) []string {
	out := []string{}
	if l.Quantized == "" && l.Weight.HasData && l.Weight.Data.DType.IsFloat() {
		out = append(out, "merge")
		if l.Weight.Graph.Function == nil {
			out = append(out, string(onnx.InGraph))
		}
	}
	turned := l.Node.OpType == "FusedMatMul" && l.Node.Attr("transA") != nil && l.Node.Attr("transA").I != 0
	if !turned && (l.Kind != patch.Conv || l.Groups == 1) {
		out = append(out, string(onnx.Baked), string(onnx.Inputs))
	}
	return out
}

// printGraph prints what is special about an ONNX model.
func (r *inspectResult) printGraph(w io.Writer) {
	g := r.Graph
	var opsets []string
	for _, o := range g.Opsets {
		opsets = append(opsets, strings.TrimSpace(printable(o.Domain)+" "+fmt.Sprint(o.Version)))
	}
	fmt.Fprintf(w, "IR version %d, opset %s, %s", g.IR, strings.Join(opsets, ", "), countOf(g.Nodes, "node"))
	if g.Functions > 0 {
		fmt.Fprintf(w, ", %s", countOf(g.Functions, "function"))
	}
	fmt.Fprintln(w)
	if len(g.Types) > 1 {
		for _, t := range g.Types {
			fmt.Fprintf(w, "%s: %s parameters in %s, %s\n", t.Type, countText(t.Params), countOf(t.Tensors, "tensor"), sizeText(t.Bytes))
		}
	}
}

// printGraphTables prints inputs, outputs and layers: equal ones that differ in numbers
// alone together, unless all layers were asked for.
func (r *inspectResult) printGraphTables(t *tabwriter.Writer) {
	g := r.Graph
	for _, list := range []struct {
		title  string
		values []valueInfo
	}{{"INPUT", g.Inputs}, {"INPUT FOR AN ADAPTER", g.Adapters}, {"OUTPUT", g.Outputs}} {
		if len(list.values) == 0 {
			continue
		}
		fmt.Fprintf(t, "\n%s\tTYPE\tDIMS\tCOUNT\n", list.title)
		for _, v := range grouped(list.values, func(v valueInfo) string { return fmt.Sprint(starred(v.Name), v.Type, starred(v.dims())) }) {
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\n", v.name(v.first.Name), v.first.Type, v.name(v.first.dims()), v.count)
		}
	}
	if r.listLayers {
		fmt.Fprintln(t, "\nNODE\tOP\tKIND\tMODULE\tBY\tIN\tOUT\tWEIGHT\tTAKES\tSHARED WITH")
		for _, l := range g.Layers {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", printable(l.Node), l.Op, l.Kind, l.module(l.Module), l.rule(), l.In, l.Out, l.weight(), l.takes(), cmp.Or(joinNames(l.Shared), "-"))
		}
		return
	}
	if len(g.Layers) == 0 {
		return
	}
	fmt.Fprintln(t, "\nLAYER\tOP\tKIND\tIN\tOUT\tWEIGHT\tBY\tTAKES\tCOUNT")
	key := func(l graphLayer) string {
		return fmt.Sprint(starred(l.Module), "\x00", l.Op, l.Kind, l.In, l.Out, l.Groups, l.weight(), l.rule(), l.takes())
	}
	for _, v := range grouped(g.Layers, key) {
		l := v.first
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%d\n", l.module(v.name(l.Module)), l.Op, l.Kind, l.In, l.Out, l.weight(), l.rule(), l.takes(), v.count)
	}
}

func (v valueInfo) dims() string {
	if v.Dims == nil {
		return "?"
	}
	out := make([]string, len(v.Dims))
	for i, d := range v.Dims {
		out[i] = printable(fmt.Sprint(d))
	}
	return "[" + strings.Join(out, " ") + "]"
}

func (l graphLayer) module(path string) string {
	if path == "" {
		return "?"
	}
	return printable(path)
}

// rule is the kind of the strongest evidence.
func (l graphLayer) rule() string {
	if len(l.Evidence) == 0 {
		return "-"
	}
	return l.Evidence[0].Rule
}

func (l graphLayer) weight() string {
	s := l.DType
	if l.Quantized != "" {
		s += " " + l.Quantized
	}
	if l.Groups > 1 {
		s += fmt.Sprintf(", %d groups", l.Groups)
	}
	if l.Users > 0 {
		s += ", shared"
	}
	return s
}

// takes says in short what a layer can take: "merge, inject" is everything.
func (l graphLayer) takes() string {
	if len(l.Takes) == 4 {
		return "merge, inject"
	}
	if len(l.Takes) == 0 {
		return "nothing"
	}
	return strings.Join(l.Takes, ", ")
}

// group is several things that differ in the numbers of their names alone.
type group[T any] struct {
	first T
	count int
}

// grouped puts together what has the same key, in the order of the first.
func grouped[T any](list []T, key func(T) string) []*group[T] {
	var out []*group[T]
	at := map[string]*group[T]{}
	for _, x := range list {
		k := key(x)
		if at[k] == nil {
			at[k] = &group[T]{first: x}
			out = append(out, at[k])
		}
		at[k].count++
	}
	return out
}

// name is what the only member is called, or has stars for the numbers.
func (g *group[T]) name(of string) string {
	if g.count == 1 {
		return printable(of)
	}
	return printable(starred(of))
}

var numbers = regexp.MustCompile(`(^|[._/])[0-9]+([._/]|$)`)

// starred replaces the numbers between the dots of a name.
func starred(name string) string {
	for {
		next := numbers.ReplaceAllString(name, "$1*$2")
		if next == name {
			return name
		}
		name = next
	}
}

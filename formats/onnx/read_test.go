package onnx

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/seed-b982eded/graft/formats"
)

const tinyBert = "../../testdata/tiny-bert/onnx/"

// TestTypes reads every element type from its typed field and from raw_data, where
// onnx.numpy_helper has put the same.
func TestTypes(t *testing.T) {
	m := mustOpen(t, "testdata/tensors.onnx")
	dtypes := map[string]formats.DType{
		"FLOAT": formats.F32, "UINT8": formats.U8, "INT8": formats.I8, "UINT16": formats.U16, "INT16": formats.I16, "INT32": formats.I32,
		"INT64": formats.I64, "BOOL": formats.Bool, "FLOAT16": formats.F16, "DOUBLE": formats.F64, "UINT32": formats.U32, "UINT64": formats.U64,
		"COMPLEX64": formats.C64, "BFLOAT16": formats.BF16, "FLOAT8E4M3FN": formats.F8E4M3, "FLOAT8E4M3FNUZ": formats.F8E4M3FNUZ,
		"FLOAT8E5M2": formats.F8E5M2, "FLOAT8E5M2FNUZ": formats.F8E5M2FNUZ, "FLOAT8E8M0": formats.F8E8M0,
	}
	seen := 0
	for _, x := range m.Graph.Initializers {
		kind, how, _ := strings.Cut(x.Name, "/")
		if x.DataType.String() != kind {
			t.Errorf("%s: got the type %s", x.Name, x.DataType)
		}
		if kind == "STRING" || strings.HasPrefix(kind, "FLOAT6") && how == "typed" {
			if _, ok := m.Checkpoint().Tensor(x.Key); x.HasData || ok {
				t.Errorf("%s has data", x.Name)
			}
			continue
		}
		seen++
		raw := data(t, m, kind+"/raw")
		if got := data(t, m, x.Name); got != raw {
			t.Errorf("%s: got %x, want %x", x.Name, got, raw)
		}
		want, shape := dtypes[kind], []int64{3, 5}
		if want == formats.InvalidDType {
			want, shape = formats.U8, []int64{int64(len(raw))}
		}
		if x.Data.DType != want || !slices.Equal(x.Data.Shape, shape) || !slices.Equal(x.Dims, []int64{3, 5}) {
			t.Errorf("%s: got %s %v of %v", x.Name, x.Data.DType, x.Data.Shape, x.Dims)
		}
	}
	if seen != 2*27-2 {
		t.Errorf("compared %d tensors", seen)
	}
}

// TestAgainstListing compares real exports with what the onnx package reads in them.
func TestAgainstListing(t *testing.T) {
	for _, name := range []string{"model-opset14", "model-opset17-nofold"} {
		want, err := os.ReadFile("testdata/" + name + ".golden")
		if err != nil {
			t.Fatal(err)
		}
		m := mustOpen(t, tinyBert+name+".onnx")
		var opsets []string
		for _, o := range m.Opsets {
			opsets = append(opsets, fmt.Sprintf("%s:%d", o.Domain, o.Version))
		}
		got := fmt.Sprintf("%d %s %s %v\n", m.IRVersion, m.Producer, m.ProducerVersion, opsets) + listing(t, m.Graph)
		g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for i := range min(len(g), len(w)) {
			if g[i] != w[i] {
				t.Fatalf("%s, line %d: got %q, want %q", name, i+1, g[i], w[i])
			}
		}
		if len(g) != len(w) {
			t.Errorf("%s: got %d lines, want %d", name, len(g), len(w))
		}
	}
}

// listing is what testdata/gen/onnx_listing.py prints of a graph.
func listing(t *testing.T, g *Graph) string {
	var out strings.Builder
	for _, v := range g.Inputs {
		fmt.Fprintln(&out, "input", v.text())
	}
	for _, v := range g.Outputs {
		fmt.Fprintln(&out, "output", v.text())
	}
	tensor := func(x *Tensor) string {
		raw, err := x.Data.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(raw)
		return fmt.Sprintf("%s %v %x", x.DataType, x.Dims, sum[:8])
	}
	for _, x := range g.Initializers {
		fmt.Fprintln(&out, "initializer", x.Name, tensor(x))
	}
	for _, n := range g.Nodes {
		fmt.Fprintln(&out, "node", n.Name, n.OpType, strings.Join(n.Inputs, ","), strings.Join(n.Outputs, ","))
		for _, a := range n.Attributes {
			switch a.Type {
			case AttrTensor:
				fmt.Fprintln(&out, "attribute", a.Name, "TENSOR", tensor(a.T))
			case AttrInt:
				fmt.Fprintln(&out, "attribute", a.Name, "INT", a.I)
			case AttrInts:
				fmt.Fprintln(&out, "attribute", a.Name, "INTS", a.Ints)
			case AttrFloat:
				b := math.Float32bits(a.F)
				fmt.Fprintf(&out, "attribute %s FLOAT %02x%02x%02x%02x\n", a.Name, byte(b), byte(b>>8), byte(b>>16), byte(b>>24))
			case AttrString:
				fmt.Fprintf(&out, "attribute %s STRING %x\n", a.Name, a.S)
			default:
				t.Fatalf("attribute %s of type %d", a.Name, a.Type)
			}
		}
	}
	return out.String()
}

func (v *ValueInfo) text() string {
	var dims []string
	for _, d := range v.Dims {
		if d.Known {
			dims = append(dims, fmt.Sprint(d.Value))
		} else {
			dims = append(dims, d.Param)
		}
	}
	return fmt.Sprintf("%s %s %v", v.Name, v.ElemType, dims)
}

// ints are models with the tensor x of the values 0, 1, …, 5, in every encoding.
func ints() map[string]string {
	values := []int64{0, 1, 2, 3, 4, 5}
	var unpacked, longer string
	for _, v := range values {
		unpacked += vi(tensorInt64Data, v)
		longer += long(uint64(tensorInt64Data)<<3, 3) + long(uint64(v), 10)
	}
	dims := vi(tensorDims, 2) + vi(tensorDims, 3)
	typ := vi(tensorDataType, int64(Int64))
	all := map[string]string{
		"packed":         dims + typ + str(tensorName, "x") + str(tensorInt64Data, packed64(values...)),
		"unpacked":       dims + typ + str(tensorName, "x") + unpacked,
		"longer numbers": dims + typ + str(tensorName, "x") + longer,
		"packed dims":    str(tensorDims, packed64(2, 3)) + typ + str(tensorName, "x") + unpacked,
		"backwards":      str(tensorInt64Data, packed64(values...)) + str(tensorName, "x") + typ + dims,
		"in pieces":      dims + str(tensorInt64Data, packed64(0, 1)) + typ + vi(tensorInt64Data, 2) + str(tensorInt64Data) + str(tensorName, "x") + vi(tensorInt64Data, 3) + vi(tensorInt64Data, 4) + str(tensorInt64Data, packed64(5)),
		"twice":          vi(tensorDataType, int64(Float)) + str(tensorName, "y") + dims + typ + str(tensorName, "x") + unpacked,
		"unknown fields": vi(99, 7) + dims + f32(98, 1) + typ + str(97, "\xff\xff") + str(tensorName, "x") + f64(96, 2) + unpacked + str(12, "doc"),
		"raw":            dims + typ + str(tensorName, "x") + str(tensorRawData, le64(values...)),
		"raw twice":      dims + typ + str(tensorName, "x") + str(tensorRawData, "other") + str(tensorRawData, le64(values...)),
		"default place":  dims + typ + str(tensorName, "x") + unpacked + vi(tensorLocation, 0),
	}
	for name, body := range all {
		all[name] = model(str(graphInitializer, body))
	}
	body := str(graphInitializer, dims, typ, str(tensorName, "x"), unpacked)
	all["graph in pieces"] = str(modelGraph, node("A", str(nodeOutput, "a"))) + vi(modelIRVersion, 8) + str(modelGraph, body) + str(modelGraph, node("B"))
	all["long lengths"] = "\x3a" + long(uint64(len(body)), 9) + body
	return all
}

func le64(values ...int64) string {
	var b []byte
	for _, v := range values {
		for i := range 8 {
			b = append(b, byte(v>>(8*i)))
		}
	}
	return string(b)
}

// TestEncodings reads one tensor in every way that protobuf allows to write it.
func TestEncodings(t *testing.T) {
	for name, content := range ints() {
		m, err := inMemory(content)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		x := m.Graph.Initializers[0]
		if x.Name != "x" || x.Data.DType != formats.I64 || !slices.Equal(x.Dims, []int64{2, 3}) || data(t, m, "x") != le64(0, 1, 2, 3, 4, 5) {
			t.Errorf("%s: got %+v", name, x)
		}
		if name == "graph in pieces" && (len(m.Graph.Nodes) != 2 || m.Graph.Nodes[1].Index != 1 || m.Graph.Nodes[1].OpType != "B") {
			t.Errorf("%s: got %d nodes", name, len(m.Graph.Nodes))
		}
	}
}

// TestRandomAccess reads pieces of values that cannot be found without decoding those
// before them, from several goroutines.
func TestRandomAccess(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 9))
	const n = 30*markEvery + 17
	values := make([]int64, n)
	var b strings.Builder
	var run []byte
	for i := range values {
		values[i] = int64(rng.Uint64()) >> rng.IntN(64)
		if i > markEvery+5 && i < 20*markEvery+7 {
			b.WriteString(vi(tensorInt64Data, values[i])) // a run of fields
			continue
		}
		run = protowire.AppendVarint(run, uint64(values[i]))
		if i == markEvery+5 || i == n-1 || i == 20*markEvery+1000 {
			b.WriteString(str(tensorInt64Data, string(run)))
			run = nil
		}
	}
	want := le64(values...)
	m := mustRead(t, model(initializer("x", Int64, []int64{n}, b.String())))
	x := m.Graph.Initializers[0].Data
	if _, ok := x.Data.(formats.FileRanger); ok {
		t.Error("varints are no range of the file")
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for range 20 {
				off := rng.Int64N(8 * n)
				p := make([]byte, rng.IntN(200))
				got, err := x.Data.ReadAt(p, off)
				if got != min(len(p), 8*n-int(off)) || (got < len(p)) != (err == io.EOF) || string(p[:got]) != want[off:][:got] {
					t.Errorf("%d bytes at %d: got %d, %v", len(p), off, got, err)
				}
			}
		})
	}
	wg.Wait()
	if data(t, m, "x") != want {
		t.Error("reading from the start differs")
	}
	if err := x.Data.(formats.Preparer).Prepare(t.Context()); err != nil {
		t.Error(err)
	}
	if got, err := x.Data.ReadAt(make([]byte, 1), 8*n); got != 0 || err != io.EOF {
		t.Errorf("at the end: got %d, %v", got, err)
	}
}

// TestFloats reads floats in several fields, which are in the file as they are, but not in
// one piece.
func TestFloats(t *testing.T) {
	one, two, three := "\x00\x00\x80\x3f", "\x00\x00\x00\x40", "\x00\x00\x40\x40"
	for name, fields := range map[string]string{
		"one run":      str(tensorFloatData, one, two, three),
		"two runs":     str(tensorFloatData, one) + str(tensorFloatData, two, three),
		"fields":       f32(tensorFloatData, 0x3f800000) + f32(tensorFloatData, 0x40000000) + f32(tensorFloatData, 0x40400000),
		"run of bytes": str(tensorRawData, one, two, three),
	} {
		m := mustRead(t, model(initializer("x", Float, []int64{3}, fields)))
		if got := data(t, m, "x"); got != one+two+three {
			t.Errorf("%s: got %x", name, got)
		}
		x, _ := m.Checkpoint().Tensor("x")
		_, ok := x.Data.(formats.FileRanger)
		if want := strings.Contains(name, "run of") || name == "one run"; ok != want {
			t.Errorf("%s: a range of the file: %v", name, ok)
		}
	}
}

// TestSkeleton reads everything that a model has names for.
func TestSkeleton(t *testing.T) {
	constant := func(out, bytes string) string {
		return node("Constant", str(nodeOutput, out), str(nodeAttribute, str(attributeName, "value"), vi(attributeType, int64(AttrTensor)), str(attributeT, tensorBody("", Uint8, []int64{1}, str(tensorRawData, bytes)))))
	}
	inner := str(attributeG, str(graphName, "inner"), initializer("w", Uint8, []int64{1}, str(tensorRawData, "i")), constant("c", "j"),
		node("Loop", str(nodeName, "again"), str(nodeAttribute, str(attributeName, "body"), str(attributeG, initializer("w", Uint8, []int64{1}, str(tensorRawData, "k"))))))
	content := vi(modelIRVersion, 9) + str(modelProducerName, "p") + str(modelProducerVersion, "1") + str(modelDomain, "d") + vi(modelVersion, 3) +
		str(modelGraph,
			node("If", str(nodeInput, "cond"), str(nodeOutput, "y"), str(nodeName, "choose"), str(nodeMetadata, str(pairKey, "k"), str(pairValue, "v")),
				str(nodeAttribute, str(attributeName, "then_branch"), inner), str(nodeAttribute, str(attributeName, "else_branch"), inner)),
			constant("c", "l"), constant("c", "m"),
			node("Op", str(nodeDomain, "x.y"), str(nodeOverload, "o"), str(nodeInput, ""), str(nodeInput, "a"),
				str(nodeAttribute, str(attributeName, "f"), f32(attributeF, 0x3f800000)),
				str(nodeAttribute, str(attributeName, "i"), vi(attributeI, -1)),
				str(nodeAttribute, str(attributeName, "s"), str(attributeS, "\xff")),
				str(nodeAttribute, str(attributeName, "fs"), f32(attributeFloats, 0x3f800000), str(attributeFloats, "\x00\x00\x00\x40")),
				str(nodeAttribute, str(attributeName, "is"), vi(attributeInts, -1), str(attributeInts, packed64(2, -3))),
				str(nodeAttribute, str(attributeName, "ss"), str(attributeStrings, "a"), str(attributeStrings)),
				str(nodeAttribute, str(attributeName, "ts"), str(attributeTensors, tensorBody("t", Uint8, nil, str(tensorRawData, "n"))), str(attributeTensors, tensorBody("t", Uint8, nil, str(tensorRawData, "o")))),
				str(nodeAttribute, str(attributeName, "r"), str(attributeRef, "outer")),
				str(nodeAttribute, str(attributeName, "sp"), str(attributeSparseTensor, str(sparseValues, tensorBody("", Uint8, []int64{1}, str(tensorRawData, "p"))), str(sparseIndices, tensorBody("", Int64, []int64{1}, vi(tensorInt64Data, 5))), vi(sparseDims, 9))),
			),
			initializer("w", Uint8, []int64{1}, str(tensorRawData, "q"), str(tensorMetadata, str(pairKey, "from"), str(pairValue, "there"))),
			str(graphSparseInitializer, str(sparseValues, tensorBody("s", Uint8, []int64{1}, str(tensorRawData, "r"))), str(sparseIndices, tensorBody("", Int64, []int64{1}, vi(tensorInt64Data, 5)))),
			str(graphQuantization, str(quantizationTensorName, "w")),
			str(graphInput, str(valueName, "cond"), str(valueType, str(typeTensor, vi(tensorElem, int64(Bool)), str(tensorShape)))),
			str(graphInput, str(valueName, "seq"), str(valueType, str(4, str(1)))),
			str(graphOutput, str(valueName, "y"), str(valueType, str(typeTensor, vi(tensorElem, int64(Float)), str(tensorShape, str(shapeDim, vi(dimValue, 7)), str(shapeDim, str(dimParam, "n")), str(shapeDim), str(shapeDim, str(dimParam, "m"), vi(dimValue, 2)))))),
			str(graphValueInfo, str(valueName, "a"), str(valueType, str(typeTensor, vi(tensorElem, int64(Int64))))),
			str(graphMetadata, str(pairKey, "gk"), str(pairValue, "gv")),
		) +
		str(modelOpsetImport, vi(opsetVersion, 18)) + str(modelOpsetImport, str(opsetDomain, "x.y"), vi(opsetVersion, 1)) +
		str(modelMetadata, str(pairKey, "mk"), str(pairValue, "mv")) +
		str(modelTraining, str(trainingAlgorithm, initializer("w", Uint8, []int64{1}, str(tensorRawData, "t")))) +
		str(modelFunctions, str(functionName, "f"), str(functionDomain, "x.y"), str(functionOverload, "o"), str(functionInput, "in"), str(functionOutput, "out"),
			str(functionNode, constant("c", "u")[2:]), str(functionOpset, vi(opsetVersion, 18)),
			str(functionDefaults, str(attributeName, "value"), str(attributeT, tensorBody("", Uint8, nil, str(tensorRawData, "v")))))
	m := mustRead(t, content)
	var got strings.Builder
	for x := range m.Checkpoint().Tensors() {
		b, err := x.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%s=%s\n", x.Name, b)
	}
	want := `choose.then_branch/w=i
choose.then_branch/c=j
choose.then_branch/again.body/w=k
choose.else_branch/w=i
choose.else_branch/c=j
choose.else_branch/again.body/w=k
c=l
c#2=m
Op#3.ts.0=n
Op#3.ts.1=o
Op#3.sp.values=p
Op#3.sp.indices=` + le64(5) + `
w=q
s.values=r
s.indices=` + le64(5) + `
training_info.0/w=t
x.y.f.o/c=u
x.y.f.o/value=v
`
	if got.String() != want {
		t.Errorf("got tensors\n%s\nwant\n%s", got.String(), want)
	}
	if m.IRVersion != 9 || m.Producer != "p" || m.ProducerVersion != "1" || m.Domain != "d" || m.ModelVersion != 3 ||
		!slices.Equal(m.Opsets, []Opset{{"", 18}, {"x.y", 1}}) || !slices.Equal(m.Metadata, []Pair{{"mk", "mv"}}) {
		t.Errorf("got the model %+v", m)
	}
	var scopes []string
	for g := range m.Graphs() {
		scopes = append(scopes, g.Scope)
	}
	if want := []string{"", "choose.then_branch", "choose.then_branch/again.body", "choose.else_branch", "choose.else_branch/again.body", "x.y.f.o"}; !slices.Equal(scopes, want) {
		t.Errorf("got graphs %q, want %q", scopes, want)
	}
	for range m.Graphs() {
		break // stopping early must not go on
	}
	g := m.Graph
	branch := g.Nodes[0].Attr("else_branch").G
	if branch.Parent != g || branch.ParentNode != g.Nodes[0] || branch.Name != "inner" || branch.Nodes[1].Attr("body").G.Parent != branch {
		t.Error("a graph in a graph has the wrong parent")
	}
	if !slices.Equal(g.SparseNames, []string{"s"}) || !slices.Equal(g.QuantAnnotated, []string{"w"}) || !slices.Equal(g.Metadata, []Pair{{"gk", "gv"}}) ||
		!slices.Equal(g.Initializers[0].Metadata, []Pair{{"from", "there"}}) || !slices.Equal(g.Nodes[0].Metadata, []Pair{{"k", "v"}}) {
		t.Errorf("got the graph %+v", g)
	}
	n := g.Nodes[3]
	if n.Index != 3 || n.Domain != "x.y" || n.Overload != "o" || !slices.Equal(n.Inputs, []string{"", "a"}) || n.Attr("nothing") != nil {
		t.Errorf("got the node %+v", n)
	}
	if n.Attr("f").F != 1 || n.Attr("i").I != -1 || string(n.Attr("s").S) != "\xff" || !slices.Equal(n.Attr("fs").Floats, []float32{1, 2}) ||
		!slices.Equal(n.Attr("is").Ints, []int64{-1, 2, -3}) || len(n.Attr("ss").Strings) != 2 || n.Attr("r").Ref != "outer" {
		t.Errorf("got attributes %+v", n.Attributes)
	}
	y := g.Outputs[0]
	if y.ElemType != Float || !y.HasShape || !slices.Equal(y.Dims, []Dim{{7, "", true}, {0, "n", false}, {}, {2, "", true}}) {
		t.Errorf("got the output %+v", y)
	}
	if v := g.Inputs[1]; v.ElemType != Undefined || v.HasShape || v.Name != "seq" {
		t.Errorf("got the sequence %+v", v)
	}
	if v := g.Inputs[0]; !v.HasShape || len(v.Dims) != 0 {
		t.Errorf("got the scalar %+v", v)
	}
	if v := g.ValueInfos[0]; v.HasShape || v.ElemType != Int64 {
		t.Errorf("got the value %+v", v)
	}
	f := m.Functions[0]
	if f.Name != "f" || f.Body.Function != f || !slices.Equal(f.Inputs, []string{"in"}) || !slices.Equal(f.Outputs, []string{"out"}) || len(f.Opsets) != 1 || f.Body.Parent != nil {
		t.Errorf("got the function %+v", f)
	}
}

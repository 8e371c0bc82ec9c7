package onnx

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/publish"
)

// TestUnedited writes models without an edit: they come out byte for byte.
func TestUnedited(t *testing.T) {
	for name, content := range ints() {
		if got := edited(t, content, func(*Model, *Edit) {}); got != content {
			t.Errorf("%s differs", name)
		}
	}
	for _, path := range []string{"testdata/tensors.onnx", tinyBert + "model-opset14.onnx", tinyBert + "model-opset17-nofold.onnx"} {
		unedited(t, path)
	}
}

func unedited(t *testing.T, path string) {
	t.Helper()
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer m.Close()
	if got := mustFiles(t, NewEdit(m), FileOptions{})["out.onnx"]; got != string(want) {
		t.Errorf("%s differs", path)
	}
}

// TestSetData gives the tensor x other values in every encoding. What is not x stays, and a
// tensor that lies in raw_data has nothing but its values changed.
func TestSetData(t *testing.T) {
	raw := le64(9, 8, 7, 6, 5, 4)
	for name, content := range ints() {
		if strings.HasPrefix(name, "graph in") {
			continue // looked at below
		}
		got := edited(t, content, func(m *Model, e *Edit) { e.SetData(m.Graph.Initializers[0], tensorOf(formats.I64, []int64{2, 3}, raw)) })
		m := mustRead(t, got)
		if x := m.Graph.Initializers[0]; data(t, m, "x") != raw || !slices.Equal(x.Dims, []int64{2, 3}) || x.DataType != Int64 {
			t.Errorf("%s: got %x of %v", name, data(t, m, "x"), x.Dims)
		}
		if strings.HasPrefix(name, "raw") && got != strings.Replace(content, le64(0, 1, 2, 3, 4, 5), raw, 1) {
			t.Errorf("%s: other bytes changed too", name)
		}
		if name == "unknown fields" {
			for _, kept := range []string{vi(99, 7), f32(98, 1), str(97, "\xff\xff"), f64(96, 2), str(12, "doc")} {
				if !strings.Contains(got, kept) {
					t.Errorf("%s: %q is lost", name, kept)
				}
			}
		}
	}
}

// TestEdits makes one change after another and compares with the model that should
// come out, byte for byte.
func TestEdits(t *testing.T) {
	nodes := []string{node("A", str(nodeInput, "a"), str(nodeInput, "b"), str(nodeOutput, "c")), node("B", str(nodeOutput, "d"))}
	x := initializer("x", Uint8, []int64{2}, str(tensorRawData, "xx"))
	input, info := str(graphInput, str(valueName, "a")), str(graphValueInfo, str(valueName, "c"))
	function := func(fields ...string) string {
		return str(modelFunctions, str(functionName, "f"), str(functionInput, "p"), strings.Join(fields, ""), str(functionOpset, vi(opsetVersion, 17)))
	}
	call := str(functionNode, str(nodeInput, "p"), str(nodeOpType, "C"))
	base := func(graph string, f string, more ...string) string { return model(graph) + f + strings.Join(more, "") }
	plain := base(strings.Join(nodes, "")+x+input+info, function(call))
	added := NewNode{Name: "n", OpType: "Add", Domain: "d", Inputs: []string{"a", ""}, Outputs: []string{"e"}, Metadata: []Pair{{"k", "v"}}, Attributes: []NewAttribute{
		{Name: "f", Type: AttrFloat, F: 1}, {Name: "i", Type: AttrInt, I: -1}, {Name: "s", Type: AttrString, S: []byte("s")},
		{Name: "fs", Type: AttrFloats, Floats: []float32{1, 1}}, {Name: "is", Type: AttrInts, Ints: []int64{0, 300}}, {Name: "ss", Type: AttrStrings, Strings: [][]byte{nil, []byte("t")}},
		{Name: "t", Type: AttrTensor, T: tensorOf(formats.U8, []int64{3}, "abc")}, {Name: "r", Type: AttrInt, Ref: "outer"},
	}}
	attr := func(name string, typ AttributeType, fields ...string) string {
		return str(nodeAttribute, str(attributeName, name), strings.Join(fields, ""), vi(attributeType, int64(typ)))
	}
	addedText := str(nodeInput, "a") + str(nodeInput) + str(nodeOutput, "e") + str(nodeName, "n") + str(nodeOpType, "Add") +
		attr("f", AttrFloat, f32(attributeF, 0x3f800000)) + attr("i", AttrInt, vi(attributeI, -1)) + attr("s", AttrString, str(attributeS, "s")) +
		attr("fs", AttrFloats, f32(attributeFloats, 0x3f800000), f32(attributeFloats, 0x3f800000)) + attr("is", AttrInts, vi(attributeInts, 0), vi(attributeInts, 300)) +
		attr("ss", AttrStrings, str(attributeStrings), str(attributeStrings, "t")) + attr("t", AttrTensor, str(attributeT, tensorBody("", Uint8, []int64{3}, str(tensorRawData, "abc")))) +
		str(nodeAttribute, str(attributeName, "r"), vi(attributeType, int64(AttrInt)), str(attributeRef, "outer")) +
		str(nodeDomain, "d") + str(nodeMetadata, str(pairKey, "k"), str(pairValue, "v"))
	long := strings.Repeat("n", 200)
	for _, c := range []struct {
		name string
		edit func(m *Model, e *Edit)
		want string
	}{
		{"node first", func(m *Model, e *Edit) { e.AddNode(m.Graph, m.Graph.Nodes[0], added) }, base(str(graphNode, addedText)+nodes[0]+nodes[1]+x+input+info, function(call))},
		{"nodes in order", func(m *Model, e *Edit) {
			e.AddNode(m.Graph, m.Graph.Nodes[1], NewNode{OpType: "P"})
			e.AddNode(m.Graph, m.Graph.Nodes[1], NewNode{OpType: "Q"})
			e.AddNode(m.Graph, nil, NewNode{OpType: "R"})
		}, base(nodes[0]+node("P")+node("Q")+nodes[1]+node("R")+x+input+info, function(call))},
		{"names", func(m *Model, e *Edit) {
			e.SetInput(m.Graph.Nodes[0], 1, long)
			e.SetOutput(m.Graph.Nodes[0], 0, "")
			e.SetInput(m.Graph.Nodes[0], 0, "a") // as it is
		}, base(node("A", str(nodeInput, "a"), str(nodeInput, long), str(nodeOutput))+nodes[1]+x+input+info, function(call))},
		{"more inputs", func(m *Model, e *Edit) {
			e.AppendInput(m.Graph.Nodes[0], "p")
			e.AppendInput(m.Graph.Nodes[0], "q")
			e.SetInput(m.Graph.Nodes[0], 1, "r")
			e.AppendInput(m.Graph.Nodes[1], "s")
		}, base(node("A", str(nodeInput, "a"), str(nodeInput, "r"), str(nodeInput, "p"), str(nodeInput, "q"), str(nodeOutput, "c"))+str(graphNode, str(nodeInput, "s"), str(nodeOpType, "B"), str(nodeOutput, "d"))+x+input+info, function(call))},
		{"initializers", func(m *Model, e *Edit) {
			e.AddInitializer(m.Graph, "y", tensorOf(formats.F16, []int64{1, 2}, "abcd"))
			e.AddInitializer(m.Graph, "z", tensorOf(formats.I64, nil, "abcdefgh"))
		}, base(nodes[0]+nodes[1]+x+initializer("y", Float16, []int64{1, 2}, str(tensorRawData, "abcd"))+initializer("z", Int64, nil, str(tensorRawData, "abcdefgh"))+input+info, function(call))},
		{"inputs and values", func(m *Model, e *Edit) {
			e.AddInput(m.Graph, NewValueInfo{Name: "b", ElemType: Float, Dims: []Dim{{Value: 3, Known: true}, {Param: "n"}, {}}})
			e.AddValueInfo(m.Graph, NewValueInfo{Name: "v"})
		}, base(nodes[0]+nodes[1]+x+input+str(graphInput, str(valueName, "b"), str(valueType, str(typeTensor, vi(tensorElem, 1), str(tensorShape, str(shapeDim, vi(dimValue, 3)), str(shapeDim, str(dimParam, "n")), str(shapeDim)))))+info+str(graphValueInfo, str(valueName, "v")), function(call))},
		{"functions", func(m *Model, e *Edit) {
			f := m.Functions[0]
			e.AddFunctionInput(f, "q")
			e.AppendInput(f.Body.Nodes[0], "q")
			e.AddNode(f.Body, f.Body.Nodes[0], NewNode{OpType: "P"})
			e.AddValueInfo(f.Body, NewValueInfo{Name: "v"})
		}, base(nodes[0]+nodes[1]+x+input+info, str(modelFunctions, str(functionName, "f"), str(functionInput, "p"), str(functionInput, "q"), str(functionNode, str(nodeOpType, "P")),
			str(functionNode, str(nodeInput, "p"), str(nodeInput, "q"), str(nodeOpType, "C")), str(functionOpset, vi(opsetVersion, 17)), str(functionValueInfo, str(valueName, "v"))))},
		{"the model", func(m *Model, e *Edit) {
			e.SetIRVersion(10)
			e.AddOpset("com.microsoft", 1)
			e.AddOpset("ai.onnx", 17)
			e.AddMetadata("k", "v")
			e.AddMetadata("k", "w")
		}, strings.Replace(vi(modelIRVersion, 10)+model(nodes[0] + nodes[1] + x + input + info)[2:]+str(modelOpsetImport, str(opsetDomain, "com.microsoft"), vi(opsetVersion, 1))+function(call), "", "", 1) + str(modelMetadata, str(pairKey, "k"), str(pairValue, "w"))},
		{"data of its size", func(m *Model, e *Edit) { e.SetData(m.Graph.Initializers[0], tensorOf(formats.U8, []int64{2}, "yy")) }, strings.Replace(plain, "xx", "yy", 1)},
		{"data of another kind", func(m *Model, e *Edit) {
			e.SetData(m.Graph.Initializers[0], tensorOf(formats.F16, []int64{2, 50}, strings.Repeat("y", 200)))
		}, base(nodes[0]+nodes[1]+str(graphInitializer, vi(tensorDims, 2), vi(tensorDims, 50), vi(tensorDataType, int64(Float16)), str(tensorRawData, strings.Repeat("y", 200)), str(tensorName, "x"))+input+info, function(call))},
		{"everything", func(m *Model, e *Edit) {
			e.AppendInput(m.Graph.Nodes[1], "s")
			e.AddNode(m.Graph, nil, NewNode{OpType: "R"})
			e.AddInitializer(m.Graph, "y", tensorOf(formats.U8, nil, "a"))
			e.SetData(m.Graph.Initializers[0], tensorOf(formats.U8, []int64{2}, "yy"))
		}, base(nodes[0]+str(graphNode, str(nodeInput, "s"), str(nodeOpType, "B"), str(nodeOutput, "d"))+node("R")+strings.Replace(x, "xx", "yy", 1)+initializer("y", Uint8, nil, str(tensorRawData, "a"))+input+info, function(call))},
	} {
		if got := edited(t, plain, c.edit); got != c.want {
			t.Errorf("%s: got\n%q\nwant\n%q", c.name, got, c.want)
		}
	}
}

// TestTop edits what the model has already, which is replaced, and what it lacks.
func TestTop(t *testing.T) {
	pair := func(k, v string) string { return str(modelMetadata, str(pairKey, k), str(pairValue, v)) }
	opset := func(domain string, v int64) string {
		return str(modelOpsetImport, str(opsetDomain, domain), vi(opsetVersion, v))
	}
	content := str(modelGraph) + opset("ai.onnx", 17) + opset("d", 1) + pair("a", "1") + pair("b", "2") + str(99, "kept")
	got := edited(t, content, func(m *Model, e *Edit) {
		e.SetIRVersion(8)
		e.AddOpset("", 18)
		e.AddOpset("d", 1)
		e.AddOpset("new", 2)
		e.AddMetadata("b", "3")
		e.AddMetadata("a", "1")
		e.AddMetadata("c", "4")
	})
	want := vi(modelIRVersion, 8) + str(modelGraph) + opset("ai.onnx", 18) + opset("d", 1) + opset("new", 2) + pair("a", "1") + pair("b", "3") + pair("c", "4") + str(99, "kept")
	if got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

// TestPublish writes an edited model and its data beside each other with package publish,
// from files to files.
func TestPublish(t *testing.T) {
	dir := tree(t, map[string]string{"in.onnx": outsideModel(), "w": string(counting(64)), "v": string(counting(8))})
	m := mustOpen(t, filepath.Join(dir, "in.onnx"))
	if got := m.ExternalPaths(); !slices.Equal(got, []string{filepath.Join(dir, "w"), filepath.Join(dir, "v")}) {
		t.Errorf("got the paths %q", got)
	}
	e := NewEdit(m)
	e.SetData(m.Graph.Initializers[1], tensorOf(formats.U8, []int64{4}, "bbbb"))
	files, err := e.Files("out.onnx", FileOptions{External: ExternalAlways})
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out.onnx")
	set := publish.Set{Path: m.Path, Layout: publish.Beside, Files: files}
	if err := publish.Write(t.Context(), set, out, publish.Options{Inputs: m.ExternalPaths()}); err != nil {
		t.Fatal(err)
	}
	back := mustOpen(t, out)
	for x := range m.Checkpoint().Tensors() {
		want := data(t, m, x.Name)
		if x.Name == "b" {
			want = "bbbb"
		}
		if got := data(t, back, x.Name); got != want {
			t.Errorf("%s: got %.40q, want %.40q", x.Name, got, want)
		}
	}
	for _, f := range files {
		if got, err := os.ReadFile(filepath.Join(dir, f.Name)); err != nil || string(got) != contentOf(t, f) {
			t.Errorf("%s differs, %v", f.Name, err)
		}
	}
	// Data that would replace the base's is refused.
	files, err = e.Files("other.onnx", FileOptions{DataName: "w"})
	if err != nil {
		t.Fatal(err)
	}
	set.Files = files
	err = publish.Write(t.Context(), set, filepath.Join(dir, "other.onnx"), publish.Options{Inputs: m.ExternalPaths(), Force: true})
	checkError(t, err, formats.ErrUsage)
}

// TestEditsInPieces edits a graph that the file gives in pieces.
func TestEditsInPieces(t *testing.T) {
	content := ints()["graph in pieces"]
	got := edited(t, content, func(m *Model, e *Edit) {
		g := m.Graph
		e.AddNode(g, g.Nodes[0], NewNode{OpType: "P"})
		e.AddNode(g, g.Nodes[1], NewNode{OpType: "Q"})
		e.AddNode(g, nil, NewNode{OpType: "R"})
		e.AddInput(g, NewValueInfo{Name: "in"})
		e.SetData(g.Initializers[0], tensorOf(formats.I64, []int64{1}, "abcdefgh"))
		e.AddInitializer(g, "y", tensorOf(formats.U8, nil, "y"))
		e.SetOutput(g.Nodes[0], 0, "b")
	})
	m := mustRead(t, got)
	var ops string
	for _, n := range m.Graph.Nodes {
		ops += n.OpType
	}
	if ops != "PAQBR" || data(t, m, "x") != "abcdefgh" || data(t, m, "y") != "y" || m.Graph.Inputs[0].Name != "in" || m.Graph.Nodes[1].Outputs[0] != "b" || strings.Count(got, "\x3a") < 3 {
		t.Errorf("got %s in %q", ops, got)
	}
}

// TestPrefixes grows a name in a graph in a graph byte by byte, over the lengths at which
// prefixes get longer, between neighbours whose prefixes are longer than need be.
func TestPrefixes(t *testing.T) {
	odd := "\x0a" + long(uint64(len(str(nodeOpType, "Odd"))), 6) + str(nodeOpType, "Odd")
	build := func(name string) string {
		return model(odd + node("If", str(nodeAttribute, str(attributeG, odd+node("N", str(nodeInput, name))+odd))) + odd)
	}
	base := build("a")
	for n := range 300 {
		name := strings.Repeat("b", n)
		got := edited(t, base, func(m *Model, e *Edit) { e.SetInput(m.Graph.Nodes[1].Attributes[0].G.Nodes[1], 0, name) })
		if got != build(name) {
			t.Fatalf("%d bytes: got %q, want %q", n, got, build(name))
		}
	}
	// Prefixes that are longer than need be stay when their number does.
	wide := str(modelGraph, "\x2a"+long(uint64(len(tensorBody("x", Uint8, []int64{1}, str(tensorRawData, "a")))), 5)+tensorBody("x", Uint8, []int64{1}, str(tensorRawData, "a")))
	got := edited(t, wide, func(m *Model, e *Edit) { e.SetData(m.Graph.Initializers[0], tensorOf(formats.U8, []int64{1}, "b")) })
	if want := wide[:len(wide)-1] + "b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEditMistakes(t *testing.T) {
	content := model(node("A", str(nodeInput, "a")), initializer("x", Uint8, []int64{1}, str(tensorRawData, "x")), initializer("s", String, []int64{1}, str(tensorStringData, "x")), str(graphInput, str(valueName, "a"))) +
		str(modelFunctions, str(functionName, "f"))
	other := mustRead(t, content)
	byte1 := tensorOf(formats.U8, []int64{1}, "y")
	for name, c := range map[string]struct {
		edit func(m *Model, e *Edit)
		want string
	}{
		"another model's tensor": {func(m *Model, e *Edit) { e.SetData(other.Graph.Initializers[0], byte1) }, "a part of another model"},
		"strings":                {func(m *Model, e *Edit) { e.SetData(m.Graph.Initializers[1], byte1) }, "has no data that could be set"},
		"no type":                {func(m *Model, e *Edit) { e.SetData(m.Graph.Initializers[0], tensorOf(formats.F4, []int64{2}, "y")) }, "ONNX has no type for F4"},
		"no shape":               {func(m *Model, e *Edit) { e.SetData(m.Graph.Initializers[0], tensorOf(formats.U8, []int64{-1}, "y")) }, "negative dimension"},
		"initializer there":      {func(m *Model, e *Edit) { e.AddInitializer(m.Graph, "x", byte1) }, `"x" is there already`},
		"initializer twice":      {func(m *Model, e *Edit) { e.AddInitializer(m.Graph, "y", byte1); e.AddInitializer(m.Graph, "y", byte1) }, `"y" is added twice`},
		"initializer unnamed":    {func(m *Model, e *Edit) { e.AddInitializer(m.Graph, "", byte1) }, "the name has 0 bytes"},
		"initializer untyped":    {func(m *Model, e *Edit) { e.AddInitializer(m.Graph, "y", tensorOf(formats.F4, []int64{2}, "y")) }, "ONNX has no type for F4"},
		"initializer unshaped":   {func(m *Model, e *Edit) { e.AddInitializer(m.Graph, "y", tensorOf(formats.U8, []int64{-2}, "y")) }, "negative dimension"},
		"function's initializer": {func(m *Model, e *Edit) { e.AddInitializer(m.Functions[0].Body, "y", byte1) }, "a function has no initializers"},
		"function's input":       {func(m *Model, e *Edit) { e.AddInput(m.Functions[0].Body, NewValueInfo{Name: "b"}) }, "AddFunctionInput"},
		"input there":            {func(m *Model, e *Edit) { e.AddInput(m.Graph, NewValueInfo{Name: "a"}) }, `"a" is there already`},
		"no op_type":             {func(m *Model, e *Edit) { e.AddNode(m.Graph, nil, NewNode{Name: "n"}) }, "has no op_type"},
		"before a stranger":      {func(m *Model, e *Edit) { e.AddNode(m.Graph, other.Graph.Nodes[0], NewNode{OpType: "n"}) }, "another graph"},
		"untyped attribute": {func(m *Model, e *Edit) {
			e.AddNode(m.Graph, nil, NewNode{OpType: "n", Attributes: []NewAttribute{{Name: "a"}}})
		}, `attribute "a": attributes of type 0`},
		"no such input":  {func(m *Model, e *Edit) { e.SetInput(m.Graph.Nodes[0], 1, "b") }, "no input or output 1"},
		"no such output": {func(m *Model, e *Edit) { e.SetOutput(m.Graph.Nodes[0], 0, "b") }, "no input or output 0"},
	} {
		m := mustRead(t, content)
		e := NewEdit(m)
		c.edit(m, e)
		_, err := e.Files("out.onnx", FileOptions{})
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		checkError(t, err, formats.ErrUsage, c.want)
	}
	for name, opts := range map[string]FileOptions{"out.onnx": {DataName: "out.onnx"}, "": {}, "a/b": {}, "out": {DataName: "../data"}, "o": {DataName: "/data"}, "p": {KeepLocations: true, External: ExternalNever}} {
		if _, err := NewEdit(other).Files(name, opts); err == nil {
			t.Errorf("%q with %+v: no error", name, opts)
		} else {
			checkError(t, err, formats.ErrUsage)
		}
	}
}

// outsideModel has data in the files w and v, with a shared place, checksums and an entry
// that nobody knows.
func outsideModel() string {
	return model(
		node("Constant", str(nodeOutput, "k"), str(nodeAttribute, str(attributeName, "value"), str(attributeT, tensorBody("", Uint16, nil, outside("w", "62", "2"))))),
		initializer("a", Uint8, []int64{4}, outside("w", "8", "4")+entry("checksum", "c0ffee")),
		initializer("b", Uint8, []int64{4}, outside("v", "", "")+entry("checksum", "c0ffee")),
		initializer("c", Uint8, []int64{4}, outside("w", "0", "4")+entry("x", "y")),
		initializer("again", Uint8, []int64{4}, outside("w", "8", "4")),
		initializer("big", Uint8, []int64{1025}, str(tensorRawData, strings.Repeat("B", 1025))),
		initializer("small", Uint8, []int64{1024}, str(tensorRawData, strings.Repeat("S", 1024))),
		initializer("typed", Int64, []int64{300}, str(tensorInt64Data, strings.Repeat("\x07", 300))),
	)
}

// reopen reads a model from the files of an edit.
func reopen(t *testing.T, files map[string]string) *Model {
	t.Helper()
	return mustOpen(t, filepath.Join(tree(t, files), "out.onnx"))
}

// where says where each tensor lies.
func where(m *Model) map[string]string {
	at := map[string]string{}
	for _, x := range m.tensors {
		at[x.Key] = "inside"
		if e := x.External; e != nil {
			at[x.Key] = fmt.Sprintf("%s %d+%d", e.Location, e.Offset, e.Length)
		}
	}
	return at
}

func TestExternalLayouts(t *testing.T) {
	old := map[string]string{"a": "\x08\x09\x0a\x0b", "b": "\x00\x01\x02\x03", "c": "\x00\x01\x02\x03", "again": "\x08\x09\x0a\x0b", "k": "\x3e\x3f",
		"big": strings.Repeat("B", 1025), "small": strings.Repeat("S", 1024), "typed": strings.Repeat("\x07\x00\x00\x00\x00\x00\x00\x00", 300)}
	edit := func(m *Model, e *Edit) {
		g := m.Graph
		e.SetData(g.Initializers[0], tensorOf(formats.U8, []int64{4}, "aaaa"))                     // shares its place
		e.SetData(g.Initializers[1], tensorOf(formats.U8, []int64{4}, "bbbb"))                     // has it for itself
		e.SetData(g.Initializers[2], tensorOf(formats.F16, []int64{3}, "cccccc"))                  // gets longer
		e.AddInitializer(g, "new", tensorOf(formats.U8, []int64{2000}, strings.Repeat("n", 2000))) // large
		e.AddInitializer(g, "scalar", tensorOf(formats.U8, nil, "s"))                              // small
	}
	now := maps.Clone(old)
	maps.Copy(now, map[string]string{"a": "aaaa", "b": "bbbb", "c": "cccccc", "new": strings.Repeat("n", 2000), "scalar": "s"})
	for _, c := range []struct {
		name  string
		edit  func(m *Model, e *Edit)
		opts  FileOptions
		files string
		data  map[string]string
		where map[string]string
	}{
		{"kept, unedited", func(*Model, *Edit) {}, FileOptions{KeepLocations: true}, "out.onnx v w", old,
			map[string]string{"a": "w 8+4", "again": "w 8+4", "b": "v 0+4", "c": "w 0+4", "k": "w 62+2", "big": "inside", "small": "inside", "typed": "inside"}},
		{"kept", edit, FileOptions{KeepLocations: true, DataName: "more"}, "more out.onnx v w", now,
			map[string]string{"c": "more 0+6", "a": "more 4096+4", "again": "w 8+4", "b": "v 0+4", "k": "w 62+2", "new": "more 8192+2000", "scalar": "inside", "big": "inside", "small": "inside", "typed": "inside"}},
		{"kept, appended", edit, FileOptions{KeepLocations: true, DataName: "v"}, "out.onnx v w", now,
			map[string]string{"c": "v 4096+6", "a": "v 8192+4", "again": "w 8+4", "b": "v 0+4", "k": "w 62+2", "new": "v 12288+2000", "scalar": "inside", "big": "inside", "small": "inside", "typed": "inside"}},
		{"kept, the rest out", func(*Model, *Edit) {}, FileOptions{KeepLocations: true, External: ExternalAlways}, "out.onnx out.onnx.data v w", old,
			map[string]string{"a": "w 8+4", "again": "w 8+4", "b": "v 0+4", "c": "w 0+4", "k": "w 62+2", "big": "out.onnx.data 0+1025", "small": "inside", "typed": "out.onnx.data 4096+2400"}},
		{"packed, unedited", func(*Model, *Edit) {}, FileOptions{}, "out.onnx out.onnx.data", old,
			map[string]string{"c": "out.onnx.data 0+4", "a": "out.onnx.data 4096+4", "again": "out.onnx.data 4096+4", "k": "out.onnx.data 8192+2", "b": "out.onnx.data 12288+4", "big": "inside", "small": "inside", "typed": "inside"}},
		{"packed", edit, FileOptions{DataName: "d"}, "d out.onnx", now,
			map[string]string{"c": "d 0+6", "a": "d 4096+4", "again": "d 8192+4", "k": "d 12288+2", "b": "d 16384+4", "new": "d 20480+2000", "scalar": "inside", "big": "inside", "small": "inside", "typed": "inside"}},
		{"all out", edit, FileOptions{External: ExternalAlways, DataName: "d"}, "d out.onnx", now,
			map[string]string{"c": "d 0+6", "a": "d 4096+4", "again": "d 8192+4", "k": "d 12288+2", "b": "d 16384+4", "big": "d 20480+1025", "typed": "d 24576+2400", "new": "d 28672+2000", "scalar": "inside", "small": "inside"}},
		{"all in", edit, FileOptions{External: ExternalNever}, "out.onnx", now,
			map[string]string{"c": "inside", "a": "inside", "again": "inside", "k": "inside", "b": "inside", "big": "inside", "typed": "inside", "new": "inside", "scalar": "inside", "small": "inside"}},
	} {
		m := mustRead(t, outsideModel())
		e := NewEdit(m)
		c.edit(m, e)
		files := mustFiles(t, e, c.opts)
		if got := strings.Join(slices.Sorted(maps.Keys(files)), " "); got != c.files {
			t.Errorf("%s: got the files %s, want %s", c.name, got, c.files)
			continue
		}
		back := reopen(t, files)
		if got := where(back); !maps.Equal(got, c.where) {
			t.Errorf("%s: got\n%v, want\n%v", c.name, got, c.where)
		}
		for key, want := range c.data {
			if got := data(t, back, key); got != want {
				t.Errorf("%s: %s is %.40q, want %.40q", c.name, key, got, want)
			}
		}
		if back.Checkpoint().Len() != len(c.data) {
			t.Errorf("%s: got %d tensors, want %d", c.name, back.Checkpoint().Len(), len(c.data))
		}
		// Checksums go when the file changes; an entry that nobody knows goes with the data.
		sums := map[string]int{"kept, unedited": 2, "kept": 0, "kept, the rest out": 2}[c.name]
		if got := strings.Count(files["out.onnx"], "c0ffee"); got != sums {
			t.Errorf("%s: got %d checksums, want %d", c.name, got, sums)
		}
		if got := strings.Count(files["out.onnx"], entry("x", "y")); got != 1 && c.name != "all in" {
			t.Errorf("%s: got %d unknown entries", c.name, got)
		}
		if c.name == "kept, unedited" && (files["out.onnx"] != outsideModel() || files["w"] != string(counting(64)) || files["v"] != string(counting(8))) {
			t.Errorf("%s: bytes changed", c.name)
		}
	}
}

// TestLibonnx reads and writes the models of onnx's own tests, as Debian packages them.
func TestLibonnx(t *testing.T) {
	const dir = "/usr/share/libonnx-testdata"
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("GRAFT_INTEROP") != "" {
			t.Fatal(err)
		}
		t.Skip("Debian's libonnx-testdata is not installed")
	}
	n := 0
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".onnx" {
			return err
		}
		n++
		unedited(t, path)
		m, err := Open(path)
		if err != nil {
			return nil // reported
		}
		defer m.Close()
		for x := range m.Checkpoint().Tensors() {
			if _, err := x.ReadAll(); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	if err != nil || n < 1000 {
		t.Errorf("got %d models, %v", n, err)
	}
}

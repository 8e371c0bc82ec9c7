package onnx

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

func seeds(f *testing.F) {
	for _, content := range ints() {
		f.Add([]byte(content), uint8(0))
	}
	f.Add([]byte(outsideModel()), uint8(5))
	f.Add([]byte(nested(34)), uint8(1))
	f.Add([]byte(nested(3)), uint8(2))
	f.Add([]byte(model(node("A", str(nodeInput, "a"), str(nodeOutput, "b")), str(graphSparseInitializer, str(sparseValues, tensorBody("s", Uint8, []int64{1}, str(tensorRawData, "r")))))+
		str(modelFunctions, str(functionName, "f"), str(functionNode, str(nodeOpType, "C")))), uint8(9))
	if content, err := os.ReadFile("testdata/tensors.onnx"); err == nil {
		f.Add(content, uint8(7))
	}
}

// FuzzRead opens a model of any bytes. Whatever comes in: no panic, and an error of the
// right class. What is accepted has unique names, data of the size that is said, and comes
// back byte for byte when it is written without an edit.
func FuzzRead(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, content []byte, _ uint8) {
		m, err := inMemory(string(content))
		if err != nil {
			inputError(t, err)
			return
		}
		names := map[string]bool{}
		for _, g := range m.allGraphs() {
			for i, n := range g.Nodes {
				if n.Graph != g || n.Index != i || n.OpType == "" {
					t.Fatalf("node %+v", n)
				}
			}
		}
		for x := range m.Checkpoint().Tensors() {
			if names[x.Name] {
				t.Fatalf("two tensors %q", x.Name)
			}
			names[x.Name] = true
			whole, err := x.ReadAll()
			if err != nil {
				inputError(t, err)
				continue
			}
			at := int64(len(whole) / 3)
			part := make([]byte, (len(whole)+1)/2)
			if err := formats.ReadFullAt(x.Data, part, at); err != nil || !bytes.Equal(part, whole[at:][:len(part)]) {
				t.Fatalf("%q: %d bytes at %d differ, %v", x.Name, len(part), at, err)
			}
		}
		files, err := NewEdit(m).Files("out.onnx", FileOptions{KeepLocations: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := contentOf(t, files[len(files)-1]); got != string(content) {
			t.Fatalf("it comes back as %q", got)
		}
	})
}

func inputError(t *testing.T, err error) {
	t.Helper()
	var e *formats.Error
	if !errors.As(err, &e) || e.Class != formats.ErrInput || e.File == "" || strings.Contains(err.Error(), "\n") {
		t.Fatalf("error %#v", err)
	}
}

// FuzzEdit makes every kind of edit to a model of any bytes. What comes out is read again,
// has the changes, and everything else as it was.
func FuzzEdit(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, content []byte, choice uint8) {
		m, err := inMemory(string(content))
		if err != nil || len(content) > 1<<20 {
			return
		}
		// Nodes without a name lend their place to keys, so tensors are compared in order.
		type state struct {
			name string
			rank int
			data string
		}
		want := make([]state, len(m.tensors))
		for i, x := range m.tensors {
			want[i] = state{x.Name, len(x.Dims), ""}
			if x.HasData {
				b, err := x.Data.ReadAll()
				if err != nil {
					return // what cannot be read cannot be written elsewhere
				}
				want[i].data = string(b)
			}
		}
		e := NewEdit(m)
		for i, x := range m.tensors {
			if !x.HasData || i%2 != int(choice)&1 {
				continue
			}
			if choice&2 != 0 && x.Data.DType.Bits() == 8 && x.DataType.DType() != formats.InvalidDType {
				n := int64(choice) * 5
				want[i].rank, want[i].data = 1, strings.Repeat("z", int(n))
				e.SetData(x, tensorOf(x.Data.DType, []int64{n}, want[i].data))
			} else {
				want[i].data = strings.Repeat("z", len(want[i].data))
				e.SetData(x, tensorOf(x.Data.DType, x.Data.Shape, want[i].data))
			}
		}
		var nodes, inputs []string
		for i, g := range m.allGraphs() {
			var before *Node
			if len(g.Nodes) > 0 && choice&4 != 0 {
				before = g.Nodes[(int(choice)+i)%len(g.Nodes)]
			}
			e.AddNode(g, before, NewNode{OpType: "NEW", Inputs: []string{"p"}})
			for _, n := range g.Nodes {
				if n == before {
					nodes = append(nodes, "NEW")
				}
				nodes = append(nodes, n.OpType)
				in := append([]string{}, n.Inputs...)
				if len(n.Inputs) > 0 && choice&8 != 0 {
					e.SetInput(n, 0, strings.Repeat("q", int(choice)))
					in[0] = strings.Repeat("q", int(choice))
				}
				if n.Index%3 == 0 {
					e.AppendInput(n, "r")
					in = append(in, "r")
				}
				inputs = append(inputs, strings.Join(in, "|"))
			}
			if before == nil {
				nodes = append(nodes, "NEW")
			}
			if g.Function == nil {
				e.AddInput(g, NewValueInfo{Name: "graft new input"})
				e.AddValueInfo(g, NewValueInfo{Name: "v", ElemType: Float, Dims: []Dim{{Value: 1, Known: true}}})
			}
		}
		e.AddInitializer(m.Graph, "graft new", tensorOf(formats.U8, []int64{1500}, strings.Repeat("n", 1500)))
		e.SetIRVersion(9)
		e.AddMetadata("graft", "yes")
		e.AddOpset("graft", 3)
		opts := FileOptions{External: ExternalMode(choice>>4) % 3, KeepLocations: choice&64 != 0 && ExternalMode(choice>>4)%3 != ExternalNever, DataName: "w"}
		for _, g := range m.allGraphs() {
			for _, v := range g.Inputs {
				if v.Name == "graft new input" {
					return
				}
			}
		}
		files, err := e.Files("out.onnx", opts)
		if err != nil {
			if strings.Contains(err.Error(), "is there already") {
				return
			}
			t.Fatal(err)
		}
		written := map[string]string{}
		for _, x := range files {
			written[x.Name] = contentOf(t, x)
		}
		back, err := read(memory{bytes.NewReader([]byte(written["out.onnx"]))}, "m", func(location string) (formats.SourceFile, error) {
			b, ok := written[location]
			if !ok {
				return nil, formats.Rejectf(location, "", "no such file")
			}
			return memory{bytes.NewReader([]byte(b))}, nil
		})
		if err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
		var got []state
		for _, x := range back.tensors {
			if x.Graph == back.Graph && x.role == roleInitializer && x.Name == "graft new" {
				if data(t, back, x.Key) != strings.Repeat("n", 1500) {
					t.Error("the new tensor differs")
				}
				continue
			}
			now := state{x.Name, len(x.Dims), ""}
			if x.HasData {
				now.data = data(t, back, x.Key)
			}
			got = append(got, now)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got the tensors %+v, want %+v", got, want)
		}
		var gotNodes, gotInputs []string
		for _, g := range back.allGraphs() {
			for _, n := range g.Nodes {
				gotNodes = append(gotNodes, n.OpType)
				if n.OpType != "NEW" || len(n.Inputs) != 1 || n.Inputs[0] != "p" {
					gotInputs = append(gotInputs, strings.Join(n.Inputs, "|"))
				}
			}
		}
		if strings.Join(gotNodes, " ") != strings.Join(nodes, " ") {
			t.Errorf("got the nodes %q, want %q", gotNodes, nodes)
		}
		if strings.Join(gotInputs, " ") != strings.Join(inputs, " ") {
			t.Errorf("got the inputs %q, want %q", gotInputs, inputs)
		}
		if back.IRVersion != 9 || len(back.Opsets) < len(m.Opsets) || len(back.Metadata) < len(m.Metadata) || back.Producer != m.Producer {
			t.Errorf("got the model %+v", back)
		}
	})
}

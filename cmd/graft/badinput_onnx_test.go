package main

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	wire "github.com/seed-b982eded/graft/formats/onnx"
)

// The functions below write ONNX models field by field, by the numbers of onnx.proto, so
// that a row says exactly which bytes it means.

// pb is a field of bytes: a text, or a message of the given fields.
func pb(num protowire.Number, fields ...string) string {
	return string(protowire.AppendString(protowire.AppendTag(nil, num, protowire.BytesType), strings.Join(fields, "")))
}

// pbInt is a field of a whole number.
func pbInt(num protowire.Number, v int64) string {
	return string(protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), uint64(v)))
}

// graphOf is a model of IR version 8 and operator set 17 with a graph of the given fields.
func graphOf(fields ...string) string {
	return pbInt(1, 8) + pb(7, fields...) + pb(8, pb(1, ""), pbInt(2, 17))
}

// onnxBytes makes m.onnx a file of the given bytes.
func onnxBytes(content string) change { return put("m.onnx", content) }

// onnxModel makes m.onnx a model with a graph of the given fields.
func onnxModel(fields ...string) change { return onnxBytes(graphOf(fields...)) }

// tensorFields are those of a tensor of floats.
func tensorFields(name string, dims []int64, fields ...string) string {
	var s string
	for _, d := range dims {
		s += pbInt(1, d)
	}
	s += pbInt(2, 1)
	if name != "" {
		s += pb(8, name)
	}
	return s + strings.Join(fields, "")
}

// weight is an initializer "q.weight" of floats.
func weight(dims []int64, fields ...string) string {
	return pb(5, tensorFields("q.weight", dims, fields...))
}

// raw is the raw_data of a tensor: n zeros.
func raw(n int) string { return pb(9, string(make([]byte, n))) }

// outside are the fields of a tensor with external data.
func outside(location string, more ...string) string {
	s := pb(13, pb(1, "location"), pb(2, location))
	for i := 0; i+1 < len(more); i += 2 {
		s += pb(13, pb(1, more[i]), pb(2, more[i+1]))
	}
	return s + pbInt(14, 1)
}

// product is a node that multiplies its input with a weight.
func product(op, weight string, fields ...string) string {
	return pb(1, pb(1, "x"), pb(1, weight), pb(2, "y"), pb(4, op), strings.Join(fields, ""))
}

// located makes a model whose weight, (4, 4), lies at a location, and a file w of 64 zeros.
func located(location string, more ...string) change {
	return all(onnxModel(product("MatMul", "q.weight"), weight([]int64{4, 4}, outside(location, more...))), put("w", string(make([]byte, 64))))
}

// good makes m.onnx a model of one layer q, 4 × 4 zeros as MatMul takes them.
var good = onnxModel(product("MatMul", "q.weight"), weight([]int64{4, 4}, raw(64)))

// unit makes the adapter one for module q whose ΔW is 1 at output 2 and input 1, and 0 else.
func unit(t *testing.T) {
	t.Helper()
	const header = `{"base_model.model.q.lora_A.weight":{"dtype":"F32","shape":[1,4],"data_offsets":[0,16]},` +
		`"base_model.model.q.lora_B.weight":{"dtype":"F32","shape":[4,1],"data_offsets":[16,32]}}`
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	file = append(file, header...)
	for _, v := range []float32{0, 1, 0, 0, 0, 0, 1, 0} {
		file = binary.LittleEndian.AppendUint32(file, math.Float32bits(v))
	}
	all(put(factors, string(file)), put(config, `{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q"]}`))(t)
}

// onlyOne makes sure that a tensor of the output is 1 at one place and 0 everywhere else.
func onlyOne(tensor string, at int) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		m, err := wire.Open("out")
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		x, ok := m.Checkpoint().Tensor(tensor)
		if !ok {
			t.Fatalf("the output has no tensor %q", tensor)
		}
		got, err := x.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, 64)
		binary.LittleEndian.PutUint32(want[4*at:], math.Float32bits(1))
		if !bytes.Equal(got, want) {
			t.Errorf("%s is %x, want %x", tensor, got, want)
		}
	}
}

// nestedGraphs is a model of a graph in a graph and so on. It is written from the inside,
// backwards: lengths come before what they count.
func nestedGraphs(depth int) string {
	var back []byte
	prefix := func(num protowire.Number) {
		head := protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.BytesType), uint64(len(back)))
		slices.Reverse(head)
		back = append(back, head...)
	}
	op := []byte(pb(4, "If"))
	slices.Reverse(op)
	for range depth {
		prefix(6) // the graph of an attribute
		prefix(5)
		back = append(back, op...)
		prefix(1)
	}
	prefix(7)
	slices.Reverse(back)
	return string(back)
}

// calls are functions f0 to fN, each of which calls the next one twice, and a graph that
// calls the first. The last calls itself or nothing.
func calls(n int, loop bool) string {
	call := func(i int) string {
		return pb(1, pb(1, "x"), pb(2, "y"), pb(4, "f"+string(rune('A'+i))), pb(7, "d"))
	}
	s := graphOf(call(0)) + pb(8, pb(1, "d"), pbInt(2, 1))
	for i := range n {
		body := pb(7, pb(1, "x"), pb(2, "y"), pb(4, "Identity"))
		if next := i + 1; next < n || loop {
			inner := strings.Replace(call(next%n), "\x0a", "\x3a", 1) // a node of a function
			body = inner + inner
		}
		s += pb(25, pb(1, "f"+string(rune('A'+i))), pb(10, "d"), pb(4, "x"), pb(5, "y"), body)
	}
	return s
}

// sparseFile makes a file of n zeros that take no room; where that is not possible the row
// is skipped.
func sparseFile(path string, n int64) change {
	return func(t *testing.T) {
		t.Helper()
		put(path, "")(t)
		if err := os.Truncate(path, n); err != nil {
			t.Skip(err)
		}
	}
}

// onnxModelAndW makes m.onnx a model with a graph of the given fields, and w a file of 64 zeros.
func onnxModelAndW(fields ...string) change {
	return all(onnxModel(fields...), put("w", string(make([]byte, 64))))
}

// differsIn makes sure that two files of one length differ in so many stretches of four bytes.
func differsIn(a, b string, n int) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		x, err := os.ReadFile(a)
		if err != nil {
			t.Fatal(err)
		}
		y, err := os.ReadFile(b)
		if err != nil {
			t.Fatal(err)
		}
		if len(x) != len(y) {
			t.Fatalf("%s has %d bytes and %s has %d", a, len(x), b, len(y))
		}
		got := 0
		for i := 0; i < len(x); i++ {
			if x[i] != y[i] {
				got++
				i += 3
			}
		}
		if got != n {
			t.Errorf("%s and %s differ in %d places, want %d", a, b, got, n)
		}
	}
}

// twoOf makes sure that the layer's weight changed, and the other tensor of its place did not.
func twoOf(t *testing.T) {
	t.Helper()
	onlyOne("q.weight", 6)(t)
	m, err := wire.Open("out")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	x, _ := m.Checkpoint().Tensor("b")
	if got, err := x.ReadAll(); err != nil || !bytes.Equal(got, make([]byte, 64)) {
		t.Errorf("b is %x, %v, want zeros", got, err)
	}
}

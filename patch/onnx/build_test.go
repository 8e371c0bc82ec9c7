package onnx

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/patch"
)

// The functions below write models, by the field numbers of onnx.proto. A part of a graph is
// the bytes of one field of it.

func number(num protowire.Number, v int64) string {
	return string(protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), uint64(v)))
}

func text(num protowire.Number, parts ...string) string {
	return string(protowire.AppendString(protowire.AppendTag(nil, num, protowire.BytesType), strings.Join(parts, "")))
}

// node reads "name: Op input input -> output"; an input "_" is left out. More are fields.
func node(what string, more ...string) string {
	name, rest, _ := strings.Cut(what, ": ")
	before, after, _ := strings.Cut(rest, " -> ")
	words := strings.Fields(before)
	var s string
	for _, w := range words[1:] {
		s += text(1, strings.Trim(w, "_"))
	}
	for _, w := range strings.Fields(after) {
		s += text(2, w)
	}
	return text(1, s, text(3, name), text(4, words[0]), strings.Join(more, ""))
}

func domain(s string) string              { return text(7, s) }
func metadata(key, value string) string   { return text(9, text(1, key), text(2, value)) }
func scopes(list string) string           { return metadata(metaScopes, list) }
func attrInt(name string, v int64) string { return text(5, text(1, name), number(3, v), number(20, 2)) }
func attrTensor(name, tensor string) string {
	return text(5, text(1, name), text(5, tensor), number(20, 4))
}
func attrRef(name, ref string, kind int64) string {
	return text(5, text(1, name), text(21, ref), number(20, kind))
}

func attrFloat(name string, v float32) string {
	bits := protowire.AppendFixed32(protowire.AppendTag(nil, 2, protowire.Fixed32Type), math.Float32bits(v))
	return text(5, text(1, name), string(bits), number(20, 1))
}

func attrInts(name string, v ...int64) string {
	var s string
	for _, x := range v {
		s += number(8, x)
	}
	return text(5, text(1, name), s, number(20, 7))
}

func attrGraph(name string, parts ...string) string {
	return text(5, text(1, name), text(6, parts...), number(20, 5))
}

// tensorBody is a tensor of numbers that its type holds exactly.
func tensorBody(name string, typ wire.DataType, dims []int64, values ...float64) string {
	var s string
	for _, d := range dims {
		s += number(1, d)
	}
	var raw []byte
	for _, v := range values {
		switch typ {
		case wire.Float:
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(v)))
		case wire.Double:
			raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(v))
		case wire.Float16:
			raw = binary.LittleEndian.AppendUint16(raw, formats.Float32ToFloat16(float32(v)))
		case wire.BFloat16:
			raw = binary.LittleEndian.AppendUint16(raw, formats.Float32ToBFloat16(float32(v)))
		case wire.Int64:
			raw = binary.LittleEndian.AppendUint64(raw, uint64(int64(v)))
		case wire.Int8, wire.Bool:
			raw = append(raw, byte(int8(v)))
		}
	}
	return s + number(2, int64(typ)) + text(8, name) + text(9, string(raw))
}

func tensor(name string, typ wire.DataType, dims []int64, values ...float64) string {
	return text(5, tensorBody(name, typ, dims, values...))
}

// matrix is a matrix by its rows.
type matrix [][]float64

// numbers makes a matrix of small integers, another one for every seed. Sums and products
// of such are exact, so that all ways of computing them give the same.
func numbers(rows, cols int, seed int) matrix {
	m := make(matrix, rows)
	for i := range m {
		m[i] = make([]float64, cols)
		for j := range m[i] {
			m[i][j] = float64((i*31+j*17+i*j*7+seed*41)%11 - 5)
		}
	}
	return m
}

func (m matrix) transposed() matrix {
	out := make(matrix, len(m[0]))
	for j := range out {
		for i := range m {
			out[j] = append(out[j], m[i][j])
		}
	}
	return out
}

func (m matrix) times(other matrix) matrix {
	out := make(matrix, len(m))
	for i := range m {
		out[i] = make([]float64, len(other[0]))
		for j := range out[i] {
			for k := range other {
				out[i][j] += m[i][k] * other[k][j]
			}
		}
	}
	return out
}

// plus is m + factor·other.
func (m matrix) plus(factor float64, other matrix) matrix {
	out := make(matrix, len(m))
	for i := range m {
		for j := range m[i] {
			out[i] = append(out[i], m[i][j]+factor*other[i][j])
		}
	}
	return out
}

func (m matrix) flat() []float64 {
	var out []float64
	for _, row := range m {
		out = append(out, row...)
	}
	return out
}

func (m matrix) dims() []int64 { return []int64{int64(len(m)), int64(len(m[0]))} }

func (m matrix) as(name string, typ wire.DataType) string {
	return tensor(name, typ, m.dims(), m.flat()...)
}

func (m matrix) init(name string) string { return m.as(name, wire.Float) }

func vector(name string, values ...float64) string {
	return tensor(name, wire.Float, []int64{int64(len(values))}, values...)
}

func input(name string) string  { return text(11, text(1, name)) }
func output(name string) string { return text(12, text(1, name)) }

// function has a body of nodes.
func function(name string, inputs, outputs string, parts ...string) string {
	s := text(1, name)
	for _, w := range strings.Fields(inputs) {
		s += text(4, w)
	}
	for _, w := range strings.Fields(outputs) {
		s += text(5, w)
	}
	for _, p := range parts { // of a graph: a node is field 7 here
		_, _, n := protowire.ConsumeTag([]byte(p))
		s += string(protowire.AppendTag(nil, 7, protowire.BytesType)) + p[n:]
	}
	return text(25, s, text(9, text(1, ""), number(2, 17)), text(10, "f"))
}

// source is a model file to be.
type source struct {
	ir, opset int64
	graph     []string
	functions []string
}

func (s source) bytes() string {
	if s.ir == 0 {
		s.ir = 8
	}
	if s.opset == 0 {
		s.opset = 17
	}
	out := number(1, s.ir) + text(7, s.graph...) + text(8, text(1, ""), number(2, s.opset)) + text(8, text(1, "com.microsoft"), number(2, 1))
	return out + text(8, text(1, "f"), number(2, 1)) + strings.Join(s.functions, "")
}

// graph is a model of these parts, with input x and output y.
func graph(parts ...string) source {
	return source{graph: append([]string{input("x"), output("y")}, parts...)}
}

func (s source) open(t testing.TB) *wire.Model {
	t.Helper()
	return openBytes(t, s.bytes())
}

func openBytes(t testing.TB, content string) *wire.Model {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	m, err := wire.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// edited writes and opens what an edit makes.
func edited(t testing.TB, e *wire.Edit) *wire.Model {
	t.Helper()
	files, err := e.Files("out.onnx", wire.FileOptions{External: wire.ExternalNever})
	if err != nil {
		t.Fatal(err)
	}
	return openBytes(t, string(contentOf(t, files[len(files)-1])))
}

// contentOf returns the bytes of a file to be written.
func contentOf(t testing.TB, f publish.File) []byte {
	t.Helper()
	parts, err := f.Parts()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, p := range parts {
		out.Write(p.Literal)
		if p.Tensor.Data == nil {
			continue
		}
		if _, err := io.Copy(&out, io.NewSectionReader(p.Tensor.Data, 0, p.Tensor.Size())); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// lora is an update of a module: A (r, in) and B (out, r).
type lora struct {
	module string
	a, b   matrix
	scale  float64
}

// newLora makes one of rank 2.
func newLora(module string, in, out, seed int) lora {
	return lora{module, numbers(2, in, seed+100), numbers(out, 2, seed+200), 2}
}

// on is W (out, in) with the update.
func (l lora) on(w matrix) matrix { return w.plus(l.scale, l.b.times(l.a)) }

func floats(name string, m matrix, shape ...int64) formats.Tensor {
	var raw []byte
	for _, v := range m.flat() {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(v)))
	}
	if shape == nil {
		shape = m.dims()
	}
	return formats.Tensor{Name: name, DType: formats.F32, Shape: shape, Data: bytes.NewReader(raw)}
}

func (l lora) entry() adapter.Entry {
	return adapter.Entry{
		Module: l.module, Keys: []string{l.module + ".lora_A.weight", l.module + ".lora_B.weight"},
		Update: &adapter.LowRank{A: floats("A", l.a), B: floats("B", l.b), Scale: l.scale},
	}
}

func adapterOf(list ...lora) *adapter.Adapter {
	a := &adapter.Adapter{Path: "adapter"}
	for _, l := range list {
		a.Entries = append(a.Entries, l.entry())
	}
	return a
}

func mustBind(t testing.TB, m *wire.Model, weights *patch.Model, adapters ...*adapter.Adapter) *Binding {
	t.Helper()
	b, err := Bind(m, weights, adapters...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func weighted(adapters []*adapter.Adapter) []patch.Weighted {
	var out []patch.Weighted
	for _, a := range adapters {
		out = append(out, patch.Weighted{Adapter: a, Weight: 1})
	}
	return out
}

// each applies a function to every element.
func (m matrix) each(f func(float64) float64) matrix {
	out := make(matrix, len(m))
	for i := range m {
		for _, v := range m[i] {
			out[i] = append(out[i], f(v))
		}
	}
	return out
}

// odd makes numbers that no narrower type than float32 holds, and float32 does.
func odd(rows, cols, seed int) matrix {
	return numbers(rows, cols, seed).each(func(v float64) float64 { return float64(float32(v*0.123 + 0.0456)) })
}

// nans has one number that is none.
func nans(m matrix) matrix {
	out := m.each(func(v float64) float64 { return v })
	out[1][2] = math.NaN()
	return out
}

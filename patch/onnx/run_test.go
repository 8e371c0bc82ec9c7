package onnx

import (
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/formats/ortadapter"
)

// array is a value of a graph that runs. What a test feeds has no type: it has the right one.
type array struct {
	shape []int64
	v     []float64
	typ   formats.DType
}

func arrayOf(m matrix) array { return array{shape: m.dims(), v: m.flat()} }

// runner computes graphs in float64, by the definitions of the operators that the tests
// use. It checks that types agree, and does not round to them.
type runner struct {
	t testing.TB
	x *index
}

// run returns all values of the model's graph.
func run(t testing.TB, m *wire.Model, feeds map[string]array) map[string]array {
	t.Helper()
	r := &runner{t, newIndex(m)}
	return r.graph(m.Graph, nil, feeds, nil)
}

// onlyY runs a model whose output is y.
func onlyY(t testing.TB, m *wire.Model, feeds map[string]array) array {
	t.Helper()
	y, ok := run(t, m, feeds)["y"]
	if !ok {
		t.Fatal("nothing computes y")
	}
	return y
}

func (r *runner) tensor(t *wire.Tensor) array {
	raw, err := t.Data.ReadAll()
	if err != nil {
		r.t.Fatal(err)
	}
	out := array{t.Dims, make([]float64, t.Data.Elements()), t.Data.DType}
	switch t.Data.DType {
	case formats.I64:
		for i := range out.v {
			out.v[i] = float64(int64(binary.LittleEndian.Uint64(raw[8*i:])))
		}
	case formats.I8, formats.Bool:
		for i := range out.v {
			out.v[i] = float64(int8(raw[i]))
		}
	default:
		formats.DecodeFloat64(out.v, raw, t.Data.DType)
	}
	return out
}

func (r *runner) graph(g *wire.Graph, outer, feeds map[string]array, call *frame) map[string]array {
	env := map[string]array{}
	maps.Copy(env, outer)
	for _, t := range g.Initializers {
		env[t.Name] = r.tensor(t)
	}
	maps.Copy(env, feeds)
	made := map[string]bool{}
	for _, n := range g.Nodes {
		var in []array
		for _, name := range n.Inputs {
			v, ok := env[name]
			if name != "" && !ok {
				r.t.Fatalf("node %q reads %q, which nothing has computed before", n.Name, name)
			}
			in = append(in, v)
		}
		for i, v := range r.node(n, in, env, call) {
			if i >= len(n.Outputs) {
				break
			}
			if made[n.Outputs[i]] {
				r.t.Fatalf("%q is computed twice", n.Outputs[i])
			}
			made[n.Outputs[i]] = true
			env[n.Outputs[i]] = v
		}
	}
	return env
}

func (r *runner) node(n *wire.Node, in []array, env map[string]array, call *frame) []array {
	attr := func(name string) *wire.Attribute { return r.x.attr(n, name, call) }
	flag := func(name string) bool { return r.x.flag(n, name, call) }
	if fn := r.x.called(n); fn != nil {
		feeds := map[string]array{}
		for i, name := range fn.Inputs {
			if i < len(in) {
				feeds[name] = in[i]
			}
		}
		inside := r.graph(fn.Body, nil, feeds, &frame{n, call})
		var out []array
		for _, name := range fn.Outputs {
			out = append(out, inside[name])
		}
		return out
	}
	alpha := 1.0
	if a := attr("alpha"); a != nil {
		alpha = float64(a.F)
	}
	var typ formats.DType
	if slices.Contains([]string{"MatMul", "Gemm", "FusedMatMul", "Add", "Mul", "Conv"}, n.OpType) {
		for _, a := range in {
			if a.typ != 0 && typ != 0 && a.typ != typ {
				r.t.Fatalf("node %q gets %s and %s", n.Name, typ, a.typ)
			}
			typ = max(typ, a.typ)
		}
	}
	typed := func(a array) []array {
		a.typ = typ
		return []array{a}
	}
	switch n.OpType {
	case "Identity":
		return in[:1]
	case "Cast":
		typ = wire.DataType(attr("to").I).DType()
		return typed(in[0])
	case "CastLike":
		typ = in[1].typ
		return typed(in[0])
	case "Constant":
		return []array{r.tensor(n.Attr("value").T)}
	case "Transpose":
		return []array{transpose(in[0])}
	case "MatMul":
		return typed(matmul(in[0], in[1]))
	case "Gemm", "FusedMatMul":
		a, b := in[0], in[1]
		if flag("transA") {
			a = transpose(a)
		}
		if flag("transB") {
			b = transpose(b)
		}
		y := matmul(a, b)
		for i := range y.v {
			y.v[i] *= alpha
		}
		if len(in) > 2 && in[2].v != nil {
			y = broadcast(y, in[2], func(a, b float64) float64 { return a + b })
		}
		return typed(y)
	case "Add":
		return typed(broadcast(in[0], in[1], func(a, b float64) float64 { return a + b }))
	case "Mul":
		return typed(broadcast(in[0], in[1], func(a, b float64) float64 { return a * b }))
	case "DequantizeLinear":
		typ = in[1].typ
		return typed(broadcast(in[0], in[1], func(a, b float64) float64 { return a * b }))
	case "Reshape":
		var shape []int64
		for _, d := range in[1].v {
			shape = append(shape, int64(d))
		}
		return []array{{shape, in[0].v, in[0].typ}}
	case "Gather":
		width := in[0].shape[1]
		out := array{append(slices.Clone(in[1].shape), width), nil, in[0].typ}
		for _, i := range in[1].v {
			out.v = append(out.v, in[0].v[int64(i)*width:(int64(i)+1)*width]...)
		}
		return []array{out}
	case "Conv":
		stride, groups := int64(1), int64(1)
		if a := attr("strides"); a != nil {
			stride = a.Ints[0]
		}
		if a := attr("group"); a != nil {
			groups = a.I
		}
		return typed(conv(in[0], in[1], stride, groups))
	case "If":
		branch := "else_branch"
		if in[0].v[0] != 0 {
			branch = "then_branch"
		}
		g := n.Attr(branch).G
		inside := r.graph(g, env, nil, call)
		var out []array
		for _, o := range g.Outputs {
			out = append(out, inside[o.Name])
		}
		return out
	}
	r.t.Fatalf("operator %s is not known here", n.OpType)
	return nil
}

func transpose(a array) array {
	rows, cols := a.shape[0], a.shape[1]
	out := array{[]int64{cols, rows}, make([]float64, len(a.v)), a.typ}
	for i := range rows {
		for j := range cols {
			out.v[j*rows+i] = a.v[i*cols+j]
		}
	}
	return out
}

// matmul multiplies matrices; the first may have more dimensions in front.
func matmul(a, b array) array {
	k, n := b.shape[0], b.shape[1]
	rows := int64(1)
	for _, d := range a.shape[:len(a.shape)-1] {
		rows *= d
	}
	out := array{shape: append(slices.Clone(a.shape[:len(a.shape)-1]), n), v: make([]float64, rows*n)}
	for i := range rows {
		for j := range n {
			for p := range k {
				out.v[i*n+j] += a.v[i*k+p] * b.v[p*n+j]
			}
		}
	}
	return out
}

// broadcast combines arrays of which the second has one element, the first's shape, or the
// shape of its end; or the other way round.
func broadcast(a, b array, f func(x, y float64) float64) array {
	if len(b.v) > len(a.v) {
		a, b = b, a
	}
	out := array{shape: a.shape, v: make([]float64, len(a.v))}
	for i := range a.v {
		out.v[i] = f(a.v[i], b.v[i%len(b.v)])
	}
	return out
}

// conv is a convolution of (1, in, length) with a kernel (out, in/groups, width).
func conv(x, w array, stride, groups int64) array {
	out, each, width := w.shape[0], w.shape[1], w.shape[2]
	length := (x.shape[2]-width)/stride + 1
	y := array{shape: []int64{1, out, length}, v: make([]float64, out*length)}
	for o := range out {
		first := o / (out / groups) * each
		for i := range length {
			for c := range each {
				for k := range width {
					y.v[o*length+i] += w.v[(o*each+c)*width+k] * x.v[(first+c)*x.shape[2]+i*stride+k]
				}
			}
		}
	}
	return y
}

// factors are the inputs that the adapters' files give.
func factors(t testing.TB, in *Injected, names ortadapter.Names) map[string]array {
	t.Helper()
	out := map[string]array{}
	for _, a := range in.Adapters {
		f, err := ortadapter.FileOf(a, "x", ortadapter.WriteOptions{Names: names})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "x.onnx_adapter")
		if err := os.WriteFile(path, contentOf(t, f), 0o666); err != nil {
			t.Fatal(err)
		}
		file, err := ortadapter.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		for _, p := range file.Parameters {
			out[p.Name] = (&runner{t: t}).tensor(&wire.Tensor{Data: p, Dims: p.Shape})
		}
	}
	return out
}

package onnx

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/patch"
)

// injector adds the nodes of [Binding.Inject].
type injector struct {
	b         *Binding
	e         *wire.Edit
	used      *nameSet // names of values and nodes
	opts      InjectOptions
	factors   map[factorKey]factorNames
	inputOf   map[string]factorKey // by path
	attached  map[use]bool         // operands that have their sum
	functions map[*wire.Node]*sharedNode
	given     map[givenModule]bool
	modules   map[*Layer]string   // that the layers are
	alike     map[string][]*Layer // the layers, by that
	apart     map[string]error    // what keeps those from changing alone, where it is known
}

// givenModule is a module of one of the adapters that [Injected] has.
type givenModule struct {
	adapter int
	path    string
}

// factorNames are the values that hold the factors: A (in, r) and B (r, out), or those of
// a convolution, (r, in, kernel…) and (out, r, 1…).
type factorNames struct{ a, b string }

// factorKey tells factors apart that layers cannot share.
type factorKey struct {
	path  string
	dtype formats.DType
	alpha float64
}

// sharedNode is a layer in a function, which all calls of that share.
type sharedNode struct {
	layer *Layer
	calls map[*wire.Node]factorNames
}

func newInjector(b *Binding, opts InjectOptions) *injector {
	used := b.names()
	for g := range b.Model.Graphs() {
		for _, n := range g.Nodes {
			used.used[n.Name] = true
		}
	}
	modules, alike := b.modules(), map[string][]*Layer{}
	for _, l := range b.Layers {
		if key, ok := modules[l]; ok {
			alike[key] = append(alike[key], l)
		}
	}
	return &injector{
		b: b, e: wire.NewEdit(b.Model), used: used, opts: opts,
		factors: map[factorKey]factorNames{}, inputOf: map[string]factorKey{}, attached: map[use]bool{}, functions: map[*wire.Node]*sharedNode{},
		given: map[givenModule]bool{}, modules: modules, alike: alike, apart: map[string]error{},
	}
}

func (in *injector) unfit(l *Layer, format string, args ...any) *formats.Error {
	return formats.Unfitf(in.b.Model.Path, l.Weight.Name, "%s: %s", l.describe(), fmt.Sprintf(format, args...))
}

// layer adds a layer's updates.
func (in *injector) layer(u *layerUpdates, out *Injected) error {
	site := InjectedSite{Module: u.path, Node: u.Node.Name, Quantized: u.Quantized}
	all := slices.Concat(u.of...)
	if in.opts.Mode != Inputs {
		for _, p := range all {
			site.Rank += p.u.Rank()
		}
	}
	if in.opts.Mode == InGraph {
		if u.Quantized != "" {
			return in.unfit(u.Layer, "a quantised weight (%s) cannot be added to", u.Quantized).WithHint("--mode baked or inputs adds a branch beside it")
		}
		out.Sites = append(out.Sites, site)
		return in.sum(u)
	}
	dtype, err := in.floatType(u.Layer)
	if err != nil {
		return err
	}
	if u.Kind == patch.Conv && u.Groups != 1 {
		return in.unfit(u.Layer, "a convolution of %d groups cannot get a side branch", u.Groups).WithHint("--mode in-graph, or graft merge, take it")
	}
	var f factorNames
	if in.opts.Mode == Baked {
		f = in.constants(u, u.stack(all, u.Alpha, dtype), dtype)
	} else {
		for i, pieces := range u.of {
			if len(pieces) == 0 {
				continue
			}
			update := u.stack(pieces, 1, dtype) // factors of other adapters are plain ones too
			site.Rank = max(site.Rank, update.Rank())
			a := out.Adapters[i]
			if key := (givenModule{i, u.path}); !in.given[key] {
				in.given[key] = true
				a.Entries = append(a.Entries, adapter.Entry{Module: u.path, Update: update})
			}
		}
		if f, err = in.inputs(u, dtype); err != nil {
			return err
		}
	}
	out.Sites = append(out.Sites, site)
	if u.frame == nil {
		return in.branch(u.Layer, f)
	}
	return in.share(u.Layer, f)
}

// floatType returns the type that the layer computes with.
func (in *injector) floatType(l *Layer) (formats.DType, error) {
	var d formats.DType
	switch l.Quantized {
	case "MatMulNBits":
		d = in.b.index.dtypeOf(l.Node, 2, l.frame)
	case "MatMulInteger", "DynamicQuantizeMatMul":
		d = formats.F32
	default:
		d = in.b.index.dtype(&l.chain, 0)
	}
	if !d.IsFloat() {
		return 0, in.unfit(l, "the type that it computes with is not known")
	}
	return d, nil
}

// stack makes one update of several pieces, of type dtype and with all scales in B.
func (u *layerUpdates) stack(pieces []piece, scale float64, dtype formats.DType) *adapter.LowRank {
	var as, bs []formats.Tensor
	for _, p := range pieces {
		b := adapter.Scaled(p.u.B, p.u.Scale*p.weight*scale, dtype)
		if p.outs > 0 {
			r := b.Shape[1]
			b = adapter.Rows(b.Name, adapter.Zeros(dtype, p.first, r), b, adapter.Zeros(dtype, u.Out-p.first-p.outs, r))
		}
		as, bs = append(as, adapter.Scaled(p.u.A, 1, dtype)), append(bs, b)
	}
	return &adapter.LowRank{A: adapter.Rows("A", as...), B: adapter.Columns("B", bs...), Scale: 1, Embedding: u.Kind == patch.Embedding}
}

func (u *layerUpdates) key(dtype formats.DType) factorKey { return factorKey{u.path, dtype, u.Alpha} }

// constants adds the factors as initializers.
func (in *injector) constants(u *layerUpdates, update *adapter.LowRank, dtype formats.DType) factorNames {
	if f, ok := in.factors[u.key(dtype)]; ok {
		return f
	}
	a, b := update.A, update.B
	if u.Kind != patch.Conv {
		a, b = adapter.Transposed(a), adapter.Transposed(b)
	}
	f := in.names(u, dtype)
	in.initializer(f.a, a)
	in.initializer(f.b, b)
	return f
}

func (in *injector) names(u *layerUpdates, dtype formats.DType) factorNames {
	a, b := in.opts.Names.Of(u.path, u.Kind == patch.Embedding)
	f := factorNames{fresh(in.used, a), fresh(in.used, b)}
	in.factors[u.key(dtype)] = f
	return f
}

// inputs adds the factors as inputs of the model with defaults of rank 0. Each module has
// a dimension of its own: a runtime takes equal names for equal sizes.
func (in *injector) inputs(u *layerUpdates, dtype formats.DType) (factorNames, error) {
	key := u.key(dtype)
	if f, ok := in.factors[key]; ok {
		return f, nil
	}
	if other, ok := in.inputOf[u.path]; ok {
		return factorNames{}, in.unfit(u.Layer, "it cannot take the factors of another use of %s (type %s and factor %v, and here %s and %v)", formats.Quote(u.path), other.dtype, other.alpha, dtype, u.Alpha)
	}
	in.inputOf[u.path] = key
	f := in.names(u, dtype)
	if a, b := in.opts.Names.Of(u.path, u.Kind == patch.Embedding); f.a != a || f.b != b {
		return f, in.unfit(u.Layer, "the graph has a value %s or %s already, where its factors should be", formats.Quote(a), formats.Quote(b)).
			WithHint("was the model given adapters before? inject into the original, with all of them")
	}
	rank := wire.Dim{Param: u.path + ".rank"}
	known := func(n int64) wire.Dim { return wire.Dim{Value: n, Known: true} }
	a, b := []wire.Dim{known(u.In), rank}, []wire.Dim{rank, known(u.Out)}
	if u.Kind == patch.Conv {
		a, b = []wire.Dim{rank}, []wire.Dim{known(u.Out), rank}
		for i, d := range u.Weight.Dims[1:] {
			a = append(a, known(d))
			if i > 0 {
				b = append(b, known(1))
			}
		}
	}
	elem, _ := wire.DataTypeOf(dtype)
	in.input(wire.NewValueInfo{Name: f.a, ElemType: elem, Dims: a}, dtype)
	in.input(wire.NewValueInfo{Name: f.b, ElemType: elem, Dims: b}, dtype)
	return f, nil
}

func (in *injector) input(v wire.NewValueInfo, dtype formats.DType) {
	shape := make([]int64, len(v.Dims))
	for i, d := range v.Dims {
		shape[i] = d.Value // 0 for the rank
	}
	in.e.AddInitializer(in.b.Model.Graph, v.Name, adapter.Zeros(dtype, shape...))
	in.e.AddInput(in.b.Model.Graph, v)
}

// builder adds nodes before one place.
type builder struct {
	in     *injector
	graph  *wire.Graph
	before *wire.Node
	path   string // of names
}

// node adds a node and returns its output, which gets a fresh name unless out is given.
func (w *builder) node(op, name, out string, attrs []wire.NewAttribute, inputs ...string) string {
	if out == "" {
		out = fresh(w.in.used, w.path+"."+strings.ReplaceAll(name, "/", "."))
	}
	w.in.e.AddNode(w.graph, w.before, wire.NewNode{
		Name: fresh(w.in.used, "/"+strings.ReplaceAll(w.path, ".", "/")+"/"+name), OpType: op, Inputs: inputs, Outputs: []string{out}, Attributes: attrs,
	})
	return out
}

func (w *builder) transpose(name, value string) string {
	return w.node("Transpose", name, "", []wire.NewAttribute{{Name: "perm", Type: wire.AttrInts, Ints: []int64{1, 0}}}, value)
}

func (w *builder) cast(name, value, out string, to formats.DType) string {
	elem, _ := wire.DataTypeOf(to)
	return w.node("Cast", name, out, []wire.NewAttribute{{Name: "to", Type: wire.AttrInt, I: int64(elem)}}, value)
}

// scalar adds a constant.
func (w *builder) scalar(name string, x float64, dtype formats.DType) string {
	one := formats.FromFloat32s("", []int64{}, []float32{1})
	return w.node("Constant", name, "", []wire.NewAttribute{{Name: "value", Type: wire.AttrTensor, T: adapter.Scaled(one, x, dtype)}})
}

// branch adds Y + B(A(X)) after the layer, behind the Add of its bias: there fusers find
// what they look for, and a runtime can join both additions with the products.
func (in *injector) branch(l *Layer, f factorNames) error {
	g := l.after.Graph
	w := &builder{in: in, graph: g, path: l.label()}
	if next := l.after.Index + 1; next < len(g.Nodes) {
		w.before = g.Nodes[next]
	}
	x := l.input.name
	if l.turned {
		if l.Node.OpType != "Gemm" { // of which X is a matrix
			return in.unfit(l, "it transposes what it is applied to, which a branch beside it cannot").WithHint("--mode in-graph, or graft merge, take it")
		}
		x = w.transpose("lora_X/Transpose", x)
	}
	var d string
	switch {
	case l.Kind == patch.Conv:
		h := w.node("Conv", "lora_A/Conv", "", attributes(l.Node), x, f.a)
		d = w.node("Conv", "lora_B/Conv", "", nil, h, f.b)
	case l.Kind == patch.Embedding:
		h := w.node("Gather", "lora_A/Gather", "", nil, f.a, x)
		d = w.node("MatMul", "lora_B/MatMul", "", nil, h, f.b)
	case l.left:
		h := w.node("MatMul", "lora_A/MatMul", "", nil, w.transpose("lora_A/Transpose", f.a), x)
		d = w.node("MatMul", "lora_B/MatMul", "", nil, w.transpose("lora_B/Transpose", f.b), h)
	default:
		h := w.node("MatMul", "lora_A/MatMul", "", nil, x, f.a)
		d = w.node("MatMul", "lora_B/MatMul", "", nil, h, f.b)
	}
	if in.opts.Mode == Inputs && l.Alpha != 1 {
		dtype, err := in.floatType(l)
		if err != nil {
			return err
		}
		d = w.node("Mul", "lora/Mul", "", nil, d, w.scalar("lora_alpha/Constant", l.Alpha, dtype))
	}
	y := l.after.Outputs[0]
	base := fresh(in.used, y+".base")
	in.e.SetOutput(l.after, 0, base)
	w.node("Add", "lora/Add", y, nil, base, d)
	return nil
}

// label is what the layer's new nodes and values are named after.
func (l *Layer) label() string {
	switch {
	case l.Path != "":
		return l.Path
	case l.Node.Name != "":
		return strings.Trim(strings.ReplaceAll(l.Node.Name, "/", "."), ".")
	}
	return l.Node.Outputs[0]
}

// sum adds W + A·B in front of the operand. The operator's own factor multiplies both.
func (in *injector) sum(u *layerUpdates) error {
	at := u.attachment()
	if u.chain.frame != nil {
		return in.unfit(u.Layer, "its weight lies in a function that other calls share")
	}
	key := use{at.node, at.arg}
	if in.attached[key] {
		return nil
	}
	in.attached[key] = true
	if _, inside := u.outermostCall(); inside {
		if err := in.changesAlone(u.Layer); err != nil {
			return err
		}
	}
	narrow := in.b.index.dtype(&u.chain, at.from)
	if !narrow.IsFloat() {
		return in.unfit(u.Layer, "the type of its weight is not known")
	}
	wide := formats.F32 // rounded to the weight's type once, after the sum
	if narrow == formats.F64 {
		wide = formats.F64
	}
	w := &builder{in: in, graph: at.node.Graph, before: at.node, path: u.label()}
	value := at.node.Inputs[at.arg]
	if narrow != wide {
		value = w.cast("lora_W/Cast", value, "", wide)
	}
	f, shape := in.deltaFactors(u, at.inOut, wide)
	x, y := f.b, f.a
	if at.inOut {
		x, y = f.a, f.b
	}
	delta := w.node("MatMul", "lora/MatMul", "", nil, x, y)
	if shape != "" {
		delta = w.node("Reshape", "lora/Reshape", "", nil, delta, shape)
	}
	sum := w.node("Add", "lora/Add", "", nil, value, delta)
	if narrow != wide {
		sum = w.cast("lora/Cast", sum, "", narrow)
	}
	in.e.SetInput(at.node, at.arg, sum)
	return nil
}

// changesAlone reports what stands in the way of giving a layer, with all that are the same
// modules, another weight.
func (in *injector) changesAlone(l *Layer) error {
	key := in.modules[l]
	err, ok := in.apart[key]
	if !ok {
		err = in.b.apart(l.Weight, in.alike[key])
		in.apart[key] = err
	}
	return err
}

// deltaFactors adds the factors of ΔW, or of its transpose, and for a convolution the shape
// that it has.
func (in *injector) deltaFactors(u *layerUpdates, inOut bool, dtype formats.DType) (f factorNames, shape string) {
	update := u.stack(slices.Concat(u.of...), 1, dtype)
	a, b := update.A, update.B
	if u.Kind == patch.Conv {
		a.Shape, b.Shape = []int64{update.Rank(), u.In}, []int64{u.Out, update.Rank()}
	}
	if inOut {
		a, b = adapter.Transposed(a), adapter.Transposed(b)
	}
	f = in.names(u, dtype)
	in.initializer(f.a, a)
	in.initializer(f.b, b)
	if u.Kind == patch.Conv {
		shape = fresh(in.used, u.label()+".lora.shape")
		in.initializer(shape, int64s(u.Weight.Dims))
	}
	return f, shape
}

// initializer adds a tensor to the model's graph, where all graphs see it.
func (in *injector) initializer(name string, data formats.Tensor) {
	addInitializer(in.e, in.b.Model, in.b.Model.Graph, name, data)
}

func int64s(v []int64) formats.Tensor {
	var raw []byte
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(x))
	}
	return formats.Tensor{DType: formats.I64, Shape: []int64{int64(len(v))}, Data: bytes.NewReader(raw)}
}

// share remembers that a call of a function gives a layer in it factors.
func (in *injector) share(l *Layer, f factorNames) error {
	if l.frame.up != nil {
		return in.unfit(l, "it lies in a function that another one calls").WithHint("graft merge takes it")
	}
	s := in.functions[l.Node]
	if s == nil {
		s = &sharedNode{l, map[*wire.Node]factorNames{}}
		in.functions[l.Node] = s
	}
	if s.layer.turned != l.turned {
		return in.unfit(l, "calls of its function differ in what they transpose").WithHint("graft merge takes it")
	}
	if in.opts.Mode == Inputs && s.layer.Alpha != l.Alpha { // the branch, which all share, multiplies by one
		return in.unfit(l, "calls of its function differ in what they multiply by").WithHint("--mode baked, or graft merge, take it")
	}
	s.calls[l.frame.call] = f
	return nil
}

// finishFunctions gives functions two more inputs for each layer in them that got factors,
// and every call what belongs there: of rank 0 where no adapter names the module.
func (in *injector) finishFunctions() error {
	filled := map[*wire.Node]bool{} // calls that have all of the function's own inputs
	for _, l := range in.b.Layers {
		s := in.functions[l.Node]
		if s == nil || l.frame == nil {
			continue
		}
		call := l.frame.call
		if l.frame.up != nil {
			return in.unfit(l, "it lies in a function that another one calls").WithHint("graft merge takes it")
		}
		fn := in.b.index.called(call)
		for i := len(call.Inputs); i < len(fn.Inputs) && !filled[call]; i++ {
			in.e.AppendInput(call, "")
		}
		filled[call] = true
		f, ok := s.calls[call]
		if !ok {
			dtype, err := in.floatType(l)
			if err != nil {
				return err
			}
			f = factorNames{fresh(in.used, l.label()+".lora_A.none"), fresh(in.used, l.label()+".lora_B.none")}
			in.initializer(f.a, adapter.Zeros(dtype, l.In, 0))
			in.initializer(f.b, adapter.Zeros(dtype, 0, l.Out))
		}
		in.e.AppendInput(call, f.a)
		in.e.AppendInput(call, f.b)
	}
	done := map[*wire.Node]bool{}
	for _, l := range in.b.Layers {
		s := in.functions[l.Node]
		if s == nil || done[l.Node] {
			continue
		}
		done[l.Node] = true
		fn := in.b.index.called(l.frame.call)
		f := factorNames{fresh(in.used, s.layer.label()+".lora_A"), fresh(in.used, s.layer.label()+".lora_B")}
		in.e.AddFunctionInput(fn, f.a)
		in.e.AddFunctionInput(fn, f.b)
		if err := in.branch(s.layer, f); err != nil {
			return err
		}
	}
	return nil
}

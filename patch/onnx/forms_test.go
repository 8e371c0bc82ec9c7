package onnx

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/formats/ortadapter"
	"github.com/seed-b982eded/graft/patch"
)

// form is a way in which a graph has a layer of module m.fc. The weight is square where it
// may be: nothing but the operator tells how it lies.
type form struct {
	name    string
	kind    patch.Kind
	in, out int
	inOut   bool // how the weight is stored
	x       array
	build   func(w matrix) source // with a weight (out, in)
	refuses map[string]string     // product to what is said
}

var inputX = arrayOf(numbers(4, 4, 9))

func linear(name string, inOut bool, build func(w matrix) source) form {
	return form{name: name, kind: patch.Linear, in: 4, out: 4, inOut: inOut, x: inputX, build: build}
}

// of gives the input a type.
func (f form) of(typ formats.DType) form {
	f.x.typ = typ
	return f
}

func (f form) refusing(what string, products ...string) form {
	f.refuses = map[string]string{}
	for _, p := range products {
		f.refuses[p] = what
	}
	return f
}

var forms = []form{
	linear("MatMul", true, func(w matrix) source {
		return graph(node("/m/fc/MatMul: MatMul x w -> y"), w.transposed().init("w"))
	}),
	linear("MatMul with the weight on the left", false, func(w matrix) source {
		return graph(node("/m/fc/MatMul: MatMul w x -> y"), w.init("w"))
	}),
	linear("MatMul with the transposed weight on the left", true, func(w matrix) source {
		return graph(node("/m/fc/T: Transpose w -> t"), node("/m/fc/MatMul: MatMul t x -> y"), w.transposed().init("w"))
	}),
	linear("MatMul and Add", true, func(w matrix) source {
		return graph(node("/m/fc/MatMul: MatMul x w -> h"), node("/m/fc/Add: Add b h -> y"), w.transposed().init("w"), vector("b", 1, 2, 3, 4))
	}),
	linear("Transpose, without perm", false, func(w matrix) source {
		return graph(node("t: Transpose w -> t"), node("/m/fc/MatMul: MatMul x t -> y"), w.init("w"))
	}),
	linear("Transpose twice", true, func(w matrix) source {
		return graph(node("t: Transpose w -> t", attrInts("perm", 1, 0)), node("u: Transpose t -> u", attrInts("perm", 1, 0)),
			node("/m/fc/MatMul: MatMul x u -> y"), w.transposed().init("w"))
	}),
	linear("Identity", true, func(w matrix) source {
		return graph(node("t: Identity w -> t"), node("/m/fc/MatMul: MatMul x t -> y"), w.transposed().init("w"))
	}),
	linear("Cast, Identity and Transpose", false, func(w matrix) source {
		return graph(node("c: Cast w -> c", attrInt("to", 1)), node("i: Identity c -> i"), node("t: Transpose i -> t"),
			node("/m/fc/MatMul: MatMul x t -> y"), w.as("w", wire.Float16))
	}),
	linear("CastLike", true, func(w matrix) source {
		return graph(node("c: CastLike w x -> c"), node("/m/fc/MatMul: MatMul x c -> y"), w.transposed().as("w", wire.BFloat16))
	}).refusing("is not known", "in-graph", "baked", "inputs"),
	linear("Constant", true, func(w matrix) source {
		t := w.transposed()
		return graph(node("c: Constant -> w", attrTensor("value", tensorBody("", wire.Float, t.dims(), t.flat()...))), node("/m/fc/MatMul: MatMul x w -> y"))
	}),
	linear("double", true, func(w matrix) source {
		return graph(node("/m/fc/MatMul: MatMul x w -> y"), w.transposed().as("w", wire.Double))
	}).of(formats.F64),
	linear("float16", false, func(w matrix) source {
		return graph(node("/m/fc/Gemm: Gemm x w -> y", attrInt("transB", 1)), w.as("w", wire.Float16))
	}).of(formats.F16),
	linear("Gemm", true, func(w matrix) source {
		return graph(node("/m/fc/Gemm: Gemm x w b -> y"), w.transposed().init("w"), vector("b", 1, 2, 3, 4))
	}),
	linear("Gemm with transB", false, func(w matrix) source {
		return graph(node("/m/fc/Gemm: Gemm x w b -> y", attrInt("transB", 1)), w.init("w"), vector("b", 1, 2, 3, 4))
	}),
	linear("Gemm with alpha", false, func(w matrix) source {
		return graph(node("/m/fc/Gemm: Gemm x w b -> y", attrInt("transB", 1), attrFloat("alpha", -0.5)), w.init("w"), vector("b", 1, 2, 3, 4))
	}),
	linear("Gemm with transA", true, func(w matrix) source {
		return graph(node("/m/fc/Gemm: Gemm x w -> y", attrInt("transA", 1)), w.transposed().init("w"))
	}),
	linear("Gemm behind a Transpose", true, func(w matrix) source {
		return graph(node("t: Transpose w -> t"), node("/m/fc/Gemm: Gemm x t -> y", attrInt("transB", 1)), w.transposed().init("w"))
	}),
	linear("FusedMatMul", true, func(w matrix) source {
		return graph(node("/m/fc/F: FusedMatMul x w -> y", domain("com.microsoft"), attrFloat("alpha", 4)), w.transposed().init("w"))
	}),
	linear("FusedMatMul with transB", false, func(w matrix) source {
		return graph(node("/m/fc/F: FusedMatMul x w -> y", domain("com.microsoft"), attrInt("transB", 1)), w.init("w"))
	}),
	linear("FusedMatMul with transA", true, func(w matrix) source {
		return graph(node("/m/fc/F: FusedMatMul x w -> y", domain("com.microsoft"), attrInt("transA", 1)), w.transposed().init("w"))
	}).refusing("it transposes what it is applied to", "baked", "inputs"),
	linear("FusedMatMul with the weight on the left", true, func(w matrix) source {
		return graph(node("/m/fc/F: FusedMatMul w x -> y", domain("com.microsoft"), attrInt("transA", 1), attrFloat("alpha", 2)), w.transposed().init("w"))
	}),
	linear("FusedMatMul with the weight on the left and transB", false, func(w matrix) source {
		return graph(node("/m/fc/F: FusedMatMul w x -> y", domain("com.microsoft"), attrInt("transB", 1)), w.init("w"))
	}).refusing("it transposes what it is applied to", "baked", "inputs"),
	{
		name: "MatMul of a tensor", kind: patch.Linear, in: 3, out: 5, inOut: true, x: array{shape: []int64{2, 2, 3}, v: numbers(4, 3, 7).flat()},
		build: func(w matrix) source {
			return graph(node("/m/fc/MatMul: MatMul x w -> y"), w.transposed().init("w"))
		},
	},
	{
		name: "Gather", kind: patch.Embedding, in: 6, out: 3, inOut: true, x: array{shape: []int64{2, 2}, v: []float64{5, 0, 3, 3}},
		build: func(w matrix) source {
			return graph(node("/m/fc/Gather: Gather w x -> y"), w.transposed().init("w"))
		},
	},
	form{
		name: "Gather from a transposed table", kind: patch.Embedding, in: 4, out: 4, x: array{shape: []int64{3}, v: []float64{3, 0, 1}},
		build: func(w matrix) source {
			return graph(node("t: Transpose w -> t"), node("/m/fc/Gather: Gather t x -> y"), w.init("w"))
		},
	}.refusing("an embedding that is stored transposed is not supported", "merge"),
	{
		name: "Conv", kind: patch.Conv, in: 6, out: 4, x: array{shape: []int64{1, 2, 7}, v: numbers(2, 7, 5).flat()},
		build: func(w matrix) source {
			return graph(node("/m/fc/Conv: Conv x w -> y", attrInts("strides", 2)), tensor("w", wire.Float, []int64{4, 2, 3}, w.flat()...))
		},
	},
	form{
		name: "Conv of groups", kind: patch.Conv, in: 3, out: 4, x: array{shape: []int64{1, 2, 7}, v: numbers(2, 7, 5).flat()},
		build: func(w matrix) source {
			return graph(node("/m/fc/Conv: Conv x w -> y", attrInt("group", 2)), tensor("w", wire.Float, []int64{4, 1, 3}, w.flat()...))
		},
	}.refusing("a convolution of 2 groups cannot get a side branch", "baked", "inputs"),
	{
		name: "Conv in a function with attributes of the call", kind: patch.Conv, in: 6, out: 4, x: array{shape: []int64{1, 2, 7}, v: numbers(2, 7, 5).flat()},
		build: func(w matrix) source {
			s := graph(node("/m/fc/f: Fc x w -> y", domain("f"), attrInts("by", 2)), tensor("w", wire.Float, []int64{4, 2, 3}, w.flat()...))
			s.functions = []string{function("Fc", "a b", "c", node("p: Conv a b -> c", attrRef("strides", "by", 7)))}
			return s
		},
	},
	linear("of the standard domain by its other name", true, func(w matrix) source {
		return graph(node("i: Identity w -> v", domain("ai.onnx")), node("/m/fc/MatMul: MatMul x v -> y", domain("ai.onnx")), w.transposed().init("w"))
	}),
	linear("in a branch", true, func(w matrix) source {
		inside := []string{node("/m/fc/MatMul: MatMul x w -> z"), output("z")}
		other := []string{node("i: Identity x -> z2"), output("z2")}
		return graph(node("if: If cond -> y", attrGraph("then_branch", inside...), attrGraph("else_branch", other...)),
			tensor("cond", wire.Bool, nil, 1), w.transposed().init("w"))
	}),
	linear("in a branch, which has the weight under a name that the graph around has too", true, func(w matrix) source {
		inside := []string{node("/m/fc/MatMul: MatMul x w -> z"), output("z"), w.transposed().init("w")}
		other := []string{node("i: Identity x -> z2"), output("z2")}
		return graph(node("if: If cond -> h", attrGraph("then_branch", inside...), attrGraph("else_branch", other...)), node("a: MatMul h w -> y"),
			tensor("cond", wire.Bool, nil, 1), numbers(4, 4, 77).init("w"))
	}),
	linear("in a function", true, func(w matrix) source {
		s := graph(node("/m/fc/f: Fc x w -> y", domain("f")), w.transposed().init("w"))
		s.functions = []string{function("Fc", "a b", "c", node("p: MatMul a b -> c"))}
		return s
	}),
	linear("in a function with attributes of the call", false, func(w matrix) source {
		s := graph(node("/m/fc/f: Fc x w -> y", domain("f"), attrInt("turn", 1), attrFloat("by", 2)), w.init("w"))
		s.functions = []string{function("Fc", "a b", "c", node("p: Gemm a b -> c", attrRef("transB", "turn", 2), attrRef("alpha", "by", 1)))}
		return s
	}),
	linear("in a function that transposes the weight", false, func(w matrix) source {
		s := graph(node("c: Cast w -> v", attrInt("to", 1)), node("/m/fc/f: Fc x v -> y", domain("f")), w.as("w", wire.Float16))
		s.functions = []string{function("Fc", "a b", "c", node("t: Transpose b -> t"), node("p: MatMul a t -> c"))}
		return s
	}),
	linear("in a function that casts the weight", true, func(w matrix) source {
		s := graph(node("/m/fc/f: Fc x w -> y", domain("f")), w.transposed().as("w", wire.Float16))
		s.functions = []string{function("Fc", "a b", "c", node("t: Cast b -> t", attrInt("to", 1)), node("p: MatMul a t -> c"))}
		return s
	}),
	linear("in a function that another calls", true, func(w matrix) source {
		s := graph(node("/m/fc/g: Outer x w -> y", domain("f")), w.transposed().init("w"))
		s.functions = []string{
			function("Inner", "a b", "c", node("p: MatMul a b -> c")),
			function("Outer", "a b", "c", node("g: Inner a b -> c", domain("f"))),
		}
		return s
	}).refusing("it lies in a function that another one calls", "baked", "inputs"),
	linear("quantised", true, func(w matrix) source {
		t := w.transposed()
		return graph(node("d: DequantizeLinear q s -> w"), node("/m/fc/MatMul: MatMul x w -> y"),
			tensor("q", wire.Int8, t.dims(), t.flat()...), tensor("s", wire.Float, nil, 1))
	}).refusing("quantised", "merge", "in-graph"),
	linear("quantised, with a scale of another type", true, func(w matrix) source {
		t := w.transposed()
		return graph(node("d: DequantizeLinear q s -> h"), node("c: Cast h -> w", attrInt("to", 11)), node("/m/fc/MatMul: MatMul x w -> y"),
			tensor("q", wire.Int8, t.dims(), t.flat()...), tensor("s", wire.Float16, nil, 1))
	}).refusing("quantised", "merge", "in-graph"),
	linear("of IR version 3", true, func(w matrix) source {
		s := graph(node("/m/fc/MatMul: MatMul x w -> y"), w.transposed().init("w"), input("w"))
		s.ir, s.opset = 3, 8
		return s
	}),
	linear("of operator set 6", true, func(w matrix) source {
		s := graph(node("/m/fc/MatMul: MatMul x w -> y"), w.transposed().init("w"))
		s.opset = 6
		return s
	}).refusing("operator set 6 is too old to add to", "in-graph", "baked", "inputs"),
	linear("with names that are taken", true, func(w matrix) source {
		return graph(node("/m/fc/MatMul: MatMul x w -> y.base"), node("m.fc.lora: Add y.base m.fc.lora_B.weight_1 -> y"),
			w.transposed().init("w"), vector("m.fc.lora_B.weight_1", 1, 2, 3, 4), vector("/m/fc/lora/Add", 7))
	}),
	linear("with names of factors that are taken", true, func(w matrix) source {
		return graph(node("/m/fc/MatMul: MatMul x w -> h"), node("/n/Add: Add h m.fc.lora_A.weight -> y"), w.transposed().init("w"), vector("m.fc.lora_A.weight", 1, 2, 3, 4))
	}).refusing(`already, where its factors should be`, "inputs"),
}

// update is the form's adapter.
func (f form) update() lora { return newLora("m.fc", f.in, f.out, len(f.name)) }

func (f form) adapter() *adapter.Adapter {
	l := f.update()
	e := l.entry()
	u := e.Update.(*adapter.LowRank)
	switch f.kind {
	case patch.Embedding:
		u.Embedding = true
	case patch.Conv:
		u.A.Shape = []int64{2, int64(f.in) / 3, 3}
		u.B.Shape = []int64{int64(f.out), 2, 1}
	}
	return &adapter.Adapter{Path: "adapter", Entries: []adapter.Entry{e}}
}

// TestForms merges and injects into every form and runs the result: it must give what the
// same graph gives with the other weight in it. All numbers are exact.
func TestForms(t *testing.T) {
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			w := numbers(f.out, f.in, 1)
			feeds := map[string]array{"x": f.x}
			want := onlyY(t, f.build(f.update().on(w)).open(t), feeds)
			base := f.build(w).open(t)
			before := onlyY(t, base, feeds)
			if slices.Equal(want.v, before.v) {
				t.Fatal("the update changes nothing")
			}
			f.checkLayer(t, base)
			for _, product := range []string{"merge", "in-graph", "baked", "inputs"} {
				m, in, err := productOf(t, base, product, f.adapter())
				if said, ok := f.refuses[product]; ok {
					checkUnfit(t, err, said)
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", product, err)
					continue
				}
				version := base.IRVersion
				if product == "inputs" {
					version = max(version, 4) // defaults of inputs are from there on
				}
				if m.IRVersion != version || m.Opsets[0] != base.Opsets[0] {
					t.Errorf("%s: IR version %d, operator sets %v", product, m.IRVersion, m.Opsets)
				}
				if m.IRVersion < 4 && len(m.Graph.Inputs) != len(m.Graph.Initializers)+1 {
					t.Errorf("%s: %d inputs, %d initializers: of this IR version each has to be one", product, len(m.Graph.Inputs), len(m.Graph.Initializers))
				}
				if f.name == "double" && slices.ContainsFunc(m.Graph.Nodes, func(n *wire.Node) bool { return n.OpType == "Cast" }) {
					t.Errorf("%s: a sum of doubles is computed in another type", product)
				}
				given := map[string]array{"x": f.x}
				if product == "inputs" {
					if off := onlyY(t, m, feeds); !slices.Equal(off.v, before.v) {
						t.Errorf("without an adapter got %v, want %v", off.v, before.v)
					}
					for name, v := range factors(t, in, ortadapter.Olive) {
						if !slices.ContainsFunc(m.Graph.Inputs, func(i *wire.ValueInfo) bool { return i.Name == name }) {
							t.Errorf("there is no input %s", name)
						}
						given[name] = v
					}
				}
				if got := onlyY(t, m, given); !slices.Equal(got.v, want.v) || !slices.Equal(got.shape, want.shape) {
					t.Errorf("%s: got %v, want %v", product, got, want)
				}
			}
		})
	}
}

func (f form) checkLayer(t *testing.T, m *wire.Model) {
	t.Helper()
	layers, err := Find(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		if l.Path != "m.fc" {
			continue
		}
		if l.Kind != f.kind || l.In != int64(f.in) || l.Out != int64(f.out) || l.InOut != f.inOut {
			t.Errorf("found a %s of %d to %d, stored in_out %v; want a %s of %d to %d, %v", l.Kind, l.In, l.Out, l.InOut, f.kind, f.in, f.out, f.inOut)
		}
		return
	}
	t.Errorf("m.fc is not among the %d layers", len(layers))
}

// productOf makes one of the four results.
func productOf(t *testing.T, base *wire.Model, what string, adapters ...*adapter.Adapter) (*wire.Model, *Injected, error) {
	t.Helper()
	b, err := Bind(base, nil, adapters...)
	if err != nil {
		return nil, nil, err
	}
	if what != "merge" {
		in, err := b.Inject(weighted(adapters), InjectOptions{Mode: Mode(what)})
		if err != nil {
			return nil, nil, err
		}
		return edited(t, in.Edit), in, nil
	}
	sites, err := b.Sites()
	if err != nil {
		return nil, nil, err
	}
	plan, err := patch.NewModelPlan(sites.Model, patch.RoundOnce, weighted(adapters)...)
	if err != nil {
		return nil, nil, err
	}
	m := edited(t, sites.Merge(plan))
	// The result has the plan's tensors under their names: graft verify compares them so.
	differences, err := patch.Compare(t.Context(), m.Checkpoint(), plan.Merge(), nil)
	if err != nil || len(differences) > 0 {
		t.Errorf("the merged model differs from the plan: %v, %v", differences, err)
	}
	return m, nil, nil
}

func checkUnfit(t *testing.T, err error, want ...string) {
	t.Helper()
	if !errors.Is(err, formats.ErrUnfit) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want one line of the class ErrUnfit that says %q", err, want)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want it to say %q", err, w)
		}
	}
}

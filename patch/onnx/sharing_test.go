package onnx

import (
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/formats/adapter"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/formats/ortadapter"
)

// sharing is a graph in which layers share a weight, and the graph in which they do not.
type sharing struct {
	name    string
	base    source
	adapter *adapter.Adapter
	want    source // the base with the merged weights, in which each layer has its own
	x       array
	outputs []string // y alone if there are none
	refuses map[string]string
	copies  int // initializers that a merge adds
}

var (
	shared = numbers(4, 4, 1) // (out, in)
	onA    = newLora("m.a", 4, 4, 3)
	onB    = newLora("m.b", 4, 4, 4)
	tied   = numbers(6, 4, 2) // (vocabulary, features)
	onHead = newLora("lm_head", 4, 6, 5)
	tokens = array{shape: []int64{3}, v: []float64{5, 0, 2}}
)

func refused(what string, products ...string) map[string]string {
	return form{}.refusing(what, products...).refuses
}

// both is a graph of two layers m.a and m.b with weights of their own.
func both(a, b matrix) source {
	return graph(node("/m/a/MatMul: MatMul x wa -> h"), node("/m/b/MatMul: MatMul h wb -> y"), a.transposed().init("wa"), b.transposed().init("wb"))
}

func withFunction(s source, functions ...string) source {
	s.functions = functions
	return s
}

var product = function("Fc", "a b", "c", node("p: MatMul a b -> c"))

func sharings() []sharing {
	c := shared.transposed()
	constant := function("Fc", "a", "c", node("k: Constant -> w", attrTensor("value", tensorBody("", wire.Float, c.dims(), c.flat()...))), node("p: MatMul a w -> c"))
	twice := function("Two", "a b", "c", node("/m/a/MatMul: MatMul a b -> h"), node("/m/b/MatMul: MatMul h b -> c"))
	scaled := function("Fc", "a b", "c", node("p: Gemm a b -> c", attrRef("alpha", "by", 1)))
	other := function("Two", "a b", "c", node("/m/a/MatMul: MatMul a b -> h"), node("s: Mul h b -> c"))
	return []sharing{
		{
			name: "tied input and head, the head changes", x: tokens, adapter: adapterOf(onHead), copies: 1,
			base: graph(node("/embed/Gather: Gather e.weight x -> h"), node("/lm_head/Transpose: Transpose e.weight -> t"), node("/lm_head/MatMul: MatMul h t -> y"), tied.init("e.weight")),
			want: graph(node("/embed/Gather: Gather e.weight x -> h"), node("/lm_head/MatMul: MatMul h t -> y"), tied.init("e.weight"), onHead.on(tied).transposed().init("t")),
		},
		{
			name: "equal weights made one behind Identity", x: inputX, adapter: adapterOf(onB), copies: 1,
			base: graph(node("Identity_0: Identity wa -> wb"), node("/m/a/MatMul: MatMul x wa -> h"), node("/m/b/MatMul: MatMul h wb -> y"), shared.transposed().init("wa")),
			want: both(shared, onB.on(shared)),
		},
		{
			name: "equal weights made one, the other changes", x: inputX, adapter: adapterOf(onA), copies: 1,
			base: graph(node("Identity_0: Identity wa -> wb"), node("/m/a/MatMul: MatMul x wa -> h"), node("/m/b/MatMul: MatMul h wb -> y"), shared.transposed().init("wa")),
			want: both(onA.on(shared), shared),
		},
		{
			name: "equal weights made one, both change", x: inputX, adapter: adapterOf(onA, onB), copies: 1,
			base: graph(node("Identity_0: Identity wa -> wb"), node("/m/a/MatMul: MatMul x wa -> h"), node("/m/b/MatMul: MatMul h wb -> y"), shared.transposed().init("wa")),
			want: both(onA.on(shared), onB.on(shared)),
		},
		{
			name: "behind Casts and Transposes of their own", x: inputX, adapter: adapterOf(onB), copies: 1,
			base: graph(node("c: Cast w -> c", attrInt("to", 1)), node("t: Transpose c -> t", attrInts("perm", 1, 0)), node("u: Identity t -> u"),
				node("/m/a/MatMul: MatMul x t -> h"), node("/m/b/MatMul: MatMul h u -> y"), shared.as("w", wire.Float16)),
			want: both(shared, onB.on(shared)),
		},
		{
			name: "behind a CastLike", x: inputX, adapter: adapterOf(onB), copies: 1,
			base: graph(node("c: CastLike w x -> c"), node("/m/a/MatMul: MatMul x c -> h"), node("/m/b/MatMul: MatMul h c -> y"), c.as("w", wire.Float16)),
			want: both(shared, onB.on(shared)), refuses: refused("is not known", "in-graph", "baked", "inputs"),
		},
		{
			name: "not shared: a branch has another of this name", x: inputX, adapter: adapterOf(onA),
			base: graph(node("/m/a/MatMul: MatMul x w -> h"), c.init("w"), tensor("on", wire.Bool, nil, 1),
				node("if: If on -> y", attrGraph("then_branch", node("/m/b/MatMul: MatMul h w -> z"), output("z"), c.init("w")), attrGraph("else_branch", node("i: Identity h -> z2"), output("z2")))),
			want: both(onA.on(shared), shared),
		},
		{
			name: "a module that is used twice", x: inputX, adapter: adapterOf(onA),
			base: graph(node("/m/a/MatMul: MatMul x m.a.weight -> h"), node("/m/a_1/MatMul: MatMul h m.a.weight -> y"), shared.transposed().init("m.a.weight")),
			want: both(onA.on(shared), onA.on(shared)),
		},
		{
			name: "a Constant", x: inputX, adapter: adapterOf(onA), copies: 1,
			base: graph(node("k: Constant -> w", attrTensor("value", tensorBody("", wire.Float, c.dims(), c.flat()...))),
				node("/m/a/MatMul: MatMul x w -> h"), node("/m/b/MatMul: MatMul h w -> y")),
			want: both(onA.on(shared), shared),
		},
		{
			name: "with something that is no layer", x: inputX, adapter: adapterOf(onA), copies: 1,
			base: graph(node("/m/a/MatMul: MatMul x w -> h"), node("s: Mul h w -> y"), c.init("w")),
			want: graph(node("/m/a/MatMul: MatMul x v -> h"), node("s: Mul h w -> y"), c.init("w"), onA.on(shared).transposed().init("v")),
		},
		{
			name: "with an output of the model", x: inputX, adapter: adapterOf(onA), copies: 1, outputs: []string{"y", "w"},
			base: graph(node("/m/a/MatMul: MatMul x w -> y"), c.init("w"), output("w")),
			want: graph(node("/m/a/MatMul: MatMul x v -> y"), c.init("w"), onA.on(shared).transposed().init("v"), output("w")),
		},
		{
			name: "of IR version 3", x: inputX, adapter: adapterOf(onA), copies: 1,
			base: source{ir: 3, opset: 8, graph: graph(node("/m/a/MatMul: MatMul x w -> h"), node("/m/b/MatMul: MatMul h w -> y"), c.init("w"), input("w")).graph},
			want: both(onA.on(shared), shared),
		},
		{
			name: "where the copy's name is taken", x: inputX, adapter: adapterOf(onA), copies: 1,
			base: graph(node("/m/a/MatMul: MatMul x w -> h"), node("/m/b/MatMul: MatMul h w -> m.a.weight"), node("i: Add m.a.weight m.a.weight_1 -> y"),
				c.init("w"), vector("m.a.weight_1", 1, 2, 3, 4)),
			want: graph(node("/m/a/MatMul: MatMul x wa -> h"), node("/m/b/MatMul: MatMul h wb -> g"), node("i: Add g b -> y"),
				onA.on(shared).transposed().init("wa"), c.init("wb"), vector("b", 1, 2, 3, 4)),
		},
		{
			name: "both branches of an If", x: inputX, adapter: adapterOf(onA), copies: 1,
			base: branchesAnd(shared, shared, "w"),
			want: branchesAnd(onA.on(shared), shared, "v"),
		},
		{
			name: "a branch with a weight of its own", x: inputX, adapter: adapterOf(onA), copies: 1,
			base: ownBranch(shared, shared, "w"),
			want: ownBranch(onA.on(shared), shared, "v"),
		},
		{
			name: "a function called with three weights, one changes", x: inputX, adapter: adapterOf(onB),
			base: withFunction(graph(node("/m/a/f: Fc x wa -> g", domain("f")), node("/m/b/f: Fc g wb -> h", domain("f")), node("/m/c/f: Fc h wc -> y", domain("f")),
				c.init("wa"), numbers(4, 4, 6).init("wb"), numbers(4, 4, 7).init("wc")), product),
			want: withFunction(graph(node("/m/a/f: Fc x wa -> g", domain("f")), node("/m/b/f: Fc g wb -> h", domain("f")), node("/m/c/f: Fc h wc -> y", domain("f")),
				c.init("wa"), onB.on(numbers(4, 4, 6).transposed()).transposed().init("wb"), numbers(4, 4, 7).init("wc")), product),
		},
		{
			name: "a function called three times with one weight, one changes", x: inputX, adapter: adapterOf(onB), copies: 1,
			base: withFunction(graph(node("/m/a/f: Fc x w -> g", domain("f")), node("/m/b/f: Fc g w -> h", domain("f")), node("/m/c/f: Fc h w -> y", domain("f")), c.init("w")), product),
			want: withFunction(graph(node("/m/a/f: Fc x w -> g", domain("f")), node("/m/b/f: Fc g v -> h", domain("f")), node("/m/c/f: Fc h w -> y", domain("f")),
				c.init("w"), onB.on(shared).transposed().init("v")), product),
		},
		{
			name: "a function whose calls multiply by numbers of their own, both change", x: inputX, adapter: adapterOf(onA, onB),
			base: withFunction(graph(node("/m/a/f: Fc x wa -> h", domain("f"), attrFloat("by", 2)), node("/m/b/f: Fc h wb -> y", domain("f"), attrFloat("by", 4)),
				c.init("wa"), numbers(4, 4, 6).init("wb")), scaled),
			want: withFunction(graph(node("/m/a/f: Fc x wa -> h", domain("f"), attrFloat("by", 2)), node("/m/b/f: Fc h wb -> y", domain("f"), attrFloat("by", 4)),
				onA.on(shared).transposed().init("wa"), onB.on(numbers(4, 4, 6).transposed()).transposed().init("wb")), scaled),
			refuses: refused("calls of its function differ in what they multiply by", "inputs"),
		},
		{
			name: "the same, one changes", x: inputX, adapter: adapterOf(onB),
			base: withFunction(graph(node("/m/a/f: Fc x wa -> h", domain("f"), attrFloat("by", 2)), node("/m/b/f: Fc h wb -> y", domain("f"), attrFloat("by", 4)),
				c.init("wa"), numbers(4, 4, 6).init("wb")), scaled),
			want: withFunction(graph(node("/m/a/f: Fc x wa -> h", domain("f"), attrFloat("by", 2)), node("/m/b/f: Fc h wb -> y", domain("f"), attrFloat("by", 4)),
				c.init("wa"), onB.on(numbers(4, 4, 6).transposed()).transposed().init("wb")), scaled),
		},
		{
			name: "a function that has the weight, called twice", x: inputX, adapter: adapterOf(onB),
			base:    withFunction(graph(node("/m/a/f: Fc x -> h", domain("f")), node("/m/b/f: Fc h -> y", domain("f"))), constant),
			want:    both(shared, onB.on(shared)),
			refuses: refused("lies in a function", "merge", "in-graph"),
		},
		{
			name: "two layers in a function, one changes", x: inputX, adapter: adapterOf(onB),
			base:    withFunction(graph(node("f: Two x w -> y", domain("f")), c.init("w")), twice),
			want:    both(shared, onB.on(shared)),
			refuses: refused(`function "Two" uses it for more than node "/m/b/MatMul"`, "merge", "in-graph"),
		},
		{
			name: "two layers in a function, both change", x: inputX, adapter: adapterOf(onA, onB),
			base:    withFunction(graph(node("f: Two x w -> y", domain("f")), c.init("w")), twice),
			want:    both(onA.on(shared), onB.on(shared)),
			refuses: refused(`function "Two" uses it for more than node`, "merge", "in-graph"),
		},
		{
			name: "a layer in a function, which does something else with the weight", x: inputX, adapter: adapterOf(onA),
			base:    withFunction(graph(node("f: Two x w -> y", domain("f")), c.init("w")), other),
			want:    graph(node("/m/a/MatMul: MatMul x v -> h"), node("s: Mul h w -> y"), c.init("w"), onA.on(shared).transposed().init("v")),
			refuses: refused(`function "Two" uses it for more than node`, "merge", "in-graph"),
		},
	}
}

// branchesAnd has m.a in both branches of an If and m.b behind it; named is the tensor of
// m.b where it is another.
func branchesAnd(a, b matrix, named string) source {
	parts := []string{
		input("cond"), node("if: If cond -> h",
			attrGraph("then_branch", node("/m/a/MatMul: MatMul x w -> z"), output("z")),
			attrGraph("else_branch", node("/m/a/MatMul: MatMul x w -> z2"), node("n: Add z2 z2 -> z3"), output("z3"))),
		node("/m/b/MatMul: MatMul h " + named + " -> y"), a.transposed().init("w"),
	}
	if named != "w" {
		parts = append(parts, b.transposed().init(named))
	}
	return graph(parts...)
}

// ownBranch has m.a and m.b in a branch that holds their weights.
func ownBranch(a, b matrix, named string) source {
	parts := []string{node("/m/a/MatMul: MatMul x w -> z"), node("/m/b/MatMul: MatMul z " + named + " -> z2"), output("z2"), a.transposed().init("w")}
	if named != "w" {
		parts = append(parts, b.transposed().init(named))
	}
	return graph(input("cond"), node("if: If cond -> y", attrGraph("then_branch", parts...), attrGraph("else_branch", node("i: Identity x -> z3"), output("z3"))))
}

// TestSharing changes one of several layers that share a weight: the others must compute
// what they did.
func TestSharing(t *testing.T) {
	for _, s := range sharings() {
		t.Run(s.name, func(t *testing.T) {
			base := s.base.open(t)
			for _, cond := range []float64{1, 0} {
				feeds := map[string]array{"x": s.x, "cond": {v: []float64{cond}}}
				want, before := run(t, s.want.open(t), feeds), run(t, base, feeds)
				for _, product := range []string{"merge", "in-graph", "baked", "inputs"} {
					m, in, err := productOf(t, base, product, s.adapter)
					if said, ok := s.refuses[product]; ok {
						checkUnfit(t, err, said)
						continue
					}
					if err != nil {
						t.Errorf("%s: %v", product, err)
						continue
					}
					s.check(t, product, m, feeds, before, want, in)
				}
			}
		})
	}
}

func (s sharing) check(t *testing.T, product string, m *wire.Model, feeds, before, want map[string]array, in *Injected) {
	t.Helper()
	outputs := s.outputs
	if outputs == nil {
		outputs = []string{"y"}
	}
	compare := func(what string, got, want map[string]array) {
		t.Helper()
		for _, o := range outputs {
			if !slices.Equal(got[o].v, want[o].v) {
				t.Errorf("%s: %s is %v, want %v", what, o, got[o].v, want[o].v)
			}
		}
	}
	given := map[string]array{}
	for k, v := range feeds {
		given[k] = v
	}
	switch product {
	case "merge":
		if n := count(m) - count(s.base.open(t)); n != s.copies {
			t.Errorf("there are %d more initializers, want %d", n, s.copies)
		}
		if m.IRVersion < 4 && len(m.Graph.Inputs) != len(m.Graph.Initializers)+1 {
			t.Errorf("%d inputs, %d initializers: of this IR version each has to be one", len(m.Graph.Inputs), len(m.Graph.Initializers))
		}
	case "inputs":
		compare("without an adapter", run(t, m, feeds), before)
		for name, v := range factors(t, in, ortadapter.Olive) {
			given[name] = v
		}
	}
	compare(product, run(t, m, given), want)
}

func count(m *wire.Model) int {
	n := 0
	for g := range m.Graphs() {
		n += len(g.Initializers)
	}
	return n
}

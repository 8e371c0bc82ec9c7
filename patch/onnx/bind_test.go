package onnx

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/formats/ortadapter"
	"github.com/seed-b982eded/graft/patch"
)

func TestAgrees(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want agreement
	}{
		{"m.fc", "m.fc", equal},
		{"layers.0.self_attn.q_proj", "layers.0.attn.q_proj", alias},
		{"model.layers.0.q_proj", "layers.0.q_proj", suffix},
		{"model.layers.0.self_attn.q_proj", "layers.0.attn.q_proj", suffix},
		{"q_proj", "layers.0.q_proj", suffix},
		{"layers.10.fc", "0.fc", none},
		{"xlayers.0.fc", "layers.0.fc", none},
		{"m.fc", "m.fc2", none},
		{"m.fc", "m", none},
		{"m.fc", "", none},
		{"layers_0_q_proj", "layers.0.q_proj", mangled},
		{"layers_0_q_proj", "model.layers.0.q_proj", mangled},
		{"model_layers_0_q_proj", "layers.0.q_proj", mangled},
		{"layers_0_self_attn_q_proj", "model.layers.0.self_attn.q_proj", mangled},
		{"proj", "layers.0.q_proj", none},
		{"q_proj", "v_q.proj", none},
		{"0_q_proj", "layers.10.q_proj", none},
		{"layers.0.q_proj", "layers.0_q.proj", none},
	} {
		for _, pair := range [][2]string{{c.a, c.b}, {c.b, c.a}} {
			if got := agrees(pair[0], pair[1]); got != c.want {
				t.Errorf("%q and %q: got %d, want %d", pair[0], pair[1], got, c.want)
			}
		}
	}
}

// twoLayers are x·w and h·v, of nodes and tensors with these names.
func twoLayers(first, w, second, v string) source {
	s := graph(node(first+": MatMul x "+w+" -> h"), node(second+": MatMul h "+v+" -> y"), numbers(4, 4, 1).init(w))
	if v != w {
		s.graph = append(s.graph, numbers(4, 4, 2).init(v))
	}
	return s
}

// branches is an If with the weight of m.a in both branches, in the second this one.
func branches(second matrix) source {
	return graph(input("cond"), node("if: If cond -> y",
		attrGraph("then_branch", node("p: MatMul x m.a.weight -> z"), output("z"), numbers(4, 4, 1).init("m.a.weight")),
		attrGraph("else_branch", node("q: MatMul x m.a.weight -> z2"), output("z2"), second.init("m.a.weight"))))
}

// nodesOf are the nodes that modules are found at.
func nodesOf(b *Binding) string {
	out := ""
	for _, module := range b.order {
		for _, x := range b.of[module] {
			out += fmt.Sprintf("%s=%s ", module, x.Node.Name)
		}
	}
	return out
}

func TestBindChooses(t *testing.T) {
	w := numbers(4, 4, 1)
	biased := func(first, second string) source { // two layers of one weight, with biases of these names
		return graph(node("Identity_0: Identity m.a.weight -> m.b.weight"),
			node(first+": MatMul x m.a.weight -> g"), node("s: Add g m.a.bias -> h"), node(second+": MatMul h m.a.weight -> i"), node("t: Add i m.a.bias -> y"),
			w.init("m.a.weight"), vector("m.a.bias", 1, 2, 3, 4))
	}
	for _, c := range []struct {
		name    string
		source  source
		modules []string
		want    string // where they are found
		unfit   []string
	}{
		{name: "each by its own", source: twoLayers("/m/a/MatMul", "w", "/m/b/MatMul", "v"), modules: []string{"m.b", "m.a"}, want: "m.b=/m/b/MatMul m.a=/m/a/MatMul "},
		{name: "the root is another", source: twoLayers("/a/MatMul", "w", "/b/MatMul", "v"), modules: []string{"model.m.b"}, want: "model.m.b=/b/MatMul "},
		{name: "equal before suffix", source: twoLayers("/m/a/MatMul", "w", "/x/m/a/MatMul", "v"), modules: []string{"m.a"}, want: "m.a=/m/a/MatMul "},
		{name: "the stronger reason before the weaker", source: twoLayers("/m/a/MatMul", "w", "p", "m.a.weight"), modules: []string{"m.a"}, want: "m.a=p "},
		{name: "the stronger reason before the weaker, which comes second", source: twoLayers("p", "m.a.weight", "/m/a/MatMul", "v"), modules: []string{"m.a"}, want: "m.a=p "},
		{name: "branches with tensors of their own", source: branches(numbers(4, 4, 2)), modules: []string{"m.a"}, want: "m.a=p m.a=q "},
		{name: "branches that differ in more", source: branches(numbers(4, 3, 2)), modules: []string{"m.a"}, unfit: []string{`module "m.a" could be any of node "p" ("m.a" by its weight), node "q"`}},
		{name: "not there", source: twoLayers("/m/a/MatMul", "w", "/m/b/MatMul", "v"), modules: []string{"m.c"}},
		{name: "two of one name", source: twoLayers("/x/m/a/MatMul", "w", "/z/m/a/MatMul", "v"), modules: []string{"m.a"},
			unfit: []string{`module "m.a" could be any of node "/x/m/a/MatMul" ("x.m.a" by its node), node "/z/m/a/MatMul" ("z.m.a" by its node)`}},
		{name: "two modules in one layer", source: twoLayers("/fc/MatMul", "w", "/b/MatMul", "v"), modules: []string{"x.fc", "z.fc"},
			unfit: []string{`modules "x.fc" and "z.fc" are both found in node "/fc/MatMul"`}},
		{name: "numbered, with a bias of its name", source: biased("/m/a/MatMul", "/m/a_1/MatMul"), modules: []string{"m.a"}, want: "m.a=/m/a/MatMul m.a=/m/a_1/MatMul "},
		{name: "another module, that shares weight and bias", source: biased("/m/a/MatMul", "/m/b/MatMul"), modules: []string{"m.a"}, want: "m.a=/m/a/MatMul "},
		{name: "the other of those", source: biased("/m/a/MatMul", "/m/b/MatMul"), modules: []string{"m.b"}, want: "m.b=/m/b/MatMul "},
		{name: "used again without a name that says so", source: twoLayers("/m/a/MatMul", "w", "/m/a_1/MatMul", "w"), modules: []string{"m.a"},
			unfit: []string{`module "m.a" could be any of node "/m/a/MatMul" ("m.a" by its node), node "/m/a_1/MatMul" ("m.a_1" by its node)`}},
		{name: "not used again: the adapter has the other module", source: twoLayers("/m/a/MatMul", "w", "/m/a_1/MatMul", "w"), modules: []string{"m.a", "m.a_1"},
			want: "m.a=/m/a/MatMul m.a_1=/m/a_1/MatMul "},
		{name: "not used again: another weight", source: twoLayers("/m/a/MatMul", "w", "/m/a_1/MatMul", "v"), modules: []string{"m.a"}, want: "m.a=/m/a/MatMul "},
	} {
		t.Run(c.name, func(t *testing.T) {
			var list []lora
			for i, m := range c.modules {
				list = append(list, newLora(m, 4, 4, i))
			}
			b, err := Bind(c.source.open(t), nil, adapterOf(list...))
			if c.unfit != nil {
				checkUnfit(t, err, c.unfit...)
				return
			}
			if err != nil || nodesOf(b) != c.want {
				t.Errorf("got %s and %v, want %s", nodesOf(b), err, c.want)
			}
		})
	}
}

// TestAmbiguousNamesFive lists no more candidates than that.
func TestAmbiguousNamesFive(t *testing.T) {
	s := graph()
	h := "x"
	for i := range 8 {
		next := fmt.Sprintf("h%d", i)
		s.graph = append(s.graph, node(fmt.Sprintf("/l%d/fc/MatMul: MatMul %s w%d -> %s", i, h, i, next)), numbers(4, 4, i).init(fmt.Sprintf("w%d", i)))
		h = next
	}
	_, err := Bind(s.open(t), nil, adapterOf(newLora("fc", 4, 4, 1)))
	checkUnfit(t, err, `"/l0/fc/MatMul"`, `"/l4/fc/MatMul" ("l4.fc" by its node) and 3 more`)
}

// fusedSource has q, k and v side by side in one layer of 4 + 2 + 2 outputs, and gate and up in
// another.
func fusedSource(qkv, gateUp matrix) source {
	return graph(node("/m/attn/qkv_proj/MatMul: MatMul x qkv -> h"), node("/m/mlp/gate_up_proj/MatMul: MatMul h gu -> y"),
		qkv.transposed().init("qkv"), gateUp.transposed().init("gu"))
}

// TestFused adapts modules that are parts of a layer, by all products.
func TestFused(t *testing.T) {
	qkv, gateUp := numbers(8, 4, 1), numbers(6, 8, 2)
	q, k, v := newLora("m.self_attn.q_proj", 4, 4, 1), newLora("m.self_attn.k_proj", 4, 2, 2), newLora("m.self_attn.v_proj", 4, 2, 3)
	gate, up := newLora("m.mlp.gate_proj", 8, 3, 4), newLora("m.mlp.up_proj", 8, 3, 5)
	part := func(w matrix, first int, l lora) matrix {
		out := slices.Clone(w)
		copy(out[first:], l.on(w[first:first+len(l.b)]))
		return out
	}
	feeds := map[string]array{"x": inputX}
	for _, c := range []struct {
		name        string
		loras       []lora
		qkv, gateUp matrix
	}{
		{"q", []lora{q}, part(qkv, 0, q), gateUp},
		{"k", []lora{k}, part(qkv, 4, k), gateUp},
		{"v", []lora{v}, part(qkv, 6, v), gateUp},
		{"q and v", []lora{v, q}, part(part(qkv, 6, v), 0, q), gateUp},
		{"all", []lora{q, k, v, gate, up}, part(part(part(qkv, 0, q), 4, k), 6, v), part(part(gateUp, 0, gate), 3, up)},
	} {
		base := fusedSource(qkv, gateUp).open(t)
		want := onlyY(t, fusedSource(c.qkv, c.gateUp).open(t), feeds)
		for _, product := range []string{"merge", "in-graph", "baked", "inputs"} {
			m, in, err := productOf(t, base, product, adapterOf(c.loras...))
			if err != nil {
				t.Errorf("%s, %s: %v", c.name, product, err)
				continue
			}
			given := map[string]array{"x": inputX}
			if product == "inputs" {
				for name, v := range factors(t, in, ortadapter.Olive) {
					given[name] = v
				}
				factors(t, in, ortadapter.GenAI) // which has another name for self_attn
			}
			if got := onlyY(t, m, given); !slices.Equal(got.v, want.v) {
				t.Errorf("%s, %s: got %v, want %v", c.name, product, got.v, want.v)
			}
		}
	}
}

// TestFusedSizes refuses parts that cannot be where their names say.
func TestFusedSizes(t *testing.T) {
	for _, c := range []struct {
		all, outs int64
		i, parts  int
		first     int64 // −1 where it is refused
	}{
		{8, 4, 0, 3, 0}, {8, 2, 1, 3, 4}, {8, 2, 2, 3, 6},
		{9, 3, 0, 3, 0}, {9, 3, 1, 3, 3}, {9, 3, 2, 3, 6},
		{8, 3, 0, 3, -1}, {8, 2, 0, 3, -1}, {8, 8, 0, 3, -1}, {8, 3, 1, 3, -1}, {8, 3, 2, 3, -1}, {8, 9, 2, 3, -1},
		{6, 3, 0, 2, 0}, {6, 3, 1, 2, 3}, {6, 2, 0, 2, -1}, {6, 4, 1, 2, -1},
	} {
		first, ok := partBegins(c.all, c.outs, c.i, c.parts)
		if ok != (c.first >= 0) || ok && first != c.first {
			t.Errorf("part %d of %d, %d of %d outputs: got %d, %v, want %d", c.i, c.parts, c.outs, c.all, first, ok, c.first)
		}
	}
	b := mustBind(t, fusedSource(numbers(8, 4, 1), numbers(6, 8, 2)).open(t), nil, adapterOf(newLora("m.attn.k_proj", 4, 3, 1)))
	if nodesOf(b) != "" {
		t.Errorf("k of 3 is found in a layer of 8 at %s", nodesOf(b))
	}
}

// TestFusedPathsAreTheirOwn: two layers without names may not share factors.
func TestFusedPathsAreTheirOwn(t *testing.T) {
	qkv, gateUp := numbers(8, 4, 1), numbers(6, 8, 2)
	s := graph(node("p: MatMul x w -> h"), node("r: MatMul h v -> y"), qkv.transposed().init("w"), gateUp.transposed().init("v"))
	q, up := newLora("q_proj", 4, 4, 1), newLora("up_proj", 8, 3, 2)
	weights := &patch.Model{Sites: []patch.Site{site("q_proj", qkv[:4]), site("up_proj", gateUp[3:])}}
	b := mustBind(t, s.open(t), weights, adapterOf(q, up))
	in, err := b.Inject([]patch.Weighted{{Adapter: adapterOf(q, up), Weight: 1}}, InjectOptions{Mode: Inputs})
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]array{"x": inputX}
	for name, v := range factors(t, in, ortadapter.Olive) {
		given[name] = v
	}
	newQKV, newUp := slices.Clone(qkv), slices.Clone(gateUp)
	copy(newQKV, q.on(qkv[:4]))
	copy(newUp[3:], up.on(gateUp[3:]))
	want := onlyY(t, fusedSource(newQKV, newUp).open(t), map[string]array{"x": inputX})
	if got := onlyY(t, edited(t, in.Edit), given); !slices.Equal(got.v, want.v) {
		t.Errorf("got %v, want %v", got.v, want.v)
	}
}

// TestInjectRefuses what a graph cannot take, and says why.
func TestInjectRefuses(t *testing.T) {
	w := numbers(4, 4, 1)
	base := graph(node("/m/a/MatMul: MatMul x w -> y"), w.init("w"))
	inject := func(s source, mode Mode, list ...lora) error {
		m := s.open(t)
		a := adapterOf(list...)
		b, err := Bind(m, nil, a)
		if err != nil {
			return err
		}
		_, err = b.Inject([]patch.Weighted{{Adapter: a, Weight: 1}}, InjectOptions{Mode: mode})
		return err
	}
	for _, mode := range []Mode{InGraph, Baked, Inputs} {
		checkUnfit(t, inject(base, mode, newLora("m.b", 4, 4, 1)), `has no module "m.b"`)
		checkUnfit(t, inject(base, mode, newLora("m.a", 5, 4, 1)), `shapes do not fit node "/m/a/MatMul"`, "want in 4, out 4")
		checkUnfit(t, inject(base, mode, newLora("m.a", 4, 5, 1)), `shapes do not fit node "/m/a/MatMul"`)
	}
	two := both(w, numbers(4, 4, 2)).open(t)
	half := adapterOf(newLora("m.a", 4, 4, 1))
	half.Selection = &adapter.Selection{TargetModules: []string{"a", "b"}}
	_, _, err := productOf(t, two, "baked", half)
	checkUnfit(t, err, `factors are missing for modules that the config targets: "m.b"`)
	table := graph(node("/m/a/Gather: Gather w x -> y"), w.init("w"))
	checkUnfit(t, inject(table, Baked, newLora("m.a", 4, 4, 1)), `shapes do not fit node "/m/a/Gather"`) // factors of a linear layer
	// A second use that multiplies its product cannot share the factors of an input.
	twice := graph(node("/m/a/Gemm: Gemm x m.a.weight -> h", attrFloat("alpha", 2)), node("/m/a_1/MatMul: MatMul h m.a.weight -> y"), w.init("m.a.weight"))
	checkUnfit(t, inject(twice, Inputs, newLora("m.a", 4, 4, 1)), `cannot take the factors of another use of "m.a"`)
	a := newLora("m.a", 4, 4, 1)
	m, _, err := productOf(t, twice.open(t), "baked", adapterOf(a))
	if err != nil {
		t.Fatal(err)
	}
	want := graph(node("/m/a/Gemm: Gemm x w -> h", attrFloat("alpha", 2)), node("/m/a_1/MatMul: MatMul h w -> y"), a.on(w.transposed()).transposed().init("w"))
	feeds := map[string]array{"x": inputX}
	if got, want := onlyY(t, m, feeds), onlyY(t, want.open(t), feeds); !slices.Equal(got.v, want.v) {
		t.Errorf("baked: got %v, want %v", got.v, want.v)
	}
	// A function's layer is one node, which cannot transpose X for one call alone.
	calls := withFunction(graph(node("/m/a/f: Fc x w -> h", domain("f"), attrInt("turn", 1)), node("/m/b/f: Fc h v -> y", domain("f"), attrInt("turn", 0)),
		w.init("w"), w.init("v")), function("Fc", "a b", "c", node("p: Gemm a b -> c", attrRef("transA", "turn", 2))))
	checkUnfit(t, inject(calls, Baked, a, newLora("m.b", 4, 4, 2)), "calls of its function differ in what they transpose")
	// What was injected is not silently taken for what is to be.
	first, _, err := productOf(t, base.open(t), "inputs", adapterOf(a))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = productOf(t, first, "inputs", adapterOf(a))
	checkUnfit(t, err, `the graph has a value "m.a.lora_A.weight" or "m.a.lora_B.weight" already`)
}

// TestInjectTwoAdapters: baked and in the graph they are summed with their weights, as
// inputs each has a file of its own.
func TestInjectTwoAdapters(t *testing.T) {
	w, v := numbers(4, 4, 1), numbers(4, 4, 2)
	build := func(w, v matrix) source {
		return graph(node("/m/a/MatMul: MatMul x w -> h"), node("/m/b/MatMul: MatMul h v -> y"), w.transposed().init("w"), v.transposed().init("v"))
	}
	one, other := newLora("m.a", 4, 4, 1), lora{"m.a", numbers(3, 4, 5), numbers(4, 3, 6), 4}
	onB := newLora("m.b", 4, 4, 7)
	first, second := adapterOf(one), adapterOf(other, onB)
	m := build(w, v).open(t)
	b := mustBind(t, m, nil, first, second)
	both := []patch.Weighted{{Adapter: first, Weight: 0.5}, {Adapter: second, Weight: -1.25}}
	feeds := map[string]array{"x": inputX}
	scaled := func(l lora, by float64) lora {
		l.scale *= by
		return l
	}
	want := onlyY(t, build(scaled(other, -1.25).on(scaled(one, 0.5).on(w)), scaled(onB, -1.25).on(v)).open(t), feeds)
	for _, mode := range []Mode{InGraph, Baked} {
		in, err := b.Inject(both, InjectOptions{Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		if got := onlyY(t, edited(t, in.Edit), feeds); !slices.Equal(got.v, want.v) {
			t.Errorf("%s: got %v, want %v", mode, got.v, want.v)
		}
		if in.Adapters != nil || len(in.Sites) != 2 || in.Sites[0].Rank != 5 || in.Sites[1].Rank != 2 {
			t.Errorf("%s: %d adapters, sites %+v", mode, len(in.Adapters), in.Sites)
		}
	}
	for _, names := range []ortadapter.Names{ortadapter.Olive, ortadapter.PEFT, ortadapter.GenAI} {
		in, err := b.Inject(both, InjectOptions{Mode: Inputs, Names: names})
		if err != nil {
			t.Fatal(err)
		}
		if in.Sites[0].Rank != 3 || len(in.Adapters) != 2 || len(in.Adapters[0].Entries) != 1 || len(in.Adapters[1].Entries) != 2 {
			t.Errorf("%d adapters, sites %+v", len(in.Adapters), in.Sites)
		}
		result := edited(t, in.Edit)
		for i, want := range []matrix{scaled(one, 0.5).on(w), scaled(other, -1.25).on(w)} {
			then := v
			if i == 1 {
				then = scaled(onB, -1.25).on(v)
			}
			given := map[string]array{"x": inputX}
			for name, v := range factors(t, &Injected{Adapters: in.Adapters[i : i+1]}, names) {
				given[name] = v
			}
			if got, want := onlyY(t, result, given), onlyY(t, build(want, then).open(t), feeds); !slices.Equal(got.v, want.v) {
				t.Errorf("%s, adapter %d: got %v, want %v", names, i, got.v, want.v)
			}
		}
	}
}

// site is a weight (out, in) of a checkpoint.
func site(module string, w matrix) patch.Site {
	return patch.Site{Module: module, Kind: patch.Linear, Weight: floats(module+".weight", w)}
}

// TestValues finds modules by the numbers of their weights.
func TestValues(t *testing.T) {
	w, other := odd(5, 4, 1), odd(5, 4, 2)
	nameless := func(typ wire.DataType, stored matrix, more ...string) source {
		return graph(append([]string{node("p: MatMul x w -> y"), stored.as("w", typ)}, more...)...)
	}
	bf16 := func(m matrix) matrix {
		return m.each(func(v float64) float64 {
			return float64(math.Float32frombits(uint32(formats.Float32ToBFloat16(float32(v))) << 16))
		})
	}
	nearly := w.each(func(v float64) float64 { return v })
	nearly[4][3] += 1e-6
	inOut := site("m.fc", w.transposed())
	inOut.InOut = true
	table := site("m.fc", w.transposed())
	table.Kind, table.InOut = patch.Other, true
	for _, c := range []struct {
		name   string
		source source
		sites  []patch.Site
		want   string // the path by value
	}{
		{"transposed", nameless(wire.Float, w.transposed()), []patch.Site{site("m.other", other), site("m.fc", w)}, "m.fc"},
		{"both transposed", nameless(wire.Float, w.transposed()), []patch.Site{inOut}, "m.fc"},
		{"as it is", graph(node("g: Gemm x w -> y", attrInt("transB", 1)), w.init("w")), []patch.Site{site("m.fc", w)}, "m.fc"},
		{"rounded to float16", nameless(wire.Float16, w.transposed()), []patch.Site{site("m.fc", w)}, "m.fc"},
		{"rounded to bfloat16", nameless(wire.BFloat16, w.transposed()), []patch.Site{site("m.fc", w)}, "m.fc"},
		{"widened", nameless(wire.Double, bf16(w).transposed()), []patch.Site{site("m.fc", bf16(w))}, "m.fc"},
		{"rounded, and the checkpoint is another", nameless(wire.Float16, w.transposed()), []patch.Site{site("m.other", other)}, ""},
		{"not rounded", nameless(wire.Float, bf16(w).transposed()), []patch.Site{site("m.fc", w)}, ""},
		{"one element differs", nameless(wire.Float, w.transposed()), []patch.Site{site("m.fc", nearly)}, ""},
		{"another shape", nameless(wire.Float, w.transposed()), []patch.Site{site("m.fc", w.transposed())}, ""},
		{"no layer", nameless(wire.Float, w.transposed()), []patch.Site{table}, ""},
		{"two equal ones", nameless(wire.Float, w.transposed()), []patch.Site{site("m.fc", w), site("m.other", w)}, ""},
		{"two equal ones, and a name", graph(node("/fc/MatMul: MatMul x w -> y"), w.transposed().init("w")), []patch.Site{site("m.other", w), site("m.fc", w)}, "m.fc"},
		{"numbers before names", graph(node("/m/other/MatMul: MatMul x w -> y"), w.transposed().init("w")), []patch.Site{site("m.fc", w)}, "m.fc"},
		{"NaN is NaN", nameless(wire.Float, nans(w).transposed()), []patch.Site{site("m.fc", nans(w))}, "m.fc"},
		{"NaN is no number", nameless(wire.Float, nans(w).transposed()), []patch.Site{site("m.fc", w)}, ""},
	} {
		layers, err := Find(c.source.open(t), &patch.Model{Sites: c.sites})
		if err != nil || len(layers) != 1 {
			t.Fatalf("%s: %d layers, %v", c.name, len(layers), err)
		}
		got := ""
		if e, ok := layers[0].at(ruleValue); ok {
			got = e.Path
			if layers[0].Path != got {
				t.Errorf("%s: the path is %q", c.name, layers[0].Path)
			}
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestValuesOfParts finds modules that a layer holds side by side.
func TestValuesOfParts(t *testing.T) {
	q, k, v := odd(4, 4, 1), odd(2, 4, 2), odd(2, 4, 3)
	k2 := slices.Concat(matrix{q[0]}, matrix{k[1]}) // begins as q does
	packed := func(parts ...matrix) source {
		var all matrix
		for _, p := range parts {
			all = append(all, p...)
		}
		return graph(node("p: MatMul x w -> y"), all.transposed().as("w", wire.Float16))
	}
	for _, c := range []struct {
		name   string
		source source
		sites  []patch.Site
		want   string
	}{
		{"in order", packed(q, k, v), []patch.Site{site("q", q), site("k", k), site("v", v)}, "q 0 4 k 4 2 v 6 2 "},
		{"in another order", packed(v, q, k), []patch.Site{site("q", q), site("k", k), site("v", v)}, "q 2 4 k 6 2 v 0 2 "},
		{"of equal beginnings", packed(q, k2, v), []patch.Site{site("k", k2)}, "k 4 2 "},
		{"one that is there twice", packed(q, k, k), []patch.Site{site("q", q), site("k", k)}, "q 0 4 "},
		{"one that is not there", packed(q, k), []patch.Site{site("v", v)}, ""},
		{"one that is larger", packed(k), []patch.Site{site("q", q)}, ""},
	} {
		layers, err := Find(c.source.open(t), &patch.Model{Sites: c.sites})
		if err != nil || len(layers) != 1 {
			t.Fatalf("%s: %d layers, %v", c.name, len(layers), err)
		}
		got := ""
		for _, p := range layers[0].parts {
			got += fmt.Sprint(p.module, " ", p.first, " ", p.outs, " ")
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	// A layer that is the module by name is it, and not the part of another with equal numbers.
	named := graph(node("p: MatMul x w -> h"), node("/m/q/MatMul: MatMul x v -> g"), slices.Concat(q, k).transposed().init("w"), q.transposed().as("v", wire.Double))
	if b := mustBind(t, named.open(t), &patch.Model{Sites: []patch.Site{site("m.q", q)}}, adapterOf(newLora("m.q", 4, 4, 1))); nodesOf(b) != "m.q=/m/q/MatMul " {
		t.Errorf("found at %s", nodesOf(b))
	}
	// One that is it by the end of its name is not.
	ending := graph(node("p: MatMul x w -> h"), node("/q/MatMul: MatMul x v -> g"), slices.Concat(q, k).transposed().init("w"), odd(4, 4, 9).init("v"))
	if b := mustBind(t, ending.open(t), &patch.Model{Sites: []patch.Site{site("m.q", q)}}, adapterOf(newLora("m.q", 4, 4, 1))); nodesOf(b) != "m.q=p " {
		t.Errorf("found at %s", nodesOf(b))
	}
	// Parts that overlap are two modules in one place.
	_, err := Bind(packed(q, k).open(t), &patch.Model{Sites: []patch.Site{site("m.q", q), site("m.part", q[2:])}}, adapterOf(newLora("m.q", 4, 4, 1), newLora("m.part", 4, 2, 2)))
	checkUnfit(t, err, `modules "m.q" and "m.part" are both found in node "p"`)
	// Two layers that both hold a module's numbers are two candidates.
	two := graph(node("p: MatMul x w -> h"), node("r: MatMul x v -> g"), slices.Concat(q, k).transposed().init("w"), slices.Concat(q, v).transposed().init("v"))
	_, err = Bind(two.open(t), &patch.Model{Sites: []patch.Site{site("m.q", q)}}, adapterOf(newLora("m.q", 4, 4, 1)))
	checkUnfit(t, err, `module "m.q" could be any of node "p", node "r"`)
}

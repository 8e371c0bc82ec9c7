package onnx

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/seed-b982eded/graft/formats/adapter"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/patch"
)

// TestEvidence reads one rule at a time: in each graph nothing else tells the module.
func TestEvidence(t *testing.T) {
	w := numbers(4, 4, 1)
	product := node("MatMul_1: MatMul x w -> y")
	weight := func(name string) source {
		return graph(node("MatMul_1: MatMul x "+name+" -> y"), w.init(name))
	}
	bias := func(name string) source {
		return graph(node("MatMul_1: MatMul x w -> h"), node("Add_2: Add "+name+" h -> y"), w.init("w"), vector(name, 1, 2, 3, 4))
	}
	named := func(name string) source { return graph(node(name+": MatMul x w -> y"), w.init("w")) }
	scoped := func(list string) source {
		return graph(node("MatMul_1: MatMul x w -> y", scopes(list)), w.init("w"))
	}
	folded := metadataOf(metaFoldedFrom, "['m.fc.weight']")
	for _, c := range []struct {
		name   string
		source source
		rule   string // none if there is no evidence
		path   string
	}{
		{"scopes", scoped("['', 'm', 'm.fc', 'linear_3']"), ruleScopes, "m.fc"},
		{"scopes with other quotes", scoped(`["", "m.fc", 'it"s']`), ruleScopes, "m.fc"},
		{"scopes of the model alone", scoped("['', 'linear']"), "", ""},
		{"scopes of one name", scoped("['linear']"), "", ""},
		{"scopes that are no list", scoped("m.fc, linear"), "", ""},
		{"scopes without an end", scoped("['m.fc', 'linear"), "", ""},
		{"scopes with a name without an end", scoped("['m.fc', 'linear]"), "", ""},
		{"scopes without a comma", scoped("['m.fc' 'linear']"), "", ""},
		{"scopes with an escape", scoped(`['m.fc\'', 'linear']`), "", ""},
		{"scopes with a number", scoped("['m.fc', 3]"), "", ""},
		{"scopes of the Transpose before", graph(node("t: Transpose w -> t", scopes("['m.fc', 't']")), node("p: MatMul x t -> y"), w.init("w")), ruleScopes, "m.fc"},
		{"scopes of the Add after", graph(node("p: MatMul x w -> h"), node("a: Add h b -> y", scopes("['m.fc', 'add']")), w.init("w"), vector("b", 1, 2, 3, 4)), ruleScopes, "m.fc"},

		{"weight", weight("m.fc.weight"), ruleWeight, "m.fc"},
		{"weight of the model builder", weight("m.fc.MatMul.weight"), ruleWeight, "m.fc"},
		{"weight of Gemm", weight("m.fc.Gemm.weight"), ruleWeight, "m.fc"},
		{"quantised weight", weight("m.fc.weight_quantized"), ruleWeight, "m.fc"},
		{"quantised weight, 4 bits", weight("m.fc.weight_Q4G128"), ruleWeight, "m.fc"},
		{"quantised weight, QDQ", weight("m.fc.weight_DequantizeLinear_Output"), ruleWeight, "m.fc"},
		{"quantised weight, marked", weight("m.fc.weight_Q4_DQ"), ruleWeight, "m.fc"},
		{"qweight", weight("m.fc.MatMulNBits.qweight"), ruleWeight, "m.fc"},
		{"transposed weight", weight("m.fc.weight::T10"), ruleWeight, "m.fc"},
		{"transposed weight, said otherwise", weight("m.fc.weight_transposed"), ruleWeight, "m.fc"},
		{"mangled weight", weight("p_m_fc_weight::T10"), ruleWeight, "m_fc"},
		{"no mangled weight", weight("m_fc_weight"), "", ""},
		{"a weight without a module", weight(".weight"), "", ""},
		{"a weight that is numbered", weight("onnx::MatMul_12"), "", ""},
		{"the name nearest to the operand", graph(node("i: Identity m.other.weight -> m.fc.weight"), node("p: MatMul x m.fc.weight -> y"), w.init("m.other.weight")), ruleWeight, "m.fc"},
		{"a name behind a Transpose", graph(node("t: Transpose m.fc.weight -> t"), node("p: MatMul x t -> y"), w.init("m.fc.weight")), ruleWeight, "m.fc"},
		{"folded, at the tensor", graph(product, text(5, tensorBody("w", wire.Float, w.dims(), w.flat()...), folded(16))), ruleWeight, "m.fc"},
		{"folded, at the value", graph(product, w.init("w"), text(13, text(1, "w"), folded(4))), ruleWeight, "m.fc"},
		{"folded, at another value", graph(product, w.init("w"), text(13, text(1, "v"), folded(4))), "", ""},
		{"folded from two", graph(product, w.init("w"), text(13, text(1, "w"), metadataOf(metaFoldedFrom, "['m.fc.weight', 'm.b.weight']")(4))), "", ""},

		{"bias", bias("m.fc.bias"), ruleBias, "m.fc"},
		{"bias of the model builder", bias("m.fc.Add.bias"), ruleBias, "m.fc"},
		{"a bias without a module", bias(".bias"), "", ""},
		{"something else that is added", bias("m.fc.scale"), "", ""},
		{"bias of Gemm", graph(node("g: Gemm x w m.fc.bias -> y"), w.init("w"), vector("m.fc.bias", 1, 2, 3, 4)), ruleBias, "m.fc"},
		{"a bias that is added first", graph(node("p: MatMul x w -> h"), node("a: Add h m.fc.bias -> y"), w.init("w"), vector("m.fc.bias", 1, 2, 3, 4)), ruleBias, "m.fc"},
		{"a bias of another size", graph(node("p: MatMul x w -> h"), node("a: Add h m.fc.bias -> y"), w.init("w"), vector("m.fc.bias", 7)), "", ""},
		{"a bias that is no vector", graph(node("p: MatMul x w -> h"), node("a: Add h m.fc.bias -> y"), w.init("w"), w.init("m.fc.bias")), "", ""},
		{"a bias of a product that others read", graph(node("p: MatMul x w -> h"), node("a: Add h m.fc.bias -> g"), node("b: Add h g -> y"), w.init("w"), vector("m.fc.bias", 1, 2, 3, 4)), "", ""},
		{"a bias of a product that others read before", graph(node("p: MatMul x w -> h"), node("i: Identity h -> g"), node("a: Add h m.fc.bias -> y"), w.init("w"), vector("m.fc.bias", 1, 2, 3, 4)), "", ""},
		{"a bias of W·X goes along columns", graph(node("p: MatMul w x -> h"), node("a: Add h m.fc.bias -> y"), w.init("w"), vector("m.fc.bias", 1, 2, 3, 4)), "", ""},
		{"what is added to a convolution goes along the width", graph(node("p: Conv x w -> h"), node("a: Add h m.fc.bias -> y"), tensor("w", wire.Float, []int64{4, 1, 1}, 1, 2, 3, 4), vector("m.fc.bias", 1, 2, 3, 4)), "", ""},
		{"what is subtracted", graph(node("p: MatMul x w -> h"), node("a: Sub h m.fc.bias -> y"), w.init("w"), vector("m.fc.bias", 1, 2, 3, 4)), "", ""},

		{"node", named("/m/fc/MatMul"), ruleNode, "m.fc"},
		{"node in a Sequential", named("/m/mlp/mlp.0/MatMul"), ruleNode, "m.mlp.0"},
		{"node in a Sequential of a list", named("/layers.0/mlp/mlp.0/MatMul"), ruleNode, "layers.0.mlp.0"},
		{"node in nested Sequentials", named("/head/head.0/head.0.0/Gemm"), ruleNode, "head.0.0"},
		{"node in a module that begins as the one around it", named("/mlp/mlpx/MatMul"), ruleNode, "mlp.mlpx"},
		{"node without modules", named("/MatMul"), "", ""},
		{"node without a slash", named("m/fc/MatMul"), "", ""},
		{"node of the Transpose before", graph(node("/m/fc/Transpose: Transpose w -> t"), node("p: MatMul x t -> y"), w.init("w")), ruleNode, "m.fc"},
		{"a call", withFunction(graph(node("/m/fc/f: Fc x w -> y", domain("f")), w.init("w")), function("Fc", "a b", "c", node("/inner/MatMul: MatMul a b -> c"))), ruleNode, "m.fc"},

		{"scopes before weight", graph(node("p: MatMul x m.b.weight -> y", scopes("['m.fc', 'p']")), w.init("m.b.weight")), ruleScopes, "m.fc"},
		{"weight before bias", graph(node("p: MatMul x m.fc.weight -> h"), node("a: Add h m.b.bias -> y"), w.init("m.fc.weight"), vector("m.b.bias", 1, 2, 3, 4)), ruleWeight, "m.fc"},
		{"bias before node", graph(node("/m/b/MatMul: MatMul x w -> h"), node("a: Add h m.fc.bias -> y"), w.init("w"), vector("m.fc.bias", 1, 2, 3, 4)), ruleBias, "m.fc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			layers, err := Find(c.source.open(t), nil)
			if err != nil || len(layers) != 1 {
				t.Fatalf("%d layers, %v", len(layers), err)
			}
			l := layers[0]
			if c.rule == "" {
				if l.Path != "" || len(l.Evidence) > 0 {
					t.Errorf("got %q by %+v, want nothing", l.Path, l.Evidence)
				}
				return
			}
			if l.Path != c.path || len(l.Evidence) == 0 || l.Evidence[0].Rule != c.rule || l.Evidence[0].Path != c.path {
				t.Errorf("got %q by %+v, want %s by its %s", l.Path, l.Evidence, c.path, c.rule)
			}
		})
	}
}

// metadataOf makes an entry of metadata for the field that has it.
func metadataOf(key, value string) func(field protowire.Number) string {
	return func(field protowire.Number) string { return text(field, text(1, key), text(2, value)) }
}

// TestNoLayers are nodes that look like layers and take no adapter.
func TestNoLayers(t *testing.T) {
	w := numbers(4, 4, 1)
	for name, s := range map[string]source{
		"two activations":          graph(node("p: MatMul x x -> y")),
		"two constants":            graph(node("p: MatMul w w -> y"), w.init("w")),
		"a vector":                 graph(node("p: MatMul x w -> y"), vector("w", 1, 2, 3, 4)),
		"a stack of matrices":      graph(node("p: MatMul x w -> y"), tensor("w", wire.Float, []int64{1, 2, 2}, 1, 2, 3, 4)),
		"a sum of constants":       graph(node("a: Add w w -> v"), node("p: MatMul x v -> y"), w.init("w")),
		"a Transpose of nothing":   graph(node("t: Transpose w -> v", attrInts("perm", 0, 1)), node("p: MatMul x v -> y"), w.init("w")),
		"fixed rows":               graph(node("g: Gather w i -> y"), w.init("w"), tensor("i", wire.Int64, []int64{1}, 2)),
		"columns":                  graph(node("g: Gather w x -> y", attrInt("axis", 1)), w.init("w")),
		"positions":                graph(node("g: Gather w x -> y"), w.as("w", wire.Int64)),
		"another domain":           graph(node("p: MatMul x w -> y", domain("f")), w.init("w")),
		"batches transposed":       graph(node("p: FusedMatMul x w -> y", domain("com.microsoft"), attrInt("transBatchA", 1)), w.init("w")),
		"a Cast of another domain": graph(node("c: Cast w -> v", domain("f")), node("p: MatMul x v -> y"), w.init("w")),
		"integers that are quantised outside of a function": withFunction(
			graph(node("q: DynamicQuantizeLinear x -> xq xs xz"), node("/m/fc/f: Fc xq xs w -> y", domain("f")), tensor("w", wire.Int8, []int64{4, 4}, w.flat()...)),
			function("Fc", "a s b", "c", node("p: MatMulInteger a b -> i"), node("k: Cast i -> j", attrInt("to", 1)), node("l: Mul j s -> c"))),
		"a weight that a branch's input hides": graph(node("l: Loop n _ -> y", attrGraph("body", input("w"), node("p: MatMul x w -> z"), output("z"))), w.init("w")),
	} {
		layers, err := Find(s.open(t), nil)
		if err != nil || len(layers) > 0 {
			t.Errorf("%s: %d layers, %v", name, len(layers), err)
		}
	}
}

// TestFunctionsThatNeverEnd are refused.
func TestFunctionsThatNeverEnd(t *testing.T) {
	endless := withFunction(graph(node("f: F x -> y", domain("f"))), function("F", "a", "b", node("f: F a -> b", domain("f"))))
	if _, err := Find(endless.open(t), nil); err == nil || !strings.Contains(err.Error(), "call each other more than 100 deep") {
		t.Errorf("got %v", err)
	}
	var functions []string
	for i := range 40 { // each calls the next twice
		next := string(rune('A' + i + 1))
		functions = append(functions, function(string(rune('A'+i)), "a", "b", node("f: "+next+" a -> c", domain("f")), node("g: "+next+" c -> b", domain("f"))))
	}
	functions = append(functions, function(string(rune('A'+40)), "a", "b", node("i: Identity a -> b")))
	doubling := withFunction(graph(node("f: A x -> y", domain("f"))), functions...)
	if _, err := Find(doubling.open(t), nil); err == nil || !strings.Contains(err.Error(), "call each other more than 1000000 times") {
		t.Errorf("got %v", err)
	}
}

// TestFolded: what an exporter multiplied into a weight an update would have to be multiplied
// with too.
func TestFolded(t *testing.T) {
	for _, c := range []struct {
		name     string
		layer    Layer
		refuses  bool
		evidence []Evidence
	}{
		{"a convolution without a name, by TorchScript", Layer{Kind: patch.Conv, Weight: &wire.Tensor{Name: "onnx::Conv_29"}}, true, nil},
		{"the same, with the checkpoint's numbers", Layer{Kind: patch.Conv, Weight: &wire.Tensor{Name: "onnx::Conv_29"}}, false, []Evidence{{ruleValue, "conv1", "conv1.weight"}}},
		{"a product without a name, which is only turned", Layer{Kind: patch.Linear, Weight: &wire.Tensor{Name: "onnx::MatMul_29"}}, false, nil},
		{"fused by ONNX Runtime", Layer{Kind: patch.Conv, Weight: &wire.Tensor{Name: "ConvBnFusion_W_conv1.weight"}}, true, nil},
		{"by the optimizer of the dynamo exporter", Layer{Kind: patch.Linear, Weight: &wire.Tensor{Name: "fc.weight"}, tail: []*wire.Node{{Metadata: []wire.Pair{{Key: metaRule, Value: "FuseBatchNormIntoGemm"}}}}}, true, nil},
		{"another rule of that", Layer{Kind: patch.Linear, Weight: &wire.Tensor{Name: "fc.weight"}, tail: []*wire.Node{{Metadata: []wire.Pair{{Key: metaRule, Value: "RemoveOptionalBiasFromGemm"}}}}}, false, nil},
		{"other numbers than the checkpoint", Layer{Kind: patch.Linear, Weight: &wire.Tensor{Name: "fc.weight"}, differs: "fc.weight"}, true, nil},
	} {
		c.layer.Evidence = c.evidence
		if got := c.layer.folded(); (got != "") != c.refuses {
			t.Errorf("%s: got %q, want refused %v", c.name, got, c.refuses)
		}
	}
}

// TestTower: a layer without the name of its part of the model may be in another.
func TestTower(t *testing.T) {
	layer := func(path string) *Layer {
		return &Layer{Node: &wire.Node{Name: "n"}, Path: path, Evidence: []Evidence{{ruleNode, path, path}}}
	}
	for _, c := range []struct {
		module, path string
		names        []string
		refuses      bool
	}{
		{"decoder.block.0.q", "block.0.q", nil, true},
		{"decoder.block.0.q", "block.0.q", []string{"decoder"}, false},
		{"text_model.encoder.layers.0.q", "encoder.layers.0.q", []string{"encoder"}, true},
		{"bert.encoder.layer.0.q", "layer.0.q", []string{"encoder"}, false},
		{"model.layers.0.q", "layers.0.q", nil, false},
	} {
		b := &Binding{pathNames: map[string]bool{}}
		for _, n := range c.names {
			b.pathNames[n] = true
		}
		err := b.checkTower(&adapter.Adapter{Path: "a"}, adapter.Entry{Module: c.module}, layer(c.path))
		if (err != nil) != c.refuses {
			t.Errorf("%s as %s: got %v, want refused %v", c.module, c.path, err, c.refuses)
		}
	}
}

// TestLongestEnd: of two layers that a module's path ends with, the one with more of it.
func TestLongestEnd(t *testing.T) {
	short := &Layer{Node: &wire.Node{Name: "s"}, Evidence: []Evidence{{ruleWeight, "dense", "dense.weight"}}}
	long := &Layer{Node: &wire.Node{Name: "l"}, Evidence: []Evidence{{ruleNode, "encoder.layer.1.output.dense", "/n"}}}
	for _, l := range []*Layer{short, long} {
		l.Weight = &wire.Tensor{}
	}
	b := &Binding{Model: &wire.Model{}, Layers: []*Layer{short, long}, pathNames: map[string]bool{"encoder": true}}
	found, err := b.match(&adapter.Adapter{}, adapter.Entry{Module: "bert.encoder.layer.1.output.dense"})
	if err != nil || len(found) != 1 || found[0].Layer != long {
		t.Errorf("got %v, %v", found, err)
	}
}

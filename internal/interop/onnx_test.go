package interop

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// onnxResults is what check_onnx.py finds of a fixture.
type onnxResults struct {
	Error    string
	Merge    onnxResult
	InGraph  onnxResult `json:"in-graph"`
	Baked    onnxResult
	Inputs   onnxResult
	External map[string]onnxResult
	Names    map[string]onnxResult
	Old      map[string]onnxResult
	Verify   *struct{ Good, Changed *onnxResult }
	Two      *struct {
		Merge, Baked onnxResult
		InGraph      onnxResult `json:"in-graph"`
		Inputs       []onnxResult
		Files        []string
	}
}

type onnxResult struct {
	Gap, Moved *float64
	Checker    *string // what onnx.checker has against it, and had not against the base
	Versions   bool    // IR and operator sets are the base's
	Version    int     // of the IR

	Off          *bool   // without an adapter it computes what the base does, bit for bit
	OffOptimised float64 `json:"off_optimised"`

	Same    bool // as the model that was made without the flag
	Inputs  bool // the file's parameters are the model's new inputs
	First   string
	Files   []string
	Outside int

	Exit    int
	Says    string
	Skipped string
}

// ONNX Runtime and PyTorch sum in other orders: a product of n numbers differs by some
// multiple of √n·2⁻²⁴ of what it is made of, and layers pass that on. The fixtures' products have n
// up to 64 and follow each other some ten times, so 64·2⁻²⁴·√8 is about what may come of it, 1e-5.
// 1e-4 would hide a factor that is rounded to 12 bits.
const onnxBound = 1e-5

// Narrow graphs round results, or merged weights, by up to 2⁻¹¹, or 2⁻⁸, of them. The MLP does that
// about nine times on the way, and independent errors add up like their square root.
var onnxBounds = map[string]float64{"mlp-ts17-fp16": 3 * 0x1p-11, "mlp-dyn22-bf16": 3 * 0x1p-8}

// What adapters add to quantised graphs is summed in float32 too, and compared relative to
// itself. That holds where activations are quantised as long as no activation that differs
// in its last bit crosses to another level: a level would be some 1e-3.
const quantisedBound = 1e-5

// onnxOffBound: optimised, the base may be joined into other kernels, which sum in other orders.
const onnxOffBound = 1e-6

// onnxRefusals are the products that graft refuses, and what it says.
var onnxRefusals = map[string]map[string]string{
	"conv-ts11-grouped": everyProduct("LoRA on a convolution of 2 groups is not supported (A is [4 12 3 3], B is [16 2 1 1])"),
	"llama-dyn18-dora":  exceptMerge("an update of kind Magnitude cannot be added to a graph"),
	"llama-ts17-dora":   exceptMerge("an update of kind Magnitude cannot be added to a graph"),
	"llama-int4-nbits":  quantisedBy("MatMulNBits"),
	"llama-int4-qdq":    quantisedBy("DequantizeLinear"),
	"mlp-int8-dynamic":  quantisedBy("MatMulInteger"),
	"mlp-int8-static":   quantisedBy("DequantizeLinear"),
	"mlp-int8-weights":  quantisedBy("DequantizeLinear"),
}

func exceptMerge(says string) map[string]string {
	return map[string]string{"in-graph": says, "baked": says, "inputs": says}
}

func everyProduct(says string) map[string]string {
	all := exceptMerge(says)
	all["merge"] = says
	return all
}

func quantisedBy(op string) map[string]string {
	return map[string]string{"merge": "it is quantised (" + op + ")", "in-graph": "a quantised weight (" + op + ") cannot be added to"}
}

// TestONNX runs by ONNX Runtime what graft makes of every export.
func TestONNX(t *testing.T) {
	light(t)
	var all map[string]onnxResults
	out := python(t, interopPython, nil, "check_onnx.py", graftPath, fixture("onnx"), t.TempDir())
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 35 {
		t.Errorf("%d fixtures, want 35", len(all))
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			r := all[name]
			if r.Error != "" {
				t.Fatal(r.Error)
			}
			c := &onnxCheck{t, name, onnxBound}
			if b, ok := onnxBounds[name]; ok {
				c.bound = b
			} else if strings.Contains(name, "int") {
				c.bound = quantisedBound
			}
			c.products(r)
			c.two(r)
			c.layouts(r)
			c.verified(r)
			c.named(r)
			c.old(r)
		})
	}
}

type onnxCheck struct {
	t     *testing.T
	name  string
	bound float64
}

// result checks what a product computes, or how it was refused.
func (c *onnxCheck) result(product, what string, r onnxResult) {
	c.t.Helper()
	if says, ok := onnxRefusals[c.name][product]; ok {
		if r.Exit != 5 || !strings.Contains(r.Says, says) {
			c.t.Errorf("%s: exit code %d, %q, want 5 and %q", what, r.Exit, r.Says, says)
		}
		return
	}
	if r.Gap == nil || r.Moved == nil {
		c.t.Errorf("%s: %+v", what, r)
		return
	}
	// An adapter that moves nothing would hide its own loss.
	if *r.Gap > c.bound || *r.Moved < 10*c.bound {
		c.t.Errorf("%s: gap %g, want at most %g; the adapter moves the outputs by %g", what, *r.Gap, c.bound, *r.Moved)
	}
	if r.Checker != nil {
		c.t.Errorf("%s: onnx.checker says %s", what, *r.Checker)
	}
}

func (c *onnxCheck) products(r onnxResults) {
	narrow := c.name == "mlp-dyn22-bf16"
	for product, p := range map[string]onnxResult{"merge": r.Merge, "in-graph": r.InGraph, "baked": r.Baked, "inputs": r.Inputs} {
		if narrow && product == "inputs" {
			if p.Skipped == "" {
				c.t.Errorf("inputs: %+v", p)
			}
			continue
		}
		c.result(product, product, p)
		if p.Exit == 0 && !p.Versions {
			c.t.Errorf("%s: versions of IR or operator sets changed", product)
		}
	}
	if r.Inputs.Gap != nil && (r.Inputs.Off == nil || !*r.Inputs.Off || r.Inputs.OffOptimised > onnxOffBound) {
		c.t.Errorf("inputs without an adapter: not what the base computes (optimised the gap is %g)", r.Inputs.OffOptimised)
	}
}

// two checks products of two adapters.
func (c *onnxCheck) two(r onnxResults) {
	if r.Two == nil {
		if onnxRefusals[c.name]["baked"] == "" {
			c.t.Error("two adapters were not tried")
		}
		return
	}
	c.result("merge", "merged with two adapters", r.Two.Merge)
	c.result("in-graph", "two adapters in the graph", r.Two.InGraph)
	c.result("baked", "two adapters baked", r.Two.Baked)
	if c.name == "mlp-dyn22-bf16" {
		return
	}
	if len(r.Two.Inputs) != 2 || !slices.Equal(r.Two.Files, []string{"model.adapter.onnx_adapter", "model.second.onnx_adapter"}) {
		c.t.Errorf("two adapters as inputs: %d results, files %q", len(r.Two.Inputs), r.Two.Files)
	}
	for i, one := range r.Two.Inputs {
		c.result("inputs", "one of two adapters, "+r.Two.Files[i], one)
	}
}

// layouts checks where merged weights lie.
func (c *onnxCheck) layouts(r onnxResults) {
	if r.Merge.Gap == nil {
		return
	}
	for _, where := range []string{"always", "never"} {
		e := r.External[where]
		want := []string{"model.onnx"}
		if e.Outside > 0 && where == "always" {
			want = append(want, "model.onnx.data")
		}
		if !e.Same || !slices.Equal(e.Files, want) || e.Checker != nil {
			c.t.Errorf("--external %s: %+v", where, e)
		}
	}
	if c.name == "bert-ts14" && r.External["always"].Outside == 0 {
		c.t.Error("--external always: nothing is outside")
	}
}

func (c *onnxCheck) verified(r onnxResults) {
	if r.Merge.Gap == nil {
		return
	}
	if v := r.Verify; v == nil || v.Good != nil || v.Changed == nil || v.Changed.Exit != 3 || !strings.Contains(v.Changed.Says, "1 elements differ") {
		c.t.Errorf("verify: %+v", v)
	}
}

// named checks the namings of factors.
func (c *onnxCheck) named(r onnxResults) {
	if r.Inputs.Gap == nil {
		return
	}
	for naming, like := range map[string][2]string{
		"olive": {"", ".lora_A.weight"}, "peft": {"base_model.model.", ".lora_A.weight"}, "genai": {"", ".lora_A.MatMul.weight"},
	} {
		n := r.Names[naming]
		plain := strings.HasPrefix(n.First, like[0]) && strings.HasSuffix(n.First, like[1])
		if !n.Same || !n.Inputs || !plain {
			c.t.Errorf("--names %s: %+v", naming, n)
		}
	}
}

// old checks a graph of IR version 3, which is raised to 4 for inputs with defaults alone.
func (c *onnxCheck) old(r onnxResults) {
	if c.name != "mlp-ts13" {
		return
	}
	for _, product := range []string{"merge", "in-graph", "baked", "inputs"} {
		p, want := r.Old[product], 3
		if product == "inputs" {
			want = 4
		}
		c.result(product, "of IR version 3, "+product, p)
		if p.Version != want {
			c.t.Errorf("of IR version 3, %s: got version %d, want %d", product, p.Version, want)
		}
	}
}

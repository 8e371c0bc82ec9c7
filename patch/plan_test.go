package patch_test

import (
	"bytes"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch"
)

const llamaConfig = `{"model_type":"llama","architectures":["LlamaForCausalLM"],"tie_word_embeddings":false}`

// twoLayers is a base with two layers of two linear modules, 4 in and 5 out.
func twoLayers(t testing.TB) *formats.Checkpoint {
	var tensors []formats.Tensor
	for i, m := range []string{"0.q_proj", "0.k_proj", "1.q_proj", "1.k_proj"} {
		tensors = append(tensors, whole("model.layers."+m+".weight", formats.F32, uint64(i), 5, 4))
	}
	tensors = append(tensors, whole("model.norm.weight", formats.F32, 9, 4), whole("model.embed_tokens.weight", formats.F32, 9, 7, 4), whole("model.conv.weight", formats.F32, 3, 5, 4, 3))
	return fakeBase(t, llamaConfig, tensors...)
}

func plan(t testing.TB, base *formats.Checkpoint, weighted ...patch.Weighted) *patch.Plan {
	t.Helper()
	p, err := patch.NewPlan(base, weighted...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func weigh(w float64, entries ...adapter.Entry) patch.Weighted {
	return patch.Weighted{Adapter: fakeAdapter(entries...), Weight: w}
}

func replace(module, param string, value formats.Tensor) adapter.Entry {
	value.Name = module + "." + param
	return adapter.Entry{Module: module, Keys: []string{value.Name}, Update: &adapter.Replace{Param: param, Value: value}}
}

// strange is an update of a kind that merging does not know.
type strange struct{ adapter.Replace }

func (strange) Kind() string { return "Strange" }

func TestPlanRefuses(t *testing.T) {
	q := "model.layers.0.q_proj"
	val := whole("", formats.F32, 1, 5, 4)
	embedding := wholeLora("model.embed_tokens", 1, 2, 7, 4)
	embedding.Update.(*adapter.LowRank).Embedding = true
	asEmbedding := wholeLora(q, 1, 2, 4, 5)
	asEmbedding.Update.(*adapter.LowRank).Embedding = true
	for _, c := range []struct {
		name    string
		entries []adapter.Entry
		weight  float64
		want    []string
	}{
		{"a layer too many", []adapter.Entry{wholeLora("model.layers.2.q_proj", 1, 2, 4, 5)}, 1, []string{`the base "the base" has no module "model.layers.2.q_proj"`, `nearest: "model.layers.0.q_proj"`, `"model.layers.1.q_proj"`}},
		{"another model", []adapter.Entry{wholeLora("transformer.h.0.attn.c_attn", 1, 2, 4, 5)}, 1, []string{`has no module "transformer.h.0.attn.c_attn"`}},
		{"one of many", []adapter.Entry{wholeLora(q, 1, 2, 4, 5), wholeLora("model.layers.0.v_proj", 1, 2, 4, 5)}, 1, []string{`"model.layers.0.v_proj"`}},
		{"too wide", []adapter.Entry{wholeLora(q, 1, 2, 6, 5)}, 1, []string{`shapes do not fit "model.layers.0.q_proj.weight": ΔW would be [5 6] (got A [2 6], B [5 2], want [5 4])`}},
		{"too tall", []adapter.Entry{wholeLora(q, 1, 2, 4, 6)}, 1, []string{"ΔW would be [6 4]"}},
		{"transposed", []adapter.Entry{wholeLora(q, 1, 2, 5, 4)}, 1, []string{"ΔW would be [4 5]", "A and B look transposed"}},
		{"ranks disagree", []adapter.Entry{lora(q, 1, whole("", formats.F32, 1, 2, 4), whole("", formats.F32, 1, 5, 3))}, 1, []string{"A and B disagree on the rank (A is [2 4], B is [5 3])"}},
		{"no matrices", []adapter.Entry{lora(q, 1, whole("", formats.F32, 1, 4), whole("", formats.F32, 1, 5))}, 1, []string{"factors must be matrices"}},
		{"a norm", []adapter.Entry{wholeLora("model.norm", 1, 2, 4, 5)}, 1, []string{"shapes do not fit"}},
		{"a layer's factors for an embedding", []adapter.Entry{wholeLora("model.embed_tokens", 1, 2, 7, 4)}, 1, []string{"shapes do not fit", "want [7 4]"}},
		{"an embedding's factors for a layer", []adapter.Entry{asEmbedding}, 1, []string{"shapes do not fit", "want [4 5]"}},
		{"matrices for a convolution", []adapter.Entry{wholeLora("model.conv", 1, 2, 4, 5)}, 1, []string{"factors of another kind of layer"}},
		{"unknown kind", []adapter.Entry{{Module: q, Update: &strange{}}}, 1, []string{"merging an update of kind Strange is not supported"}},
		{"a saved module of another shape", []adapter.Entry{replace(q, "weight", whole("", formats.F32, 1, 6, 4))}, 1, []string{`shape differs from "model.layers.0.q_proj.weight" (got [6 4], want [5 4])`, "the vocabulary was resized"}},
		{"a saved module, weighted", []adapter.Entry{replace(q, "weight", val)}, 0.5, []string{"cannot be weighted (got weight 0.5, want 1)"}},
		{"a saved parameter that is not there", []adapter.Entry{replace(q, "bias", val)}, 1, []string{"has no module"}},
		{"a saved module of whole numbers", []adapter.Entry{replace(q, "weight", formats.Tensor{DType: formats.I8, Shape: []int64{5, 4}})}, 1, []string{"cannot turn I8 into the base's F32"}},
		{"saved twice", []adapter.Entry{replace(q, "weight", val), replace(q, "weight", val)}, 1, []string{"a second value"}},
		{"good and bad", []adapter.Entry{embedding, wholeLora("x", 1, 2, 4, 5), wholeLora("y", 1, 2, 4, 5)}, 1, []string{`"x"`, `"y"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := patch.NewPlan(twoLayers(t), weigh(c.weight, c.entries...))
			checkClass(t, err, formats.ErrUnfit, c.want...)
			if err != nil && c.name != "unknown kind" && !strings.HasPrefix(err.Error(), `reading "the adapter": tensor "`) {
				t.Errorf("the line does not begin with file and tensor: %v", err)
			}
		})
	}
}

func TestPlanMissingLayers(t *testing.T) {
	for _, c := range []struct {
		sel  adapter.Selection
		want string // "" : fits
	}{
		{adapter.Selection{TargetModules: []string{"q_proj"}}, `factors are missing for modules that the config targets: "model.layers.1.q_proj"`},
		{adapter.Selection{TargetModules: []string{"q_proj", "k_proj"}}, `"model.layers.0.k_proj", "model.layers.1.q_proj", "model.layers.1.k_proj"`},
		{adapter.Selection{TargetRegex: `.*_proj`}, `factors are missing`},
		{adapter.Selection{TargetModules: []string{"q_proj"}, LayersToTransform: []int64{0}}, ""},
		{adapter.Selection{TargetModules: []string{"q_proj"}, ExcludeModules: []string{"1.q_proj"}}, ""},
		{adapter.Selection{TargetRegex: `.*0\.q_proj`}, ""},
		{adapter.Selection{AllLinear: true}, ""}, // PEFT saves the list; where it does not, nothing is known
		{adapter.Selection{}, ""},
	} {
		a := fakeAdapter(wholeLora("model.layers.0.q_proj", 1, 2, 4, 5))
		a.Selection = &c.sel
		_, err := patch.NewPlan(twoLayers(t), patch.Weighted{Adapter: a, Weight: 1})
		if c.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", c.sel, err)
			}
			continue
		}
		checkClass(t, err, formats.ErrUnfit, c.want)
	}
}

func TestRefuseTied(t *testing.T) {
	dir := filepath.Join(peftData, "embedding-tied")
	_, err := patch.NewPlan(mustOpen(t, filepath.Join(dir, "base")), patch.Weighted{Adapter: mustOpenAdapter(t, filepath.Join(dir, "adapter")), Weight: 1})
	checkClass(t, err, formats.ErrUnfit, "shares its weight with another (tie_word_embeddings)", "untie the base")

	tied := `{"model_type":"llama","architectures":["LlamaForCausalLM"],"tie_word_embeddings":true}`
	base := fakeBase(t, tied, whole("model.embed_tokens.weight", formats.F32, 1, 7, 4), whole("model.q.weight", formats.F32, 1, 5, 4))
	_, err = patch.NewPlan(base, weigh(1, wholeLora("lm_head", 1, 2, 4, 7)))
	checkClass(t, err, formats.ErrUnfit, `has no module "lm_head"`, "tied to its input embedding")
	_, err = patch.NewPlan(base, weigh(1, replace("model.embed_tokens", "weight", whole("", formats.F32, 1, 7, 4))))
	checkClass(t, err, formats.ErrUnfit, "shares its weight")
	plan(t, base, weigh(1, wholeLora("model.q", 1, 2, 4, 5))) // other layers are not concerned
}

func TestRefuseQuantised(t *testing.T) {
	for _, d := range []formats.DType{formats.U8, formats.I8, formats.I32, formats.F8E4M3, formats.Bool} {
		raw := bytes.NewReader(make([]byte, 20*d.Bits()/8))
		w := formats.Tensor{Name: "model.q.weight", DType: d, Shape: []int64{5, 4}, Data: raw}
		_, err := patch.NewPlan(fakeBase(t, llamaConfig, w), weigh(1, wholeLora("model.q", 1, 2, 4, 5)))
		checkClass(t, err, formats.ErrUnfit, `cannot merge into "model.q.weight": its weight is `+d.String())
		config := `{"model_type":"llama","quantization_config":{"quant_method":"fp8"}}`
		_, err = patch.NewPlan(fakeBase(t, config, w), weigh(1, wholeLora("model.q", 1, 2, 4, 5)))
		checkClass(t, err, formats.ErrUnfit, "the base is quantised (fp8)")
	}
	_, err := patch.NewPlan(fakeBase(t, `{"quantization_config":{"quant_method":"gptq"}}`, whole("model.q.qweight", formats.F32, 1, 5, 4)), weigh(1, wholeLora("model.q", 1, 2, 4, 5)))
	checkClass(t, err, formats.ErrUnfit, "has no module", "the base is quantised (gptq)")
}

// exact works out base + Σ scale·B·A in float64, where the test's numbers are exact.
func exact(t testing.TB, base formats.Tensor, scaled ...patch.Weighted) []float64 {
	t.Helper()
	out := floatsOf(t, base)
	_, cols := base.Matrix()
	for _, s := range scaled {
		u := s.Adapter.Entries[0].Update.(*adapter.LowRank)
		a, b := floatsOf(t, u.A), floatsOf(t, u.B)
		r := u.Rank()
		for i := range out {
			row, col := int64(i)/cols, int64(i)%cols
			if u.Embedding {
				row, col = col, row
			}
			in := int64(len(a)) / r
			for k := range r {
				out[i] += s.Weight * u.Scale * b[row*r+k] * a[k*in+col]
			}
		}
	}
	return out
}

func TestMergeExactly(t *testing.T) {
	q := "model.layers.0.q_proj"
	one, two := wholeLora(q, 2, 2, 4, 5), wholeLora(q, 0.5, 3, 4, 5)
	embedding := wholeLora("model.embed_tokens", 2, 3, 7, 4)
	embedding.Update.(*adapter.LowRank).Embedding = true
	conv := lora("model.conv", 2, whole("", formats.F32, 7, 2, 4, 3), whole("", formats.F32, 8, 5, 2, 1))
	for name, c := range map[string]struct {
		tensor   string
		weighted []patch.Weighted
	}{
		"one":             {q, []patch.Weighted{weigh(1, one)}},
		"half":            {q, []patch.Weighted{weigh(0.5, one)}},
		"taken off":       {q, []patch.Weighted{weigh(-1, one)}},
		"two":             {q, []patch.Weighted{weigh(1, one), weigh(1, two)}},
		"two, weighted":   {q, []patch.Weighted{weigh(-2, one), weigh(3, two)}},
		"one and nothing": {q, []patch.Weighted{weigh(0, one), weigh(1, two)}},
		"embedding":       {"model.embed_tokens", []patch.Weighted{weigh(1, embedding)}},
		"convolution":     {"model.conv", []patch.Weighted{weigh(1, conv)}},
	} {
		base := twoLayers(t)
		p := plan(t, base, c.weighted...)
		w, _ := base.Tensor(c.tensor + ".weight")
		m, _ := p.Merge().Tensor(c.tensor + ".weight")
		if got, want := floatsOf(t, m), exact(t, w, c.weighted...); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
		if len(p.Targets()) != 1 {
			t.Errorf("%s: %d targets", name, len(p.Targets()))
		}
		// Everything else is the base's own.
		for x := range p.Merge().Tensors() {
			if old, _ := base.Tensor(x.Name); x.Name != m.Name && x.Data != old.Data {
				t.Errorf("%s: %s is not the base's", name, x.Name)
			}
		}
	}
	// One after the other is the same as taking on and off again.
	base := twoLayers(t)
	first := plan(t, base, weigh(1, one)).Merge()
	back := plan(t, first, weigh(-1, one)).Merge()
	w, _ := base.Tensor(q + ".weight")
	x, _ := back.Tensor(q + ".weight")
	if !slices.Equal(floatsOf(t, x), floatsOf(t, w)) {
		t.Error("taken off again, the weight differs from the base")
	}
}

// TestReadAnyRange reads a merged tensor in every range, against the whole.
func TestReadAnyRange(t *testing.T) {
	for _, d := range []formats.DType{formats.F64, formats.F32, formats.F16, formats.BF16} {
		base := fakeBase(t, llamaConfig, whole("model.q.weight", d, 1, 5, 3))
		p := plan(t, base, weigh(1, wholeLora("model.q", 1, 2, 3, 5)))
		m, _ := p.Merge().Tensor("model.q.weight")
		want, err := m.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for from := range len(want) + 1 {
			wg.Go(func() { // and from many goroutines
				for to := from; to <= len(want)+2; to++ {
					buf := bytes.Repeat([]byte{0xaa}, to-from+1) // with a guard byte behind
					n, err := m.Data.ReadAt(buf[:to-from], int64(from))
					end := min(to, len(want))
					if n != end-from || !bytes.Equal(buf[:n], want[from:end]) || to > len(want) && err == nil || buf[to-from] != 0xaa {
						t.Errorf("%s [%d, %d): got %d bytes, %v", d, from, to, n, err)
					}
				}
			})
		}
		wg.Wait()
		if n, err := m.Data.ReadAt(make([]byte, 1), -1); n != 0 || err == nil {
			t.Errorf("before the start: got %d, %v", n, err)
		}
		rows, cols := m.Data.(formats.Grainer).Grain()
		if rows != 1 || cols != 3 {
			t.Errorf("grain of %d × %d", rows, cols)
		}
	}
}

func TestReplaceAndCast(t *testing.T) {
	const q = "model.q"
	value := typed("", formats.F64, []int64{1, 4}, 1, 1+0x1p-8, 1+0x1p-8+0x1p-20, -3) // the second ties to 1 in BF16
	base := fakeBase(t, llamaConfig, whole(q+".weight", formats.BF16, 1, 1, 4), whole(q+".bias", formats.BF16, 1, 1))
	p := plan(t, base, weigh(1, replace(q, "weight", value), replace(q, "bias", typed("", formats.BF16, []int64{1}, 5))))
	w, _ := p.Merge().Tensor(q + ".weight")
	if got := floatsOf(t, w); !slices.Equal(got, []float64{1, 1, 1 + 0x1p-7, -3}) || w.DType != formats.BF16 {
		t.Errorf("got %v of %s", got, w.DType)
	}
	b, _ := p.Merge().Tensor(q + ".bias")
	if got := floatsOf(t, b); got[0] != 5 {
		t.Errorf("got %v", got)
	}
	if k := p.Targets()[0].Kind; k != "Replace" {
		t.Errorf("kind %s", k)
	}
	// F64 just above the middle of two BF16 values: rounding by way of float32 would fall
	// onto the middle, and from there to the even neighbour below.
	near := formats.Tensor{DType: formats.F64, Shape: []int64{1, 4}}
	raw := make([]byte, 32)
	formats.EncodeFloat64(raw, []float64{1 + 0x1p-8 + 0x1p-40, 1 + 0x1p-8 - 0x1p-40, -1 - 0x1p-8 - 0x1p-40, 1 + 3*0x1p-8 - 0x1p-40})
	near.Data = bytes.NewReader(raw)
	p = plan(t, base, weigh(1, replace(q, "weight", near)))
	w, _ = p.Merge().Tensor(q + ".weight")
	if got := floatsOf(t, w); !slices.Equal(got, []float64{1 + 0x1p-7, 1, -1 - 0x1p-7, 1 + 0x1p-7}) {
		t.Errorf("rounded twice: %v", got)
	}
	// A saved value that is updated as well.
	sum := weigh(1, wholeLora(q, 1, 2, 4, 1))
	p = plan(t, base, weigh(1, replace(q, "weight", typed("", formats.BF16, []int64{1, 4}, 8, 8, 8, 8))), sum)
	if k := p.Targets()[0].Kind; k != "Replace+LowRank" || len(p.Targets()) != 1 {
		t.Errorf("kind %s", k)
	}
	w, _ = p.Merge().Tensor(q + ".weight")
	if got, want := floatsOf(t, w), exact(t, typed("", formats.BF16, []int64{1, 4}, 8, 8, 8, 8), sum); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestNotFinite(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	w := whole("model.q.weight", formats.F16, 1, 3, 4)
	ones := func(shape ...int64) formats.Tensor {
		return typed("", formats.F32, shape, slices.Repeat([]float32{1}, int(shape[0]*shape[1]))...)
	}
	bad := func(x formats.Tensor, values map[int]float32) formats.Tensor {
		v, err := x.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		for i, y := range values {
			v[i] = y
		}
		return typed("", formats.F32, x.Shape, v...)
	}
	embeddings := typed("model.embed_tokens.weight", formats.F32, []int64{3, 4}, slices.Repeat([]float32{1}, 12)...)
	for _, c := range []struct {
		name  string
		base  formats.Tensor
		entry adapter.Entry
		class error
		want  []string
	}{
		{"NaN in A", w, lora("model.q", 1, bad(ones(2, 4), map[int]float32{6: nan, 7: inf}), ones(3, 2)), formats.ErrUnfit,
			[]string{`reading "the adapter": tensor "model.q.lora_A.weight": 2 values are NaN or infinite, the first at row 1, column 2`}},
		{"Inf in B", w, lora("model.q", 1, ones(2, 4), bad(ones(3, 2), map[int]float32{5: -inf})), formats.ErrUnfit,
			[]string{`tensor "model.q.lora_B.weight": 1 values are NaN or infinite, the first at row 2, column 1`}},
		{"NaN times zero", w, lora("model.q", 1, bad(ones(2, 4), map[int]float32{0: nan}), typed("", formats.F32, []int64{3, 2}, 0, 0, 0, 0, 0, 0)), formats.ErrUnfit, []string{"lora_A.weight"}},
		{"NaN in an embedding's A", embeddings, lora("model.embed_tokens", 1, bad(ones(2, 3), map[int]float32{4: nan}), ones(4, 2)), formats.ErrUnfit, []string{`lora_A.weight": 1 values are NaN or infinite, the first at row 1, column 1`}},
		{"NaN in an embedding's B", embeddings, lora("model.embed_tokens", 1, ones(2, 3), bad(ones(4, 2), map[int]float32{7: nan})), formats.ErrUnfit, []string{`lora_B.weight": 1 values are NaN or infinite, the first at row 3, column 1`}},
		{"too large for F16", w, lora("model.q", 1, bad(ones(2, 4), map[int]float32{1: 65520}), bad(ones(3, 2), map[int]float32{0: 0, 1: 0, 4: 0, 5: 0})), formats.ErrUnfit, []string{`the merged weight is not finite in F16 at row 1, column 1`}},
		{"too large a product", w, lora("model.q", 1, bad(ones(2, 4), map[int]float32{0: 3e38}), bad(ones(3, 2), map[int]float32{0: 3e38})), formats.ErrUnfit, []string{"not finite", "row 0, column 0"}},
		{"too large a scale", w, lora("model.q", 1e300, ones(2, 4), ones(3, 2)), formats.ErrUnfit, []string{"not finite"}},
		{"NaN in the base", typed("model.q.weight", formats.BF16, []int64{1, 4}, 1, 2, nan, 4), lora("model.q", 1, ones(2, 4), ones(1, 2)), formats.ErrInput, []string{`tensor "model.q.weight": the base's weight is NaN at row 0, column 2`}},
		{"Inf in an F64 base", typed("model.q.weight", formats.F64, []int64{1, 4}, 1, 2, 3, -inf), lora("model.q", 1, ones(2, 4), ones(1, 2)), formats.ErrInput, []string{`the base's weight is -Inf at row 0, column 3`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if strings.Contains(c.name, "embedding") {
				c.entry.Update.(*adapter.LowRank).Embedding = true
			}
			p := plan(t, fakeBase(t, llamaConfig, c.base), weigh(1, c.entry))
			m, _ := p.Merge().Tensor(c.base.Name)
			_, err := m.ReadAll()
			checkClass(t, err, c.class, c.want...)
		})
	}
	// The largest value that still rounds to a finite F16.
	fits := lora("model.q", 1, bad(ones(1, 4), map[int]float32{0: 65519}), ones(1, 1))
	p := plan(t, fakeBase(t, llamaConfig, typed("model.q.weight", formats.F16, []int64{1, 4}, 0, 0, 0, 0)), weigh(1, fits))
	m, _ := p.Merge().Tensor("model.q.weight")
	if got := floatsOf(t, m); got[0] != 65504 {
		t.Errorf("got %v, want 65504", got[0])
	}
}

// TestOutcomes merges with an observer that sees every block.
func TestOutcomes(t *testing.T) {
	const q = "model.q"
	zeros := func(shape ...int64) formats.Tensor {
		return typed("", formats.F32, shape, make([]float32, shape[0]*shape[1])...)
	}
	ones := typed("", formats.F32, []int64{1, 4}, 1, 1, 1, 1)
	b := func(v ...float32) formats.Tensor { return typed("", formats.F32, []int64{int64(len(v)), 1}, v...) }
	// The last element is −0, to which adding a zero would show.
	base := typed(q+".weight", formats.BF16, []int64{2, 4}, 1, 1, 1, 1, 1, 1, 1, float32(math.Copysign(0, -1)))
	for _, c := range []struct {
		name    string
		entry   adapter.Entry
		weight  float64
		outcome patch.Outcome
		same    bool // the bytes are the base's
	}{
		{"changed in one row", lora(q, 1, ones, b(2, 0x1p-20)), 1, patch.Changed, false},
		{"one row lost", lora(q, 1, ones, b(0x1p-10, 2)), 1, patch.Changed, false},
		{"weight 0", lora(q, 1, ones, b(1, 1)), 0, patch.ZeroDelta, true},
		{"alpha 0", lora(q, 0, ones, b(1, 1)), 1, patch.ZeroDelta, true},
		{"negative", lora(q, 1, ones, b(-1, -1)), 1, patch.Changed, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan(t, fakeBase(t, llamaConfig, base), weigh(c.weight, c.entry))
			checkOutcome(t, p, base, c.outcome, c.same)
		})
	}
	plus := typed(q+".weight", formats.BF16, []int64{2, 4}, 1, 1, 1, 1, 1, 1, 1, 2)
	for _, c := range []struct {
		name    string
		entry   adapter.Entry
		outcome patch.Outcome
	}{
		{"lost", lora(q, 1, ones, b(0x1p-10, -0x1p-12)), patch.Lost},
		{"lost in one row", lora(q, 1, ones, b(0, 0x1p-10)), patch.Lost},
		{"B zero", lora(q, 1, ones, zeros(2, 1)), patch.ZeroDelta},
		{"A zero", lora(q, 1, zeros(1, 4), b(1, 1)), patch.ZeroDelta},
		{"sums to zero", lora(q, 1, typed("", formats.F32, []int64{2, 4}, 1, 2, 3, 4, 1, 2, 3, 4), typed("", formats.F32, []int64{2, 2}, 5, -5, 1, -1)), patch.ZeroDelta},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan(t, fakeBase(t, llamaConfig, plus), weigh(1, c.entry))
			checkOutcome(t, p, plus, c.outcome, true)
		})
	}
}

func checkOutcome(t *testing.T, p *patch.Plan, base formats.Tensor, outcome patch.Outcome, same bool) {
	t.Helper()
	o := p.Observer(false)
	m, _ := p.Merge().Tensor(base.Name)
	got, err := m.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	old, err := base.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(got, old) != same {
		t.Errorf("got %x of %x", got, old)
	}
	for off := 0; off < len(got); off += 8 { // in blocks, as a writer hands them over
		if err := o.Observe(m, int64(off), got[off:min(off+8, len(got))]); err != nil {
			t.Fatal(err)
		}
	}
	results, err := o.Results()
	if err != nil || len(results) != 1 {
		t.Fatalf("got %+v, %v", results, err)
	}
	if r := results[0]; r.Outcome != outcome {
		t.Errorf("got %s, want %s", r.Outcome, outcome)
	}
	err = patch.CheckLost(results)
	if outcome != patch.Lost {
		if err != nil {
			t.Errorf("got %v", err)
		}
		return
	}
	checkClass(t, err, formats.ErrUnfit, `reading "the adapter": tensor "`+base.Name+`": the change is not zero, but none of it survives rounding to BF16`)
}

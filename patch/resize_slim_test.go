package patch_test

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch"
)

func slimmed(t *testing.T, a *adapter.Adapter, opts patch.SlimOptions) (*adapter.Adapter, []patch.Slimmed) {
	t.Helper()
	small, done, err := patch.Slim(context.Background(), a, opts)
	if err != nil {
		t.Fatal(err)
	}
	if got := sizeOf(a) - sizeOf(small); got != saves(done) {
		t.Errorf("%s: %d bytes less, and the report adds up to %d", a.Path, got, saves(done))
	}
	return small, done
}

func sizeOf(a *adapter.Adapter) (n int64) {
	for _, e := range a.Entries {
		for _, x := range e.Update.Tensors() {
			n += x.Size()
		}
	}
	return n
}

func saves(done []patch.Slimmed) (n int64) {
	for _, d := range done {
		n += d.Bytes
	}
	return n
}

func modelOf(t *testing.T, base *formats.Checkpoint) *patch.Model {
	t.Helper()
	m, err := patch.NewModel(base)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sameMerge reports whether two adapters make the same model of a base, bit for bit.
func sameMerge(t *testing.T, base *formats.Checkpoint, a, b *adapter.Adapter) {
	t.Helper()
	before := plan(t, base, patch.Weighted{Adapter: a, Weight: 1}).Merge()
	after := plan(t, base, patch.Weighted{Adapter: b, Weight: 1}).Merge()
	changed := false
	for x := range before.Tensors() {
		y, _ := after.Tensor(x.Name)
		p, err := x.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		q, err := y.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p, q) {
			t.Errorf("%s: %s is not the same", a.Path, x.Name)
		}
		old, _ := base.Tensor(x.Name)
		w, err := old.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		changed = changed || !bytes.Equal(p, w)
	}
	if !changed {
		t.Errorf("%s changes nothing: the comparison sees nothing", a.Path)
	}
}

// wider stores every tensor of an adapter in a type that holds more.
func wider(t *testing.T, a *adapter.Adapter, d formats.DType) *adapter.Adapter {
	t.Helper()
	widen := func(x formats.Tensor) formats.Tensor {
		if x.DType.Bits() >= d.Bits() {
			return x
		}
		v := floatsOf(t, x)
		out := formats.Tensor{Name: x.Name, DType: d, Shape: x.Shape}
		raw := make([]byte, out.Size())
		if d == formats.F64 {
			formats.EncodeFloat64(raw, v)
		} else {
			f := make([]float32, len(v))
			for i, x := range v {
				f[i] = float32(x)
			}
			formats.EncodeFloat32(raw, f, d)
		}
		out.Data = bytes.NewReader(raw)
		return out
	}
	low := func(u *adapter.LowRank) *adapter.LowRank {
		w := *u
		w.A, w.B = widen(u.A), widen(u.B)
		return &w
	}
	out := *a
	out.Entries = nil
	for _, e := range a.Entries {
		switch u := e.Update.(type) {
		case *adapter.LowRank:
			e.Update = low(u)
		case *adapter.Magnitude:
			e.Update = &adapter.Magnitude{Inner: low(u.Inner), Vector: widen(u.Vector)}
		case *adapter.Replace:
			e.Update = &adapter.Replace{Param: u.Param, Value: widen(u.Value)}
		}
		out.Entries = append(out.Entries, e)
	}
	return &out
}

// padded puts ranks of zeros into the middle of every pair of factors: in A for every other
// module, else in B.
func padded(t *testing.T, a *adapter.Adapter) *adapter.Adapter {
	t.Helper()
	out := *a
	out.Entries = nil
	for n, e := range a.Entries {
		low, ok := adapter.LowRankOf(e.Update)
		if !ok {
			out.Entries = append(out.Entries, e)
			continue
		}
		r, cols := low.A.Matrix()
		rows, _ := low.B.Matrix()
		size := low.A.DType.Bits() / 8
		rawA, err := low.A.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		rawB, err := low.B.ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		zeroA, zeroB := make([]byte, 2*cols*size), bytes.Repeat([]byte{0}, int(2*size))
		if n%2 == 0 {
			zeroA = bytes.Repeat([]byte{0, 0x3c}, len(zeroA)/2)
		} else {
			zeroB = bytes.Repeat([]byte{0, 0x3c}, len(zeroB)/2)
		}
		wide := *low
		wide.A.Data = bytes.NewReader(slices.Concat(rawA[:cols*size], zeroA, rawA[cols*size:]))
		var b []byte
		for o := range rows {
			row := rawB[o*r*size : (o+1)*r*size]
			b = slices.Concat(b, row[:size], zeroB, row[size:])
		}
		wide.B.Data = bytes.NewReader(b)
		wide.A.Shape, wide.B.Shape = slices.Clone(low.A.Shape), slices.Clone(low.B.Shape)
		wide.A.Shape[0], wide.B.Shape[1] = r+2, r+2
		if m, ok := e.Update.(*adapter.Magnitude); ok {
			e.Update = &adapter.Magnitude{Inner: &wide, Vector: m.Vector}
		} else {
			e.Update = &wide
		}
		out.Entries = append(out.Entries, e)
	}
	return &out
}

// Of every adapter that PEFT made, as it is, stored wider and with ranks of zeros, slimming
// gives back what there was and merges to the same bits.
func TestSlimFixtures(t *testing.T) {
	count := 0
	for _, c := range peftCases(t) {
		root := filepath.Join("..", "testdata", "peft", c.Name)
		if _, err := os.Stat(filepath.Join(root, "base")); err != nil {
			continue
		}
		base, a := mustOpen(t, filepath.Join(root, "base")), mustOpenAdapter(t, filepath.Join(root, "adapter"))
		opts := patch.SlimOptions{Base: modelOf(t, base)}
		if _, err := patch.Places(opts.Base, a); err != nil {
			continue // not for this base alone
		}
		small, _ := slimmed(t, a, opts)
		if c.Name != "alpha-zero" {
			sameMerge(t, base, a, small)
		}
		more := padded(t, wider(t, a, formats.F64))
		again, done := slimmed(t, more, opts)
		if got, want := sizeOf(again), sizeOf(small); got != want {
			t.Errorf("%s: %d bytes are left of what was made larger, want %d", c.Name, got, want)
		}
		if c.Name != "alpha-zero" {
			sameMerge(t, base, more, again)
			if !slices.ContainsFunc(done, func(d patch.Slimmed) bool { return d.What == patch.SlimRanks && d.Rank == d.OldRank-2 }) {
				t.Errorf("%s: no rank went: %+v", c.Name, done)
			}
		}
		kept, done := slimmed(t, more, patch.SlimOptions{KeepRanks: true})
		if slices.ContainsFunc(done, func(d patch.Slimmed) bool { return d.What == patch.SlimRanks }) {
			t.Errorf("%s: ranks went that were to stay", c.Name)
		}
		if c.Name != "alpha-zero" {
			sameMerge(t, base, more, kept)
		}
		count++
	}
	if count < 20 {
		t.Errorf("only %d adapters were slimmed", count)
	}
}

// Types: each tensor gets the narrowest that holds it, and of the two of 16 bits the one that
// most of the adapter fits.
func TestSlimNarrow(t *testing.T) {
	a := func(v ...float32) formats.Tensor { return typed("m.A", formats.F32, []int64{1, int64(len(v))}, v...) }
	b := func(v ...float32) formats.Tensor { return typed("m.B", formats.F32, []int64{int64(len(v)), 1}, v...) }
	for _, c := range []struct {
		what string
		a, b formats.Tensor
		want [2]formats.DType
	}{
		{"both types hold all", a(1, -2), b(0.5, 4), [2]formats.DType{formats.BF16, formats.BF16}},
		{"too fine for BF16", a(1, 1+0x1p-10), b(0.5, 4), [2]formats.DType{formats.F16, formats.F16}},
		{"too large for F16", a(1, 70000-1072), b(0.5, 4), [2]formats.DType{formats.F32, formats.BF16}},
		{"too large for F16, and BF16 holds it", a(1, 0x1p17), b(0.5, 4), [2]formats.DType{formats.BF16, formats.BF16}},
		{"the smallest of F16", a(0x1p-24, 0x3p-24), b(0x1p-25, 1+0x1p-7), [2]formats.DType{formats.BF16, formats.BF16}},
		{"one of each", a(1+0x1p-10, 2), b(0x1p-40, 3), [2]formats.DType{formats.F16, formats.BF16}},
		{"neither", a(1+0x1p-20, 2), b(1, 0.1), [2]formats.DType{formats.F32, formats.F32}},
		{"a negative zero", a(float32(math.Copysign(0, -1)), 2), b(1, 2), [2]formats.DType{formats.BF16, formats.BF16}},
	} {
		source := fakeAdapter(lora("m", 0.5, c.a, c.b))
		small, _ := slimmed(t, source, patch.SlimOptions{})
		u := small.Entries[0].Update.(*adapter.LowRank)
		if got := [2]formats.DType{u.A.DType, u.B.DType}; got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
		for i, x := range []formats.Tensor{u.A, u.B} {
			old := source.Entries[0].Update.Tensors()[i]
			for k, v := range floatsOf(t, x) {
				if w := floatsOf(t, old)[k]; math.Float64bits(v) != math.Float64bits(w) {
					t.Errorf("%s: %s[%d] is %g, was %g", c.what, x.Name, k, v, w)
				}
			}
		}
		if u.Scale != 0.5 {
			t.Errorf("%s: the scale is %g", c.what, u.Scale)
		}
	}
}

// What is the base's goes, by names of modules_to_save as a whole.
func TestSlimSaved(t *testing.T) {
	base := fakeBase(t, "",
		typed("body.q.weight", formats.F32, []int64{3, 2}, 1, 2, 3, 4, 5, 6),
		typed("head.weight", formats.BF16, []int64{2, 2}, 1, 2, 3, 4), typed("head.bias", formats.BF16, []int64{2}, 0.5, 1),
		typed("a.norm.weight", formats.F32, []int64{2}, 1, 1), typed("b.norm.weight", formats.F32, []int64{2}, 1, 1),
		typed("embed_tokens.weight", formats.F32, []int64{2, 2}, 1, 2, 3, 4),
	)
	q := lora("body.q", 1, typed("A", formats.F32, []int64{1, 2}, 0.1, 0.2), typed("B", formats.F32, []int64{3, 1}, 0.1, 0.2, 0.3))
	head := func(bias float32) []adapter.Entry {
		return []adapter.Entry{replace("head", "weight", typed("hw", formats.F32, []int64{2, 2}, 1, 2, 3, 4)), replace("head", "bias", typed("hb", formats.F32, []int64{2}, bias, 1))}
	}
	norms := func(b float32) []adapter.Entry {
		return []adapter.Entry{replace("a.norm", "weight", typed("an", formats.F32, []int64{2}, 1, 1)), replace("b.norm", "weight", typed("bn", formats.F32, []int64{2}, b, 1))}
	}
	along := replace("embed_tokens", "weight", typed("e", formats.F32, []int64{2, 2}, 1, 2, 3, 4))
	for _, c := range []struct {
		what    string
		entries []adapter.Entry
		names   []string
		left    []string // modules
		saved   []string
	}{
		{"all of a module", head(0.5), []string{"head"}, []string{"body.q"}, []string{}},
		{"part of a module", head(0.6), []string{"head"}, []string{"body.q", "head", "head"}, []string{"head"}},
		{"not exactly what BF16 rounds to", head(0.5 + 0x1p-20), []string{"head"}, []string{"body.q", "head", "head"}, []string{"head"}},
		{"all modules of a name", norms(1), []string{"norm"}, []string{"body.q"}, []string{}},
		{"one module of a name", norms(2), []string{"norm"}, []string{"body.q", "a.norm", "b.norm"}, []string{"norm"}},
		{"each by its own name", norms(2), []string{"a.norm", "b.norm"}, []string{"body.q", "b.norm"}, []string{"b.norm"}},
		{"by two names, of which one stays", norms(2), []string{"a.norm", "norm"}, []string{"body.q", "a.norm", "b.norm"}, []string{"a.norm", "norm"}},
		{"one of two names", slices.Concat(head(0.5), norms(2)), []string{"head", "norm"}, []string{"body.q", "a.norm", "b.norm"}, []string{"norm"}},
		{"saved along", []adapter.Entry{along}, nil, []string{"body.q"}, nil},
	} {
		a := fakeAdapter(append([]adapter.Entry{q}, c.entries...)...)
		a.Selection = &adapter.Selection{ModulesToSave: c.names}
		small, done := slimmed(t, a, patch.SlimOptions{Base: modelOf(t, base)})
		var left []string
		for _, e := range small.Entries {
			left = append(left, e.Module)
		}
		if d := cmp.Diff(c.left, left); d != "" {
			t.Errorf("%s: (-want +got)\n%s", c.what, d)
		}
		if !slices.Equal(small.Selection.ModulesToSave, c.saved) {
			t.Errorf("%s: modules_to_save is %v, want %v", c.what, small.Selection.ModulesToSave, c.saved)
		}
		gone := 0
		for _, d := range done {
			if d.What == patch.SlimSaved {
				gone++
			}
		}
		if gone != len(a.Entries)-len(small.Entries) {
			t.Errorf("%s: the report is %+v", c.what, done)
		}
		sameMerge(t, base, a, small)
		if whole, _ := slimmed(t, a, patch.SlimOptions{}); len(whole.Entries) != len(a.Entries) {
			t.Errorf("%s: without the base something is left out", c.what)
		}
	}
	a := fakeAdapter(along)
	_, _, err := patch.Slim(context.Background(), a, patch.SlimOptions{Base: modelOf(t, base)})
	checkClass(t, err, formats.ErrUnfit, "nothing would be left")
}

// Modules that change nothing go; the smallest stays, at rank 1, where all do.
func TestSlimZero(t *testing.T) {
	low := func(module string, in int64, scale float32, s float64) adapter.Entry {
		a := make([]float32, 3*in)
		for i := range a {
			a[i] = 0.3
		}
		return lora(module, s, typed(module+".A", formats.F32, []int64{3, in}, a...), typed(module+".B", formats.F32, []int64{2, 3}, scale, 0, scale, scale, 0, scale))
	}
	ranks := func(entries ...adapter.Entry) map[string]int64 {
		out := map[string]int64{}
		small, _ := slimmed(t, fakeAdapter(entries...), patch.SlimOptions{})
		for _, e := range small.Entries {
			u, _ := adapter.LowRankOf(e.Update)
			out[e.Module] = u.Rank()
		}
		return out
	}
	dora := low("d", 4, 0, 1)
	dora.Update = &adapter.Magnitude{Inner: dora.Update.(*adapter.LowRank), Vector: typed("d.m", formats.F32, []int64{2}, 1, 2)}
	for _, c := range []struct {
		what string
		got  map[string]int64
		want map[string]int64
	}{
		{"one is zero", ranks(low("x", 4, 0.1, 1), low("y", 4, 0, 1)), map[string]int64{"x": 2}},
		{"one has no scale", ranks(low("x", 4, 0.1, 1), low("y", 4, 0.1, 0)), map[string]int64{"x": 2}},
		{"all are zero", ranks(low("x", 4, 0, 1), low("y", 3, 0, 1), low("z", 5, 0.1, 0)), map[string]int64{"y": 1}},
		{"DoRA's magnitude stays", ranks(low("x", 4, 0, 1), dora), map[string]int64{"d": 1}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
	bias := func(module string, v ...float32) adapter.Entry {
		return adapter.Entry{Module: module, Update: &adapter.BiasDelta{Vector: typed(module+".b", formats.F32, []int64{2}, v...), Scale: 1}}
	}
	small, done := slimmed(t, fakeAdapter(low("x", 4, 0, 1), bias("x", 0, 0), low("y", 4, 0, 1), bias("y", 0, 0.1), low("z", 4, 0.1, 1), bias("z", 0, 2)), patch.SlimOptions{})
	var left []string
	for _, e := range small.Entries {
		left = append(left, e.Module+" "+e.Update.Kind()+" "+e.Update.Tensors()[0].DType.String())
	}
	if want := []string{"y LowRank F32", "y BiasDelta F32", "z LowRank F32", "z BiasDelta BF16"}; !slices.Equal(left, want) {
		t.Errorf("with biases: %v, want %v (%+v)", left, want, done)
	}
	nan := lora("x", 1, typed("A", formats.F32, []int64{1, 2}, 1, float32(math.NaN())), typed("B", formats.F32, []int64{1, 1}, 1))
	_, _, err := patch.Slim(context.Background(), fakeAdapter(nan), patch.SlimOptions{})
	checkClass(t, err, formats.ErrUnfit, "1 values are NaN or infinite, the first at row 0, column 1")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := patch.Slim(ctx, fakeAdapter(low("x", 4, 1, 1)), patch.SlimOptions{}); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

// Where one weight is the input embedding and the head, both ends of the change stay alike.
func TestSlimTied(t *testing.T) {
	base := fakeBase(t, `{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": true}`,
		typed("model.embed_tokens.weight", formats.F32, []int64{3, 2}, 1, 2, 3, 4, 5, 6), typed("model.layers.0.self_attn.q_proj.weight", formats.F32, []int64{2, 2}, 1, 2, 3, 4))
	pair := func(scale float64, x float32) []adapter.Entry {
		// Rank 2, of which the second adds nothing. A of an embedding is (r, vocabulary).
		embed := lora("model.embed_tokens", scale, typed("ea", formats.F32, []int64{2, 3}, x, 0, 2*x, 0, 0, 0), typed("eb", formats.F32, []int64{2, 2}, 1, 7, 3, 9))
		embed.Update.(*adapter.LowRank).Embedding = true
		head := lora("lm_head", scale, typed("ha", formats.F32, []int64{2, 2}, 1, 3, 7, 9), typed("hb", formats.F32, []int64{3, 2}, x, 0, 0, 0, 2*x, 0))
		return []adapter.Entry{embed, head}
	}
	saved := func(x float32) []adapter.Entry {
		v := typed("v", formats.F32, []int64{3, 2}, 1, 2, 3, 4, 5, x)
		return []adapter.Entry{replace("model.embed_tokens", "weight", v), replace("lm_head", "weight", v)}
	}
	q := lora("model.layers.0.self_attn.q_proj", 1, typed("qa", formats.F32, []int64{1, 2}, 1, 2), typed("qb", formats.F32, []int64{2, 1}, 3, 4))
	for _, c := range []struct {
		what    string
		entries []adapter.Entry
		left    int
	}{
		{"factors", append(pair(1, 0.5), q), 3},
		{"factors of zeros", append(pair(1, 0), q), 1},
		{"nothing but factors of zeros", pair(1, 0), 2},
		{"saved whole", append(saved(7), q), 3},
		{"saved whole and the base's", append(saved(6), q), 1},
	} {
		a := fakeAdapter(c.entries...)
		a.Selection = &adapter.Selection{}
		small, done := slimmed(t, a, patch.SlimOptions{Base: modelOf(t, base)})
		if len(small.Entries) != c.left || len(done) == 0 {
			t.Errorf("%s: %d entries are left, want %d (%+v)", c.what, len(small.Entries), c.left, done)
		}
		if c.what != "nothing but factors of zeros" {
			sameMerge(t, base, a, small)
		} else if _, err := patch.NewPlan(base, patch.Weighted{Adapter: small, Weight: 1}); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

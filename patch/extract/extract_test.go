package extract_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/diff"
	"github.com/seed-b982eded/graft/patch/extract"
	"github.com/seed-b982eded/graft/patch/kernel"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

func random(rng *rand.Rand, rows, cols int, scale float64) *mat.Dense {
	m := mat.NewDense(rows, cols, nil)
	m.Apply(func(int, int, float64) float64 { return scale * rng.NormFloat64() }, m)
	return m
}

// product is a random matrix of a rank.
func product(rng *rand.Rand, rows, cols, rank int, scale float64) *mat.Dense {
	var m mat.Dense
	m.Mul(random(rng, rows, rank, scale/math.Sqrt(float64(rank))), random(rng, rank, cols, 1))
	return &m
}

func tensor(name string, dtype formats.DType, m *mat.Dense, shape ...int64) formats.Tensor {
	rows, cols := m.Dims()
	if shape == nil {
		shape = []int64{int64(rows), int64(cols)}
	}
	values := mat.DenseCopyOf(m).RawMatrix().Data
	raw := make([]byte, 8*len(values))
	formats.EncodeFloat64(raw, values)
	out := make([]byte, int64(len(values))*dtype.Bits()/8)
	if dtype == formats.F64 {
		copy(out, raw)
	} else {
		kernel.Convert(out, dtype, raw, formats.F64, false)
	}
	return formats.Tensor{Name: name, DType: dtype, Shape: shape, Data: bytes.NewReader(out)}
}

func model(t *testing.T, path, config string, tensors ...formats.Tensor) *patch.Model {
	t.Helper()
	var side []formats.SideFile
	if config != "" {
		side = []formats.SideFile{{Name: "config.json", Size: int64(len(config)), Data: strings.NewReader(config)}}
	}
	c, err := formats.NewCheckpoint(path, formats.Directory, []formats.Shard{{Name: "model.safetensors", Tensors: tensors}}, side)
	if err != nil {
		t.Fatal(err)
	}
	m, err := patch.NewModel(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func plus(a, b mat.Matrix) *mat.Dense {
	var m mat.Dense
	m.Add(a, b)
	return &m
}

func values(t *testing.T, x formats.Tensor) *mat.Dense {
	t.Helper()
	m, err := lowrank.Read("", x)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// delta is tuned − base as the files have them, in float64.
func delta(t *testing.T, base, tuned formats.Tensor) *mat.Dense {
	var d mat.Dense
	d.Sub(values(t, tuned), values(t, base))
	return &d
}

func run(t *testing.T, base, tuned *patch.Model, opts extract.Options) *extract.Result {
	t.Helper()
	r, err := extract.Extract(t.Context(), base, tuned, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func factors(t *testing.T, r *extract.Result, module string) *lowrank.Product {
	t.Helper()
	for _, e := range r.Adapter.Entries {
		if u, ok := e.Update.(*adapter.LowRank); ok && e.Module == module {
			p, err := lowrank.FromUpdate("", u)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
	}
	t.Fatalf("no factors of %s", module)
	return nil
}

func norm(m mat.Matrix) float64 { return mat.Norm(m, 2) }

func residual(d *mat.Dense, p *lowrank.Product) float64 {
	var e mat.Dense
	e.Sub(d, p.Dense())
	return norm(&e)
}

// shapes are rows and columns of weights, on both sides of the one that is decomposed whole.
var shapes = [][2]int{{61, 40}, {300, 421}, {430, 290}}

// A difference of rank k comes back to the precision of the files, and its rank is known.
func TestExactRank(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, s := range shapes {
		for _, dtype := range []formats.DType{formats.F64, formats.F32} {
			w := random(rng, s[0], s[1], 0.1)
			truth := product(rng, s[0], s[1], 7, 0.003)
			base := tensor("l.weight", dtype, w)
			tuned := tensor("l.weight", dtype, plus(values(t, base), truth))
			r := run(t, model(t, "base", "", base), model(t, "tuned", "", tuned), extract.Options{Rank: 20})
			// Of float32 files: each weight is within half a unit of what it was to be, and the
			// factors are float32 too.
			bound := 1e-10
			if dtype == formats.F32 {
				bound = 0x1p-24*norm(w)/norm(truth) + 1e-6
			}
			if got := residual(truth, factors(t, r, "l")) / norm(truth); !(got <= bound) {
				t.Errorf("%s %v: the error is %g of the change, want at most %g", dtype, s, got, bound)
			}
			if m := r.Modules[0]; m.Signal != 7 {
				t.Errorf("%s %v: %d singular values stand out of the noise, want 7", dtype, s, m.Signal)
			}
		}
	}
}

// The residual is the best one of its rank to within a hundredth, and the one that is
// reported, on differences of full rank and through the rounding of BF16.
func TestBestResidual(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	for _, s := range shapes {
		for _, c := range []struct {
			name  string
			dtype formats.DType
			d     *mat.Dense
		}{
			{"full rank", formats.F32, random(rng, s[0], s[1], 0.01)},
			{"slow decay", formats.F32, plus(product(rng, s[0], s[1], 12, 0.01), random(rng, s[0], s[1], 0.004))},
			{"BF16", formats.BF16, product(rng, s[0], s[1], 9, 0.01)},
			{"BF16, full rank", formats.BF16, random(rng, s[0], s[1], 0.002)},
			{"F16", formats.F16, product(rng, s[0], s[1], 30, 0.001)},
		} {
			w := random(rng, s[0], s[1], 0.1)
			base, tuned := tensor("l.weight", c.dtype, w), tensor("l.weight", c.dtype, plus(w, c.d))
			r := run(t, model(t, "base", "", base), model(t, "tuned", "", tuned), extract.Options{Rank: 10})
			stored := delta(t, base, tuned)
			var svd mat.SVD
			if !svd.Factorize(stored, mat.SVDNone) {
				t.Fatal("the oracle does not converge")
			}
			best := lowrank.Tail(svd.Values(nil), 10)
			got := residual(stored, factors(t, r, "l"))
			if !(got <= 1.01*best) {
				t.Errorf("%s %v: residual %g, want at most 1.01 × %g", c.name, s, got, best)
			}
			// Differences in float32 leave some 1e-7 of ‖Δ‖ open.
			if m := r.Modules[0]; math.Abs(m.Residual*m.Norm-got) > 1e-6*m.Norm || math.Abs(m.Norm-norm(stored)) > 1e-6*m.Norm {
				t.Errorf("%s %v: reported residual %g of %g, want %g of %g", c.name, s, m.Residual*m.Norm, m.Norm, got, norm(stored))
			}
		}
	}
}

// The share of rounding in a BF16 difference is what was expected of it.
func TestNoise(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	w, d := random(rng, 200, 300, 0.1), product(rng, 200, 300, 4, 0.01)
	base := tensor("l.weight", formats.BF16, w)
	exact := plus(values(t, base), d)
	tuned := tensor("l.weight", formats.BF16, exact)
	r := run(t, model(t, "base", "", base), model(t, "tuned", "", tuned), extract.Options{Rank: 30})
	var lost mat.Dense
	lost.Sub(values(t, tuned), exact)
	if got, want := r.Modules[0].Noise*r.Modules[0].Norm, norm(&lost); math.Abs(got/want-1) > 0.02 {
		t.Errorf("noise %g, want %g", got, want) // of 60,000 roundings the mean square is known to 0.5 %
	}
	if r.Modules[0].Signal != 4 {
		t.Errorf("%d singular values stand out of the noise, want 4", r.Modules[0].Signal)
	}
}

// llama is a model with everything: factors for linear layers and embeddings, GPT-2's
// (in, out) left to another test, a bias, a norm, a layer that did not change.
func llama(rng *rand.Rand, dtype formats.DType, change float64) (base, tuned []formats.Tensor) {
	add := func(name string, rows, cols, rank int) {
		w := random(rng, rows, cols, 0.1)
		base = append(base, tensor(name, dtype, w))
		d := mat.NewDense(rows, cols, nil)
		if rank > 0 {
			d = product(rng, rows, cols, rank, change)
		}
		tuned = append(tuned, tensor(name, dtype, plus(w, d)))
		if cols == 1 {
			base[len(base)-1].Shape, tuned[len(tuned)-1].Shape = []int64{int64(rows)}, []int64{int64(rows)}
		}
	}
	add("model.embed_tokens.weight", 50, 24, 2)
	add("model.layers.0.self_attn.q_proj.weight", 24, 24, 3)
	add("model.layers.0.self_attn.k_proj.weight", 12, 24, 0)
	add("model.layers.0.mlp.up_proj.weight", 36, 24, 5)
	add("model.layers.0.input_layernorm.weight", 24, 1, 1)
	add("lm_head.weight", 50, 24, 4)
	return base, tuned
}

const llamaConfig = `{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": false}`

func TestModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 1))
	for _, dtype := range []formats.DType{formats.F32, formats.BF16, formats.F64} {
		b, u := llama(rng, dtype, 0.02)
		base, tuned := model(t, "base", llamaConfig, b...), model(t, "tuned", llamaConfig, u...)
		r := run(t, base, tuned, extract.Options{Rank: 5})
		if err := r.Check(t.Context(), extract.Options{Rank: 5}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range r.Modules {
			got = append(got, fmt.Sprintf("%s %s", m.Tensor, m.Kind))
		}
		want := []string{
			"model.embed_tokens.weight LowRank", "model.layers.0.self_attn.q_proj.weight LowRank", "model.layers.0.mlp.up_proj.weight LowRank",
			"model.layers.0.input_layernorm.weight Replace", "lm_head.weight LowRank",
		}
		if !slices.Equal(got, want) || r.Same != 1 {
			t.Errorf("got %v and %d unchanged, want %v", got, r.Same, want)
		}
		checkMerged(t, base, tuned, r)
	}
}

// checkMerged merges, and compares with the tuned model: what differs is what was foretold.
func checkMerged(t *testing.T, base, tuned *patch.Model, r *extract.Result) {
	t.Helper()
	plan, err := patch.NewModelPlan(base, patch.RoundOnce, patch.Weighted{Adapter: r.Adapter, Weight: 1})
	if err != nil {
		t.Fatal(err)
	}
	found, err := diff.Checkpoints(t.Context(), tuned.Checkpoint, plan.Merge(), diff.Options{})
	if err != nil {
		t.Fatal(err)
	}
	differing, within := map[string]int64{}, map[string]int64{}
	for _, x := range found.Tensors {
		differing[x.Name] = x.Values.Differing
		for _, u := range x.Values.ULPs {
			if u.To <= 1 {
				within[x.Name] += u.Count
			}
		}
	}
	for _, m := range r.Modules {
		if m.Merged == nil || m.Merged.Differing != differing[m.Tensor] || m.Merged.OneULP != within[m.Tensor] {
			t.Errorf("%s: foretold %+v, got %d differing, %d by one ulp", m.Tensor, m.Merged, differing[m.Tensor], within[m.Tensor])
		}
		delete(differing, m.Tensor)
	}
	if len(differing) > 0 {
		t.Errorf("tensors differ that no one foretold: %v", differing)
	}
}

func TestBitsWanted(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	b, u := llama(rng, formats.BF16, 0.02)
	base, tuned := model(t, "base", llamaConfig, b...), model(t, "tuned", llamaConfig, u...)
	zero := 0.0
	opts := extract.Options{MaxError: &zero}
	r := run(t, base, tuned, opts)
	if err := r.Check(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	for _, m := range r.Modules {
		if m.Merged == nil || m.Merged.Differing != 0 {
			t.Errorf("%s: %+v", m.Tensor, m.Merged)
		}
	}
	checkMerged(t, base, tuned, r)
}

func TestHowFar(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 1))
	b, u := llama(rng, formats.F32, 0.02)
	base, tuned := model(t, "base", llamaConfig, b...), model(t, "tuned", llamaConfig, u...)
	worst := 0.4
	for name, opts := range map[string]extract.Options{
		"energy": {Energy: 0.8}, "error": {MaxError: &worst}, "size": {Size: 4000},
	} {
		r := run(t, base, tuned, opts)
		bytes := int64(0)
		for i, m := range r.Modules {
			bytes += m.Bytes
			if m.Kind != "LowRank" {
				continue
			}
			p := factors(t, r, m.Module)
			d := delta(t, find(b, m.Tensor), find(u, m.Tensor))
			if strings.Contains(m.Tensor, "embed") {
				d = mat.DenseCopyOf(d.T())
			}
			share := residual(d, p) / norm(d)
			if math.Abs(share-m.Residual) > 1e-6 {
				t.Errorf("%s: %s: error %g, reported %g", name, m.Tensor, share, m.Residual)
			}
			if opts.Energy != 0 && !(m.Energy >= 0.8) || opts.MaxError != nil && !(share <= worst) {
				t.Errorf("%s: %s: energy %g, error %g", name, m.Tensor, m.Energy, share)
			}
			if m.Rank > 1 && opts.Size == 0 {
				less := run(t, base, tuned, extract.Options{Rank: int64(m.Rank - 1)}).Modules[i]
				if opts.Energy != 0 && less.Energy >= 0.8 || opts.MaxError != nil && less.Residual <= worst {
					t.Errorf("%s: %s: rank %d, and one less is enough", name, m.Tensor, m.Rank)
				}
			}
		}
		if opts.Size != 0 && (bytes > opts.Size || bytes < opts.Size*9/10) {
			t.Errorf("%d bytes of %d are spent", bytes, opts.Size)
		}
	}
}

func find(list []formats.Tensor, name string) formats.Tensor {
	return list[slices.IndexFunc(list, func(t formats.Tensor) bool { return t.Name == name })]
}

// memory is a store that keeps what JSON keeps of a layer.
type memory struct {
	mu     sync.Mutex
	layers map[string]*extract.Layer
	loads  int
	saves  int
}

func (s *memory) Load(key string) (*extract.Layer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.layers[key]
	if l != nil {
		s.loads++
	}
	return l, nil
}

func (s *memory) Save(key string, l *extract.Layer) (*extract.Layer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saves++
	text, err := json.Marshal(l)
	kept := &extract.Layer{}
	if err == nil {
		err = json.Unmarshal(text, kept)
	}
	kept.A, kept.B = l.A, l.B
	s.layers[key] = kept
	return kept, err
}

// Layers that are in the store are not made again, and the result is the same.
func TestStore(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 1))
	b, u := llama(rng, formats.F32, 0.02)
	base, tuned := model(t, "base", llamaConfig, b...), model(t, "tuned", llamaConfig, u...)
	for _, opts := range []extract.Options{{Rank: 2}, {Size: 3000}, {Energy: 0.7}} {
		plain := run(t, base, tuned, opts)
		s := &memory{layers: map[string]*extract.Layer{}}
		opts.Store = s
		first := run(t, base, tuned, opts)
		made := s.saves
		second := run(t, base, tuned, opts)
		if made == 0 || s.saves != made || s.loads != made {
			t.Errorf("%d made at first, then %d loaded and %d made", made, s.loads, s.saves-made)
		}
		for i, e := range plain.Adapter.Entries {
			for j, x := range e.Update.Tensors() {
				want, err0 := x.ReadAll()
				a, err1 := first.Adapter.Entries[i].Update.Tensors()[j].ReadAll()
				b, err2 := second.Adapter.Entries[i].Update.Tensors()[j].ReadAll()
				if err := errors.Join(err0, err1, err2); err != nil || !bytes.Equal(a, want) || !bytes.Equal(b, want) {
					t.Errorf("%s: tensor %d is another one: %v", e.Module, j, err)
				}
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 1))
	w, v := random(rng, 6, 4, 1), random(rng, 6, 4, 1)
	inf := mat.DenseCopyOf(v)
	inf.Set(5, 2, math.Inf(1))
	ints := func(x byte) formats.Tensor {
		return formats.Tensor{Name: "l.weight", DType: formats.I8, Shape: []int64{6, 4}, Data: bytes.NewReader(bytes.Repeat([]byte{x}, 24))}
	}
	const f32 = formats.F32
	l := func(m *mat.Dense) formats.Tensor { return tensor("l.weight", f32, m) }
	rank := extract.Options{Rank: 2}
	for _, c := range []struct {
		name        string
		base, tuned []formats.Tensor
		opts        extract.Options
		class       error
		want        string
	}{
		{"nothing said", []formats.Tensor{l(w)}, []formats.Tensor{l(v)}, extract.Options{}, formats.ErrUsage, "a rank, an energy, an error or a size says how far to go (got 0 of them, want 1)"},
		{"same", []formats.Tensor{l(w)}, []formats.Tensor{l(w)}, rank, formats.ErrUnfit, `reading "tuned": it is the same as the base: there is nothing to extract`},
		{"shape", []formats.Tensor{l(w)}, []formats.Tensor{l(random(rng, 4, 6, 1))}, rank, formats.ErrUnfit, `tensor "l.weight": its shape differs from the base's (got [4 6], want [6 4])`},
		{"infinity", []formats.Tensor{l(w)}, []formats.Tensor{l(inf)}, rank, formats.ErrUnfit, `reading "tuned": tensor "l.weight": +Inf at row 5, column 2`},
		{"integers", []formats.Tensor{ints(1)}, []formats.Tensor{ints(2)}, rank, formats.ErrUnfit, `I8 has no difference that an adapter could hold`},
		{"types", []formats.Tensor{ints(1)}, []formats.Tensor{l(w)}, rank, formats.ErrUnfit, `its type cannot be compared with the base's (got F32, want I8)`},
		{"another model", []formats.Tensor{l(w)}, []formats.Tensor{tensor("k.weight", f32, w)}, rank, formats.ErrUnfit, `it has no tensor of "base": they are not of one model`},
		{"a layer less", []formats.Tensor{l(w), tensor("layers.1.q.weight", f32, w)}, []formats.Tensor{l(v)}, rank, formats.ErrUnfit, `tensor "layers.1.q.weight": it is missing: the models have other layers`},
		{"a layer more", []formats.Tensor{l(w)}, []formats.Tensor{l(v), tensor("layers.1.q.weight", f32, w)}, rank, formats.ErrUnfit, `tensor "layers.1.q.weight": the base has no such tensor`},
		{"too small", []formats.Tensor{l(w), tensor("n.weight", f32, w, 24)}, []formats.Tensor{l(v), tensor("n.weight", f32, v, 24)}, extract.Options{Size: 50}, formats.ErrUsage, "50 bytes are too few: what cannot have factors takes 96"},
	} {
		_, err := extract.Extract(t.Context(), model(t, "base", "", c.base...), model(t, "tuned", "", c.tuned...), c.opts)
		if !errors.Is(err, c.class) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := extract.Extract(ctx, model(t, "base", "", l(w)), model(t, "tuned", "", l(v)), rank); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

package patch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

const initData = "../testdata/init"

// initCase is what PEFT started from a base's weights.
type initCase struct {
	Base   string
	Config struct {
		R                 int64
		LoRAAlpha         float64         `json:"lora_alpha"`
		TargetModules     json.RawMessage `json:"target_modules"`
		LayersToTransform []int64         `json:"layers_to_transform"`
		RankPattern       map[string]int64
		AlphaPattern      map[string]float64
		UseRSLoRA         bool   `json:"use_rslora"`
		InitLoRAWeights   string `json:"init_lora_weights"`
	}
}

// config reads a case's config as graft knows it.
func (c *initCase) config(t *testing.T, raw []byte) *peft.Config {
	t.Helper()
	var doc struct {
		Config map[string]json.RawMessage
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	delete(doc.Config, "init_lora_weights") // of a file it is refused: there the base is not at hand
	doc.Config["peft_type"] = json.RawMessage(`"LORA"`)
	text, err := json.Marshal(doc.Config)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := peft.ParseConfig(text, "config")
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// freshLike makes the adapter of a case.
func freshLike(t *testing.T, name string) (m *patch.Model, a *adapter.Adapter, kind string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(initData, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var c initCase
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	cfg := c.config(t, raw)
	if m, err = patch.NewModel(mustOpen(t, filepath.Join("../testdata/models", c.Base))); err != nil {
		t.Fatal(err)
	}
	sites, err := patch.Select(m, cfg.Selection)
	if err != nil {
		t.Fatal(err)
	}
	scaling, err := cfg.Scaling()
	if err != nil {
		t.Fatal(err)
	}
	a, err = patch.Init(context.Background(), sites, scaling, patch.InitOptions{Weights: c.Config.InitLoRAWeights})
	if err != nil {
		t.Fatal(err)
	}
	return m, a, c.Config.InitLoRAWeights
}

// The factors that are made of the weights are PEFT's, rank by rank and up to a sign that both factors of a
// rank share. PEFT decomposes in float32: singular vectors are off by some ulps of the largest singular value over the
// gaps between the values.
func TestInitOfWeights(t *testing.T) {
	for _, name := range []string{"pissa", "pissa-rslora", "pissa-patterns", "olora", "olora-patterns"} {
		t.Run(name, func(t *testing.T) {
			m, a, kind := freshLike(t, name)
			golden, err := safetensors.Open(filepath.Join(initData, name+".safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			defer golden.Close()
			factor := func(name string) *mat.Dense {
				x, ok := golden.Tensor(name)
				if !ok {
					t.Fatalf("PEFT has no %s", name)
				}
				m, err := lowrank.Read("", x)
				if err != nil {
					t.Fatal(err)
				}
				return m
			}
			if want := 2*len(a.Entries) + 2; golden.Len() != want {
				t.Errorf("PEFT has %d factors, want %d", golden.Len()-2, want-2)
			}
			var worst float64 // in units of the bound
			for _, e := range a.Entries {
				bound := 1e-6
				if kind == patch.InitPiSSA {
					bound /= smallestGap(t, m, e)
				}
				u := e.Update.(*adapter.LowRank)
				got, err := lowrank.FromUpdate("", u)
				if err != nil {
					t.Fatal(err)
				}
				want := &lowrank.Product{A: factor(e.Module + ".lora_A.weight"), B: factor(e.Module + ".lora_B.weight"), S: u.Scale}
				worst = max(worst, lowrank.Distance(got, want)/lowrank.Norm(want)/bound)
				for k := range got.Rank() {
					rowA, rowB := mat.Row(nil, k, want.A), mat.Col(nil, k, want.B)
					gotA, gotB := mat.NewVecDense(len(rowA), mat.Row(nil, k, got.A)), mat.NewVecDense(len(rowB), mat.Col(nil, k, got.B))
					a, b := mat.NewVecDense(len(rowA), rowA), mat.NewVecDense(len(rowB), rowB)
					sign := math.Copysign(1, mat.Dot(gotA, a))
					var da, db mat.VecDense
					da.AddScaledVec(a, -sign, gotA)
					db.AddScaledVec(b, -sign, gotB)
					worst = max(worst, mat.Norm(&da, 2)/mat.Norm(a, 2)/bound, mat.Norm(&db, 2)/mat.Norm(b, 2)/bound)
					if kind == patch.InitPiSSA { // σ is split in halves
						near := mat.Norm(gotA, 2) / mat.Norm(gotB, 2)
						if !(math.Abs(near-1) < 1e-6) {
							t.Errorf("%s: rank %d has a row of A %g times as long as the column of B", e.Module, k, near)
						}
					}
				}
			}
			t.Logf("the largest difference is %.2g of what it may be", worst)
			if !(worst <= 1) {
				t.Errorf("factors or products are off by %g times what they may be", worst)
			}
		})
	}
}

// smallestGap returns the smallest distance of singular values of a module's weight, of those that the factors have and the
// next, relative to the largest.
func smallestGap(t *testing.T, m *patch.Model, e adapter.Entry) float64 {
	t.Helper()
	site, _ := m.Site(e.Module)
	w, err := lowrank.Read("", site.Weight)
	if err != nil {
		t.Fatal(err)
	}
	r := int(e.Update.(*adapter.LowRank).Rank())
	d, err := lowrank.Exact(w, r+1)
	if err != nil {
		t.Fatal(err)
	}
	gap := 1.0
	for i := range r {
		gap = min(gap, (d.S[i]-d.S[i+1])/d.S[0])
	}
	return gap
}

// What pissa leaves of a weight is the best that a rank can do, also of a layer that is too large to decompose
// whole, in every dtype and orientation, and for any number of iterations; olora leaves nothing in the first r
// columns.
func TestInitTakesOut(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	const rows, cols, r = 270, 330, 4
	values := make([]float32, rows*cols)
	for i := range values {
		values[i] = float32(rng.NormFloat64() * 0.02)
	}
	for dtype, kinds := range map[formats.DType][]string{formats.F32: {"pissa", "olora"}, formats.BF16: {"pissa_niter_0", "olora"}} {
		for _, inOut := range []bool{false, dtype == formats.F32} {
			w := adapter.Scaled(formats.FromFloat32s("layer.weight", []int64{rows, cols}, values), 1, dtype)
			site := patch.Site{Module: "layer", Kind: patch.Linear, Weight: w, InOut: inOut}
			full, err := lowrank.Read("", w)
			if err != nil {
				t.Fatal(err)
			}
			if inOut {
				full = mat.DenseCopyOf(full.T())
			}
			exact, err := lowrank.Exact(full, min(rows, cols))
			if err != nil {
				t.Fatal(err)
			}
			for _, kind := range kinds {
				a, err := patch.Init(context.Background(), []patch.Site{site}, fixedScale{r, 1.75}, patch.InitOptions{Weights: kind})
				if err != nil {
					t.Fatal(err)
				}
				p, err := lowrank.FromUpdate("", a.Entries[0].Update.(*adapter.LowRank))
				if err != nil {
					t.Fatal(err)
				}
				if kind == "olora" {
					p.S = 1 // Q·R is of the weight, whatever the scale
				}
				var left mat.Dense
				left.Sub(full, p.Dense())
				out, _ := full.Dims()
				// Rounding the factors to float32 leaves some 1e-7 of the part.
				if kind == "olora" {
					if got := mat.Norm(left.Slice(0, out, 0, r), 2); !(got <= 3e-7*mat.Norm(full.Slice(0, out, 0, r), 2)) {
						t.Errorf("%v, %v, %s: the first columns keep %g", dtype, inOut, kind, got)
					}
				} else if got, want := mat.Norm(&left, 2), lowrank.Tail(exact.S, r); !(got <= want*(1+1e-12)) {
					t.Errorf("%v, %v, %s: what is left has the norm %.15g, the best is %.15g", dtype, inOut, kind, got, want)
				}
			}
		}
	}
}

// fixedScale gives every module one rank and scale.
type fixedScale struct {
	r     int64
	scale float64
}

func (s fixedScale) Of(string) (int64, float64, error) { return s.r, s.scale, nil }

// checkOrthogonal checks what PEFT's orthogonal start is: both factors have half the rank, in directions of the
// ranks' space at right angles to each other, and elements of deviation √½/10. float32 leaves a few ulps of each element
// in the product.
func checkOrthogonal(t *testing.T, name string, a, b *mat.Dense) {
	t.Helper()
	r, in := a.Dims()
	out, _ := b.Dims()
	var ba mat.Dense
	ba.Mul(b, a)
	if off := mat.Norm(&ba, 2) / mat.Norm(a, 2) / mat.Norm(b, 2); !(off <= 1e-6) {
		t.Errorf("%s: B·A is %g of B and A", name, off)
	}
	for what, m := range map[string]*mat.Dense{"A": a, "B": b} {
		d, err := lowrank.Exact(m, r)
		if err != nil {
			t.Fatal(err)
		}
		half := min(r/2, in, out)
		if !(d.S[half-1] > 0.05*d.S[0]) || half < len(d.S) && !(d.S[half] < 1e-6*d.S[0]) {
			t.Errorf("%s: the singular values of %s are %v: want %d", name, what, d.S, half)
		}
		rows, cols := m.Dims()
		n := float64(rows * cols)
		deviation := mat.Norm(m, 2) / math.Sqrt(n)
		// Half of the numbers are free.
		if want := math.Sqrt(0.5) / 10; math.Abs(deviation/want-1) > 6/math.Sqrt(n) {
			t.Errorf("%s: elements of %s have the deviation %g, want %g", name, what, deviation, want)
		}
	}
}

func TestInitOrthogonal(t *testing.T) {
	golden, err := safetensors.Open(filepath.Join(initData, "orthogonal.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer golden.Close()
	for _, name := range []string{"tall", "wide"} {
		read := func(factor string) *mat.Dense {
			x, _ := golden.Tensor(name + ".lora_" + factor + ".weight")
			m, err := lowrank.Read("", x)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		a, b := read("A"), read("B")
		checkOrthogonal(t, "PEFT's "+name, a, b)
		r, in := a.Dims()
		out, _ := b.Dims()
		site := patch.Site{Module: name, Kind: patch.Linear, Weight: formats.Tensor{DType: formats.F32, Shape: []int64{int64(out), int64(in)}}}
		fresh, err := patch.Init(context.Background(), []patch.Site{site}, fixedScale{int64(r), 2}, patch.InitOptions{Weights: "orthogonal", Seed: 5})
		if err != nil {
			t.Fatal(err)
		}
		p, err := lowrank.FromUpdate("", fresh.Entries[0].Update.(*adapter.LowRank))
		if err != nil {
			t.Fatal(err)
		}
		checkOrthogonal(t, name, p.A, p.B)
	}
}

// Embeddings start in PEFT's one way, whatever the others do, so that nothing is taken out of them.
func TestInitEmbedding(t *testing.T) {
	w := formats.FromFloat32s("embed.weight", []int64{5, 3}, make([]float32, 15))
	site := patch.Site{Module: "embed", Kind: patch.Embedding, Weight: w, InOut: true}
	for _, kind := range []string{"true", "gaussian", "orthogonal", "pissa", "pissa_niter_2", "olora", "false"} {
		a, err := patch.Init(context.Background(), []patch.Site{site}, fixedScale{7, 2}, patch.InitOptions{Weights: kind})
		if err != nil {
			t.Fatal(err)
		}
		u := a.Entries[0].Update.(*adapter.LowRank)
		if !u.Embedding || !slices.Equal(u.A.Shape, []int64{7, 5}) || !slices.Equal(u.B.Shape, []int64{3, 7}) {
			t.Fatalf("%s: factors are %v and %v", kind, u.A.Shape, u.B.Shape)
		}
		values, _ := u.A.Float32s()
		zero := !slices.ContainsFunc(values, func(x float32) bool { return x != 0 })
		if zero == (kind == "false") {
			t.Errorf("%s: A is zero: %v", kind, zero)
		}
		values, _ = u.B.Float32s()
		sum := 0.0
		for _, x := range values {
			sum += float64(x) * float64(x)
		}
		if mean := sum / float64(len(values)); !(mean > 0.4 && mean < 2) { // of 21 numbers from N(0, 1)
			t.Errorf("%s: B has the mean square %g", kind, mean)
		}
	}
}

// The same seed gives the same bytes, and another seed others where anything is random.
func TestInitSeeds(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	values := make([]float32, 11*13)
	for i := range values {
		values[i] = float32(rng.NormFloat64())
	}
	site := patch.Site{Module: "layer", Kind: patch.Linear, Weight: formats.FromFloat32s("layer.weight", []int64{11, 13}, values)}
	bytesOf := func(kind string, seed uint64, sites ...patch.Site) []byte {
		a, err := patch.Init(context.Background(), sites, fixedScale{4, 2}, patch.InitOptions{Weights: kind, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		var out []byte
		for _, x := range a.Entries[len(a.Entries)-1].Update.Tensors() {
			raw, err := x.ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, raw...)
		}
		return out
	}
	other := site
	other.Module = "other"
	for _, kind := range []string{"true", "false", "gaussian", "orthogonal", "pissa", "olora"} {
		first := bytesOf(kind, 1, site)
		if !bytes.Equal(first, bytesOf(kind, 1, other, site)) {
			t.Errorf("%s: depends on what else is targeted", kind)
		}
		if bytes.Equal(first, bytesOf(kind, 2, site)) != patch.ChangesBase(kind) {
			t.Errorf("%s: another seed makes no difference, or makes one", kind)
		}
	}
}

func TestInitRefuses(t *testing.T) {
	weight := func(edit func(v []float32)) formats.Tensor {
		v := make([]float32, 6*4)
		for i := range v {
			v[i] = float32(i % 5)
		}
		edit(v)
		return formats.FromFloat32s("layer.weight", []int64{6, 4}, v)
	}
	whole := weight(func([]float32) {})
	for _, c := range []struct {
		kind  string
		r     int64
		scale float64
		w     formats.Tensor
		class error
		want  string
	}{
		{"pissa", 5, 2, whole, formats.ErrUsage, `module "layer": a rank of 5 cannot be taken out of a weight of 6×4 (want 4 or less)`},
		{"olora", 5, 2, whole, formats.ErrUsage, `module "layer": a rank of 5 cannot be taken out of a weight of 6×4 (want 4 or less)`},
		{"pissa", 2, 0, whole, formats.ErrUsage, `module "layer": init_lora_weights pissa needs a scale above 0 (got 0)`},
		{"pissa_niter_3", 2, -1, whole, formats.ErrUsage, `needs a scale above 0 (got -1)`},
		{"orthogonal", 3, 2, whole, formats.ErrUsage, `module "layer": init_lora_weights "orthogonal" needs an even rank (got 3)`},
		{"pissa_niter_", 2, 2, whole, formats.ErrUsage, `init_lora_weights "pissa_niter_" is not supported (want "true", "gaussian", "false", "orthogonal", "pissa", "pissa_niter_N" or "olora")`},
		{"pissa_niter_-1", 2, 2, whole, formats.ErrUsage, `is not supported`},
		{"eva", 2, 2, whole, formats.ErrUsage, `init_lora_weights "eva" is not supported`},
		{"pissa", 2, 2, weight(func(v []float32) { v[4*3+1] = float32(math.NaN()) }), formats.ErrInput, `tensor "layer.weight": it has NaN at row 3, column 1`},
		{"olora", 2, 2, weight(func(v []float32) { v[23] = float32(math.Inf(1)) }), formats.ErrInput, `tensor "layer.weight": it has +Inf at row 5, column 3`},
		{"pissa", 2, 2, formats.Tensor{Name: "layer.weight", DType: formats.F32, Shape: []int64{6, 4}, Data: bytes.NewReader(make([]byte, 95))}, formats.ErrInput, `tensor "layer.weight"`},
	} {
		site := patch.Site{Module: "layer", Kind: patch.Linear, Weight: c.w}
		_, err := patch.Init(context.Background(), []patch.Site{site}, fixedScale{c.r, c.scale}, patch.InitOptions{Weights: c.kind})
		if !errors.Is(err, c.class) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: got %v, want %s", c.kind, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	site := patch.Site{Module: "layer", Kind: patch.Linear, Weight: whole}
	if _, err := patch.Init(ctx, []patch.Site{site}, fixedScale{2, 2}, patch.InitOptions{Weights: "olora"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a stop gives %v", err)
	}
}

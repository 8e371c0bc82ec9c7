package health_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/health"
)

// dir holds adapters of PEFT in all states of health, and what numpy says about them:
// testdata/gen/health.py makes it.
const dir = "../../testdata/health"

// described is what numpy says about a matrix.
type described struct {
	Norm          float64   `json:"norm"`
	Spectrum      []float64 `json:"spectrum"`
	EffectiveRank float64   `json:"effective_rank"`
	StableRank    float64   `json:"stable_rank"`
	Rank50        int       `json:"rank_0.5"`
	Rank90        int       `json:"rank_0.9"`
	Rank99        int       `json:"rank_0.99"`
	Dead          int       `json:"dead"`
	BaseNorm      float64   `json:"base_norm"`
}

type golden struct {
	Adapters map[string]map[string]*described `json:"adapters"`
	Weights  map[string]map[string]*described `json:"weights"`
}

func readGolden(t *testing.T) (g golden) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func openAdapter(t *testing.T, path string) *adapter.Adapter {
	t.Helper()
	a, err := open.Adapter(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// bases are what an adapter's entries change.
func bases(t *testing.T, path string, a *adapter.Adapter) []health.Base {
	t.Helper()
	c, err := open.Checkpoint(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	m, err := patch.NewModel(c)
	if err != nil {
		t.Fatal(err)
	}
	places, err := patch.Places(m, a)
	if err != nil {
		t.Fatal(err)
	}
	var out []health.Base
	for _, p := range places {
		out = append(out, health.Base{Tensor: p.Tensor, InOut: p.InOut})
	}
	return out
}

func check(t *testing.T, a *adapter.Adapter, opts health.Options) *health.Result {
	t.Helper()
	r, err := health.Check(context.Background(), a, opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
	return r
}

// list is the findings as "LEVEL WHAT PLACE".
func list(r *health.Result) []string {
	var out []string
	for _, f := range r.Findings {
		place := f.Module
		if f.Tensor != "" {
			place = strings.TrimPrefix(f.Tensor, "base_model.model.")
		}
		out = append(out, strings.TrimSpace(string(f.Level)+" "+f.What+" "+place))
	}
	return out
}

func eachLayer(format string, layers ...int) (out []string) {
	for _, i := range layers {
		out = append(out, strings.Replace(format, "*", string(rune('0'+i)), 1))
	}
	return out
}

var all = []int{0, 1, 2, 3, 4, 5, 6, 7}

// Each adapter has the findings that its generator put in, with the base and without.
func TestFindings(t *testing.T) {
	untrained := append([]string{"error changes-nothing"}, eachLayer("warning untrained h.*.fc", all...)...)
	saved := []string{"note same-as-base head.bias", "note same-as-base head.weight"}
	for _, c := range []struct {
		name           string
		without, based []string
	}{
		{"fresh",
			slices.Concat([]string{"warning untrained conv", "warning untrained embed"}, eachLayer("warning untrained h.*.fc", all...)),
			slices.Concat([]string{"error changes-nothing", "warning untrained conv", "warning untrained embed"}, eachLayer("warning untrained h.*.fc", all...), saved)},
		{"random", eachLayer("warning initial h.*.fc", all...), eachLayer("warning initial h.*.fc", all...)},
		{"dora",
			slices.Concat([]string{"warning untrained conv"}, eachLayer("warning untrained h.*.fc", all...)),
			func() []string {
				out := []string{"warning untrained conv", "warning same-magnitude conv.lora_magnitude_vector"}
				for _, i := range all {
					out = append(out, eachLayer("warning untrained h.*.fc", i)[0], eachLayer("warning same-magnitude h.*.fc.lora_magnitude_vector", i)[0])
				}
				return out
			}()},
		{"ill",
			[]string{
				"error not-finite h.0.fc.lora_A.weight", "error not-finite h.0.fc.lora_B.weight", "warning dead-ranks h.1.fc", "warning dependent-ranks h.2.fc",
				"warning untrained h.5.fc", "warning large-change h.3.fc", "note low-rank h.4.fc",
			},
			[]string{
				"error not-finite h.0.fc.lora_A.weight", "error not-finite h.0.fc.lora_B.weight", "warning dead-ranks h.1.fc", "warning dependent-ranks h.2.fc",
				"warning larger-than-base h.3.fc", "warning untrained h.5.fc", "warning large-change h.3.fc", "note low-rank h.4.fc",
				"note same-as-base head.bias", "note same-as-base norm.bias", "note same-as-base norm.weight",
			}},
		{"half",
			[]string{"warning near-overflow h.0.fc.lora_A.weight", "warning large-change h.0.fc"},
			[]string{"warning near-overflow h.0.fc.lora_A.weight", "warning larger-than-base h.0.fc", "warning large-change h.0.fc"}},
		{"orthogonal", untrained, untrained},
		{"orthogonal-bf16", untrained, untrained},
		{"brain", eachLayer("note below-resolution h.*.fc", all...), eachLayer("note below-resolution h.*.fc", all...)},
	} {
		a := openAdapter(t, filepath.Join(dir, c.name))
		r := check(t, a, health.Options{})
		if d := cmp.Diff(c.without, list(r)); d != "" {
			t.Errorf("%s: (-want +got)\n%s", c.name, d)
		}
		r = check(t, a, health.Options{Bases: bases(t, filepath.Join(dir, "base.safetensors"), a)})
		if d := cmp.Diff(c.based, list(r)); d != "" {
			t.Errorf("%s with the base: (-want +got)\n%s", c.name, d)
		}
		if r.Errors+r.Warnings+r.Notes != len(r.Findings) {
			t.Errorf("%s: %d errors, %d warnings and %d notes of %d findings", c.name, r.Errors, r.Warnings, r.Notes, len(r.Findings))
		}
	}
}

// Of factors that cancel, what is left is rounding, and a little training is more than that.
func TestCancelled(t *testing.T) {
	for name, moved := range map[string]float64{"orthogonal": 1e-4, "orthogonal-bf16": 0.05} {
		a := openAdapter(t, filepath.Join(dir, name))
		r := check(t, a, health.Options{})
		for _, m := range r.Modules {
			if m.Product == nil || !m.Product.Rounding || m.Product.Norm == 0 {
				t.Errorf("%s: %s: %+v", name, m.Module, m.Product)
			}
		}
		adv, err := health.Advise(r, a, 0.99)
		if err != nil || adv.CommonRank != 0 || adv.Modules[3].Needed != 0 || adv.NewBytes == 0 {
			t.Errorf("%s: %+v (%v)", name, adv, err)
		}
		u := a.Entries[3].Update.(*adapter.LowRank)
		v, err := u.B.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 3))
		for i := range v {
			v[i] *= 1 + float32(moved*rng.NormFloat64())
		}
		dtype := u.B.DType
		raw := make([]byte, int64(len(v))*dtype.Bits()/8)
		formats.EncodeFloat32(raw, v, dtype)
		u.B.Data = bytes.NewReader(raw)
		if got := check(t, a, health.Options{}); got.Modules[3].Product.Rounding || got.Errors != 0 || slices.ContainsFunc(got.Findings, func(f health.Finding) bool { return f.Module == "h.3.fc" && f.What == health.Untrained }) {
			t.Errorf("%s: %v", name, list(got))
		}
	}
}

// More ranks than the shape allows.
func TestRankAboveShape(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 4))
	draw := func(name string, shape ...int64) formats.Tensor {
		v := make([]float32, shape[0]*shape[1])
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		return formats.FromFloat32s(name, shape, v)
	}
	a := &adapter.Adapter{Entries: []adapter.Entry{
		{Module: "x", Update: &adapter.LowRank{A: draw("a", 7, 5), B: draw("b", 3, 7), Scale: 1}},
		{Module: "y", Update: &adapter.LowRank{A: draw("a", 3, 5), B: draw("b", 3, 3), Scale: 1}},
	}}
	r := check(t, a, health.Options{})
	if len(r.Findings) != 1 || r.Findings[0].Text != "ΔW of shape [3 5] has a rank of 3 at most: 4 of the 7 ranks cannot add anything" {
		t.Errorf("got %+v", r.Findings)
	}
	for i := range 2 { // only the first singular value is large now
		b := a.Entries[0].Update.(*adapter.LowRank).B
		v, _ := b.Float32s()
		for k := range 7 {
			v[7*(i+1)+k] = v[k] * (1 + 1e-3*float32(rng.NormFloat64()))
		}
		a.Entries[0].Update.(*adapter.LowRank).B = formats.FromFloat32s("b", b.Shape, v)
	}
	r = check(t, a, health.Options{})
	if len(r.Findings) != 2 || r.Findings[1].Text != "the effective rank is 1.0 of 3" {
		t.Errorf("got %+v", r.Findings)
	}
}

// What trained is sound: adapters that PEFT trained have nothing but notes.
func TestTrained(t *testing.T) {
	for _, name := range []string{"tiny-llama/reference/qv-r8", "tiny-llama/reference/all-r4-rslora", "odd-llama/reference/mixed-r5"} {
		r := check(t, openAdapter(t, filepath.Join("../../testdata", name, "trained")), health.Options{})
		if r.Errors+r.Warnings > 0 {
			t.Errorf("%s: %v", name, list(r))
		}
		// Before, B was zero: nothing else is to be said.
		r = check(t, openAdapter(t, filepath.Join("../../testdata", name, "init")), health.Options{})
		if r.Errors != 1 || r.Warnings != len(r.Modules) || r.Notes != 0 {
			t.Errorf("%s before training: %v", name, list(r))
		}
		for _, f := range r.Findings[1:] {
			if f.What != health.Untrained || !strings.Contains(f.Text, "both are still at their initialisation") {
				t.Errorf("%s before training: %+v", name, f)
			}
		}
	}
}

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol) {
		t.Errorf("%s is %.17g, want %.17g", what, got, want)
	}
}

// The numbers are numpy's. Both are float64; of singular values a few units of 2⁻⁵³ of the
// largest differ, and of the entropies a few hundred.
func TestNumbers(t *testing.T) {
	for name, modules := range readGolden(t).Adapters {
		a := openAdapter(t, filepath.Join(dir, name))
		r := check(t, a, health.Options{Bases: bases(t, filepath.Join(dir, "base.safetensors"), a)})
		if len(r.Modules) != len(modules) {
			t.Fatalf("%s: %d modules, want %d", name, len(r.Modules), len(modules))
		}
		adv, err := health.Advise(r, a, 0.9)
		if err != nil {
			t.Fatal(err)
		}
		needed := map[string]int{}
		for _, m := range adv.Modules {
			needed[m.Module] = m.Needed
		}
		for _, m := range r.Modules {
			want, at := modules[m.Module], name+" "+m.Module
			if want == nil {
				if m.Product != nil {
					t.Errorf("%s has a product of factors that are not finite", at)
				}
				continue
			}
			tol := 1e-13 * want.Spectrum[0]
			near(t, at+": norm", m.Product.Norm, want.Norm, tol)
			for i, x := range m.Product.Spectrum {
				near(t, at+": singular value", x, want.Spectrum[i], tol)
			}
			near(t, at+": effective rank", m.Product.EffectiveRank, want.EffectiveRank, 1e-11)
			near(t, at+": stable rank", m.Product.StableRank, want.StableRank, 1e-11)
			near(t, at+": norm of the base", m.Base.Norm, want.BaseNorm, 1e-13*want.BaseNorm)
			near(t, at+": relative", *m.Base.Relative, want.Norm/want.BaseNorm, 1e-13*want.Norm/want.BaseNorm)
			if m.DeadRanks != want.Dead || needed[m.Module] != max(1, want.Rank90) && want.Norm > 0 {
				t.Errorf("%s: %d dead and %d needed, want %d and %d", at, m.DeadRanks, needed[m.Module], want.Dead, want.Rank90)
			}
		}
	}
}

// What it takes to be found, one thing at a time.
func TestNotFinite(t *testing.T) {
	r := check(t, openAdapter(t, filepath.Join(dir, "ill")), health.Options{})
	for i, want := range []string{
		"1 NaN among its elements of shape [4 24], the first at row 2, column 5",
		"1 NaN and 2 infinite among its elements of shape [18 4], the first at row 7, column 1",
	} {
		if f := r.Findings[i]; f.Text != want || f.Module != "h.0.fc" {
			t.Errorf("got %q of %q, want %q", f.Text, f.Module, want)
		}
	}
	if n := r.Findings[1].Numbers; n["nan"] != 1 || n["inf"] != 2 || n["row"] != 7 || n["column"] != 1 {
		t.Errorf("numbers are %v", n)
	}
}

// The advice is what resize does: the same ranks, and with factors of the same type the bytes.
func TestAdvise(t *testing.T) {
	for _, name := range []string{"brain", "random"} {
		a := openAdapter(t, filepath.Join(dir, name))
		low := a.Entries[0].Update.(*adapter.LowRank)
		r := check(t, a, health.Options{})
		for _, energy := range []float64{0.5, 0.8, 0.99, 1} {
			adv, err := health.Advise(r, a, energy)
			if err != nil {
				t.Fatal(err)
			}
			for _, common := range []bool{false, true} {
				small, modules, err := patch.Resize(context.Background(), a, patch.ResizeOptions{Energy: energy, Common: common, DType: low.A.DType})
				if err != nil {
					t.Fatal(err)
				}
				var bytes int64
				for _, e := range small.Entries {
					for _, x := range e.Update.Tensors() {
						bytes += x.Size()
					}
				}
				want := adv.NewBytes
				if common {
					want = adv.CommonBytes
				}
				if bytes != want {
					t.Errorf("%s at %g, common %v: resize makes %d bytes, the advice says %d", name, energy, common, bytes, want)
				}
				for i, m := range modules {
					if got := int(m.Rank); !common && got != adv.Modules[i].Needed || common && got != adv.CommonRank {
						t.Errorf("%s at %g, common %v: %s has rank %d of advice %+v", name, energy, common, m.Module, got, adv.Modules[i])
					}
				}
			}
		}
	}
}

// A DoRA adapter with bad magnitudes.
func TestMagnitudes(t *testing.T) {
	a := openAdapter(t, filepath.Join(dir, "dora"))
	list := bases(t, filepath.Join(dir, "base.safetensors"), a)
	text := ""
	found := func() []string {
		var out []string
		for _, f := range check(t, a, health.Options{Bases: list}).Findings {
			if f.Module == "h.2.fc" && f.What != health.Untrained {
				text = f.Text
				out = append(out, f.What)
			}
		}
		return out
	}
	i := slices.IndexFunc(a.Entries, func(e adapter.Entry) bool { return e.Module == "h.2.fc" })
	u := a.Entries[i].Update.(*adapter.Magnitude)
	old := u.Vector
	v, err := old.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	change := func(do func(v []float32)) {
		w := slices.Clone(v)
		do(w)
		u.Vector = formats.FromFloat32s(old.Name, old.Shape, w)
	}
	for _, c := range []struct {
		what string
		do   func(v []float32)
		want []string
	}{
		{"as they are", func([]float32) {}, []string{health.SameMagnitude}},
		{"one moved by a thousandth", func(v []float32) { v[3] *= 1.001 }, nil},
		{"a negative one", func(v []float32) { v[3] *= -1 }, []string{health.BadMagnitude}},
		{"two zeros and a negative one", func(v []float32) { v[0], v[2], v[3] = 0, 0, -v[3] }, []string{health.BadMagnitude}},
		{"a zero", func(v []float32) { v[0] = 0 }, []string{health.BadMagnitude}},
		{"a NaN", func(v []float32) { v[17] = float32(math.NaN()) }, []string{health.NotFinite}},
	} {
		change(c.do)
		if got := found(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
		want := map[string]string{"a negative one": "1 of 18 magnitudes is negative, which turns an output's weights round",
			"two zeros and a negative one": "1 of 18 magnitudes is negative, which turns an output's weights round; 2 of 18 magnitudes are zero, which removes an output's weights"}[c.what]
		if want != "" && text != want {
			t.Errorf("%s: %q", c.what, text)
		}
	}
}

// Base weights that are stored as (in, out) have their norms along the other side.
func TestMagnitudesInOut(t *testing.T) {
	const root = "../../testdata/peft/dora-gpt2"
	a := openAdapter(t, filepath.Join(root, "adapter"))
	list := bases(t, filepath.Join(root, "base"), a)
	for i, e := range a.Entries {
		u := e.Update.(*adapter.Magnitude)
		rows, cols := list[i].Tensor.Matrix()
		w, err := list[i].Tensor.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		outs, norm := rows, func(o int64) float64 {
			s := 0.0
			for k := range cols {
				s += float64(w[o*cols+k]) * float64(w[o*cols+k])
			}
			return math.Sqrt(s)
		}
		if list[i].InOut {
			outs, norm = cols, func(o int64) float64 {
				s := 0.0
				for k := range rows {
					s += float64(w[k*cols+o]) * float64(w[k*cols+o])
				}
				return math.Sqrt(s)
			}
		}
		v := make([]float32, outs)
		for o := range v {
			v[o] = float32(norm(int64(o)))
		}
		u.Vector = formats.FromFloat32s(u.Vector.Name, u.Vector.Shape, v)
	}
	n := 0
	for _, f := range check(t, a, health.Options{Bases: list}).Findings {
		if f.What == health.SameMagnitude {
			n++
		}
	}
	if n != len(a.Entries) || !slices.ContainsFunc(list, func(b health.Base) bool { return b.InOut }) {
		t.Errorf("%d of %d magnitudes are the base's norms", n, len(a.Entries))
	}
}

// The result is the same for any number of workers.
func TestWorkers(t *testing.T) {
	a := openAdapter(t, filepath.Join(dir, "ill"))
	var want []byte
	for _, n := range []int{1, 2, 7} {
		old := runtime.GOMAXPROCS(n)
		got, err := json.Marshal(check(t, a, health.Options{}))
		runtime.GOMAXPROCS(old)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d workers give another result", n)
		}
	}
}

// Factors that do not fit together, and a file that ends early, are errors.
func TestRefused(t *testing.T) {
	short := formats.Tensor{Name: "x.lora_A.weight", DType: formats.F32, Shape: []int64{2, 3}, Data: bytes.NewReader(make([]byte, 8))}
	b := formats.FromFloat32s("x.lora_B.weight", []int64{4, 2}, make([]float32, 8))
	for _, c := range []struct {
		u    adapter.Update
		want error
	}{
		{&adapter.LowRank{A: short, B: b, Scale: 1}, formats.ErrInput},
		{&adapter.LowRank{A: b, B: b, Scale: 1}, formats.ErrUnfit},
		{&adapter.LowRank{A: formats.FromFloat32s("a", []int64{2, 0}, nil), B: b, Scale: 1}, formats.ErrUnfit},
	} {
		if _, err := health.Check(context.Background(), &adapter.Adapter{Entries: []adapter.Entry{{Module: "x", Update: c.u}}}, health.Options{}); !errors.Is(err, c.want) {
			t.Errorf("got %v, want %v", err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := health.Check(ctx, openAdapter(t, filepath.Join(dir, "ill")), health.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	r := check(t, openAdapter(t, filepath.Join(dir, "ill")), health.Options{})
	for _, energy := range []float64{0, -1, 1.5, math.NaN()} {
		if _, err := health.Advise(r, &adapter.Adapter{}, energy); !errors.Is(err, formats.ErrUsage) {
			t.Errorf("an energy of %g: got %v", energy, err)
		}
	}
}

// Numbers whose product float64 does not hold are a finding, and JSON still holds the rest.
func TestTooLarge(t *testing.T) {
	u := &adapter.LowRank{A: tensor64("a", []int64{1, 2}, 1e300, 1), B: tensor64("b", []int64{2, 1}, 1e300, 1), Scale: 1}
	r := check(t, &adapter.Adapter{Entries: []adapter.Entry{{Module: "x", Update: u}}}, health.Options{})
	if want := []string{"error near-overflow x", "note near-overflow a", "note near-overflow b"}; !reflect.DeepEqual(list(r), want) {
		t.Errorf("got %v", list(r))
	}
}

// tensor64 is a tensor of F64.
func tensor64(name string, shape []int64, v ...float64) formats.Tensor {
	raw := make([]byte, 8*len(v))
	formats.EncodeFloat64(raw, v)
	return formats.Tensor{Name: name, DType: formats.F64, Shape: shape, Data: bytes.NewReader(raw)}
}

// A change of a weight that is zero, or whose squares float64 does not hold.
func TestSmallBase(t *testing.T) {
	u := &adapter.LowRank{A: tensor64("a", []int64{1, 2}, 3, 4), B: tensor64("b", []int64{2, 1}, 1, 0), Scale: 1}
	vector := func(v ...float64) *adapter.Magnitude {
		return &adapter.Magnitude{Inner: u, Vector: tensor64("m", []int64{2}, v...)}
	}
	zero := &adapter.LowRank{A: u.A, B: tensor64("b", []int64{2, 1}, 0, 0), Scale: 1}
	none := math.NaN()
	for _, c := range []struct {
		name           string
		update         adapter.Update
		w              []float64
		norm, relative float64
		want           []string
	}{
		{"zero", u, []float64{0, 0, 0, 0}, 0, none, []string{"warning larger-than-base x"}},
		{"zero, and so is the change", zero, []float64{0, 0, 0, 0}, 0, none, []string{"error changes-nothing", "warning untrained x"}},
		{"squares that vanish", u, []float64{3e-170, 0, 0, 4e-170}, 5e-170, 1e170, []string{"warning larger-than-base x"}},
		{"the smallest", u, []float64{5e-324, 0, 0, 0}, 5e-324, none, []string{"warning larger-than-base x"}},
		{"squares that overflow", u, []float64{3e200, 0, 0, 4e200}, 5e200, 1e-200, nil},
		{"the largest", u, []float64{0, math.MaxFloat64 / 2, math.MaxFloat64 / 2, 0}, math.MaxFloat64 / math.Sqrt2, 5 / (math.MaxFloat64 / math.Sqrt2), nil},
		{"mixed", u, []float64{1e-200, 1e200, 1e-200, 1e-200}, 1e200, 5e-200, nil},
		{"magnitudes of small weights", vector(3e-170, 4e-170), []float64{3e-170, 0, 0, 4e-170}, 5e-170, 1e170, []string{"warning larger-than-base x", "warning same-magnitude m"}},
		{"other magnitudes", vector(3e-170, 5e-170), []float64{3e-170, 0, 0, 4e-170}, 5e-170, 1e170, []string{"warning larger-than-base x"}},
	} {
		a := &adapter.Adapter{Entries: []adapter.Entry{{Module: "x", Update: c.update}}}
		r := check(t, a, health.Options{Bases: []health.Base{{Tensor: tensor64("x.weight", []int64{2, 2}, c.w...)}}})
		if d := cmp.Diff(c.want, list(r)); d != "" {
			t.Errorf("%s: (-want +got)\n%s", c.name, d)
		}
		b := r.Modules[0].Base
		near(t, c.name+": norm", b.Norm, c.norm, 1e-14*c.norm)
		switch {
		case b.Relative != nil:
			near(t, c.name+": relative", *b.Relative, c.relative, 1e-14*c.relative)
		case c.relative == c.relative:
			t.Errorf("%s: no relative size, want %g", c.name, c.relative)
		}
	}
}

// A part of a weight is compared with the change of that part.
func TestPartOfBase(t *testing.T) {
	low := &adapter.LowRank{A: tensor64("a", []int64{1, 2}, 1, 0), B: tensor64("b", []int64{2, 1}, 1, 0), Scale: 1}
	a := &adapter.Adapter{Entries: []adapter.Entry{{Module: "x", Update: &adapter.Magnitude{Inner: low, Vector: tensor64("m", []int64{2}, 5, 10)}}}}
	for _, b := range []health.Base{
		{Tensor: tensor64("w", []int64{4, 2}, 100, 100, 3, 4, 6, 8, 100, 100), First: 1, Outs: 2},
		{Tensor: tensor64("w", []int64{2, 4}, 100, 3, 6, 100, 100, 4, 8, 100), First: 1, Outs: 2, InOut: true},
	} {
		r := check(t, a, health.Options{Bases: []health.Base{b}})
		near(t, "norm", r.Modules[0].Base.Norm, math.Sqrt(125), 1e-14)
		if want := []string{"warning same-magnitude m"}; !reflect.DeepEqual(list(r), want) {
			t.Errorf("got %v", list(r))
		}
	}
}

// Of a base that is not finite the message says where.
func TestBadBase(t *testing.T) {
	u := &adapter.LowRank{A: tensor64("a", []int64{1, 3}, 1, 1, 1), B: tensor64("b", []int64{2, 1}, 1, 0), Scale: 1}
	a := &adapter.Adapter{Entries: []adapter.Entry{{Module: "x", Update: u}}}
	for _, c := range []struct {
		w    []float64
		want string
	}{
		{[]float64{0, 0, 0, 0, math.Inf(-1), math.NaN()}, `it has NaN or infinite elements, the first at row 1, column 1`},
		{[]float64{math.MaxFloat64, math.MaxFloat64, 0, 0, 0, 0}, `its norm is too large for float64`},
	} {
		_, err := health.Check(context.Background(), a, health.Options{BasePath: "p", Bases: []health.Base{{Tensor: tensor64("x.weight", []int64{2, 3}, c.w...)}}})
		if want := `reading "p": tensor "x.weight": ` + c.want; !errors.Is(err, formats.ErrInput) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// Elements of vectors have one index.
func TestVectorPlace(t *testing.T) {
	v := tensor64("v", []int64{7}, 0, 0, 0, 0, 0, math.NaN(), 0)
	r := check(t, &adapter.Adapter{Entries: []adapter.Entry{{Module: "x", Update: &adapter.Replace{Param: "bias", Value: v}}}}, health.Options{})
	if want := "1 NaN among its elements of shape [7], the first at element 5"; r.Findings[0].Text != want {
		t.Errorf("got %q", r.Findings[0].Text)
	}
}

// SameValues tells values by their bits in float64, across types.
func TestSameValues(t *testing.T) {
	f32 := func(v ...float32) formats.Tensor { return formats.FromFloat32s("x", []int64{int64(len(v))}, v) }
	bf16 := func(v ...uint16) formats.Tensor {
		raw := make([]byte, 2*len(v))
		for i, x := range v {
			binary.LittleEndian.PutUint16(raw[2*i:], x)
		}
		return formats.Tensor{Name: "y", DType: formats.BF16, Shape: []int64{int64(len(v))}, Data: bytes.NewReader(raw)}
	}
	negative := float32(math.Copysign(0, -1))
	for _, c := range []struct {
		x, y formats.Tensor
		want bool
	}{
		{f32(1, 0), bf16(0x3f80, 0), true},
		{f32(1, negative), bf16(0x3f80, 0), false},
		{f32(1, negative), bf16(0x3f80, 0x8000), true},
		{f32(1.001, 0), bf16(0x3f80, 0), false},
		{f32(1, 0), f32(1, 0, 0), false},
		{f32(1, 0), f32(1, negative), false},
		{f32(1, 2), f32(1, 2), true},
		{f32(), f32(), true},
	} {
		got, err := health.SameValues("p", c.x, "q", c.y)
		if err != nil || got != c.want {
			t.Errorf("%v %v: %v (%v)", c.x.DType, c.y.DType, got, err)
		}
	}
	long := make([]float32, 100_000)
	other := slices.Clone(long)
	other[99_999] = 1
	if got, _ := health.SameValues("p", f32(long...), "q", f32(other...)); got {
		t.Error("the last element makes no difference")
	}
}

// Groups and outliers: a module counts among those of its name and shape.
func TestOutliers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	make1 := func(module string, size float32) adapter.Entry {
		v := make([]float32, 12)
		for i := range v {
			v[i] = size * float32(rng.NormFloat64())
		}
		return adapter.Entry{Module: module, Update: &adapter.LowRank{
			A: formats.FromFloat32s(module+".A", []int64{2, 6}, v), B: formats.FromFloat32s(module+".B", []int64{6, 2}, v), Scale: 1}}
	}
	for _, c := range []struct {
		n     int
		times float32
		want  bool
	}{{6, 10, true}, {6, 1, false}, {6, 1.2, false}, {3, 10, false}} {
		a := &adapter.Adapter{}
		for i := range c.n {
			size := float32(0.1)
			if i == 1 {
				size *= c.times
			}
			a.Entries = append(a.Entries, make1("layers."+string(rune('0'+i))+".q", size), make1("layers."+string(rune('0'+i))+".k", 100))
		}
		got := list(check(t, a, health.Options{}))
		if want := []string{"warning large-change layers.1.q"}; c.want && !reflect.DeepEqual(got, want) || !c.want && len(got) > 0 {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// A bias on B is a change too, and is looked through like all else.
func TestBias(t *testing.T) {
	low := &adapter.LowRank{A: formats.FromFloat32s("a", []int64{1, 2}, []float32{1, 2}), B: formats.FromFloat32s("b", []int64{2, 1}, []float32{0, 0}), Scale: 1}
	for _, c := range []struct {
		v    float32
		want []string
	}{
		{0, []string{"error changes-nothing", "warning untrained x"}},
		{1, []string{"warning untrained x"}},
		{float32(math.Inf(1)), []string{"error not-finite bias", "warning untrained x"}},
	} {
		a := &adapter.Adapter{Entries: []adapter.Entry{{Module: "x", Update: low},
			{Module: "x", Update: &adapter.BiasDelta{Vector: formats.FromFloat32s("bias", []int64{2}, []float32{0, c.v}), Scale: 1}}}}
		r := check(t, a, health.Options{Bases: make([]health.Base, 2)})
		if !reflect.DeepEqual(list(r), c.want) || len(r.Saved) != 1 || !r.Saved[0].Added {
			t.Errorf("%g: %v, %+v", c.v, list(r), r.Saved)
		}
	}
}

package diff

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/internal/parallel"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

// What is between two updates of a module, beside [OnlyA], [OnlyB] and [Differs].
const (
	Equal  = "equal"  // ΔW is the same
	Scaled = "scaled" // ΔW is the other's times a number
	Shape  = "shape"  // ΔW has another shape
)

// Module is what two adapters do to a module of the base.
type Module struct {
	Module   string  `json:"module"`
	What     string  `json:"what"` // Equal, Scaled, Differs, OnlyA, OnlyB or Shape
	A        *Update `json:"a,omitempty"`
	B        *Update `json:"b,omitempty"`
	Distance Number  `json:"distance"` // ‖ΔW_B − ΔW_A‖, Frobenius
	Relative Number  `json:"relative"` // ‖ΔW_B − ΔW_A‖/‖ΔW_A‖
	Cosine   Number  `json:"cosine"`
	// Scale is the number c for which c·ΔW_A is nearest to ΔW_B, where that is all of the
	// change: what is left is less than a hundredth of the distance.
	Scale *Number `json:"scale,omitempty"`
	// Input compares the subspaces that the updates read from, the leading right singular
	// vectors; Output those that they write to.
	Input  *Similarity `json:"input_similarity,omitempty"`
	Output *Similarity `json:"output_similarity,omitempty"`
	// Base is what the base has in the directions of the updates; nil without one.
	Base *Base `json:"base,omitempty"`
}

// Update describes ΔW of one side; of DoRA what its factors say, without the magnitude.
type Update struct {
	Kind          string   `json:"kind"`
	Shape         []int64  `json:"shape"`
	Rank          int64    `json:"rank"` // of the factors
	Scale         float64  `json:"scale"`
	Norm          Number   `json:"norm"`
	EffectiveRank Number   `json:"effective_rank"` // exp of the entropy of σ/Σσ
	StableRank    Number   `json:"stable_rank"`    // ‖ΔW‖²_F/σ₁²
	Spectrum      []Number `json:"spectrum"`       // singular values, largest first

	path string // of its adapter
}

// Similarity is φ(i,j) of the LoRA paper (Hu et al., 2021, §7.2) for the leading i
// singular vectors of A and j of B: 0 where their spans have nothing in common, 1 where
// one holds the other.
type Similarity struct {
	RanksA []int      `json:"ranks_a"` // powers of two and the rank
	RanksB []int      `json:"ranks_b"`
	Phi    [][]Number `json:"phi"` // a row for each of RanksA
}

// differs reports whether a module counts as another one.
func (m *Module) differs(tolerance float64) bool {
	switch {
	case m.What == Equal:
		return false
	case m.What == OnlyA || m.What == OnlyB || m.What == Shape || m.A.Kind != m.B.Kind || tolerance < 0:
		return true
	}
	return float64(m.Relative) > tolerance
}

// factorBudget is how many bytes of factors, with what is made of them, are in work at
// once. A module that needs more alone is worked on alone.
const factorBudget = 256 << 20

// side is one adapter, by what its entries change.
type side struct {
	adapter *adapter.Adapter
	modules []string // with low-rank updates, in order
	entries map[string]adapter.Entry
	tensors []formats.Tensor // magnitudes and parameters saved whole
}

// Adapters compares two adapters of any dialects: of each module what is added to its
// weight, and tensor by tensor what else they hold. Tensors are named MODULE.PARAMETER, and
// DoRA's magnitudes MODULE.magnitude. Factors that are NaN or infinite are
// [formats.ErrUnfit]; so is what Options.Base does not find, for all modules before one is read.
func Adapters(ctx context.Context, a, b *adapter.Adapter, opts Options) (*Result, error) {
	only, err := newFilter(opts.Only)
	if err != nil {
		return nil, err
	}
	x, err := newSide(a, only)
	if err != nil {
		return nil, err
	}
	y, err := newSide(b, only)
	if err != nil {
		return nil, err
	}
	if err := only.Unused("module"); err != nil {
		return nil, err
	}
	r := newResult()
	if len(opts.Only) == 0 && a.Config != nil && b.Config != nil {
		if r.Config, err = Configs("adapter_config.json", a.Path, a.Config, b.Path, b.Config); err != nil {
			return nil, err
		}
	}
	if _, err := r.tensors(ctx, x.tensors, y.tensors, a.Path, b.Path, opts.Progress); err != nil {
		return nil, err
	}
	return r, r.modules(ctx, x, y, opts)
}

func newSide(a *adapter.Adapter, only *filter) (*side, error) {
	s := &side{adapter: a, entries: map[string]adapter.Entry{}}
	for _, e := range a.Entries {
		name := e.Module
		if u, ok := e.Update.(*adapter.Replace); ok {
			name += "." + u.Param
		}
		ok, err := only.takes(name, e.Module)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		switch u := e.Update.(type) {
		case *adapter.Replace:
			t := u.Value
			t.Name = name
			s.tensors = append(s.tensors, t)
			continue
		case *adapter.BiasDelta: // by what is added to the bias, as ΔW is what is added to the weight
			t := adapter.Scaled(u.Vector, u.Scale, formats.F64)
			t.Name = name + ".bias_delta"
			s.tensors = append(s.tensors, t)
			continue
		case *adapter.Magnitude:
			t := u.Vector
			t.Name = name + ".magnitude"
			s.tensors = append(s.tensors, t)
		}
		if _, ok := adapter.LowRankOf(e.Update); !ok {
			return nil, formats.Unfitf(a.Path, "", "module %s: an update of kind %s cannot be compared", formats.Quote(e.Module), e.Update.Kind())
		}
		s.modules = append(s.modules, e.Module)
		s.entries[e.Module] = e
	}
	return s, nil
}

// modules compares the low-rank updates, several modules at once.
func (r *Result) modules(ctx context.Context, x, y *side, opts Options) error {
	names := slices.Clone(x.modules)
	for _, name := range y.modules {
		if _, ok := x.entries[name]; !ok {
			names = append(names, name)
		}
	}
	places, err := weightsOf(names, x, y, opts.Base)
	if err != nil {
		return err
	}
	r.Modules = make([]Module, len(names))
	need := func(i int) int64 { return workBytes(x.entries[names[i]].Update, y.entries[names[i]].Update) }
	err = parallel.Within(ctx, len(names), factorBudget, need, func(i int) (err error) {
		u, v := x.entries[names[i]].Update, y.entries[names[i]].Update
		r.Modules[i], err = compareUpdates(names[i], u, v, x.adapter.Path, y.adapter.Path, places[i], opts.Progress)
		if opts.Progress != nil {
			opts.Progress(storedBytes(u) + storedBytes(v))
		}
		return err
	})
	if err != nil || len(names) == 0 {
		return err
	}
	r.Total = totalOfModules(r.Modules)
	r.Scale = commonScale(r.Modules)
	return nil
}

// totalOfModules adds up modules whose ΔW have one shape or are on one side alone; nil where
// there are none.
func totalOfModules(modules []Module) *Total {
	var a, b, d []float64
	var cosines []float64
	for _, m := range modules {
		if m.What == Shape {
			continue
		}
		x, y := m.norms()
		a, b, d, cosines = append(a, x), append(b, y), append(d, float64(m.Distance)), append(cosines, float64(m.Cosine))
	}
	if len(a) == 0 {
		return nil
	}
	// Norms of norms: no square overflows or vanishes.
	x, y, z := floats.Norm(a, 2), floats.Norm(b, 2), floats.Norm(d, 2)
	cosine := math.NaN()
	if x > 0 && y > 0 {
		cosine = 0
		for i := range a {
			if a[i] > 0 && b[i] > 0 {
				cosine += cosines[i] * (a[i] / x) * (b[i] / y)
			}
		}
		cosine = max(-1, min(1, cosine))
	}
	return &Total{Number(x), Number(y), Number(z), Number(ratio(z, x)), Number(cosine)}
}

// norms returns ‖ΔW‖ of both sides: 0 where one of them has none.
func (m *Module) norms() (a, b float64) {
	if m.A != nil {
		a = float64(m.A.Norm)
	}
	if m.B != nil {
		b = float64(m.B.Norm)
	}
	return a, b
}

// commonScale returns c where it is the scale of every module, to what rounding a scale into
// a factor of a narrow type leaves of it: the one that is nearest to all.
func commonScale(modules []Module) *Number {
	largest := 0.0
	for _, m := range modules {
		if m.What != Scaled {
			return nil
		}
		largest = max(largest, float64(m.A.Norm))
	}
	c, weights := 0.0, 0.0
	for _, m := range modules {
		w := float64(m.A.Norm) / largest
		c, weights = c+float64(*m.Scale)*(w*w), weights+w*w
	}
	c /= weights
	for _, m := range modules {
		if math.Abs(float64(*m.Scale)-c) > 1e-3*math.Abs(c) {
			return nil
		}
	}
	n := Number(c)
	return &n
}

// compareUpdates compares two updates of a module, of which one may be nil, and measures them
// in the base where it has a place for one.
func compareUpdates(module string, u, v adapter.Update, pathA, pathB string, at weights, progress func(int64)) (Module, error) {
	m := Module{Module: module, What: Differs}
	var p, q *lowrank.Product
	var err error
	if u != nil {
		if m.A, p, err = read(u, pathA); err != nil {
			return m, err
		}
	}
	if v != nil {
		if m.B, q, err = read(v, pathB); err != nil {
			return m, err
		}
	}
	err = m.compare(p, q)
	if err == nil && at != (weights{}) {
		err = m.amplify(p, q, at.a, at.b, progress)
	}
	return m, err
}

// compare compares two products, of which one may be nil.
func (m *Module) compare(p, q *lowrank.Product) error {
	if p != nil && q != nil && slices.Equal(m.A.Shape, m.B.Shape) {
		return m.measure(p, q)
	}
	if p != nil {
		if err := m.A.describeAlone(p); err != nil {
			return m.fault(m.A, err)
		}
	}
	if q != nil {
		if err := m.B.describeAlone(q); err != nil {
			return m.fault(m.B, err)
		}
	}
	none := Number(math.NaN())
	m.Cosine = none
	switch {
	case q == nil:
		n := float64(m.A.Norm)
		m.What, m.Distance, m.Relative = OnlyA, Number(n), Number(ratio(n, n))
		return nil
	case p == nil:
		n := float64(m.B.Norm)
		m.What, m.Distance, m.Relative = OnlyB, Number(n), Number(ratio(n, 0))
		return nil
	}
	m.What, m.Distance, m.Relative = Shape, none, none
	return nil
}

// read reads an update's factors.
func read(u adapter.Update, path string) (*Update, *lowrank.Product, error) {
	low, _ := adapter.LowRankOf(u)
	p, err := lowrank.FromUpdate(path, low)
	return &Update{Kind: u.Kind(), Shape: u.Shape(), Rank: low.Rank(), Scale: low.Scale, path: path}, p, err
}

// fault says which update an error is about.
func (m *Module) fault(u *Update, err error) error {
	var e *formats.Error
	if !errors.As(err, &e) || e.File != "" {
		return err
	}
	named := *e
	named.File, named.Detail = u.path, fmt.Sprintf("module %s: %s", formats.Quote(m.Module), e.Detail)
	return &named
}

func (u *Update) describeAlone(p *lowrank.Product) error {
	s, err := lowrank.SingularValues(p)
	if err != nil {
		return err
	}
	return u.describe(s)
}

// describe fails where a sum of singular values, each of which is finite, is not.
func (u *Update) describe(spectrum []float64) error {
	u.Norm, u.Spectrum = Number(lowrank.Tail(spectrum, 0)), numbers(spectrum)
	u.EffectiveRank, u.StableRank = Number(lowrank.EffectiveRank(spectrum)), Number(lowrank.StableRank(spectrum))
	if math.IsInf(float64(u.Norm), 0) {
		return formats.Unfitf("", "", "the norm of ΔW is too large for float64")
	}
	return nil
}

// measure compares two updates of one shape.
func (m *Module) measure(p, q *lowrank.Product) error {
	if p.S != q.S {
		// One of them may have the scale in its factor, exactly.
		p, q = folded(p), folded(q)
	}
	out, in := p.Dims()
	same := mat.Equal(p.B, q.B) && mat.Equal(p.A, q.A)
	p, q, difference := joint(p, q)
	x, err := lowrank.Decompose(p)
	if err == nil {
		err = m.A.describe(x.S)
	}
	if err != nil {
		return m.fault(m.A, err)
	}
	y := x
	if !same {
		y, err = lowrank.Decompose(q)
	}
	if err == nil {
		err = m.B.describe(y.S)
	}
	if err != nil {
		return m.fault(m.B, err)
	}
	i, j := lowrank.NumericalRank(x.S, out, in, 0x1p-52), lowrank.NumericalRank(y.S, out, in, 0x1p-52)
	m.Input, m.Output = similarity(x.V, y.V, i, j), similarity(x.U, y.U, i, j)
	a, b, d := float64(m.A.Norm), float64(m.B.Norm), 0.0
	cosine, c := 1.0, 1.0
	if same {
		if a == 0 {
			cosine = math.NaN()
		}
	} else {
		if d = lowrank.Norm(difference); d-d != 0 {
			return m.fault(m.B, formats.Unfitf("", "", "the distance from %s is too large for float64", formats.Quote(m.A.path)))
		}
		cosine, c = angle(p, q, a, b)
	}
	m.Distance, m.Relative, m.Cosine = Number(d), Number(ratio(d, a)), Number(cosine)
	if d == 0 { // also where factors differ, as those of fresh adapters
		m.What = Equal
	} else if math.Abs(cosine) > nearlyParallel && beside(p, q, c) <= min(d, b)/100 {
		n := Number(c)
		m.What, m.Scale = Scaled, &n
	}
	return nil
}

// angle returns the cosine between p and q of the norms a and b, NaN where one of them is
// zero, and the number c for which c·p is nearest to q.
func angle(p, q *lowrank.Product, a, b float64) (cosine, c float64) {
	if a == 0 || b == 0 {
		return math.NaN(), math.NaN()
	}
	p, i := balanced(p)
	q, j := balanced(q)
	xy := lowrank.Inner(p, q)
	a, b = math.Ldexp(a, -i), math.Ldexp(b, -j)
	return max(-1, min(1, xy/a/b)), math.Ldexp(xy/a/a, j-i)
}

// beside returns ‖q − c·p‖.
func beside(p, q *lowrank.Product, c float64) float64 {
	p, i := balanced(p)
	q, j := balanced(q)
	p.S *= math.Ldexp(c, i-j)
	return math.Ldexp(lowrank.Distance(p, q), j)
}

// balanced returns p·2⁻ᵉ, with factors and a scale of about 1, and e: products of such are
// far from the ends of float64, and have the same digits.
func balanced(p *lowrank.Product) (*lowrank.Product, int) {
	exp := 0
	down := func(m *mat.Dense) *mat.Dense {
		n := mat.Norm(m, 2)
		if n == 0 || n-n != 0 {
			return m
		}
		e := math.Ilogb(n)
		exp += e
		out := mat.DenseCopyOf(m)
		out.Apply(func(_, _ int, x float64) float64 { return math.Ldexp(x, -e) }, out)
		return out
	}
	b, a, s := down(p.B), down(p.A), p.S
	if s != 0 {
		e := math.Ilogb(s)
		exp, s = exp+e, math.Ldexp(s, -e)
	}
	return &lowrank.Product{B: b, A: a, S: s}, exp
}

// nearlyParallel is below the cosine of any two updates of which one is the other scaled,
// but for a hundredth: √(1 − 10⁻⁴).
const nearlyParallel = 0.9999

// similarity takes φ of the leading i and j singular vectors: those whose singular values are
// more than rounding, for the others point anywhere. It is nil where there are none.
func similarity(u, v *mat.Dense, i, j int) *Similarity {
	if i == 0 || j == 0 {
		return nil
	}
	rows, _ := u.Dims()
	phi := lowrank.Similarity(u.Slice(0, rows, 0, i).(*mat.Dense), v.Slice(0, rows, 0, j).(*mat.Dense))
	s := &Similarity{RanksA: powers(i), RanksB: powers(j)}
	for _, i := range s.RanksA {
		var row []Number
		for _, j := range s.RanksB {
			row = append(row, Number(phi[i-1][j-1]))
		}
		s.Phi = append(s.Phi, row)
	}
	return s
}

// powers are the powers of two below n, and n.
func powers(n int) []int {
	var out []int
	for i := 1; i < n; i *= 2 {
		out = append(out, i)
	}
	return append(out, n)
}

func storedBytes(u adapter.Update) int64 {
	low, ok := adapter.LowRankOf(u)
	if !ok {
		return 0
	}
	return low.A.Size() + low.B.Size()
}

// workBytes is about what comparing takes: each factor in float64, its difference from the
// other one, both stacked, and a copy of that to work on.
func workBytes(u, v adapter.Update) int64 {
	var n int64
	for _, x := range []adapter.Update{u, v} {
		if low, ok := adapter.LowRankOf(x); ok {
			n += 8 * 6 * (low.A.Elements() + low.B.Elements())
		}
	}
	return n
}

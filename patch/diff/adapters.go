package diff

import (
	"context"
	"math"
	"slices"

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
	if err := only.unused("module"); err != nil {
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
	sums := make([]moments, len(names))
	need := func(i int) int64 { return workBytes(x.entries[names[i]].Update, y.entries[names[i]].Update) }
	err = parallel.Within(ctx, len(names), factorBudget, need, func(i int) (err error) {
		u, v := x.entries[names[i]].Update, y.entries[names[i]].Update
		r.Modules[i], sums[i], err = compareUpdates(names[i], u, v, x.adapter.Path, y.adapter.Path, places[i], opts.Progress)
		if opts.Progress != nil {
			opts.Progress(storedBytes(u) + storedBytes(v))
		}
		return err
	})
	if err != nil || len(names) == 0 {
		return err
	}
	var m moments
	scaled := true
	for i, s := range sums {
		m.add(s)
		scaled = scaled && r.Modules[i].What == Scaled
	}
	r.Total = totalOf(&m)
	if scaled {
		r.Scale = commonScale(r.Modules, m.xy/m.xx)
	}
	return nil
}

// commonScale returns c where it is the scale of every module, to what rounding a scale into
// a factor of a narrow type leaves of it.
func commonScale(modules []Module, c float64) *Number {
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
func compareUpdates(module string, u, v adapter.Update, pathA, pathB string, at weights, progress func(int64)) (Module, moments, error) {
	m := Module{Module: module, What: Differs}
	var p, q *lowrank.Product
	var err error
	if u != nil {
		if m.A, p, err = read(u, pathA); err != nil {
			return m, moments{}, err
		}
	}
	if v != nil {
		if m.B, q, err = read(v, pathB); err != nil {
			return m, moments{}, err
		}
	}
	s, err := m.compare(p, q)
	if err == nil && at != (weights{}) {
		err = m.amplify(p, q, at.a, at.b, progress)
	}
	return m, s, err
}

// compare compares two products, of which one may be nil.
func (m *Module) compare(p, q *lowrank.Product) (moments, error) {
	if p != nil && q != nil && slices.Equal(m.A.Shape, m.B.Shape) {
		return m.measure(p, q)
	}
	if p != nil {
		if err := m.A.describeAlone(p); err != nil {
			return moments{}, err
		}
	}
	if q != nil {
		if err := m.B.describeAlone(q); err != nil {
			return moments{}, err
		}
	}
	none := Number(math.NaN())
	m.Cosine = none
	switch {
	case q == nil:
		n := m.A.Norm
		m.What, m.Distance, m.Relative = OnlyA, n, Number(ratio(float64(n), float64(n)))
		return moments{xx: square(n), dd: square(n)}, nil
	case p == nil:
		n := m.B.Norm
		m.What, m.Distance, m.Relative = OnlyB, n, Number(ratio(float64(n), 0))
		return moments{yy: square(n), dd: square(n)}, nil
	}
	m.What, m.Distance, m.Relative = Shape, none, none
	return moments{}, nil
}

func square(n Number) float64 { return float64(n) * float64(n) }

// read reads an update's factors.
func read(u adapter.Update, path string) (*Update, *lowrank.Product, error) {
	low, _ := adapter.LowRankOf(u)
	p, err := lowrank.FromUpdate(path, low)
	return &Update{Kind: u.Kind(), Shape: u.Shape(), Rank: low.Rank(), Scale: low.Scale}, p, err
}

func (u *Update) describeAlone(p *lowrank.Product) error {
	s, err := lowrank.SingularValues(p)
	u.describe(s)
	return err
}

func (u *Update) describe(spectrum []float64) {
	u.Norm, u.Spectrum = Number(lowrank.Tail(spectrum, 0)), numbers(spectrum)
	u.EffectiveRank, u.StableRank = Number(lowrank.EffectiveRank(spectrum)), Number(lowrank.StableRank(spectrum))
}

// measure compares two updates of one shape.
func (m *Module) measure(p, q *lowrank.Product) (s moments, err error) {
	if p.S != q.S {
		// One of them may have the scale in its factor, exactly.
		p, q = folded(p), folded(q)
	}
	out, in := p.Dims()
	same := mat.Equal(p.B, q.B) && mat.Equal(p.A, q.A)
	p, q, difference := joint(p, q)
	x, err := lowrank.Decompose(p)
	if err != nil {
		return s, err
	}
	y := x
	if !same {
		if y, err = lowrank.Decompose(q); err != nil {
			return s, err
		}
	}
	m.A.describe(x.S)
	m.B.describe(y.S)
	i, j := lowrank.NumericalRank(x.S, out, in, 0x1p-52), lowrank.NumericalRank(y.S, out, in, 0x1p-52)
	m.Input, m.Output = similarity(x.V, y.V, i, j), similarity(x.U, y.U, i, j)
	a, b := float64(m.A.Norm), float64(m.B.Norm)
	s = moments{xx: a * a, yy: b * b}
	d := 0.0
	if same {
		s.xy = s.xx
	} else {
		s.xy, d = lowrank.Inner(p, q), lowrank.Norm(difference)
		s.dd = d * d
	}
	m.Distance, m.Relative, m.Cosine = Number(d), Number(ratio(d, a)), Number(s.cosine())
	if d == 0 { // also where factors differ, as those of fresh adapters
		m.What = Equal
		return s, nil
	}
	if c := s.xy / s.xx; math.Abs(float64(m.Cosine)) > nearlyParallel {
		left := lowrank.Distance(&lowrank.Product{B: p.B, A: p.A, S: p.S * c}, q)
		if left <= min(d, b)/100 {
			n := Number(c)
			m.What, m.Scale = Scaled, &n
		}
	}
	return s, nil
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

package health

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/internal/parallel"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

// Base is the parameter of the base that an entry of an adapter changes.
type Base struct {
	Tensor formats.Tensor
	InOut  bool // a weight that is stored as (in, out)
	// First and Outs are the outputs of the weight that the entry changes; Outs is 0 for all.
	First, Outs int64
}

// Options of [Check].
type Options struct {
	// Bases are what the entries change, one for each, without data where the base has
	// nothing to compare with; nil for a check without the base.
	Bases    []Base
	BasePath string // names the base in messages
	// Findings are known already, such as modules that the base has not. They go before those
	// of their level.
	Findings []Finding
	// Progress, if not nil, is told the bytes that were read, from several goroutines.
	Progress func(bytes int64)
}

// Work returns how many bytes a check reads.
func Work(a *adapter.Adapter, bases []Base) int64 {
	n := int64(0)
	for i, e := range a.Entries {
		n += work(e, bases, i)
	}
	return n
}

func work(e adapter.Entry, bases []Base, i int) int64 {
	n := int64(0)
	for _, t := range e.Update.Tensors() {
		n += t.Size()
	}
	if bases != nil && bases[i].Tensor.Data != nil {
		n += bases[i].Tensor.Size()
	}
	return n
}

// checked is what became of one entry.
type checked struct {
	module   *Module
	saved    *Saved
	findings []Finding
}

func (c *checked) add(level Level, what, module, tensor string, numbers map[string]float64, format string, args ...any) {
	c.findings = append(c.findings, Finding{Level: level, What: what, Module: module, Tensor: tensor, Numbers: numbers, Text: fmt.Sprintf(format, args...)})
}

// factorBudget is how many bytes of factors are in work at once.
const factorBudget = 256 << 20

// Check reads every tensor of an adapter, and with bases what it changes. It fails where a
// file cannot be read, where factors do not fit together ([formats.ErrUnfit]), where a weight of
// the base is not finite ([formats.ErrInput]), and when ctx ends.
func Check(ctx context.Context, a *adapter.Adapter, opts Options) (*Result, error) {
	list := make([]checked, len(a.Entries))
	need := func(i int) int64 {
		if low, ok := adapter.LowRankOf(a.Entries[i].Update); ok {
			// Each factor in float64, and a copy of it to work on.
			return 16 * (low.A.Elements() + low.B.Elements())
		}
		return 0
	}
	err := parallel.Within(ctx, len(list), factorBudget, need, func(i int) error {
		e := a.Entries[i]
		var base *Base
		if opts.Bases != nil && opts.Bases[i].Tensor.Data != nil {
			base = &opts.Bases[i]
		}
		var err error
		switch u := e.Update.(type) {
		case *adapter.LowRank:
			err = list[i].lowRank(a.Path, e.Module, u, nil, base, opts.BasePath)
		case *adapter.Magnitude:
			err = list[i].lowRank(a.Path, e.Module, u.Inner, &u.Vector, base, opts.BasePath)
		case *adapter.Replace:
			err = list[i].replace(a.Path, e.Module, u, base, opts.BasePath)
		case *adapter.BiasDelta:
			err = list[i].bias(a.Path, e.Module, u)
		default:
			err = formats.Unfitf(a.Path, "", "module %s: an update of kind %s cannot be checked", formats.Quote(e.Module), e.Update.Kind())
		}
		if err == nil && opts.Progress != nil {
			opts.Progress(work(e, opts.Bases, i))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	r := &Result{Findings: []Finding{}, Modules: []Module{}}
	findings := slices.Clone(opts.Findings)
	for _, c := range list {
		findings = append(findings, c.findings...)
		if c.module != nil {
			r.Modules = append(r.Modules, *c.module)
		}
		if c.saved != nil {
			r.Saved = append(r.Saved, *c.saved)
		}
	}
	if changesNothing(r) {
		findings = append(findings, Finding{Level: Error, What: ChangesNothing, Text: "no module of the adapter changes anything"})
	}
	findings = append(findings, outliers(r.Modules)...)
	rank := map[Level]int{Error: 0, Warning: 1, Note: 2}
	slices.SortStableFunc(findings, func(x, y Finding) int { return cmp.Compare(rank[x.Level], rank[y.Level]) })
	for _, f := range findings {
		r.add(f)
	}
	return r, nil
}

// changesNothing reports whether every update is a ΔW of zero, or what rounding leaves of it.
func changesNothing(r *Result) bool {
	for _, m := range r.Modules {
		if m.Magnitude != nil || m.Product == nil || m.Product.Norm > 0 && !m.Product.Rounding {
			return false
		}
	}
	return !slices.ContainsFunc(r.Saved, func(s Saved) bool {
		if s.Added {
			return s.Elements.MaxAbs > 0 || !s.Elements.finite()
		}
		return s.SameAsBase == nil || !*s.SameAsBase
	})
}

// lowRank checks factors, and a magnitude where there is one.
func (c *checked) lowRank(path, module string, u *adapter.LowRank, magnitude *formats.Tensor, base *Base, basePath string) error {
	if err := u.Check(); err != nil {
		return formats.Unfitf(path, u.A.Name, "%v", err)
	}
	for _, t := range []formats.Tensor{u.A, u.B} {
		if !t.DType.IsFloat() || t.Elements() == 0 {
			return formats.Unfitf(path, t.Name, "no factor: it is %s of shape %v", t.DType, t.Shape)
		}
	}
	a, statsA, err := readMatrix(path, u.A)
	if err != nil {
		return err
	}
	b, statsB, err := readMatrix(path, u.B)
	if err != nil {
		return err
	}
	kind := "LowRank"
	if magnitude != nil {
		kind = "Magnitude"
	}
	m := &Module{Module: module, Kind: kind, Shape: u.Shape(), Rank: u.Rank(), Scale: u.Scale, A: statsA, B: statsB}
	c.module = m
	c.notFinite(module, &statsA)
	c.notFinite(module, &statsB)
	c.overflow(module, u.A.DType, &statsA)
	c.overflow(module, u.B.DType, &statsB)
	m.DeadRanks = deadRanks(b, a)
	drawnA := !u.Embedding && statsA.finite() && looksDrawn(a.RawMatrix().Data, cols(a), u.A.DType)
	drawnB := !u.Embedding && statsB.finite() && looksDrawn(b.RawMatrix().Data, cols(b), u.B.DType)
	if full := int64(min(b.RawMatrix().Rows, cols(a))); m.Rank > full {
		c.add(Note, RankAboveShape, module, "", map[string]float64{"rank": float64(m.Rank), "full": float64(full)},
			"ΔW of shape %v has a rank of %d at most: %d of the %d ranks cannot add anything", m.Shape, full, m.Rank-full, m.Rank)
	}
	untrained := c.untrained(m, drawnA)
	if statsA.finite() && statsB.finite() {
		eps := max(spacing(u.A.DType), spacing(u.B.DType))
		m.Product = describeProduct(&lowrank.Product{B: b, A: a, S: u.Scale}, eps)
		if m.Product == nil {
			c.add(Error, NearOverflow, module, "", nil, "the product of the factors is too large for float64")
		} else if !untrained {
			limit := math.Abs(u.Scale) * cancelled(b, a, eps)
			if m.Product.Rounding = m.Product.Norm <= limit && !math.IsInf(limit, 0); m.Product.Rounding {
				untrained = true
				c.add(Warning, Untrained, module, "", map[string]float64{"rank": float64(m.Rank), "norm": m.Product.Norm, "rounding": limit},
					"ΔW is no more than what rounding the factors leaves of zero: B·A cancels, as with both still at an orthogonal initialisation")
			}
		}
	}
	if !untrained {
		c.drawn(m, drawnA, drawnB)
		if m.DeadRanks > 0 {
			c.add(Warning, DeadRanks, module, "", map[string]float64{"dead": float64(m.DeadRanks), "rank": float64(m.Rank)},
				"%s dead: a row of A or a column of B is all zeros", ofAre(m.DeadRanks, int(m.Rank), "rank"))
		}
		if m.Product != nil && m.Product.Norm > 0 {
			c.collapsed(m)
		}
	}
	var norms []float64
	if base != nil {
		outs := int64(0)
		if magnitude != nil {
			outs = u.B.Shape[0]
		}
		var norm float64
		if norm, norms, err = baseNorms(basePath, *base, outs); err != nil {
			return err
		}
		m.Base = &BaseNorms{Norm: norm}
		if m.Product != nil {
			c.relative(m)
		}
	}
	if magnitude != nil {
		return c.magnitude(path, m, *magnitude, norms, base)
	}
	return nil
}

// relative compares a change with the weight that it changes.
func (c *checked) relative(m *Module) {
	numbers := map[string]float64{"norm": m.Product.Norm, "base_norm": m.Base.Norm}
	ratio := m.Product.Norm / m.Base.Norm
	switch {
	case math.IsNaN(ratio): // both are zero
	case math.IsInf(ratio, 0):
		c.add(Warning, LargerThanBase, m.Module, "", numbers, "the change is larger than the weight that it changes: ‖ΔW‖/‖W‖ = ∞, for ‖W‖ is %.3g", m.Base.Norm)
	default:
		m.Base.Relative = &ratio
		if ratio > 1 {
			numbers["relative"] = ratio
			c.add(Warning, LargerThanBase, m.Module, "", numbers, "the change is larger than the weight that it changes: ‖ΔW‖/‖W‖ = %.3g", ratio)
		}
	}
}

func cols(m *mat.Dense) int { _, n := m.Dims(); return n }

// notFinite reports NaN and infinities.
func (c *checked) notFinite(module string, e *Elements) {
	if e.finite() {
		return
	}
	var what []string
	if e.NaN > 0 {
		what = append(what, fmt.Sprintf("%d NaN", e.NaN))
	}
	if e.Inf > 0 {
		what = append(what, fmt.Sprintf("%d infinite", e.Inf))
	}
	c.add(Error, NotFinite, module, e.Tensor, map[string]float64{"nan": float64(e.NaN), "inf": float64(e.Inf), "row": float64(e.FirstRow), "column": float64(e.FirstColumn)},
		"%s among its elements of shape %v, the first at %s", strings.Join(what, " and "), e.Shape, e.firstBad())
}

// largestF16 is the largest number of that type.
const largestF16 = 65504

// overflow reports numbers that F16 hardly holds.
func (c *checked) overflow(module string, dtype formats.DType, e *Elements) {
	numbers := map[string]float64{"max_abs": e.MaxAbs, "limit": largestF16}
	switch {
	case dtype == formats.F16 && e.MaxAbs > largestF16/2:
		c.add(Warning, NearOverflow, module, e.Tensor, numbers, "elements of up to %.6g are near the largest that F16 holds, %d", e.MaxAbs, largestF16)
	case dtype != formats.F16 && e.MaxAbs > largestF16:
		c.add(Note, NearOverflow, module, e.Tensor, numbers, "elements of up to %.6g would overflow where the adapter is served in F16 (largest: %d)", e.MaxAbs, largestF16)
	}
}

// deadRanks counts the ranks of which the row of A or the column of B is zero.
func deadRanks(b, a *mat.Dense) int {
	out, r := b.Dims()
	alive := make([]bool, r)
	for o := range out {
		for k, x := range b.RawRowView(o) {
			alive[k] = alive[k] || x != 0
		}
	}
	dead := 0
	for k := range r {
		if !alive[k] || !slices.ContainsFunc(a.RawRowView(k), func(x float64) bool { return x != 0 }) {
			dead++
		}
	}
	return dead
}

// untrained reports a ΔW that is zero by its factors.
func (c *checked) untrained(m *Module, drawnA bool) bool {
	zeroA := m.A.finite() && m.A.MaxAbs == 0
	zeroB := m.B.finite() && m.B.MaxAbs == 0
	why := ""
	switch {
	case m.Scale == 0:
		why = "the scale is 0"
	case zeroA && zeroB:
		why = "A and B are all zeros"
	case zeroB && drawnA:
		why = "B is all zeros and A as it was drawn: both are still at their initialisation"
	case zeroB:
		why = "B is all zeros, as LoRA initialises it"
	case zeroA:
		why = "A is all zeros, as LoRA initialises that of an embedding"
	case int64(m.DeadRanks) == m.Rank:
		why = "every rank has a row of A or a column of B that is all zeros"
	default:
		return false
	}
	numbers := map[string]float64{"rank": float64(m.Rank)}
	if m.Kind == "Magnitude" {
		why += "; only the magnitude can change the weight"
	}
	c.add(Warning, Untrained, m.Module, "", numbers, "ΔW is zero: %s", why)
	return true
}

// drawn reports factors that look as they were drawn.
func (c *checked) drawn(m *Module, drawnA, drawnB bool) {
	switch {
	case drawnA && drawnB:
		c.add(Warning, Initial, m.Module, "", nil, "A and B look as they were drawn: uniform in ±1/√in and ±1/√r")
	case drawnA:
		c.add(Note, Initial, m.Module, m.A.Tensor, map[string]float64{"max_abs": m.A.MaxAbs},
			"A looks as it was drawn, uniform in ±1/√in: training moved it little, or it was frozen")
	}
}

// cancelled is how large B·A may be where exact factors give zero and these are rounded.
//
// Storing them moves each element by up to u = ε/2 of itself, independently of the others, and
// so B·A by √(2/3)·u·q in the mean at most, for q = √Σₖ‖bₖ‖²‖aₖ‖² over the columns of B and
// rows of A: u·q is half as much again as what is seen. Computing them in F32, as PEFT's
// orthogonal initialisation does by a QR decomposition and a product over r/2 terms, leaves an
// error that grows as √r: up to 2·√r·2⁻²⁴·q for ranks of 2 to 256, of which this is twice.
func cancelled(b, a *mat.Dense, eps float64) float64 {
	out, r := b.Dims()
	columns := make([]squares, r)
	for o := range out {
		for k, x := range b.RawRowView(o) {
			columns[k].add(x)
		}
	}
	var q squares
	for k := range r {
		var row squares
		for _, x := range a.RawRowView(k) {
			row.add(x)
		}
		if x := columns[k].norm() * row.norm(); !math.IsInf(x, 0) {
			q.add(x)
		}
	}
	return q.norm() * (eps/2 + 4*math.Sqrt(float64(r))*0x1p-24)
}

// ofAre begins a sentence: "1 of 8 ranks is", "2 of 8 ranks are".
func ofAre(n, of int, thing string) string {
	s, verb := "s", "are"
	if of == 1 {
		s = ""
	}
	if n == 1 {
		verb = "is"
	}
	return fmt.Sprintf("%d of %d %s%s %s", n, of, thing, s, verb)
}

// exactRank is the share of σ₁ below which a singular value is nothing but rounding,
// whatever the type of the factors: ε of F32, in which they were trained at best.
const exactRank = 0x1p-23

// describeProduct returns nil where float64 does not hold the product.
func describeProduct(p *lowrank.Product, eps float64) *Product {
	s, err := lowrank.SingularValues(p)
	if err != nil {
		return nil
	}
	out, in := p.Dims()
	d := &Product{Norm: lowrank.Tail(s, 0), EffectiveRank: lowrank.EffectiveRank(s), StableRank: lowrank.StableRank(s), Spectrum: s}
	if math.IsInf(d.Norm, 0) {
		return nil
	}
	d.RMS = d.Norm / math.Sqrt(float64(out)*float64(in))
	d.NumericalRank, d.Resolved = above(s, exactRank), above(s, max(eps, exactRank))
	return d
}

// above counts the singular values above a share of the first.
func above(s []float64, share float64) int {
	k := 0
	for k < len(s) && s[k] > share*s[0] {
		k++
	}
	return k
}

// collapsed reports ranks that add less than they could.
func (c *checked) collapsed(m *Module) {
	p := m.Product
	full := len(p.Spectrum) // the rank, or what the shape allows
	live := min(int(m.Rank)-m.DeadRanks, full)
	numbers := map[string]float64{
		"rank": float64(m.Rank), "live": float64(live), "numerical_rank": float64(p.NumericalRank), "resolved_rank": float64(p.Resolved),
		"effective_rank": p.EffectiveRank, "last_over_first": p.Spectrum[live-1] / p.Spectrum[0],
	}
	switch {
	case p.NumericalRank < live:
		c.add(Warning, DependentRanks, m.Module, "", numbers, "the rank is %d of %d: the other singular values are below 2⁻²³ of the first, so that the ranks depend on each other", p.NumericalRank, full)
	case p.Resolved < live:
		c.add(Note, BelowResolution, m.Module, "", numbers, "%s smaller than what rounding to %s leaves of the first", ofAre(live-p.Resolved, live, "singular value"), coarser(m))
	case live > 1 && p.EffectiveRank < float64(live)/2:
		c.add(Note, LowRank, m.Module, "", numbers, "the effective rank is %.1f of %d", p.EffectiveRank, full)
	}
}

// coarser is the type of the factors that rounds more.
func coarser(m *Module) string {
	if m.A.DType == "BF16" || m.B.DType == "BF16" {
		return "BF16"
	}
	return "F16"
}

package patch

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/internal/parallel"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

// CombineMethod says how [Combine] makes one adapter of several, in the words of PEFT's
// add_weighted_adapter (combination_type). With Δᵢ = sᵢ·Bᵢ·Aᵢ and weights wᵢ:
type CombineMethod string

// Combine methods. Those that end in _svd work on the elements of the full Δᵢ and keep the
// best factors of the result; the others without cat and svd work on the factors one by
// one, A weighted by ±√|wᵢsᵢ| and B by √|wᵢsᵢ|, which is not Σ wᵢΔᵢ: cross terms Bᵢ·Aⱼ come
// in. Their factors must have one rank.
const (
	CombineCat            CombineMethod = "cat"             // Σ wᵢΔᵢ exactly: the factors side by side, ranks add up
	CombineSVD            CombineMethod = "svd"             // the best approximation of Σ wᵢΔᵢ of a rank
	CombineLinear         CombineMethod = "linear"          // sums of the factors
	CombineTies           CombineMethod = "ties"            // trim, elect signs, disjoint merge (Yadav et al., TIES-Merging, 2023)
	CombineDareLinear     CombineMethod = "dare_linear"     // drop at random and rescale (Yu et al., DARE, 2023), then sum
	CombineDareTies       CombineMethod = "dare_ties"       // drop and rescale, then elect signs
	CombineMagnitudePrune CombineMethod = "magnitude_prune" // keep the largest, then sum

	CombineTiesSVD           CombineMethod = "ties_svd"
	CombineDareLinearSVD     CombineMethod = "dare_linear_svd"
	CombineDareTiesSVD       CombineMethod = "dare_ties_svd"
	CombineMagnitudePruneSVD CombineMethod = "magnitude_prune_svd"
)

// CombineMethods lists all methods.
var CombineMethods = []CombineMethod{
	CombineCat, CombineSVD, CombineLinear, CombineTies, CombineDareLinear, CombineDareTies, CombineMagnitudePrune,
	CombineTiesSVD, CombineDareLinearSVD, CombineDareTiesSVD, CombineMagnitudePruneSVD,
}

// onFactors reports whether the method works on the factors one by one.
func (m CombineMethod) onFactors() bool { return m == CombineLinear || m.prunes() && !m.bySVD() }

func (m CombineMethod) bySVD() bool { return strings.HasSuffix(string(m), "svd") }
func (m CombineMethod) prunes() bool {
	return m.dare() || m.ties() || strings.HasPrefix(string(m), "magnitude_prune")
}
func (m CombineMethod) dare() bool { return strings.HasPrefix(string(m), "dare_") }
func (m CombineMethod) ties() bool { return strings.Contains(string(m), "ties") }

// How the sign of an element is elected by the ties methods.
const (
	MajorityTotal     = "total"     // the sign of the sum
	MajorityFrequency = "frequency" // the sign that more adapters have
)

// CombineOptions of [Combine].
type CombineOptions struct {
	Method CombineMethod // CombineCat when empty
	// Rank of the result of svd and the _svd methods; 0 is the largest rank that any of
	// the adapters has in any module. A module whose result has fewer gets fewer.
	Rank int64
	// Density is the share of elements that the pruning methods keep, above 0 and at most
	// 1. They have no default for it.
	Density float64
	// MajoritySign of the ties methods: MajorityTotal when empty.
	MajoritySign string
	// Seed of the dare methods. What is dropped depends on it, the module, the factor and
	// the adapter's place in the list alone.
	Seed uint64
	// DType of the factors: F64, F32, F16 or BF16. When it is not set, F64 for modules that
	// have an F64 factor and F32 for the others.
	DType formats.DType
	// PEFTBugs, if not nil, reproduces faults of PEFT 0.21's scaling.
	PEFTBugs *PEFTBugs

	mask masker // for tests: what the dare methods keep
}

// PEFTBugs are faults of PEFT 0.21's add_weighted_adapter: its result keeps the use_rslora
// of the first adapter and is then √r times too large, for the largest rank r of the
// result; and a single adapter is combined by linear, whatever was asked for.
type PEFTBugs struct {
	RSLoRA bool // the first adapter's config has use_rslora
}

// CombinedModule is what became of one module.
type CombinedModule struct {
	Module string  `json:"module"`
	Shape  []int64 `json:"shape"` // (out, in, kernel…)
	From   []int   `json:"from"`  // places in the list of the adapters that have it, from 0
	Rank   int64   `json:"rank"`
	// Norm is ‖Δ‖ of the result before its factors were rounded, and SumNorm ‖Σ wᵢΔᵢ‖;
	// Distance, ‖Δ − Σ wᵢΔᵢ‖, is how far the result is from the plain sum: 0 with cat. All
	// are Frobenius norms.
	Norm     float64 `json:"norm"`
	SumNorm  float64 `json:"sum_norm"`
	Distance float64 `json:"distance"`
	// Lost is what the truncation to a rank left out, relative to the norm of what the
	// method made; 0 for methods without one.
	Lost float64 `json:"lost"`
}

// Combine makes one adapter of several. Adapters may have different targets: a module is
// made of those that have it. A parameter that one adapter alone saves whole
// (modules_to_save) with weight 1 goes along. The result's factors have the scale 1 and
// are in memory; its Config is nil.
//
// Options that make no sense are [formats.ErrUsage]. [formats.ErrUnfit], with every problem
// listed, are DoRA, updates of other kinds, parameters saved twice or with another weight,
// factors that do not fit together, and ranks that differ where the method needs one.
// Memory is the result, and for each module in work its factors; the pruning _svd methods
// hold every Δᵢ of one module in full.
func Combine(ctx context.Context, list []Weighted, opts CombineOptions) (*adapter.Adapter, []CombinedModule, error) {
	if err := opts.check(len(list)); err != nil {
		return nil, nil, err
	}
	if opts.PEFTBugs != nil && len(list) == 1 {
		opts.Method = CombineLinear
	}
	modules, saved, err := gather(list, opts.Method)
	if err != nil {
		return nil, nil, err
	}
	largest, sum := ranksOf(list)
	c := &combiner{opts: opts, rank: opts.Rank, boost: 1}
	if c.rank == 0 {
		c.rank = largest
	}
	if b := opts.PEFTBugs; b != nil && b.RSLoRA {
		c.boost = peftBoost(opts.Method, c.rank, largest, sum)
	}
	entries, report := make([]adapter.Entry, len(modules)), make([]CombinedModule, len(modules))
	workers := 0
	if opts.Method.prunes() && opts.Method.bySVD() {
		workers = 1 // it holds full matrices, and their products use all processors
	}
	err = parallel.Each(ctx, len(modules), workers, func(i int) error {
		var err error
		entries[i], report[i], err = c.module(modules[i])
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	out := &adapter.Adapter{Entries: append(entries, saved...)}
	for _, w := range list {
		if out.Base == "" {
			out.Base = w.Adapter.Base
		}
	}
	return out, report, nil
}

// check refuses options that make no sense, and sets those that have a default.
func (o *CombineOptions) check(adapters int) error {
	if adapters == 0 {
		return formats.Usagef("there is no adapter to combine")
	}
	if o.Method == "" {
		o.Method = CombineCat
	}
	m := o.Method
	if !slices.Contains(CombineMethods, m) {
		known := strings.ReplaceAll(strings.Trim(fmt.Sprint(CombineMethods), "[]"), " ", ", ")
		return formats.Usagef("method %s is not known (want %s)", formats.Quote(string(m)), known)
	}
	if o.Rank != 0 && !m.bySVD() {
		return formats.Usagef("a rank is for svd and the _svd methods: that of %s follows from the adapters", m)
	}
	if o.Rank < 0 || o.Rank > formats.MaxAdapterRank {
		return formats.Usagef("the rank must be from 1 to %d (got %d)", formats.MaxAdapterRank, o.Rank)
	}
	if m.prunes() && !(o.Density > 0 && o.Density <= 1) {
		return formats.Usagef("method %s needs a density above 0 and at most 1: the share of elements that it keeps (got %g)", m, o.Density)
	}
	if !m.prunes() && o.Density != 0 {
		return formats.Usagef("a density is for the pruning methods: %s keeps all elements", m)
	}
	if !m.ties() && o.MajoritySign != "" {
		return formats.Usagef("a majority sign is for the ties methods: %s elects none", m)
	}
	if o.MajoritySign == "" {
		o.MajoritySign = MajorityTotal
	}
	if o.MajoritySign != MajorityTotal && o.MajoritySign != MajorityFrequency {
		return formats.Usagef("majority sign %s is not known (want %q or %q)", formats.Quote(o.MajoritySign), MajorityTotal, MajorityFrequency)
	}
	return CheckFactorType(o.DType)
}

// ranksOf returns the largest rank of all modules, and the sum of the adapters' largest.
func ranksOf(list []Weighted) (largest, sum int64) {
	for _, w := range list {
		most := int64(0)
		for _, e := range w.Adapter.Entries {
			if u, ok := e.Update.(*adapter.LowRank); ok {
				most = max(most, u.Rank())
			}
		}
		largest, sum = max(largest, most), sum+most
	}
	return largest, sum
}

// combiner makes modules.
type combiner struct {
	opts  CombineOptions
	rank  int64   // of svd and the _svd methods
	boost float64 // of PEFT's fault; 1 without
}

// module combines the updates of one module.
func (c *combiner) module(m *combineModule) (adapter.Entry, CombinedModule, error) {
	row := CombinedModule{Module: m.module, Shape: m.parts[0].update.Shape()}
	products, weights := make([]*lowrank.Product, len(m.parts)), make([]float64, len(m.parts))
	for i, p := range m.parts {
		var err error
		if products[i], err = lowrank.FromUpdate(p.path, p.update); err != nil {
			return adapter.Entry{}, row, err
		}
		weights[i] = p.weight
		row.From = append(row.From, p.place)
	}
	sum := lowrank.Sum(products, weights)
	result, measured, err := sum, false, error(nil)
	switch {
	case c.opts.Method == CombineCat:
	case c.opts.Method == CombineSVD:
		var s []float64
		if result, s, err = truncate(sum, int(c.rank)); err == nil {
			row.Lost = relativeTail(s, result.Rank())
			row.SumNorm, row.Norm, row.Distance = lowrank.Tail(s, 0), lowrank.Tail(s[:result.Rank()], 0), lowrank.Tail(s, result.Rank())
			measured = true
		}
	case c.opts.Method.onFactors():
		result = c.factors(m, products)
	default:
		result, row.Lost, err = c.full(m, products)
	}
	if err != nil {
		return adapter.Entry{}, row, inModule(err, m.module)
	}
	if c.boost != 1 {
		scaled := *result
		scaled.S *= c.boost
		result, measured = &scaled, false
	}
	row.Rank = int64(result.Rank())
	if !measured {
		row.SumNorm = lowrank.Norm(sum)
		row.Norm = row.SumNorm
		if result != sum {
			row.Norm, row.Distance = lowrank.Norm(result), lowrank.Distance(result, sum)
		}
	}
	if x := row.Norm + row.Distance; x-x != 0 {
		return adapter.Entry{}, row, formats.Unfitf("", "", "module %s: the combined update is too large for float64", formats.Quote(m.module))
	}
	u, err := storeProduct(m.module, result, m.parts[0].update, c.opts.DType, m.widest())
	return adapter.Entry{Module: m.module, Update: u}, row, err
}

// truncate returns the best approximation of rank at most k, without singular values that
// are rounding alone, and the singular values of the whole.
func truncate(p *lowrank.Product, k int) (*lowrank.Product, []float64, error) {
	d, err := lowrank.Decompose(p)
	if err != nil {
		return nil, nil, err
	}
	out, in := p.Dims()
	k = max(1, min(k, lowrank.NumericalRank(d.S, out, in, 0x1p-52)))
	return d.Truncated(k), d.S, nil
}

// relativeTail is the part of the norm after the first k singular values.
func relativeTail(s []float64, k int) float64 {
	if lost := lowrank.Tail(s, k); lost > 0 {
		return lost / lowrank.Tail(s, 0)
	}
	return 0
}

// maxFull bounds the elements of an update that is formed in full, 8 GiB of them: factors
// of a few megabytes can stand for terabytes.
const maxFull = 1 << 30

// full combines the elements of the full updates and returns the best factors of that.
func (c *combiner) full(m *combineModule, products []*lowrank.Product) (*lowrank.Product, float64, error) {
	if rows, cols := products[0].Dims(); rows > maxFull/cols {
		return nil, 0, formats.Unfitf("", "", "method %s forms ΔW in full, and %d×%d is too large (want at most %d elements)", c.opts.Method, rows, cols, maxFull)
	}
	deltas, weights := make([][]float64, len(products)), make([]float64, len(products))
	for i, p := range products {
		deltas[i], weights[i] = p.Dense().RawMatrix().Data, m.parts[i].weight
	}
	out, in := products[0].Dims()
	made := mat.NewDense(out, in, c.elements(m, "delta", deltas, weights))
	d, err := lowrank.Leading(made, int(c.rank))
	if err != nil {
		return nil, 0, err
	}
	k := max(1, lowrank.NumericalRank(d.S, out, in, 0x1p-52))
	result := d.Truncated(k)
	lost := 0.0
	if norm := mat.Norm(made, 2); norm > 0 {
		var rest mat.Dense
		rest.Sub(made, result.Dense())
		lost = mat.Norm(&rest, 2) / norm
	}
	return result, lost, nil
}

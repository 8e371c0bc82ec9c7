package patch

import (
	"context"
	"slices"

	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/internal/parallel"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

// ResizeOptions of [Resize]. Exactly one of Rank, Energy, MaxError and Size is set.
type ResizeOptions struct {
	// Rank is the largest rank that a module gets.
	Rank int64
	// Energy is the share of Σσ² that every module keeps, above 0 and at most 1.
	Energy float64
	// MaxError, if not nil, is the largest error ‖Δ−Δ'‖/‖Δ‖ of every module, in the
	// Frobenius norm; 0 leaves out what is rounding alone.
	MaxError *float64
	// Size is how many bytes all factors together may take. They are spent where a byte
	// keeps most of the energy Σσ² of the whole adapter; a module that gets none is left
	// out of the result.
	Size int64
	// Common gives every module one rank: the largest that any needs, with zeros where
	// there is less. With Size it is the largest one that fits.
	Common bool
	// DType of the factors: F64, F32, F16 or BF16. When it is not set, F64 for modules that
	// have an F64 factor and F32 for the others.
	DType formats.DType
}

// ResizedModule is what became of one module.
type ResizedModule struct {
	Module  string  `json:"module"`
	Shape   []int64 `json:"shape"` // (out, in, kernel…)
	OldRank int64   `json:"old_rank"`
	Rank    int64   `json:"rank"` // 0 where the module was left out or is saved whole
	Whole   bool    `json:"whole,omitempty"`
	Norm    float64 `json:"norm"` // ‖Δ‖ in the Frobenius norm
	// Error is ‖Δ−Δ'‖/‖Δ‖, of the factors as they are stored; 0 where Δ is zero.
	Error         float64 `json:"error"`
	EffectiveRank float64 `json:"effective_rank"` // of Δ, as lowrank.EffectiveRank has it; 0 where it is not known
}

// Resize gives an adapter factors of other ranks: for each module the best ones of that
// rank, by the singular value decomposition of s·B·A through its factors. Singular values
// that are rounding alone are never kept. Parameters saved whole go along. The result's
// factors have the scale 1 and are in memory; its Config is nil.
//
// Options that make no sense, and a size that holds nothing, are [formats.ErrUsage]; DoRA
// and updates of other kinds are [formats.ErrUnfit], with every problem listed. Memory is
// the result, the singular values, and the factors of the modules in work.
func Resize(ctx context.Context, a *adapter.Adapter, opts ResizeOptions) (*adapter.Adapter, []ResizedModule, error) {
	if err := opts.check(); err != nil {
		return nil, nil, err
	}
	modules, rest, err := resizable(a)
	if err != nil {
		return nil, nil, err
	}
	spectra, err := spectraOf(ctx, a.Path, modules)
	if err != nil {
		return nil, nil, err
	}
	ranks, err := opts.ranks(modules, spectra)
	if err != nil {
		return nil, nil, err
	}
	entries, report := make([]*adapter.Entry, len(modules)), make([]ResizedModule, len(modules))
	err = parallel.Each(ctx, len(modules), 0, func(i int) error {
		u, s := modules[i].update, spectra[i]
		report[i] = ResizedModule{
			Module: modules[i].module, Shape: u.Shape(), OldRank: u.Rank(), Rank: int64(ranks[i]), Norm: lowrank.Tail(s, 0),
			Error: relativeTail(s, ranks[i]), EffectiveRank: lowrank.EffectiveRank(s),
		}
		if ranks[i] == 0 {
			return nil
		}
		p, err := lowrank.FromUpdate(a.Path, u)
		if err != nil {
			return err
		}
		d, err := lowrank.Decompose(p)
		if err != nil {
			return inModule(err, modules[i].module)
		}
		small := padRank(d.Truncated(min(ranks[i], len(d.S))), ranks[i])
		stored, err := storeProduct(modules[i].module, small, u, opts.DType, modules[i].widest())
		if err != nil {
			return err
		}
		entries[i] = &adapter.Entry{Module: modules[i].module, Update: stored}
		return report[i].measure(p, stored, &opts)
	})
	if err != nil {
		return nil, nil, err
	}
	out := &adapter.Adapter{Base: a.Base}
	for _, e := range entries {
		if e != nil {
			out.Entries = append(out.Entries, *e)
		}
	}
	out.Entries = append(out.Entries, rest...)
	return out, report, nil
}

// measure compares the factors as they are stored with what they were made of.
func (m *ResizedModule) measure(p *lowrank.Product, stored *adapter.LowRank, opts *ResizeOptions) error {
	q, err := lowrank.FromUpdate("", stored)
	if err != nil || m.Norm == 0 {
		return err
	}
	m.Error = lowrank.Distance(p, q) / m.Norm
	if x := opts.MaxError; x != nil && *x > 0 && m.Error > *x {
		return formats.Usagef("module %s: factors of %s leave an error of %.3g (want at most %g)", formats.Quote(m.Module), stored.A.DType, m.Error, *x).
			WithHint("--dtype says which type they have")
	}
	return nil
}

// check refuses options that make no sense.
func (o *ResizeOptions) check() error {
	if err := lowrank.CheckExtent(o.Rank, o.Energy, o.MaxError, o.Size); err != nil {
		return err
	}
	return CheckFactorType(o.DType)
}

// resizeModule is a module with its update.
type resizeModule struct {
	module string
	update *adapter.LowRank
}

// widest is F64 where a factor is, else F32.
func (m resizeModule) widest() formats.DType {
	if m.update.A.DType == formats.F64 || m.update.B.DType == formats.F64 {
		return formats.F64
	}
	return formats.F32
}

// rankBytes is what one more rank takes.
func (m resizeModule) rankBytes(dtype formats.DType) int64 {
	if dtype == formats.InvalidDType {
		dtype = m.widest()
	}
	out, _ := m.update.B.Matrix()
	_, in := m.update.A.Matrix()
	return (out + in) * dtype.Bits() / 8
}

// resizable lists the low-rank updates, and the entries that go along.
func resizable(a *adapter.Adapter) (modules []resizeModule, rest []adapter.Entry, err error) {
	var problems formats.Problems
	problems.Add(checkTiedFactors(a))
	for _, e := range a.Entries {
		switch u := e.Update.(type) {
		case *adapter.LowRank:
			if err := u.Check(); err != nil {
				problems.Add(formats.Unfitf(a.Path, u.A.Name, "%v", err))
			}
			modules = append(modules, resizeModule{e.Module, u})
		case *adapter.Replace:
			rest = append(rest, e)
		case *adapter.BiasDelta: // beside factors that get the scale 1
			e.Update = &adapter.BiasDelta{Vector: adapter.Scaled(u.Vector, u.Scale, u.Vector.DType), Scale: 1}
			rest = append(rest, e)
		case *adapter.Magnitude:
			problems.Add(formats.Unfitf(a.Path, "", "module %s: DoRA's magnitudes belong to factors of this rank, and what they do depends on the base's weights", formats.Quote(e.Module)).
				WithHint("--base makes factors of what it does to that base"))
		default:
			problems.Add(formats.Unfitf(a.Path, "", "module %s: an update of kind %s has no rank to change", formats.Quote(e.Module), u.Kind()))
		}
	}
	if err := problems.Err(); err != nil {
		return nil, nil, err
	}
	if len(modules) == 0 {
		return nil, nil, formats.Unfitf(a.Path, "", "there are no low-rank updates to resize")
	}
	return modules, rest, nil
}

// spectraOf returns the singular values of all updates, without those that are rounding
// alone, and at least one each.
func spectraOf(ctx context.Context, path string, modules []resizeModule) ([][]float64, error) {
	spectra := make([][]float64, len(modules))
	err := parallel.Each(ctx, len(modules), 0, func(i int) error {
		p, err := lowrank.FromUpdate(path, modules[i].update)
		if err != nil {
			return err
		}
		s, err := lowrank.SingularValues(p)
		if err != nil {
			return inModule(err, modules[i].module)
		}
		out, in := p.Dims()
		spectra[i] = s[:max(1, lowrank.NumericalRank(s, out, in, 0x1p-52))]
		return nil
	})
	return spectra, err
}

// ranks chooses a rank for every module.
func (o *ResizeOptions) ranks(modules []resizeModule, spectra [][]float64) ([]int, error) {
	if o.Size != 0 {
		return o.spend(modules, spectra)
	}
	ranks := make([]int, len(modules))
	for i, s := range spectra {
		switch {
		case o.Rank != 0:
			ranks[i] = min(int(o.Rank), len(s))
		case o.Energy != 0:
			ranks[i] = max(1, lowrank.RankForEnergy(s, o.Energy))
		default:
			ranks[i] = max(1, lowrank.RankForRelativeError(s, *o.MaxError))
		}
	}
	if !o.Common {
		return ranks, nil
	}
	common := slices.Max(ranks)
	if o.Rank != 0 { // the one that was asked for, for a server that wants just that
		common = int(o.Rank)
		widest := int64(0)
		for _, m := range modules {
			out, _ := m.update.B.Matrix()
			_, in := m.update.A.Matrix()
			widest = max(widest, min(out, in))
		}
		if o.Rank > widest {
			return nil, formats.Usagef("no module can have the rank %d (the largest that one can have is %d)", o.Rank, widest)
		}
	}
	for i := range ranks {
		ranks[i] = common
	}
	return ranks, nil
}

// spend spends a number of bytes, as lowrank.Spend does.
func (o *ResizeOptions) spend(modules []resizeModule, spectra [][]float64) ([]int, error) {
	all, least := int64(0), int64(0)
	cost := make([]int64, len(modules))
	for i, m := range modules {
		cost[i] = m.rankBytes(o.DType)
		all += cost[i]
		if i == 0 || cost[i] < least {
			least = cost[i]
		}
	}
	if o.Common {
		if o.Size < all {
			return nil, formats.Usagef("%d bytes hold no rank of every module (want at least %d)", o.Size, all)
		}
		longest := 0
		for _, s := range spectra {
			longest = max(longest, len(s))
		}
		return slices.Repeat([]int{int(min(o.Size/all, int64(longest)))}, len(modules)), nil
	}
	ranks := lowrank.Spend(cost, spectra, o.Size)
	if slices.Max(ranks) == 0 {
		if !slices.ContainsFunc(spectra, func(s []float64) bool { return s[0] > 0 }) {
			return nil, formats.Usagef("every update is zero: there is nothing that a size could be spent on")
		}
		return nil, formats.Usagef("%d bytes hold no rank of any module (want at least %d)", o.Size, least)
	}
	return ranks, nil
}

// CommonRank returns the rank that Size allows all modules of an adapter together.
func (o *ResizeOptions) CommonRank(a *adapter.Adapter) (int64, error) {
	all := int64(0)
	for _, e := range a.Entries {
		if u, ok := adapter.LowRankOf(e.Update); ok {
			all += resizeModule{e.Module, u}.rankBytes(o.DType)
		}
	}
	if o.Size < all {
		return 0, formats.Usagef("%d bytes hold no rank of every module (want at least %d)", o.Size, all)
	}
	return o.Size / max(1, all), nil
}

// padRank adds rows and columns of zeros up to a rank.
func padRank(p *lowrank.Product, rank int) *lowrank.Product {
	r := p.Rank()
	if r >= rank {
		return p
	}
	out, in := p.Dims()
	b, a := mat.NewDense(out, rank, nil), mat.NewDense(rank, in, nil)
	b.Slice(0, out, 0, r).(*mat.Dense).Copy(p.B)
	a.Slice(0, r, 0, in).(*mat.Dense).Copy(p.A)
	return &lowrank.Product{B: b, A: a, S: p.S}
}

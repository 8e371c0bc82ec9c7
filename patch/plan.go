package patch

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
)

// Weighted is an adapter and the factor that its deltas are multiplied with.
type Weighted struct {
	Adapter *adapter.Adapter
	Weight  float64
}

// Rounding says where results are rounded to the base's dtype.
type Rounding string

// Roundings.
const (
	// RoundOnce adds the deltas of all adapters in order and rounds W + Σ Δ once.
	RoundOnce Rounding = "once"
	// RoundPEFT is what PEFT's merge does: adapters one after another, each result
	// rounded, and for embeddings each Δ rounded first.
	RoundPEFT Rounding = "peft"
	// RoundPEFTSafe is what PEFT's safe_merge does: like RoundPEFT, with every Δ rounded
	// first.
	RoundPEFTSafe Rounding = "peft-safe"
)

// Target is one tensor of the base that a plan changes.
type Target struct {
	Module string
	Tensor formats.Tensor // of the base
	Shard  string         // the file it lies in
	Kind   string         // of the update: "LowRank", "Magnitude", "Replace", or "Replace+…" where a saved weight is updated too
	Rank   int64          // of all low-rank updates together
	Scale  float64        // of the low-rank update; of several, the first's

	stages    [][]*part   // updates that are added before one rounding, in order
	embedding bool        // the module is an embedding
	bias      bool        // it is a bias: PEFT never rounds its Δ first
	replaced  io.ReaderAt // the value that takes the place of the base's; nil if none
	merged    formats.Tensor
}

// scaledParts returns the low-rank updates whose scale is other than zero.
func (t *Target) scaledParts() []*part {
	var out []*part
	for _, stage := range t.stages {
		for _, p := range stage {
			if p.scale != 0 {
				out = append(out, p)
			}
		}
	}
	return out
}

// Plan is how adapters change a base. It is made by [NewPlan] and holds nothing but
// headers; it is safe for concurrent use.
type Plan struct {
	base     *formats.Checkpoint
	rounding Rounding
	targets  []*Target
	byName   map[string]*Target
	cache    *factorCache
}

// NewPlan fits adapters to a base, to be rounded once. Every adapter tensor must find
// its place once, every shape must agree, and every module of the base that an
// adapter's config targets must have factors. All problems are reported together, as
// [formats.ErrUnfit].
func NewPlan(base *formats.Checkpoint, adapters ...Weighted) (*Plan, error) {
	return NewPlanRounding(base, RoundOnce, adapters...)
}

// NewPlanRounding is [NewPlan] with another rounding.
func NewPlanRounding(base *formats.Checkpoint, rounding Rounding, adapters ...Weighted) (*Plan, error) {
	m, err := NewModel(base)
	if err != nil {
		return nil, err
	}
	return NewModelPlan(m, rounding, adapters...)
}

// NewModelPlan is [NewPlanRounding] for a base whose modules are known.
func NewModelPlan(m *Model, rounding Rounding, adapters ...Weighted) (*Plan, error) {
	if rounding != RoundOnce && rounding != RoundPEFT && rounding != RoundPEFTSafe {
		return nil, formats.Usagef("rounding %s is not known (want %q, %q or %q)", formats.Quote(string(rounding)), RoundOnce, RoundPEFT, RoundPEFTSafe)
	}
	base := m.Checkpoint
	p := &Plan{base: base, rounding: rounding, byName: map[string]*Target{}, cache: newFactorCache(factorBudget)}
	var problems formats.Problems
	for _, w := range adapters {
		r, err := resolve(m, w.Adapter)
		if err != nil {
			return nil, err
		}
		for _, e := range w.Adapter.Entries {
			problems.Add(p.add(m, w, e, r))
		}
		problems.Add(checkComplete(m, w.Adapter, r))
		problems.Add(checkSaved(m, w.Adapter, r))
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	shards := map[string]string{}
	for _, s := range base.Shards() {
		for _, t := range s.Tensors {
			shards[t.Name] = s.Name
		}
	}
	for _, t := range p.targets {
		t.Shard = shards[t.Tensor.Name]
		t.merged = p.merge(t)
	}
	return p, nil
}

// merge returns a target's merged weight: each stage of updates on the one before.
// Stages without a scale other than zero leave the bytes as they are, also where adding
// zero would change the sign of a zero.
func (p *Plan) merge(t *Target) formats.Tensor {
	w := t.Tensor
	if t.replaced != nil {
		w.Data = t.replaced
	}
	origin := w
	roundDelta := p.rounding == RoundPEFTSafe && !t.bias || p.rounding == RoundPEFT && t.embedding
	for _, stage := range t.stages {
		idle := func(p *part) bool { return p.scale == 0 && p.magnitude == nil }
		if !slices.ContainsFunc(stage, func(p *part) bool { return !idle(p) }) {
			continue
		}
		w.Data = newMerged(p.base.Path(), w, origin, stage, roundDelta, p.cache)
	}
	return w
}

// Targets returns what the plan changes, in the order of the adapters.
func (p *Plan) Targets() []*Target { return p.targets }

// Rounding returns where the plan rounds.
func (p *Plan) Rounding() Rounding { return p.rounding }

// Base returns the checkpoint that the plan was made for.
func (p *Plan) Base() *formats.Checkpoint { return p.base }

// Merge returns the merged model: the base's files, order, dtypes and side files,
// with the targets computed when they are read.
func (p *Plan) Merge() *formats.Checkpoint {
	return p.base.MapTensors(func(t formats.Tensor) formats.Tensor {
		if target, ok := p.byName[t.Name]; ok {
			return target.merged
		}
		return t
	})
}

// add finds the place of one entry.
func (p *Plan) add(m *Model, w Weighted, e adapter.Entry, r renaming) error {
	module := r.apply(e.Module)
	done, err := checkTied(m, w, e, module, r, func(format string, args ...any) *formats.Error {
		return formats.Unfitf(w.Adapter.Path, firstKey(e), format, args...)
	})
	if done || err != nil && len(m.sitesOf(module)) > 0 {
		return err
	}
	switch u := e.Update.(type) {
	case *adapter.LowRank:
		return p.addLowRank(m, w, e, u, nil, module)
	case *adapter.Magnitude:
		if err := u.Check(); err != nil {
			return formats.Unfitf(w.Adapter.Path, firstKey(e), "%v", err)
		}
		return p.addLowRank(m, w, e, u.Inner, &u.Vector, module)
	case *adapter.BiasDelta:
		return p.addBias(m, w, e, u, module)
	case *adapter.Replace:
		return p.addReplace(m, w, e, u, module)
	}
	return formats.Unfitf(w.Adapter.Path, "", "module %s: merging an update of kind %s is not supported", formats.Quote(e.Module), e.Update.Kind())
}

func (p *Plan) addLowRank(m *Model, w Weighted, e adapter.Entry, u *adapter.LowRank, magnitude *formats.Tensor, module string) error {
	unfit := func(format string, args ...any) *formats.Error {
		return formats.Unfitf(w.Adapter.Path, firstKey(e), format, args...)
	}
	sites := m.sitesOf(module)
	if len(sites) == 0 {
		return missing(m, unfit, module)
	}
	for _, site := range sites {
		if err := p.addToSite(m, w, e, u, magnitude, site, unfit); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plan) addToSite(m *Model, w Weighted, e adapter.Entry, u *adapter.LowRank, magnitude *formats.Tensor, site Site, unfit func(string, ...any) *formats.Error) error {
	if !site.Weight.DType.IsFloat() {
		err := unfit("cannot merge into %s: its weight is %s (want F64, F32, F16 or BF16)", formats.Quote(site.Weight.Name), site.Weight.DType)
		if m.Config.Quantization != "" {
			return err.WithHint("the base is quantised (%s): merge into the model it was made from", m.Config.Quantization)
		}
		return err
	}
	if site.Outs > 0 {
		if magnitude != nil {
			return unfit("an update with a magnitude (DoRA) of a part of %s is not supported", formats.Quote(site.Weight.Name))
		}
		var err error
		if u, err = spread(u, site); err != nil {
			return unfit("%v", err)
		}
	}
	inOut, err := orientation(m, site, u, unfit)
	if err != nil {
		return err
	}
	t := p.target(site.Weight, site.Module)
	t.embedding = u.Embedding
	scale := u.Scale * w.Weight
	added := &part{path: w.Adapter.Path, a: u.A, b: u.B, scale: scale, inOut: inOut, magnitude: magnitude}
	if site.Outs > 0 && scale > 0 {
		// The same ΔW, and for the outputs of others −0, which adding leaves a −0 alone.
		added.b.Data, added.scale = negated{u.B}, -scale
	}
	if magnitude != nil && w.Weight != 1 {
		return unfit("an update with a magnitude cannot be weighted (got weight %v, want 1)", w.Weight)
	}
	if err := p.addPart(t, added); err != nil {
		return unfit("%v", err).WithHint("--rounding peft merges adapters one after another")
	}
	if t.Rank == 0 {
		t.Scale = scale
	}
	t.Rank += u.Rank()
	t.setKind(e.Update.Kind())
	return nil
}

// addBias adds to a layer's bias: a product of rank 1 with a single column.
func (p *Plan) addBias(m *Model, w Weighted, e adapter.Entry, u *adapter.BiasDelta, module string) error {
	unfit := func(format string, args ...any) *formats.Error {
		return formats.Unfitf(w.Adapter.Path, firstKey(e), format, args...)
	}
	if _, ok := m.Site(module); !ok { // which the update of the weight says
		return nil
	}
	biases := m.params(module, "bias")
	if len(biases) == 0 {
		// PEFT gives B a bias in every targeted layer, whether it can be merged or not.
		if zero, err := isAllZero(u.Vector); err != nil {
			return formats.ReadError(w.Adapter.Path, u.Vector.Name, err)
		} else if !zero {
			return unfit("module %s has no bias in the base that it could be added to", formats.Quote(module))
		}
		return nil
	}
	for _, t := range biases {
		if !t.DType.IsFloat() || !slices.Equal(t.Shape, u.Vector.Shape) {
			return unfit("does not fit %s, which is %s %v (got %s %v)", formats.Quote(t.Name), t.DType, t.Shape, u.Vector.DType, u.Vector.Shape)
		}
		column := u.Vector
		column.Shape = []int64{u.Vector.Shape[0], 1}
		one := formats.FromFloat32s("1", []int64{1, 1}, []float32{1})
		target := p.target(t.Tensor, module)
		target.bias, target.Rank, target.Scale = true, target.Rank+1, u.Scale*w.Weight
		target.setKind(u.Kind())
		if err := p.addPart(target, &part{path: w.Adapter.Path, a: one, b: column, scale: u.Scale * w.Weight}); err != nil {
			return unfit("%v", err)
		}
	}
	return nil
}

// isAllZero reads a tensor of floats.
func isAllZero(t formats.Tensor) (bool, error) {
	raw, err := t.ReadAll()
	if err != nil {
		return false, err
	}
	zeros := make([]byte, len(raw))
	return !differInValue(raw, zeros, t.DType), nil
}

// addPart puts an update into a stage: with RoundOnce into the one that all share,
// which works for sums but not for magnitudes.
func (p *Plan) addPart(t *Target, added *part) error {
	if p.rounding != RoundOnce || len(t.stages) == 0 {
		t.stages = append(t.stages, []*part{added})
		return nil
	}
	if added.magnitude != nil || t.stages[0][0].magnitude != nil {
		return fmt.Errorf("an update with a magnitude (DoRA) cannot be summed with another of %s", formats.Quote(t.Tensor.Name))
	}
	t.stages[0] = append(t.stages[0], added)
	return nil
}

// setKind names what is done to the target.
func (t *Target) setKind(kind string) {
	if t.replaced != nil && kind != "Replace" {
		kind = "Replace+" + kind
	}
	t.Kind = kind
}

// orientation reports whether the base stores the weight as (in, out), and fails
// where the factors fit neither way.
func orientation(m *Model, site Site, u *adapter.LowRank, unfit func(string, ...any) *formats.Error) (inOut bool, err error) {
	shape := site.Weight.Shape
	if err := u.Check(); err != nil {
		return false, unfit("%v", err)
	}
	if u.Embedding && len(shape) != 2 || site.Kind == Conv && len(u.A.Shape) != len(shape) {
		return false, unfit("factors of another kind of layer: %s has shape %v (got A %v, B %v)", formats.Quote(site.Weight.Name), shape, u.A.Shape, u.B.Shape)
	}
	outIn := slices.Equal(shape, u.Shape())
	transposed := len(shape) == 2 && len(u.Shape()) == 2 && shape[0] == u.Shape()[1] && shape[1] == u.Shape()[0]
	// PEFT names the factors of an embedding, so the adapter knows one better than the
	// module's name tells. For other layers the family decides where it knows: PEFT saves
	// one fan_in_fan_out for all of them. Elsewhere the config's word counts where the
	// shapes leave it open.
	want := u.Embedding || site.Kind == Linear && site.InOut
	if !m.conv1D && u.FanInFanOut && !u.Embedding && len(shape) == 2 {
		want = transposed
	}
	switch {
	case want && transposed:
		return true, nil
	case !want && outIn:
		return false, nil
	}
	e := unfit("shapes do not fit %s: ΔW would be %v (got A %v, B %v, want %v)", formats.Quote(site.Weight.Name), u.Shape(), u.A.Shape, u.B.Shape, storedShape(shape, want))
	if transposed || outIn {
		e.Hint = "A and B look transposed, or the base stores this layer the other way round (fan_in_fan_out)"
	}
	return false, e
}

// storedShape returns the (out, in) that factors must have for a weight.
func storedShape(shape []int64, inOut bool) []int64 {
	if inOut && len(shape) == 2 {
		return []int64{shape[1], shape[0]}
	}
	return shape
}

func (p *Plan) addReplace(m *Model, w Weighted, e adapter.Entry, u *adapter.Replace, module string) error {
	unfit := func(format string, args ...any) *formats.Error {
		return formats.Unfitf(w.Adapter.Path, firstKey(e), format, args...)
	}
	params := m.params(module, u.Param)
	if len(params) == 0 {
		return missing(m, unfit, module)
	}
	if w.Weight != 1 {
		return unfit("a saved module replaces the base's and cannot be weighted (got weight %v, want 1)", w.Weight)
	}
	for _, t := range params {
		if err := p.replace(t, u, module, unfit); err != nil {
			return err
		}
	}
	return nil
}

func (p *Plan) replace(t param, u *adapter.Replace, module string, unfit func(string, ...any) *formats.Error) error {
	value := u.Value
	if t.inOut && len(value.Shape) == 2 {
		value = adapter.Transposed(value)
	}
	if !slices.Equal(t.Shape, value.Shape) {
		err := unfit("shape differs from %s (got %v, want %v)", formats.Quote(t.Name), value.Shape, t.Shape)
		if len(t.Shape) == 2 && len(value.Shape) == 2 && t.Shape[1] == value.Shape[1] {
			err.Hint = "the vocabulary was resized for training: resize the base the same way first"
		}
		return err
	}
	if t.DType != value.DType && (!t.DType.IsFloat() || !value.DType.IsFloat()) {
		return unfit("cannot turn %s into the base's %s", value.DType, t.DType)
	}
	target := p.target(t.Tensor, module)
	if target.replaced != nil {
		return unfit("a second value for %s, which another saved module replaces", formats.Quote(t.Name))
	}
	target.replaced = asDType(value, t.DType)
	if target.Kind == "" {
		target.Kind = u.Kind()
	} else {
		target.setKind(target.Kind)
	}
	return nil
}

// target returns the plan's target for a base tensor, which all updates of it share.
func (p *Plan) target(t formats.Tensor, module string) *Target {
	if old, ok := p.byName[t.Name]; ok {
		return old
	}
	target := &Target{Module: module, Tensor: t}
	p.targets = append(p.targets, target)
	p.byName[t.Name] = target
	return target
}

func firstKey(e adapter.Entry) string {
	if len(e.Keys) > 0 {
		return e.Keys[0]
	}
	return e.Module
}

func missing(m *Model, unfit func(string, ...any) *formats.Error, module string) error {
	err := unfit("the base %s has no module %s", formats.Quote(m.Checkpoint.Path()), formats.Quote(module))
	if hf.IsOutputHead(module) && m.tied {
		return err.WithHint("its head is tied to its input embedding (tie_word_embeddings) and cannot change alone")
	}
	if m.Config.Quantization != "" {
		return err.WithHint("the base is quantised (%s): merge into the model it was made from", m.Config.Quantization)
	}
	names := make([]string, len(m.Sites))
	for i, s := range m.Sites {
		names[i] = s.Module
	}
	if near := formats.Nearest(module, names, 3); len(near) > 0 {
		return err.WithHint("nearest: %s", strings.Join(quoteAll(near), ", "))
	}
	if m.graph {
		return err.WithHint("no layer of the graph has a name that tells its module: --weights finds them by the numbers of the checkpoint that it was exported from")
	}
	return err
}

func isInputEmbedding(module string) bool {
	switch module[strings.LastIndexByte(module, '.')+1:] {
	case "embed_tokens", "wte", "word_embeddings", "tokens_embed", "embed_in", "shared", "tok_embeddings", "embeddings":
		return true
	}
	return false
}

// CheckComplete reports what [NewPlan] does of an adapter that is incomplete, for who applies
// one without a plan: modules that its config targets and that have no factors.
func CheckComplete(m *Model, a *adapter.Adapter) error { return checkComplete(m, a, renaming{}) }

// checkComplete reports modules of the base that the adapter's config targets and that
// have no factors: a part of the adapter is missing.
func checkComplete(m *Model, a *adapter.Adapter, r renaming) error {
	if a.Selection == nil || a.Selection.AllLinear || len(a.Selection.TargetModules) == 0 && a.Selection.TargetRegex == "" {
		return nil
	}
	matcher, err := a.Selection.Compile()
	if err != nil {
		return formats.Rejectf(a.Path, "", "%v", err)
	}
	have := map[string]bool{}
	for _, e := range a.Entries {
		have[r.apply(e.Module)] = true
	}
	back := renaming{strip: r.add, add: r.strip}
	var absent []string
	for _, s := range m.Sites {
		if have[s.Module] || s.Kind == Other {
			continue
		}
		hit, err := matcher.Match(back.apply(s.Module))
		if err != nil {
			return formats.Rejectf(a.Path, "", "target_modules: %v", err)
		}
		if hit {
			absent = append(absent, formats.Quote(back.apply(s.Module)))
		}
	}
	if len(absent) == 0 {
		return nil
	}
	more := ""
	if len(absent) > 5 {
		more = fmt.Sprintf(" and %d more", len(absent)-5)
	}
	return formats.Unfitf(a.Path, "", "factors are missing for modules that the config targets: %s%s", strings.Join(absent[:min(5, len(absent))], ", "), more)
}

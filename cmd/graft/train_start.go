package main

import (
	"math"
	"regexp"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/train/models"
)

// startingPoint knows where training began: beside the base, or with a part of the base in
// the factors (pissa, olora). In the second case the model is W − s·B₀·A₀ + s·B·A, of which the first
// factors stay frozen, and what was learned is s·(B·A − B₀·A₀). A nil one is of the first kind.
type startingPoint struct {
	initial map[string]*adapter.LowRank // by module: the first factors, where they came out of the base
}

// beginTraining puts the adapter that is trained on a model. takenOut says that its factors are
// a part of the base. An adapter whose result could not be saved is refused here.
func beginTraining(m models.Adaptable, a *adapter.Adapter, opts models.TrainOptions, takenOut bool) (*startingPoint, error) {
	if !takenOut {
		return nil, m.Train(a, opts)
	}
	s := &startingPoint{initial: map[string]*adapter.LowRank{}}
	frozen := &adapter.Adapter{Path: a.Path}
	for _, e := range a.Entries {
		switch u := e.Update.(type) {
		case *adapter.LowRank:
			if !u.Embedding {
				s.initial[e.Module] = u
				frozen.Entries = append(frozen.Entries, e)
			}
		case *adapter.Replace:
		default:
			return nil, formats.Usagef("factors that are taken out of the base cannot be trained beside updates of kind %s (module %s)", u.Kind(), formats.Quote(e.Module))
		}
	}
	if _, err := s.finished(a); err != nil {
		return nil, err
	}
	if err := m.Attach(frozen, -1); err != nil {
		return nil, err
	}
	return s, m.Train(a, opts)
}

// finished makes of the adapter that a model exports the one that is saved, an update of the unchanged
// base. It has the rank of both pairs of factors together, and a config that says the same scale for it:
//
//	s·(B·A − B₀·A₀) = s·[B−B₀  B₀]·[A; A−A₀]
//
// PEFT's [B −B₀]·[A; A₀] has the same product as the difference of two large ones, of which factors in
// 16 bits lose most; here they keep as many digits of what was learned as they have. It may be called at any
// step and as often as one likes, and does not change the adapter that it is given.
func (s *startingPoint) finished(trained *adapter.Adapter) (*adapter.Adapter, error) {
	if s == nil {
		return trained, nil
	}
	cfg, err := peft.ParseConfig(trained.Config, peft.ConfigName)
	if err != nil {
		return nil, err
	}
	out := *trained
	out.Closer = nil
	out.Entries = append([]adapter.Entry(nil), trained.Entries...)
	var updates []*adapter.LowRank
	var modules []string
	for i, e := range out.Entries {
		u, ok := e.Update.(*adapter.LowRank)
		if !ok {
			continue
		}
		joined := *u
		if first := s.initial[e.Module]; first != nil {
			moved, err := differences(u, first)
			if err != nil {
				return nil, err
			}
			joined.A = adapter.Rows(u.A.Name, u.A, moved.A)
			joined.B = adapter.Columns(u.B.Name, moved.B, first.B)
		}
		out.Entries[i].Update = &joined
		updates, modules = append(updates, &joined), append(modules, e.Module)
	}
	if err := doubleRanks(cfg, modules, updates); err != nil {
		return nil, err
	}
	out.Config, out.Selection = cfg.Encode(), &cfg.Selection
	return &out, nil
}

// differences returns how far the factors have moved.
func differences(now, first *adapter.LowRank) (moved adapter.LowRank, err error) {
	minus := func(x, y formats.Tensor) (formats.Tensor, error) {
		to, err := x.Float32s()
		if err != nil {
			return x, err
		}
		from, err := y.Float32s()
		if err != nil {
			return x, err
		}
		for i := range to {
			to[i] -= from[i]
		}
		return formats.FromFloat32s(x.Name, x.Shape, to), nil
	}
	if moved.A, err = minus(now.A, first.A); err != nil {
		return moved, err
	}
	moved.B, err = minus(now.B, first.B)
	return moved, err
}

// doubleRanks makes the config one of the updates, whose factors are those of the config or twice
// as many. Each gets the scale that a reader of the config computes: the same, to the last bit or the one before.
func doubleRanks(cfg *peft.Config, modules []string, updates []*adapter.LowRank) error {
	twice := *cfg
	twice.InitWeights = patch.InitDefault // the base is what it was
	alpha := 2.0
	if cfg.UseRSLoRA {
		alpha = math.Sqrt2
	}
	multiplied := func(patterns []adapter.Pattern, by float64) (out []adapter.Pattern) {
		for _, p := range patterns {
			out = append(out, adapter.Pattern{Key: p.Key, Value: p.Value * by})
		}
		return out
	}
	twice.R, twice.RankPattern = 2*cfg.R, multiplied(cfg.RankPattern, 2)
	twice.Alpha, twice.AlphaPattern = cfg.Alpha*alpha, multiplied(cfg.AlphaPattern, alpha)
	fits, err := takeScales(&twice, modules, updates)
	if err == nil && !fits { // some kept their rank: each gets a pattern of its own
		twice.RankPattern, twice.AlphaPattern = nil, nil
		for i, u := range updates {
			key := "^" + regexp.QuoteMeta(modules[i])
			twice.RankPattern = append(twice.RankPattern, adapter.Pattern{Key: key, Value: float64(u.Rank())})
			twice.AlphaPattern = append(twice.AlphaPattern, adapter.Pattern{Key: key, Value: alphaOf(cfg, u.Scale, u.Rank())})
		}
		fits, err = takeScales(&twice, modules, updates)
	}
	if err == nil && !fits {
		err = formats.Usagef("no config gives the modules twice their ranks and the same scales")
	}
	*cfg = twice
	return err
}

// alphaOf returns lora_alpha of a scale at a rank.
func alphaOf(cfg *peft.Config, scale float64, r int64) float64 {
	if cfg.UseRSLoRA {
		return scale * math.Sqrt(float64(r))
	}
	return scale * float64(r)
}

// takeScales gives each update the scale that a reader of the config would, if that has the same
// ranks, and scales that differ by the rounding of alpha only.
func takeScales(cfg *peft.Config, modules []string, updates []*adapter.LowRank) (fits bool, err error) {
	read, err := peft.ParseConfig(cfg.Encode(), peft.ConfigName)
	if err != nil {
		return false, err
	}
	scaling, err := read.Scaling()
	if err != nil {
		return false, err
	}
	scales := make([]float64, len(updates))
	for i, u := range updates {
		r, scale, err := scaling.Of(modules[i])
		if err != nil {
			return false, err
		}
		if r != u.Rank() || math.Abs(scale-u.Scale) > 1e-15*math.Abs(u.Scale) {
			return false, nil
		}
		scales[i] = scale
	}
	for i, u := range updates {
		u.Scale = scales[i]
	}
	return true, nil
}

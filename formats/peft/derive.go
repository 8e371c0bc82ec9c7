package peft

import (
	"cmp"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// ConfigFor returns the config of an adapter that comes from a dialect without one, or
// with another, or from no file: each module is targeted by its whole path, the rank and alpha that most
// modules have are r and lora_alpha, and the others get patterns; modules of which a
// parameter is saved whole are modules_to_save, but for biases alone, which are those of the option bias. Alpha is the scale times
// the rank, or the number beside it that gives the scale again; [Write] refuses where none does.
func ConfigFor(a *adapter.Adapter) (*Config, error) {
	c := &Config{BaseModel: a.Base, InitWeights: "true"}
	type setting struct {
		r     int64
		alpha float64
	}
	count := map[setting]int{}
	of := make([]setting, len(a.Entries))
	for i, e := range a.Entries {
		if _, ok := e.Update.(*adapter.BiasDelta); ok {
			c.LoRABias = true
			continue
		}
		if u, ok := e.Update.(*adapter.Replace); ok {
			if u.Param == "bias" && !replacesWeight(a, e.Module) {
				if c.Bias != BiasAll && hasFactors(a, e.Module) {
					c.Bias = BiasOfTargets
				} else {
					c.Bias = BiasAll
				}
				continue
			}
			if hasFactors(a, e.Module) { // saved beside its factors
				continue
			}
			if sel := &c.Selection; !slices.Contains(sel.ModulesToSave, e.Module) {
				sel.ModulesToSave = append(sel.ModulesToSave, e.Module)
			}
			continue
		}
		u, ok := adapter.LowRankOf(e.Update)
		if !ok {
			return nil, formats.Unfitf(a.Path, "", "module %s: PEFT has no form for an update of kind %s", formats.Quote(e.Module), e.Update.Kind())
		}
		if _, scaled := e.Update.(*adapter.Magnitude); scaled {
			c.UseDoRA = true
		}
		of[i] = setting{u.Rank(), alphaFor(u.Scale, u.Rank())}
		count[of[i]]++
		c.Selection.TargetModules = append(c.Selection.TargetModules, e.Module)
		c.FanInFanOut = c.FanInFanOut || u.FanInFanOut
	}
	c.TieWeights = a.Tied
	// What lies in a saved module is saved with it.
	c.Selection.ModulesToSave = slices.DeleteFunc(slices.Clone(c.Selection.ModulesToSave), func(m string) bool {
		return slices.ContainsFunc(c.Selection.ModulesToSave, func(holder string) bool { return strings.HasPrefix(m, holder+".") })
	})
	if len(count) == 0 {
		if len(c.Selection.ModulesToSave) == 0 && c.Bias == "" {
			return nil, formats.Unfitf(a.Path, "", "it has no modules")
		}
		c.R, c.Alpha, c.Selection.TargetRegex = 8, 8, noTargets
		return c, nil
	}
	most := slices.MaxFunc(slices.SortedFunc(maps.Keys(count), func(x, y setting) int {
		return cmp.Or(cmp.Compare(x.r, y.r), cmp.Compare(x.alpha, y.alpha))
	}), func(x, y setting) int { return cmp.Compare(count[x], count[y]) })
	c.R, c.Alpha = most.r, most.alpha
	for i, s := range of {
		if s.r == 0 { // a bias, or saved whole
			continue
		}
		// From the beginning of the path on, so that the key is of no other module.
		key := "^" + regexp.QuoteMeta(a.Entries[i].Module)
		if s.r != c.R {
			c.RankPattern = append(c.RankPattern, adapter.Pattern{Key: key, Value: float64(s.r)})
		}
		if s.alpha != c.Alpha {
			c.AlphaPattern = append(c.AlphaPattern, adapter.Pattern{Key: key, Value: s.alpha})
		}
	}
	return c, nil
}

// replacesWeight reports whether a module's weight is replaced too: then it is saved whole,
// and else a bias of its own is one of those that the option bias has trained.
func replacesWeight(a *adapter.Adapter, module string) bool {
	return slices.ContainsFunc(a.Entries, func(e adapter.Entry) bool {
		u, ok := e.Update.(*adapter.Replace)
		return ok && u.Param == "weight" && e.Module == module
	})
}

// noTargets is PEFT's word for an adapter that targets no module (DUMMY_TARGET_MODULES).
const noTargets = "dummy-target-modules"

// alphaFor returns alpha for which alpha/r is a scale, exactly where float64 has such a
// number.
func alphaFor(scale float64, r int64) float64 {
	rank := float64(r)
	alpha := scale * rank
	for _, x := range []float64{alpha, math.Nextafter(alpha, math.Inf(1)), math.Nextafter(alpha, math.Inf(-1))} {
		if x/rank == scale {
			return x
		}
	}
	return alpha
}

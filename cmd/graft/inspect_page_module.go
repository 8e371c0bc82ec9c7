package main

import (
	"fmt"
	"math"

	"github.com/seed-b982eded/graft/patch/health"
	html "github.com/seed-b982eded/graft/patch/report"
)

// healthMeasures are what is shown of modules, in the table and the map.
var healthMeasures = []shown[health.Module]{
	{"‖ΔW‖", "the size of the change, Frobenius", ofProduct(func(p *health.Product) float64 { return p.Norm }), false},
	{"‖ΔW‖/‖W‖", "the size of the change, beside the weight's", relativeOf, false},
	{"RMS of ΔW", "the size of an element of the change", ofProduct(func(p *health.Product) float64 { return p.RMS }), false},
	{"Eff. rank", "exp of the entropy of the singular values", ofProduct(func(p *health.Product) float64 { return p.EffectiveRank }), false},
	{"Share of rank", "effective rank in the rank of the factors, or what the shape allows", ofProduct(func(p *health.Product) float64 { return p.EffectiveRank / float64(len(p.Spectrum)) }), false},
	{"Stable rank", "‖ΔW‖²/σ₁²", ofProduct(func(p *health.Product) float64 { return p.StableRank }), false},
}

// relativeOf is ‖ΔW‖/‖W‖ of a module: infinite where W alone is zero, and NaN without a base
// or factors that are finite.
func relativeOf(m health.Module) float64 {
	switch {
	case m.Base == nil || m.Product == nil:
		return math.NaN()
	case m.Base.Relative != nil:
		return *m.Base.Relative
	case m.Product.Norm == 0:
		return math.NaN()
	}
	return math.Inf(1)
}

func ofProduct(f func(*health.Product) float64) func(health.Module) float64 {
	return func(m health.Module) float64 {
		if m.Product == nil {
			return math.NaN()
		}
		return f(m.Product)
	}
}

func (h *healthInfo) moduleMap(needed map[string]int) *html.HeatMap {
	norm := func(i int) float64 { return healthMeasures[0].of(h.Modules[i]) }
	c := gridOf(texts(h.Modules, func(m health.Module) string { return m.Module }), norm)
	if c == nil {
		return nil
	}
	t := c.heatMap("Where it changes the model", "", "module", "module with the largest change", func(i int) int { return i })
	addMeasures(c, t, healthMeasures, h.Modules)
	if h.Advice != nil {
		c.measure(t, html.Measure{Name: "Rank needed", Note: "to keep " + energyText(h.Advice) + " of the energy"}, func(i int) float64 { return neededOf(needed, h.Modules[i]) })
	}
	if len(t.Measures) == 0 {
		return nil
	}
	return t
}

// neededOf is NaN for a module without advice.
func neededOf(needed map[string]int, m health.Module) float64 {
	if n, ok := needed[m.Module]; ok {
		return float64(n)
	}
	return math.NaN()
}

// energyText is the share of the energy that an advice keeps.
func energyText(a *health.Advice) string { return fmt.Sprintf("%.6g %%", 100*a.Energy) }

// neededRanks are those that the modules need.
func neededRanks(a *health.Advice) string {
	least := a.Modules[0].Needed
	for _, m := range a.Modules {
		least = min(least, m.Needed)
	}
	return rangeText(int64(least), int64(a.CommonRank))
}

func healthItem(m health.Module, needed map[string]int, advice *health.Advice, found []string) html.Item {
	item := html.Item{Name: m.Module}
	add := func(label, value string) { item.Facts = append(item.Facts, html.Fact{Label: label, Value: value}) }
	for _, f := range found {
		add("Found", f)
	}
	add("Shape of ΔW", fmt.Sprint(m.Shape))
	add("Rank", fmt.Sprint(m.Rank))
	if n, ok := needed[m.Module]; ok {
		add("Rank for "+energyText(advice), fmt.Sprint(n))
	}
	if m.DeadRanks > 0 {
		add("Dead ranks", fmt.Sprint(m.DeadRanks))
	}
	add("Scale s", short(m.Scale))
	elements := func(label string, e *health.Elements) {
		add(label, fmt.Sprintf("%s %v, RMS %s, largest %s", e.DType, e.Shape, short(e.RMS), short(e.MaxAbs)))
	}
	if p := m.Product; p != nil {
		add("‖ΔW‖", short(p.Norm))
		if m.Base != nil {
			add("‖W‖", short(m.Base.Norm))
			add("‖ΔW‖/‖W‖", short(healthMeasures[1].of(m)))
		}
		add("Effective rank", short(p.EffectiveRank))
		add("Stable rank", short(p.StableRank))
	}
	elements("A", &m.A)
	elements("B", &m.B)
	if m.Magnitude != nil {
		elements("Magnitude", m.Magnitude)
	}
	if m.Product == nil {
		return item
	}
	v := resolved(m.Product.Spectrum)
	item.Charts = append(item.Charts, html.Chart{Title: "Singular values of ΔW", X: "singular value", Log: logarithmic(v), Series: []html.Series{{Name: "σ", Values: v}}})
	if kept := energyOf(v); len(kept) > 1 {
		item.Charts = append(item.Charts, html.Chart{Title: "Energy that a rank keeps, in %", X: "rank", Series: []html.Series{{Name: "energy", Values: kept}}})
	}
	return item
}

// resolved leaves out singular values that are nothing but rounding.
func resolved(v []float64) []float64 {
	for i, x := range v {
		if x <= v[0]*1e-13 {
			return v[:i]
		}
	}
	return v
}

// energyOf is the share of Σσ² in the singular values up to each, in per cent.
func energyOf(v []float64) []float64 {
	out := make([]float64, len(v))
	sum := 0.0
	for i, x := range v {
		sum += x / v[0] * (x / v[0])
		out[i] = sum
	}
	for i := range out {
		out[i] *= 100 / sum
	}
	return out
}

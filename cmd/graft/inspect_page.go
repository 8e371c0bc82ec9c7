package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/ortadapter"
	"github.com/seed-b982eded/graft/patch/health"
	html "github.com/seed-b982eded/graft/patch/report"
)

// page makes a page of what was found.
func (r *inspectResult) page() *html.Page {
	p := &html.Page{Title: filepath.Base(filepath.Clean(r.Path))}
	if p.Title == "." || p.Title == ".." {
		p.Title = r.Path
	}
	if r.Health != nil {
		r.adapterPage(p)
	} else {
		r.modelPage(p)
	}
	return p
}

func (r *inspectResult) adapterPage(p *html.Page) {
	h := r.Health
	p.Summary = r.adapterSentence()
	p.Facts = r.adapterFacts()
	needed := map[string]int{}
	if h.Advice != nil {
		for _, m := range h.Advice.Modules {
			needed[m.Module] = m.Needed
		}
	}
	found := map[string][]string{}
	for _, f := range h.Findings {
		if f.Module != "" {
			found[f.Module] = append(found[f.Module], string(f.Level)+": "+f.Text)
		}
	}
	items, most := map[string]int{}, -1.0
	for i, m := range h.Modules {
		items[m.Module] = i
		p.Items = append(p.Items, healthItem(m, needed, h.Advice, found[m.Module]))
		if m.Product != nil && m.Product.Norm > most {
			most, p.First = m.Product.Norm, i
		}
	}
	m := h.moduleMap(needed)
	if m != nil {
		p.Parts = append(p.Parts, m)
	}
	if len(p.Items) > 0 {
		p.Parts = append(p.Parts, oneByOne("The module that", m != nil))
	}
	if len(h.Findings) > 0 {
		p.Parts = append(p.Parts, h.findingTable(items))
	}
	if h.Advice != nil && len(h.Advice.Modules) > 0 {
		p.Parts = append(p.Parts, h.adviceTable())
	}
	if len(h.Modules) > 0 {
		p.Parts = append(p.Parts, r.healthTable(needed))
	}
	if len(h.Saved) > 0 {
		p.Parts = append(p.Parts, savedTable(h.Saved))
	}
	if t := settingsTable(r.config); t != nil {
		p.Parts = append(p.Parts, t)
	}
}

// adapterSentence says what an adapter is and in what state.
func (r *inspectResult) adapterSentence() string {
	kind := "A LoRA adapter"
	if slices.ContainsFunc(r.Health.Modules, func(m health.Module) bool { return m.Magnitude != nil }) {
		kind = "A DoRA adapter"
	}
	if r.dialect == ortadapter.Dialect {
		kind += " of ONNX Runtime"
	}
	if r.Base != "" {
		kind += " for " + formats.Quote(r.Base)
	}
	what := countOf(len(r.Health.Modules), "module")
	if ranks := r.ranks(); ranks != "" {
		what += " of rank " + ranks
	}
	if n := len(r.Health.Saved); n > 0 {
		what += ", " + countOf(n, "parameter") + " saved whole"
	}
	h := r.Health
	verdict := "The check found nothing wrong"
	switch {
	case h.Errors > 0:
		verdict = "It cannot be used as it is: the check found " + h.counts()
	case h.Warnings > 0:
		verdict = "Something went wrong in making it: the check found " + h.counts()
	case h.Notes > 0:
		verdict += ", and " + countOf(h.Notes, "thing") + " worth knowing"
	}
	return fmt.Sprintf("%s: %s, %s parameters, %s. %s.", kind, what, countText(r.Params), sizeText(r.Bytes), verdict)
}

// ranks are those of all modules, "" where there are none.
func (r *inspectResult) ranks() string {
	least, most := int64(math.MaxInt64), int64(0)
	for _, m := range r.Health.Modules {
		least, most = min(least, m.Rank), max(most, m.Rank)
	}
	if len(r.Health.Modules) == 0 {
		return ""
	}
	return rangeText(least, most)
}

func (r *inspectResult) adapterFacts() []html.Fact {
	h := r.Health
	check := "sound"
	switch {
	case h.Errors > 0:
		check = countOf(h.Errors, "error")
	case h.Warnings > 0:
		check = countOf(h.Warnings, "warning")
	}
	note := ""
	if len(h.Findings) > 0 {
		note = strings.TrimPrefix(strings.TrimPrefix(h.counts(), check), ", ")
	}
	if h.Base != "" {
		note = strings.TrimPrefix(note+", compared with the base", ", ")
	}
	out := []html.Fact{{Label: "Check", Value: check, Note: note}}
	if len(h.Modules) > 0 {
		norm, effective, measured := 0.0, 0.0, 0
		for _, m := range h.Modules {
			if m.Product != nil {
				norm = math.Hypot(norm, m.Product.Norm)
				effective += m.Product.EffectiveRank
				measured++
			}
		}
		out = append(out, html.Fact{Label: "Modules", Value: countText(int64(len(h.Modules))), Note: "of rank " + r.ranks()})
		if measured > 0 {
			out = append(out,
				html.Fact{Label: "‖ΔW‖", Value: short(norm), Note: "in " + someOf(measured, len(h.Modules), "module")},
				html.Fact{Label: "Effective rank", Value: tenth(effective / float64(measured)), Note: "mean of " + someOf(measured, len(h.Modules), "module")})
		}
	}
	if a := h.Advice; a != nil && len(a.Modules) > 0 {
		out = append(out, html.Fact{Label: "Rank for " + energyText(a), Value: neededRanks(a), Note: "of the energy of each ΔW"})
	}
	return append(out,
		html.Fact{Label: "Parameters", Value: amountText(r.Params), Note: countText(r.Params)},
		html.Fact{Label: "Size", Value: sizeText(r.Bytes), Note: r.types()})
}

// types are the types of all tensors, those that take most first.
func (r *inspectResult) types() string {
	sizes := map[string]int64{}
	for _, t := range r.tensors {
		sizes[t.DType] += t.Bytes
	}
	list := slices.SortedFunc(maps.Keys(sizes), func(a, b string) int {
		return cmp.Or(cmp.Compare(sizes[b], sizes[a]), cmp.Compare(a, b))
	})
	return strings.Join(list, ", ")
}

// shapeColumn lists shapes, which sort by how much they hold.
func shapeColumn[T any](list []T, of func(T) []int64) html.Column {
	return html.Column{Name: "Shape", Numbers: collect(list, func(x T) float64 { return float64(elements(of(x))) }), Texts: texts(list, func(x T) string { return fmt.Sprint(of(x)) })}
}

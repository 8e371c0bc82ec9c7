package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/seed-b982eded/graft/patch/health"
	html "github.com/seed-b982eded/graft/patch/report"
)

func (h *healthInfo) findingTable(items map[string]int) *html.Table {
	t := &html.Table{Title: "What the check found", Stacked: true, Note: "Errors make an adapter useless as it is, warnings say what went wrong in making it, and sound adapters have notes too.",
		Columns: []html.Column{{Name: "Where", Code: true}, {Name: "Level"}, {Name: "What"}, {Name: "Name", Note: "the same from release to release", Code: true}}}
	for _, f := range h.Findings {
		item, ok := items[f.Module]
		if !ok {
			item = -1
		}
		t.Items = append(t.Items, item)
		for i, s := range []string{cmp.Or(f.Tensor, f.Module, "–"), string(f.Level), f.Text, f.What} {
			t.Columns[i].Texts = append(t.Columns[i].Texts, s)
		}
	}
	return t
}

func (h *healthInfo) adviceTable() *html.Table {
	a := h.Advice
	least, most := a.Modules[0].Rank, int64(0)
	for _, m := range a.Modules {
		least, most = min(least, m.Rank), max(most, m.Rank)
	}
	t := &html.Table{Title: "Which rank would do", Plain: true,
		Columns: []html.Column{{}, {Name: "Rank"}, {Name: "Factors"}, {Name: "Of now"}, {Name: "Command", Code: true}}}
	row := func(what, rank string, bytes int64, command string) {
		for i, s := range []string{what, rank, sizeText(bytes), percentText(float64(bytes) / float64(max(1, a.Bytes))), command} {
			t.Columns[i].Texts = append(t.Columns[i].Texts, s)
		}
	}
	row("As it is", rangeText(least, most), a.Bytes, "")
	if a.CommonRank == 0 {
		t.Note = "None: the factors change nothing. "
	} else {
		row(energyText(a)+" of the energy, a rank for each module", neededRanks(a), a.NewBytes, h.Command)
		row(energyText(a)+" of the energy, one rank for all", fmt.Sprint(a.CommonRank), a.CommonBytes, "")
	}
	if n := len(a.Modules); n < len(h.Modules) {
		t.Note += "Of " + someOf(n, len(h.Modules), "module") + "; the factors of the others are not finite. "
	}
	if n := h.SlimBytes; n != nil && *n > 0 {
		t.Note += "graft resize --slim would save " + sizeText(*n) + " and lose nothing."
	}
	return t
}

func (r *inspectResult) healthTable(needed map[string]int) *html.Table {
	list := r.Health.Modules
	t := &html.Table{Title: "Modules", By: 1, Items: make([]int, len(list))}
	for i := range t.Items {
		t.Items[i] = i
	}
	t.Columns = []html.Column{{Name: "Module", Texts: texts(list, func(m health.Module) string { return m.Module }), Code: true}}
	for _, x := range healthMeasures {
		t.Columns = append(t.Columns, html.Column{Name: x.name, Note: x.note, Numbers: collect(list, x.of)})
	}
	t.Columns = append(t.Columns, html.Column{Name: "Rank", Note: "of the factors", Numbers: collect(list, func(m health.Module) float64 { return float64(m.Rank) })})
	if a := r.Health.Advice; a != nil {
		t.Columns = append(t.Columns, html.Column{Name: "Needed", Note: "rank that keeps " + energyText(a) + " of the energy", Numbers: collect(list, func(m health.Module) float64 { return neededOf(needed, m) })})
	}
	if slices.ContainsFunc(list, func(m health.Module) bool { return m.DeadRanks > 0 }) {
		t.Columns = append(t.Columns, html.Column{Name: "Dead", Note: "ranks that add exactly nothing", Numbers: collect(list, func(m health.Module) float64 { return float64(m.DeadRanks) })})
	}
	t.Columns = append(t.Columns,
		html.Column{Name: "Scale", Numbers: collect(list, func(m health.Module) float64 { return m.Scale })},
		shapeColumn(list, func(m health.Module) []int64 { return m.Shape }))
	t.Columns = columnsOf(t.Columns...)
	t.By = max(0, slices.IndexFunc(t.Columns, func(c html.Column) bool { return c.Name == healthMeasures[0].name }))
	return t
}

func savedTable(list []health.Saved) *html.Table {
	t := &html.Table{Title: "Parameters saved whole", Columns: []html.Column{
		{Name: "Parameter", Texts: texts(list, func(s health.Saved) string { return s.Module + "." + s.Param }), Code: true},
		{Name: "Type", Texts: texts(list, func(s health.Saved) string { return s.Elements.DType })},
		shapeColumn(list, func(s health.Saved) []int64 { return s.Elements.Shape }),
		{Name: "Size", Numbers: collect(list, func(s health.Saved) float64 { return float64(s.Bytes) }), Texts: texts(list, func(s health.Saved) string { return sizeText(s.Bytes) })},
		{Name: "RMS", Numbers: collect(list, func(s health.Saved) float64 { return s.Elements.RMS })},
		{Name: "What", Texts: texts(list, savedText)},
	}}
	return t
}

func savedText(s health.Saved) string {
	switch {
	case s.Added:
		return "added to the base's"
	case s.SameAsBase == nil:
		return "in place of the base's"
	case *s.SameAsBase:
		return "in place of the base's, and the same"
	}
	return "in place of the base's, and not the same"
}

// settingsTable lists what a config file sets; nil where it sets nothing.
func settingsTable(config []byte) *html.Table {
	var fields map[string]json.RawMessage
	if json.Unmarshal(config, &fields) != nil {
		return nil
	}
	t := &html.Table{Title: "Configuration", Note: "Keys that are null or empty are left out.", Columns: []html.Column{{Name: "Key", Code: true}, {Name: "Value", Code: true}}}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		var value bytes.Buffer
		if err := json.Compact(&value, fields[key]); err != nil || slices.Contains([]string{"null", "{}", "[]", `""`}, value.String()) {
			continue
		}
		t.Columns[0].Texts = append(t.Columns[0].Texts, key)
		t.Columns[1].Texts = append(t.Columns[1].Texts, valueText(value.Bytes()))
	}
	if len(t.Columns[0].Texts) == 0 {
		return nil
	}
	return t
}

package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/patch/diff"
	html "github.com/seed-b982eded/graft/patch/report"
)

// cells is a grid of what is named alike in all layers.
type cells struct {
	rows, layers []string
	at           [][]int // the names' indexes, −1 where there is none
	folded       bool    // some cells stand for several
	left         int     // names that tell no layer, and are not in it
}

// maxMapRows is from where on other numbers in names, such as those of experts, are left open.
const maxMapRows = 72

// gridOf lays names out by layer, the first number between dots or slashes. Where several
// would have one cell the one with the largest weight has it. It is nil where fewer than two
// names have a layer.
func gridOf(names []string, weight func(int) float64) *cells {
	type split struct{ layer, group string }
	splits := make([]split, len(names))
	groups := map[string]int{}
	for i, name := range names {
		splits[i].layer, splits[i].group = layerOf(name)
		if splits[i].layer != "" {
			groups[splits[i].group]++
		}
	}
	c := &cells{}
	if len(groups) > maxMapRows {
		clear(groups)
		for i := range splits {
			splits[i].group = overLayers(splits[i].group)
			if splits[i].layer != "" {
				groups[splits[i].group]++
			}
		}
	}
	if len(groups) > 4*maxMapRows {
		return nil
	}
	var order []string
	layers := map[string]int{}
	used := 0
	for _, s := range splits {
		if s.layer == "" {
			continue
		}
		used++
		if !slices.Contains(order, s.group) {
			order = append(order, s.group)
		}
		if _, ok := layers[s.layer]; !ok {
			layers[s.layer] = 0
			c.layers = append(c.layers, s.layer)
		}
	}
	if used < 2 {
		return nil
	}
	c.left = len(names) - used
	slices.SortFunc(c.layers, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	for j, l := range c.layers {
		layers[l] = j
	}
	for range order {
		row := make([]int, len(c.layers))
		for j := range row {
			row[j] = -1
		}
		c.at = append(c.at, row)
	}
	for i, s := range splits {
		if s.layer == "" {
			continue
		}
		cell := &c.at[slices.Index(order, s.group)][layers[s.layer]]
		if *cell >= 0 {
			c.folded = true
			if !(weight(i) > weight(*cell)) {
				continue
			}
		}
		*cell = i
	}
	c.rows = shortened(order)
	return c
}

// layerOf returns the first number of a name and the name with that left open.
func layerOf(name string) (layer, group string) {
	at := 0
	for _, part := range strings.FieldsFunc(name, func(r rune) bool { return r == '.' || r == '/' }) {
		i := at + strings.Index(name[at:], part)
		if len(part) <= 6 && strings.Trim(part, "0123456789") == "" {
			return part, name[:i] + "*" + name[i+len(part):]
		}
		at = i + len(part)
	}
	return "", name
}

// shortened takes off what all names begin with and end with, between dots or slashes.
func shortened(names []string) []string {
	split := func(s string) (parts []string) { // each with the mark behind it
		for {
			i := strings.IndexAny(s, "./") + 1
			if i == 0 {
				return append(parts, s)
			}
			parts, s = append(parts, s[:i]), s[i:]
		}
	}
	first := split(names[0])
	begin, end := len(first)-1, len(first)-1
	for _, name := range names[1:] {
		parts := split(name)
		i, j := 0, 0
		for i < min(begin, len(parts)-1) && parts[i] == first[i] {
			i++
		}
		for j < min(end, len(parts)-1) && parts[len(parts)-1-j] == first[len(first)-1-j] {
			j++
		}
		begin, end = min(begin, i), min(end, j)
	}
	if len(names) == 1 {
		begin, end = max(0, slices.IndexFunc(first, func(part string) bool { return part == "*." || part == "*/" })+1), 0
	}
	out := make([]string, len(names))
	for k, name := range names {
		parts := split(name)
		to := max(begin+1, len(parts)-end)
		out[k] = strings.Trim(strings.Join(parts[min(begin, to-1):min(to, len(parts))], ""), "./")
	}
	return out
}

// heatMap makes a map of what lies in the cells; which says what is shown of several in one.
func (c *cells) heatMap(title, note, what, which string, items func(int) int) *html.HeatMap {
	if c.folded {
		note += fmt.Sprintf(" A cell that stands for several shows the %s.", which)
	}
	if c.left > 0 {
		note += fmt.Sprintf(" %s %s not in the map: the %s no layer.", countOf(c.left, what), verb(c.left, "is", "are"), verb(c.left, "name tells", "names tell"))
	}
	note = strings.TrimSpace(note)
	h := &html.HeatMap{Title: title, Note: note, RowName: what, ColName: "layer", Rows: c.rows, Cols: c.layers}
	for _, row := range c.at {
		list := make([]int, len(row))
		for j, i := range row {
			list[j] = -1
			if i >= 0 {
				list[j] = items(i)
			}
		}
		h.Items = append(h.Items, list)
	}
	return h
}

// shown is a number that things have, in tables and maps.
type shown[T any] struct {
	name, note string
	of         func(T) float64
	fixed      bool // colours go from 0 to 1
}

// addMeasures adds the measures that any of the things has.
func addMeasures[T any](c *cells, h *html.HeatMap, list []shown[T], things []T) {
	for _, x := range list {
		m := html.Measure{Name: x.name, Note: x.note}
		if x.fixed {
			m.To = 1
		}
		c.measure(h, m, func(i int) float64 { return x.of(things[i]) })
	}
}

// measure adds a measure, if anything has it.
func (c *cells) measure(h *html.HeatMap, m html.Measure, of func(int) float64) {
	var all []float64
	for _, row := range c.at {
		list := make([]float64, len(row))
		for j, i := range row {
			list[j] = math.NaN()
			if i >= 0 {
				list[j] = of(i)
			}
			if list[j] == list[j] {
				all = append(all, list[j])
			}
		}
		m.Values = append(m.Values, list)
	}
	if len(all) == 0 {
		return
	}
	m.Log = m.To == 0 && !slices.ContainsFunc(all, func(x float64) bool { return x < 0 }) && logarithmic(all)
	h.Measures = append(h.Measures, m)
}

func (r *diffResult) moduleMap() *html.HeatMap {
	names := texts(r.Modules, func(m diff.Module) string { return m.Module })
	c := gridOf(names, func(i int) float64 { return float64(r.Modules[i].Relative) })
	if c == nil {
		return nil
	}
	h := c.heatMap("Where ΔW differs", "", "module", "module that changed most", func(i int) int { return i })
	addMeasures(c, h, measures, r.Modules)
	if len(h.Measures) == 0 {
		return nil
	}
	return h
}

// tensorMap maps all tensors that both have, also those that are the same.
func (r *diffResult) tensorMap() *html.HeatMap {
	names := slices.Concat(texts(r.Tensors, func(t diff.Tensor) string { return t.Name }), r.Alike)
	value := func(f func(v *diff.Values) float64) func(int) float64 {
		return func(i int) float64 {
			switch {
			case i >= len(r.Tensors):
				return 0
			case r.Tensors[i].Values == nil:
				return math.NaN()
			}
			return f(r.Tensors[i].Values)
		}
	}
	relative := value(func(v *diff.Values) float64 { return float64(v.Relative) })
	c := gridOf(names, relative)
	if c == nil {
		return nil
	}
	h := c.heatMap("Where values differ", "", "tensor", "tensor that changed most", func(i int) int {
		if i < len(r.Tensors) {
			return i
		}
		return -1
	})
	c.measure(h, html.Measure{Name: "Relative", Note: "‖B − A‖/‖A‖, Frobenius; 0 where a tensor is the same"}, relative)
	c.measure(h, html.Measure{Name: "Share of elements", Note: "how much of a tensor's elements differ", To: 1}, value(func(v *diff.Values) float64 { return float64(v.Differing) / float64(max(1, v.Elements)) }))
	c.measure(h, html.Measure{Name: "‖B − A‖", Note: "the distance, Frobenius"}, value(func(v *diff.Values) float64 { return float64(v.Distance) }))
	c.measure(h, html.Measure{Name: "Max abs", Note: "the largest |b − a|"}, value(func(v *diff.Values) float64 { return float64(v.MaxAbs) }))
	if len(h.Measures) == 0 {
		return nil
	}
	return h
}

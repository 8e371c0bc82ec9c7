package main

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"github.com/seed-b982eded/graft/patch/diff"
	html "github.com/seed-b982eded/graft/patch/report"
)

// page makes a page of what was found.
func (r *diffResult) page(tolerance float64) *html.Page {
	a, b := filepath.Base(r.A.Path), filepath.Base(r.B.Path)
	if a == b {
		a, b = r.A.Path, r.B.Path
	}
	p := &html.Page{Title: a + " and " + b, Summary: r.Summary, Facts: r.facts(tolerance)}
	for _, m := range r.Modules {
		p.Items = append(p.Items, moduleItem(m))
	}
	for _, t := range r.Tensors {
		p.Items = append(p.Items, tensorItem(t))
	}
	var h *html.HeatMap
	if len(r.Modules) > 0 {
		h = r.moduleMap()
	} else if len(r.Tensors) > 0 {
		h = r.tensorMap()
	}
	if h != nil {
		p.Parts = append(p.Parts, h)
	}
	if len(p.Items) > 0 {
		p.Parts = append(p.Parts, oneByOne("What", h != nil))
	}
	if len(r.Modules) > 0 {
		p.Parts = append(p.Parts, r.moduleTable())
	}
	if len(r.Tensors) > 0 {
		p.Parts = append(p.Parts, r.tensorTable())
	}
	for _, list := range []struct {
		title string
		names []string
	}{{"Tensors only in A", r.OnlyA}, {"Tensors only in B", r.OnlyB}} {
		if len(list.names) > 0 {
			p.Parts = append(p.Parts, &html.Table{Title: list.title, Columns: []html.Column{{Name: "Tensor", Texts: list.names, Code: true}}})
		}
	}
	if len(r.Config) > 0 {
		p.Parts = append(p.Parts, r.configTable())
	}
	if len(r.Files) > 0 {
		names, what := make([]string, len(r.Files)), make([]string, len(r.Files))
		for i, f := range r.Files {
			names[i], what[i] = f.Name, f.What
		}
		p.Parts = append(p.Parts, &html.Table{Title: "Files beside the weights", Columns: []html.Column{{Name: "File", Texts: names, Code: true}, {Name: "What", Texts: what}}})
	}
	p.Parts = append(p.Parts, r.sidesTable())
	p.First = r.mostChanged()
	return p
}

// mostChanged is the item that changed most: a module if one did, else a tensor. What
// cannot be compared is more than a change.
func (r *diffResult) mostChanged() int {
	most, at := 0.0, 0
	take := func(i int, relative float64) {
		if math.IsNaN(relative) {
			relative = math.Inf(1)
		}
		if relative > most {
			most, at = relative, i
		}
	}
	for i, m := range r.Modules {
		take(i, float64(m.Relative))
	}
	if most > 0 {
		return at
	}
	for i, m := range r.Modules {
		if m.What != diff.Equal {
			return i
		}
	}
	for i, t := range r.Tensors {
		relative := math.NaN()
		if t.Values != nil {
			relative = float64(t.Values.Relative)
		}
		take(len(r.Modules)+i, relative)
	}
	return at
}

func (r *diffResult) facts(tolerance float64) []html.Fact {
	var out []html.Fact
	add := func(label, value, note string) {
		out = append(out, html.Fact{Label: label, Value: value, Note: note})
	}
	tensors, modules := r.Differing(tolerance)
	to := ""
	if tolerance >= 0 {
		to = fmt.Sprintf("to a tolerance of %g", tolerance)
	}
	if n := len(r.Modules); n > 0 {
		add("Modules that differ", fmt.Sprintf("%s of %s", countText(int64(len(modules))), countText(int64(n))), to)
	}
	if r.shared > 0 {
		add("Tensors that differ", fmt.Sprintf("%s of %s", countText(int64(len(tensors))), countText(int64(r.shared))), to)
	}
	if n := len(r.OnlyA) + len(r.OnlyB); n > 0 {
		add("On one side alone", countText(int64(n)), fmt.Sprintf("%s in A, %s in B", countText(int64(len(r.OnlyA))), countText(int64(len(r.OnlyB)))))
	}
	if t := r.Total; t != nil {
		add("Relative change", short(float64(t.Relative)), "‖B − A‖/‖A‖")
		add("Cosine", cosineText(t.Cosine), "")
	}
	if r.Scale != nil {
		add("B is A times", scaleText(*r.Scale), "")
	}
	var base [2]amplified
	for _, m := range r.Modules {
		if m.Base == nil {
			continue
		}
		if m.Base.A != nil {
			base[0].add(m.Base.A, m.A.Norm)
		}
		if m.Base.B != nil {
			base[1].add(m.Base.B, m.B.Norm)
		}
	}
	if base != ([2]amplified{}) {
		add("Amplification", arrow(base[0].text(), base[1].text()), "‖ΔW‖/‖UᵀWV‖, A → B")
	}
	return out
}

func (r *diffResult) sidesTable() *html.Table {
	names := []string{"Path", "Kind", "Weight files", "Tensors", "Parameters", "Size"}
	column := func(s *diffSide) []string {
		kind := map[string]string{"checkpoint": "checkpoint", "onnx": "ONNX model", "adapter": "adapter"}[s.Kind]
		if s.Dialect != "" {
			kind += ", " + s.Dialect
		}
		return []string{s.Path, kind, countText(int64(s.Files)), countText(int64(s.Tensors)), countText(s.Params), sizeText(s.Bytes)}
	}
	t := &html.Table{Title: "What was compared", Plain: true, Columns: []html.Column{{Texts: names}, {Name: "A", Texts: column(&r.A)}, {Name: "B", Texts: column(&r.B)}}}
	if r.Base != "" {
		t.Note = "Measured in the base " + r.Base + "."
	}
	return t
}

func (r *diffResult) configTable() *html.Table {
	columns := []html.Column{{Name: "Key", Code: true}, {Name: "A", Code: true}, {Name: "B", Code: true}, {Name: "File"}}
	for _, k := range r.Config {
		for i, text := range []string{k.Key, valueText(k.A), valueText(k.B), k.File} {
			columns[i].Texts = append(columns[i].Texts, text)
		}
	}
	return &html.Table{Title: "Configuration", Columns: columns}
}

// logarithmic reports whether numbers are so far apart that their logarithms say more.
func logarithmic(lists ...[]float64) bool {
	low, high := math.Inf(1), 0.0
	for _, v := range lists {
		for _, x := range v {
			if x > 0 && !math.IsInf(x, 0) {
				low, high = min(low, x), max(high, x)
			}
		}
	}
	return high > 30*low
}

func floats(v []diff.Number) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

// spectrum leaves out singular values that are nothing but rounding.
func spectrum(u *diff.Update) []float64 {
	v := floats(u.Spectrum)
	for i, x := range v {
		if x <= v[0]*1e-13 {
			return v[:i]
		}
	}
	return v
}

func moduleItem(m diff.Module) html.Item {
	item := html.Item{Name: m.Module}
	add := func(label, value string) { item.Facts = append(item.Facts, html.Fact{Label: label, Value: value}) }
	if what := whatText(m); what != "" {
		add("What", what)
	} else if m.What == diff.Equal {
		add("What", "ΔW is the same")
	}
	either := func(label string, of func(*diff.Update) string) {
		switch {
		case m.A == nil:
			add(label, of(m.B))
		case m.B == nil:
			add(label, of(m.A))
		default:
			add(label, arrow(of(m.A), of(m.B)))
		}
	}
	either("Shape of ΔW", func(u *diff.Update) string { return fmt.Sprint(u.Shape) })
	either("Rank", func(u *diff.Update) string { return fmt.Sprint(u.Rank) })
	either("Scale s", func(u *diff.Update) string { return short(u.Scale) })
	add("‖ΔW‖", arrow(short(normOf(m.A)), short(normOf(m.B))))
	either("Effective rank", func(u *diff.Update) string { return short(float64(u.EffectiveRank)) })
	add("‖B − A‖", short(float64(m.Distance)))
	add("Relative", short(float64(m.Relative)))
	add("Cosine", cosineText(m.Cosine))
	if b := m.Base; b != nil {
		add("‖W‖", short(float64(b.Norm)))
		text := func(f func(*diff.Amplification) diff.Number) string {
			sides := []string{"–", "–"}
			for i, x := range []*diff.Amplification{b.A, b.B} {
				if x != nil {
					sides[i] = short(float64(f(x)))
				}
			}
			return arrow(sides[0], sides[1])
		}
		add("‖UᵀWV‖", text(func(x *diff.Amplification) diff.Number { return x.Projected }))
		add("‖UᵀWV‖ at random", text(func(x *diff.Amplification) diff.Number { return x.Random }))
		add("Amplification", text(func(x *diff.Amplification) diff.Number { return x.Factor }))
	}
	c := html.Chart{Title: "Singular values of ΔW", X: "singular value"}
	var values [][]float64
	for _, side := range []struct {
		name string
		u    *diff.Update
	}{{"A", m.A}, {"B", m.B}} {
		var v []float64
		if side.u != nil {
			v = spectrum(side.u)
		}
		values = append(values, v)
		c.Series = append(c.Series, html.Series{Name: side.name, Values: v})
	}
	c.Log = logarithmic(values...)
	item.Charts = []html.Chart{c}
	for _, s := range []struct {
		title, note string
		s           *diff.Similarity
	}{{"φ in: what both read from", "Of the leading i and j directions of each.", m.Input}, {"φ out: what both write to", "Of the leading i and j directions of each.", m.Output}} {
		if s.s == nil {
			continue
		}
		x := html.Matrix{Title: s.title, Note: s.note, RowName: "i of A", ColName: "j of B"}
		for _, i := range s.s.RanksA {
			x.Rows = append(x.Rows, fmt.Sprint(i))
		}
		for _, j := range s.s.RanksB {
			x.Cols = append(x.Cols, fmt.Sprint(j))
		}
		for _, row := range s.s.Phi {
			x.Values = append(x.Values, floats(row))
		}
		item.Matrices = append(item.Matrices, x)
	}
	return item
}

func tensorItem(t diff.Tensor) html.Item {
	item := html.Item{Name: t.Name}
	add := func(label, value string) { item.Facts = append(item.Facts, html.Fact{Label: label, Value: value}) }
	add("Type", arrow(t.DTypeA, t.DTypeB))
	add("Shape", arrow(fmt.Sprint(t.ShapeA), fmt.Sprint(t.ShapeB)))
	v := t.Values
	if v == nil {
		return item
	}
	add("Elements that differ", share(v.Differing, v.Elements))
	if v.NotFinite > 0 {
		add("Not finite", countText(v.NotFinite))
	}
	add("Largest |b − a|", short(float64(v.MaxAbs)))
	add("‖A‖", short(float64(v.NormA)))
	add("‖B‖", short(float64(v.NormB)))
	add("Relative", short(float64(v.Relative)))
	add("Cosine", cosineText(v.Cosine))
	if len(v.ULPs) > 0 {
		c := html.Chart{Title: "Elements by how many ulps they are apart", Series: []html.Series{{Name: "elements"}}}
		for _, u := range v.ULPs {
			c.Labels = append(c.Labels, apartText(u))
			c.Series[0].Values = append(c.Series[0].Values, float64(u.Count))
		}
		item.Charts = []html.Chart{c}
	}
	return item
}

// apartText says how far apart the elements of a class are.
func apartText(u diff.ULPs) string {
	switch {
	case u.To == 0:
		return "the sign of 0"
	case u.From == u.To:
		return countText(int64(u.From))
	case u.From >= 1<<20:
		return fmt.Sprintf("from %.1e", float64(u.From))
	}
	return fmt.Sprintf("%s–%s", countText(int64(u.From)), countText(int64(u.To)))
}

// columnsOf leaves out columns of numbers that have none.
func columnsOf(list ...html.Column) []html.Column {
	return slices.DeleteFunc(list, func(c html.Column) bool {
		return len(c.Texts) == 0 && !slices.ContainsFunc(c.Numbers, func(x float64) bool { return x == x })
	})
}

func collect[T any](list []T, f func(T) float64) []float64 {
	out := make([]float64, len(list))
	for i, x := range list {
		out[i] = f(x)
	}
	return out
}

func texts[T any](list []T, f func(T) string) []string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = f(x)
	}
	return out
}

// measures are what is shown of modules, in tables and maps.
var measures = []shown[diff.Module]{
	{"Relative", "‖B − A‖/‖A‖ of ΔW, Frobenius", func(m diff.Module) float64 { return float64(m.Relative) }, false},
	{"‖B − A‖", "the distance of both ΔW, Frobenius", func(m diff.Module) float64 { return float64(m.Distance) }, false},
	{"Cosine", "of the angle between both ΔW", func(m diff.Module) float64 { return float64(m.Cosine) }, false},
	{"‖A‖", "‖ΔW‖ of A, Frobenius", func(m diff.Module) float64 { return normOf(m.A) }, false},
	{"‖B‖", "‖ΔW‖ of B, Frobenius", func(m diff.Module) float64 { return normOf(m.B) }, false},
	{"Eff. rank A", "exp of the entropy of A's singular values", func(m diff.Module) float64 {
		return ofUpdate(m.A, func(u *diff.Update) diff.Number { return u.EffectiveRank })
	}, false},
	{"Eff. rank B", "exp of the entropy of B's singular values", func(m diff.Module) float64 {
		return ofUpdate(m.B, func(u *diff.Update) diff.Number { return u.EffectiveRank })
	}, false},
	{"φ in", "how much of the subspaces that both read from they have in common", func(m diff.Module) float64 { return wholePhi(m.Input) }, true},
	{"φ out", "how much of the subspaces that both write to they have in common", func(m diff.Module) float64 { return wholePhi(m.Output) }, true},
	{"Amplif. A", "‖ΔW‖/‖UᵀWV‖: how much A strengthens directions that the base has", func(m diff.Module) float64 {
		return factor(m, func(b *diff.Base) *diff.Amplification { return b.A })
	}, false},
	{"Amplif. B", "‖ΔW‖/‖UᵀWV‖: how much B strengthens directions that the base has", func(m diff.Module) float64 {
		return factor(m, func(b *diff.Base) *diff.Amplification { return b.B })
	}, false},
}

// normOf is ‖ΔW‖ of a side: 0 where it has no update of the module.
func normOf(u *diff.Update) float64 {
	if u == nil {
		return 0
	}
	return float64(u.Norm)
}

func ofUpdate(u *diff.Update, f func(*diff.Update) diff.Number) float64 {
	if u == nil {
		return math.NaN()
	}
	return float64(f(u))
}

func wholePhi(s *diff.Similarity) float64 {
	if s == nil {
		return math.NaN()
	}
	return lastPhi(s)
}

func factor(m diff.Module, side func(*diff.Base) *diff.Amplification) float64 {
	if m.Base == nil || side(m.Base) == nil {
		return math.NaN()
	}
	return float64(side(m.Base).Factor)
}

func (r *diffResult) moduleTable() *html.Table {
	list := r.Modules
	items := make([]int, len(list))
	for i := range items {
		items[i] = i
	}
	columns := []html.Column{
		{Name: "Module", Texts: texts(list, func(m diff.Module) string { return m.Module }), Code: true},
		{Name: "Rank", Note: "of the factors", Texts: texts(list, func(m diff.Module) string { return rankText(m.A, m.B) })},
	}
	for _, x := range measures {
		c := html.Column{Name: x.name, Note: x.note, Numbers: collect(list, x.of)}
		if x.name == "Cosine" {
			c.Texts = texts(list, func(m diff.Module) string { return cosineText(m.Cosine) })
		}
		columns = append(columns, c)
	}
	what := texts(list, whatText)
	if slices.ContainsFunc(what, func(s string) bool { return s != "" }) {
		columns = append(columns, html.Column{Name: "What", Texts: what})
	}
	return byRelative(&html.Table{Title: "Modules", Columns: columnsOf(columns...), Items: items})
}

func (r *diffResult) tensorTable() *html.Table {
	list := r.Tensors
	items := make([]int, len(list))
	for i := range items {
		items[i] = len(r.Modules) + i
	}
	of := func(f func(v *diff.Values) float64) []float64 {
		return collect(list, func(t diff.Tensor) float64 {
			if t.Values == nil {
				return math.NaN()
			}
			return f(t.Values)
		})
	}
	columns := []html.Column{
		{Name: "Tensor", Texts: texts(list, func(t diff.Tensor) string { return t.Name }), Code: true},
		{Name: "Type", Texts: texts(list, func(t diff.Tensor) string { return arrow(t.DTypeA, t.DTypeB) })},
		{Name: "Shape", Texts: texts(list, func(t diff.Tensor) string { return arrow(fmt.Sprint(t.ShapeA), fmt.Sprint(t.ShapeB)) })},
		{Name: "Relative", Note: "‖B − A‖/‖A‖, Frobenius", Numbers: of(func(v *diff.Values) float64 { return float64(v.Relative) })},
		{Name: "Differing", Note: "elements whose bits differ; between two types, whose values do", Numbers: of(func(v *diff.Values) float64 { return float64(v.Differing) }),
			Texts: texts(list, func(t diff.Tensor) string {
				if t.Values == nil {
					return "–"
				}
				return share(t.Values.Differing, t.Values.Elements)
			})},
		{Name: "Max abs", Note: "the largest |b − a|", Numbers: of(func(v *diff.Values) float64 { return float64(v.MaxAbs) })},
		{Name: "Max ulps", Note: "the most steps of their type that elements are apart", Numbers: of(func(v *diff.Values) float64 {
			if v.ULPs == nil {
				return math.NaN()
			}
			return float64(v.MaxULPs)
		})},
		{Name: "Cosine", Numbers: of(func(v *diff.Values) float64 { return float64(v.Cosine) }), Texts: texts(list, func(t diff.Tensor) string {
			if t.Values == nil {
				return "–"
			}
			return cosineText(t.Values.Cosine)
		})},
	}
	if slices.ContainsFunc(list, func(t diff.Tensor) bool { return t.Values != nil && t.Values.NotFinite > 0 }) {
		columns = append(columns, html.Column{Name: "Not finite", Note: "elements that differ where one is infinite or NaN", Numbers: of(func(v *diff.Values) float64 { return float64(v.NotFinite) })})
	}
	return byRelative(&html.Table{Title: "Tensors that are not the same", Columns: columnsOf(columns...), Items: items})
}

// byRelative sorts what changed most to the top.
func byRelative(t *html.Table) *html.Table {
	t.By = max(0, slices.IndexFunc(t.Columns, func(c html.Column) bool { return c.Name == "Relative" }))
	return t
}

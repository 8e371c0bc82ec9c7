package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch/health"
	html "github.com/seed-b982eded/graft/patch/report"
)

func (r *inspectResult) modelPage(p *html.Page) {
	p.Summary, p.Facts = r.modelSentence(), r.modelFacts()
	items, least := map[string]int{}, math.Inf(1)
	for i, s := range r.Spectrum {
		items[s.Tensor] = i
		p.Items = append(p.Items, spectrumItem(s))
		if x := shareOfFull(s); x < least {
			least, p.First = x, i
		}
	}
	m := r.spectrumMap()
	if m != nil {
		p.Parts = append(p.Parts, m)
	}
	if len(p.Items) > 0 {
		p.Parts = append(p.Parts, oneByOne("The layer that", m != nil), r.spectrumTable())
	}
	if m := r.sizeMap(items); m != nil {
		p.Parts = append(p.Parts, m)
	}
	if len(r.tensors) > 0 {
		p.Parts = append(p.Parts, r.kindTable())
	}
	if r.Graph != nil {
		if t := r.Graph.valueTable(); len(t.Columns[0].Texts) > 0 {
			p.Parts = append(p.Parts, t)
		}
		if len(r.Graph.Layers) > 0 {
			p.Parts = append(p.Parts, r.Graph.layerTable(items))
		}
	}
	if len(r.tensors) > 0 {
		p.Parts = append(p.Parts, r.tensorTable(items))
	}
	if len(r.Files) > 0 {
		p.Parts = append(p.Parts, r.fileTable())
	}
	if len(r.Metadata) > 0 {
		p.Parts = append(p.Parts, &html.Table{Title: "Metadata", Columns: []html.Column{
			{Name: "Key", Texts: texts(r.Metadata, func(m metadataRow) string { return m.Key }), Code: true},
			{Name: "Value", Texts: texts(r.Metadata, func(m metadataRow) string { return valueText([]byte(m.Value)) }), Code: true},
			{Name: "File", Texts: texts(r.Metadata, func(m metadataRow) string { return m.File }), Code: true},
		}})
	}
}

// modelSentence says what a model is, and with a spectrum how much of its rank is used.
func (r *inspectResult) modelSentence() string {
	kind := "A checkpoint"
	switch {
	case r.Graph != nil:
		kind = "An ONNX model"
		if r.Graph.Producer != "" {
			kind += " by " + formats.Quote(strings.TrimSpace(r.Graph.Producer+" "+r.Graph.Version))
		}
	case r.ModelType != "":
		kind = "A model of type " + formats.Quote(r.ModelType)
	}
	s := fmt.Sprintf("%s: %s parameters in %s, %s of %s", kind, countText(r.Params), countOf(r.Tensors, "tensor"), sizeText(r.Bytes), r.types())
	if len(r.Files) > 1 {
		s += ", in " + countOf(len(r.Files), "file")
	}
	if r.Quant != "" {
		s += ", quantised by " + formats.Quote(r.Quant)
	}
	s += "."
	if n := len(r.Spectrum); n > 0 {
		s += fmt.Sprintf(" The effective rank of %s is %s of the full rank, and rank %s keeps 99 %% of the energy.",
			allOf(n, "layer"), aboutText(r.Spectrum, shareOfFull), wholeRange(r.Spectrum))
	}
	return s
}

// aboutText is the mean of a share and its range, in per cent.
func aboutText(list []health.Spectrum, of func(health.Spectrum) float64) string {
	v := collect(list, of)
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	least, most := slices.Min(v), slices.Max(v)
	if len(v) == 1 {
		return percentText(sum)
	}
	return fmt.Sprintf("%s (from %s to %s)", percentText(sum/float64(len(v))), percentText(least), percentText(most))
}

func wholeRange(list []health.Spectrum) string {
	least, most := list[0].Rank99, 0
	for _, s := range list {
		least, most = min(least, s.Rank99), max(most, s.Rank99)
	}
	return rangeText(int64(least), int64(most))
}

// fullRank is the largest that a shape allows, of a kernel as the matrix of its outputs × the rest.
func fullRank(s health.Spectrum) float64 {
	out := s.Shape[0]
	return float64(min(out, elements(s.Shape)/max(1, out)))
}

// shareOfFull is how much of it the effective rank is.
func shareOfFull(s health.Spectrum) float64 { return s.EffectiveRank / max(1, fullRank(s)) }

func (r *inspectResult) modelFacts() []html.Fact {
	out := []html.Fact{
		{Label: "Parameters", Value: amountText(r.Params), Note: countText(r.Params)},
		{Label: "Size", Value: sizeText(r.Bytes), Note: r.types()},
		{Label: "Tensors", Value: countText(int64(r.Tensors)), Note: "in " + countOf(len(r.Files), "file")},
	}
	if g := r.Graph; g != nil {
		var opsets []string
		for _, o := range g.Opsets {
			opsets = append(opsets, strings.TrimSpace(o.Domain+" "+fmt.Sprint(o.Version)))
		}
		out = append(out,
			html.Fact{Label: "Layers", Value: countText(int64(len(g.Layers))), Note: "that an adapter can be for"},
			html.Fact{Label: "Nodes", Value: countText(int64(g.Nodes)), Note: fmt.Sprintf("opset %s, IR %d", strings.Join(opsets, ", "), g.IR)})
	} else if n := len(r.kinds); n > 0 {
		note := ""
		if r.Tied {
			note = "the head is tied to the embedding"
		}
		out = append(out, html.Fact{Label: "Weights of layers", Value: countText(int64(n)), Note: note})
	}
	if n := len(r.Spectrum); n > 0 {
		sum := 0.0
		for _, s := range r.Spectrum {
			sum += shareOfFull(s)
		}
		out = append(out, html.Fact{Label: "Effective rank", Value: percentText(sum / float64(n)), Note: "of the full rank, mean of " + countOf(n, "layer")})
	}
	return out
}

// amountText writes a count in three digits and a power of a thousand.
func amountText(n int64) string {
	x := float64(n)
	for _, unit := range []string{"", " k", " M", " G", " T"} {
		if x < 999.5 || unit == " T" {
			return fmt.Sprintf("%.3g%s", x, unit)
		}
		x /= 1000
	}
	return ""
}

// spectrumMeasures are what is shown of layers, in the table and the map.
var spectrumMeasures = []shown[health.Spectrum]{
	{"Share of full rank", "effective rank in what the shape allows", shareOfFull, true},
	{"Eff. rank", "exp of the entropy of the singular values", func(s health.Spectrum) float64 { return s.EffectiveRank }, false},
	{"Stable rank", "‖W‖²/σ₁²", func(s health.Spectrum) float64 { return s.StableRank }, false},
	{"Rank for 50 %", "of the energy", func(s health.Spectrum) float64 { return float64(s.Rank50) }, false},
	{"Rank for 90 %", "of the energy", func(s health.Spectrum) float64 { return float64(s.Rank90) }, false},
	{"Rank for 99 %", "of the energy", func(s health.Spectrum) float64 { return float64(s.Rank99) }, false},
	{"‖W‖", "Frobenius", func(s health.Spectrum) float64 { return s.Norm }, false},
	{"σ₁", "the largest singular value", func(s health.Spectrum) float64 { return s.Largest }, false},
}

func (r *inspectResult) spectrumMap() *html.HeatMap {
	c := gridOf(texts(r.Spectrum, func(s health.Spectrum) string { return s.Module }), func(i int) float64 { return r.Spectrum[i].Norm })
	if c == nil {
		return nil
	}
	h := c.heatMap("How much rank the weights have", "", "module", "module with the largest norm", func(i int) int { return i })
	addMeasures(c, h, spectrumMeasures, r.Spectrum)
	return h
}

func (r *inspectResult) spectrumTable() *html.Table {
	list := r.Spectrum
	t := &html.Table{Title: "Singular values", By: 1, Items: make([]int, len(list)),
		Columns: []html.Column{{Name: "Module", Texts: texts(list, func(s health.Spectrum) string { return s.Module }), Code: true}}}
	if n := countEstimated(list); n > 0 {
		t.Note = fmt.Sprintf("~ estimated, in %s.", someOf(n, len(list), "layer"))
	}
	for i := range t.Items {
		t.Items[i] = i
	}
	for _, x := range spectrumMeasures {
		c := html.Column{Name: x.name, Note: x.note, Numbers: collect(list, x.of)}
		switch {
		case x.name == "Share of full rank":
			c.Texts = texts(list, func(s health.Spectrum) string { return about(s) + percentText(x.of(s)) })
		case x.name != "‖W‖" && countEstimated(list) > 0:
			c.Texts = texts(list, func(s health.Spectrum) string {
				if strings.HasPrefix(x.name, "Rank") {
					return about(s) + fmt.Sprint(x.of(s))
				}
				return about(s) + short(x.of(s))
			})
		}
		t.Columns = append(t.Columns, c)
	}
	t.Columns = append(t.Columns, shapeColumn(list, func(s health.Spectrum) []int64 { return s.Shape }))
	return t
}

// about marks an estimate.
func about(s health.Spectrum) string {
	if s.Estimated {
		return "~ "
	}
	return ""
}

func countEstimated(list []health.Spectrum) int {
	n := 0
	for _, s := range list {
		if s.Estimated {
			n++
		}
	}
	return n
}

func spectrumItem(s health.Spectrum) html.Item {
	item := html.Item{Name: s.Module}
	add := func(label, value string) { item.Facts = append(item.Facts, html.Fact{Label: label, Value: value}) }
	if s.Tensor != s.Module+".weight" {
		add("Tensor", s.Tensor)
	}
	add("Kind", s.Kind)
	add("Weight", fmt.Sprintf("%s %v", s.DType, s.Shape))
	add("‖W‖", short(s.Norm))
	add("σ₁", about(s)+short(s.Largest))
	add("Stable rank", about(s)+short(s.StableRank))
	value := short(s.EffectiveRank)
	if s.Estimated && s.Error != nil {
		value = "~ " + value + " ± " + fmt.Sprintf("%.2g", s.Error.EffectiveRank)
	}
	add("Effective rank", value)
	add("Share of full rank", about(s)+percentText(shareOfFull(s)))
	item.Charts = []html.Chart{{Title: about(s) + "Rank that keeps a share of the energy", Labels: []string{"50 %", "90 %", "99 %", "full rank"},
		Series: []html.Series{{Name: "rank", Values: []float64{float64(s.Rank50), float64(s.Rank90), float64(s.Rank99), fullRank(s)}}}}}
	return item
}

// sizeMap shows where the parameters are.
func (r *inspectResult) sizeMap(items map[string]int) *html.HeatMap {
	if r.Graph != nil {
		return r.Graph.sizeMap(items)
	}
	list := r.tensors
	params := func(i int) float64 { return float64(elements(list[i].Shape)) }
	c := gridOf(texts(list, func(t tensorInfo) string { return t.Name }), params)
	if c == nil {
		return nil
	}
	h := c.heatMap("Where the parameters are", "", "tensor", "largest tensor", func(i int) int { return itemOf(items, list[i].Name) })
	c.measure(h, html.Measure{Name: "Parameters", Note: "of a tensor"}, params)
	c.measure(h, html.Measure{Name: "Bytes", Note: "of a tensor in its file"}, func(i int) float64 { return float64(list[i].Bytes) })
	return h
}

// sizeMap has the layers of a graph whose modules are known: the names of other tensors say
// little.
func (g *graphInfo) sizeMap(items map[string]int) *html.HeatMap {
	list := slices.DeleteFunc(slices.Clone(g.Layers), func(l graphLayer) bool { return l.Module == "" })
	params := func(i int) float64 { return float64(elements(list[i].Shape)) }
	c := gridOf(texts(list, func(l graphLayer) string { return l.Module }), params)
	if c == nil {
		return nil
	}
	h := c.heatMap("Where the parameters are", "", "module", "largest module", func(i int) int { return itemOf(items, list[i].Weight) })
	c.measure(h, html.Measure{Name: "Parameters", Note: "of a layer's weight"}, params)
	return h
}

// itemOf is a tensor's item, −1 where it has none.
func itemOf(items map[string]int, tensor string) int {
	if i, ok := items[tensor]; ok {
		return i
	}
	return -1
}

// kindTable sums up the parameters by what they are for.
func (r *inspectResult) kindTable() *html.Table {
	type sum struct {
		kind           string
		tensors        int
		params, stored int64
	}
	var sums []*sum
	for _, t := range r.tensors {
		kind := r.kinds[t.Name]
		switch {
		case kind == "":
			kind = "norms, biases and others"
		default:
			kind += " layers"
		}
		i := slices.IndexFunc(sums, func(s *sum) bool { return s.kind == kind })
		if i < 0 {
			i = len(sums)
			sums = append(sums, &sum{kind: kind})
		}
		s := sums[i]
		s.tensors, s.params, s.stored = s.tensors+1, s.params+elements(t.Shape), s.stored+t.Bytes
	}
	slices.SortStableFunc(sums, func(a, b *sum) int { return cmp.Compare(b.params, a.params) })
	return &html.Table{Title: "What the parameters are for", Plain: true, Columns: []html.Column{
		{Name: "Kind", Texts: texts(sums, func(s *sum) string { return s.kind })},
		{Name: "Tensors", Numbers: collect(sums, func(s *sum) float64 { return float64(s.tensors) })},
		{Name: "Parameters", Texts: texts(sums, func(s *sum) string { return countText(s.params) }), Numbers: collect(sums, func(s *sum) float64 { return float64(s.params) })},
		{Name: "Share", Texts: texts(sums, func(s *sum) string { return percentText(float64(s.params) / float64(max(1, r.Params))) }), Numbers: collect(sums, func(s *sum) float64 { return float64(s.params) })},
		{Name: "Size", Texts: texts(sums, func(s *sum) string { return sizeText(s.stored) }), Numbers: collect(sums, func(s *sum) float64 { return float64(s.stored) })},
	}}
}

func (r *inspectResult) tensorTable(items map[string]int) *html.Table {
	list := r.tensors
	t := &html.Table{Title: "Tensors", Columns: []html.Column{
		{Name: "Tensor", Texts: texts(list, func(t tensorInfo) string { return t.Name }), Code: true},
		{Name: "Type", Texts: texts(list, func(t tensorInfo) string { return t.DType })},
		shapeColumn(list, func(t tensorInfo) []int64 { return t.Shape }),
		{Name: "Parameters", Numbers: collect(list, func(t tensorInfo) float64 { return float64(elements(t.Shape)) }), Texts: texts(list, func(t tensorInfo) string { return countText(elements(t.Shape)) })},
		{Name: "Size", Numbers: collect(list, func(t tensorInfo) float64 { return float64(t.Bytes) }), Texts: texts(list, func(t tensorInfo) string { return sizeText(t.Bytes) })},
	}}
	if len(r.Files) > 1 {
		t.Columns = append(t.Columns, html.Column{Name: "File", Texts: texts(list, func(t tensorInfo) string { return t.File }), Code: true})
	}
	if len(items) > 0 {
		for _, x := range list {
			t.Items = append(t.Items, itemOf(items, x.Name))
		}
	}
	return t
}

func (r *inspectResult) fileTable() *html.Table {
	t := &html.Table{Title: "Files", Columns: []html.Column{
		{Name: "File", Texts: texts(r.Files, func(f fileInfo) string { return f.Name }), Code: true},
		{Name: "Tensors", Numbers: collect(r.Files, func(f fileInfo) float64 { return float64(f.Tensors) })},
		{Name: "Size", Numbers: collect(r.Files, func(f fileInfo) float64 { return float64(f.Bytes) }), Texts: texts(r.Files, func(f fileInfo) string { return sizeText(f.Bytes) })},
	}}
	if len(r.SideFiles) > 0 {
		t.Note = "Beside the weights: " + strings.Join(r.SideFiles, ", ") + "."
	}
	return t
}

// valueTable lists what a graph takes and gives.
func (g *graphInfo) valueTable() *html.Table {
	t := &html.Table{Title: "Inputs and outputs", Columns: []html.Column{{Name: "Name", Code: true}, {Name: "What"}, {Name: "Type"}, {Name: "Dims"}}}
	for _, list := range []struct {
		what   string
		values []valueInfo
	}{{"input", g.Inputs}, {"input for an adapter", g.Adapters}, {"output", g.Outputs}} {
		for _, v := range list.values {
			for i, s := range []string{v.Name, list.what, v.Type, v.dims()} {
				t.Columns[i].Texts = append(t.Columns[i].Texts, s)
			}
		}
	}
	return t
}

func (g *graphInfo) layerTable(items map[string]int) *html.Table {
	list := g.Layers
	t := &html.Table{Title: "Layers", Note: "Nodes that an adapter can change, and the modules that they are.", Columns: []html.Column{
		{Name: "Module", Texts: texts(list, func(l graphLayer) string { return cmp.Or(l.Module, "?") }), Code: true},
		{Name: "Op", Texts: texts(list, func(l graphLayer) string { return l.Op })},
		{Name: "In", Numbers: collect(list, func(l graphLayer) float64 { return float64(l.In) })},
		{Name: "Out", Numbers: collect(list, func(l graphLayer) float64 { return float64(l.Out) })},
		{Name: "Weight", Texts: texts(list, graphLayer.weight)},
		{Name: "By", Note: "what says which module it is", Texts: texts(list, graphLayer.rule)},
		{Name: "Takes", Note: "merge, and modes of inject", Texts: texts(list, graphLayer.takes)},
		{Name: "Node", Texts: texts(list, func(l graphLayer) string { return l.Node }), Code: true},
	}}
	if len(items) > 0 {
		for _, l := range list {
			t.Items = append(t.Items, itemOf(items, l.Weight))
		}
	}
	return t
}

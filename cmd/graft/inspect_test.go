package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/health"
	html "github.com/seed-b982eded/graft/patch/report"
)

// wantLines checks a text for lines that expressions match.
func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !regexp.MustCompile("(?m)^" + line + "$").MatchString(text) {
			t.Errorf("no line is %s in\n%s", line, text)
		}
	}
}

// Many layers are told as one for each place.
func TestManyLayers(t *testing.T) {
	h := &healthInfo{Result: &health.Result{}, Base: "b", Advice: &health.Advice{Energy: 0.5}}
	var spectra []health.Spectrum
	relative := []float64{0.1, 0.7}
	r := &resizeResult{Out: "o"}
	for i := range 50 {
		module := fmt.Sprintf("h.%d.fc", i)
		m := health.Module{Module: module, Kind: "LowRank", Shape: []int64{3, 4}, Rank: 2, Product: &health.Product{RMS: 3, EffectiveRank: 1.5, StableRank: 1.2}, Base: &health.BaseNorms{Relative: &relative[0]}}
		if i == 7 {
			m.Base.Relative, m.DeadRanks = &relative[1], 1
		}
		h.Modules = append(h.Modules, m)
		h.Findings = append(h.Findings, health.Finding{Level: health.Warning, What: health.Untrained, Module: module, Text: "zero"})
		h.Advice.Modules = append(h.Advice.Modules, health.AdviceRank{Module: module, Rank: 2, Needed: 1 + i%2})
		s := health.Spectrum{Module: module, Shape: []int64{3, 4}, Norm: 2, Largest: 1, StableRank: 4, EffectiveRank: 2, Rank50: 1, Rank90: 2 + i/49, Rank99: 3, Estimated: true, Error: &health.SpectrumError{EffectiveRank: 0.02}}
		spectra = append(spectra, s)
		r.Slimmed = append(r.Slimmed, patch.Slimmed{What: patch.SlimRanks, Module: module, OldRank: 4, Rank: 2, Bytes: 100})
	}
	h.Findings = append(h.Findings, health.Finding{Level: health.Error, What: health.ChangesNothing, Text: "nothing"})
	h.Warnings, h.Errors = 50, 1
	var b bytes.Buffer
	h.print(&b)
	wantLines(t, b.String(),
		"MODULES +COUNT +UPDATE +SHAPE +RANK +DEAD +EFF. RANK +STABLE RANK +RMS OF ΔW +‖ΔW‖/‖W‖ +NEEDED",
		`h\.\*\.fc +50 +LowRank +\[3 4\] +2 +1 +1\.5 +1\.2 +3 +0\.7 +1 to 2`,
		"check: 1 error, 50 warnings", `warning +50 +h\.\*\.fc +zero`, "error +1 +– +nothing")
	b.Reset()
	printSpectrum(&b, spectra)
	wantLines(t, b.String(), `h\.\*\.fc +50 +\[3 4\] +2 +~ 1 +~ 4\.0 +~ 2\.0 +~ 1 +~ 2 to 3 +~ 3`, "~ estimated, in all 50 layers: effective ranks to 1 % or better .*")
	b.Reset()
	r.print(&b)
	wantLines(t, b.String(), "SLIMMED +COUNT +WHAT +SAVES", `h\.\*\.fc +50 +rank 4 → 2 +5\.00 kB`)
	b.Reset()
	printSpectrum(&b, nil)
	wantLines(t, b.String(), "there are no linear layers or convolutions")
}

// A command that is shown can be run.
func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"my-adapter/x_1.0": "my-adapter/x_1.0", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$HOME": "'$HOME'", "~x": "'~x'", "é": "'é'",
	} {
		if got := shellWord(in); got != want {
			t.Errorf("%q becomes %s, want %s", in, got, want)
		}
	}
}

// dataOf is what a page holds.
func dataOf(t *testing.T, p *html.Page) (parts map[string]map[string]any, page string) {
	t.Helper()
	var b bytes.Buffer
	if err := html.Write(&b, p); err != nil {
		t.Fatal(err)
	}
	var data struct {
		Parts []struct{ Part map[string]any }
	}
	block := regexp.MustCompile(`(?s)<script type="application/json" id="data">(.*?)</script>`).FindStringSubmatch(b.String())
	if err := json.Unmarshal([]byte(block[1]), &data); err != nil {
		t.Fatal(err)
	}
	parts = map[string]map[string]any{}
	for _, p := range data.Parts {
		parts[p.Part["title"].(string)] = p.Part
	}
	return parts, b.String()
}

// The limit of an error is a number for people, and no smaller than it is.
func TestLimitText(t *testing.T) {
	for x, want := range map[float64]string{19.2: "20", 150: "150", 1: "1", 1.01: "2", 0.9: "0.9", 0.00012: "0.0001", 0: "0"} {
		if got := limitText(x); got != want {
			t.Errorf("%g: got %s, want %s", x, got, want)
		}
	}
}

// A page marks what is estimated.
func TestEstimatedPage(t *testing.T) {
	r := &inspectResult{Path: "m"}
	for i := range 2 {
		s := health.Spectrum{Module: fmt.Sprint("l.", i), Tensor: fmt.Sprint(i), Shape: []int64{30000, 20000}, Norm: 3, Largest: 2, StableRank: 2.25, EffectiveRank: 1000, Rank50: 500, Rank90: 900, Rank99: 12345}
		if i == 1 {
			s.Estimated, s.Error = true, &health.SpectrumError{EffectiveRank: 5}
		}
		r.Spectrum = append(r.Spectrum, s)
	}
	p := r.page()
	parts, _ := dataOf(t, p)
	var got []any
	for _, c := range parts["Singular values"]["columns"].([]any)[1:9] {
		c := c.(map[string]any)
		got = append(got, c["name"], c["texts"])
	}
	pair := func(s string) []any { return []any{s, "~ " + s} }
	want := []any{"Share of full rank", pair("5 %"), "Eff. rank", pair("1000"), "Stable rank", pair("2.25"), "Rank for 50 %", pair("500"),
		"Rank for 90 %", pair("900"), "Rank for 99 %", pair("12345"), "‖W‖", nil, "σ₁", pair("2")}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	facts := map[string]string{}
	for _, f := range p.Items[1].Facts {
		facts[f.Label] = f.Value
	}
	if facts["σ₁"] != "~ 2" || facts["Stable rank"] != "~ 2.25" || facts["Effective rank"] != "~ 1000 ± 5" || facts["‖W‖"] != "3" {
		t.Errorf("facts: %v", facts)
	}
}

// A page of an adapter has its numbers in their places.
func TestAdapterPage(t *testing.T) {
	r := &inspectResult{Path: "dir/a/", Params: 1234567, Bytes: 2000, config: []byte(`{"r": 4, "bias": null, "target_modules": ["q", "k"]}`),
		Health: &healthInfo{Result: &health.Result{Warnings: 1}, Advice: &health.Advice{Energy: 0.9, CommonRank: 3, Bytes: 100, NewBytes: 50, CommonBytes: 75}, Command: "graft resize"}}
	for i, name := range []string{"l.0.q", "l.0.k", "l.1.q", "l.1.k"} {
		m := health.Module{Module: name, Shape: []int64{3, 4}, Rank: 4}
		if i != 3 {
			m.Product = &health.Product{Norm: float64(1 + i), RMS: 0.5, EffectiveRank: 2, StableRank: 1.5, Spectrum: []float64{2, 1, 1, 1e-20}}
		}
		r.Health.Modules = append(r.Health.Modules, m)
		if i != 3 {
			r.Health.Advice.Modules = append(r.Health.Advice.Modules, health.AdviceRank{Module: name, Rank: 4, Needed: 1 + i})
		}
	}
	r.Health.Findings = []health.Finding{{Level: health.Warning, What: health.LowRank, Module: "l.1.k", Text: "odd"}}
	p := r.page()
	parts, _ := dataOf(t, p)
	if p.Title != "a" || p.First != 2 || p.Summary != "A LoRA adapter: 4 modules of rank 4, 1,234,567 parameters, 2.00 kB. Something went wrong in making it: the check found 1 warning." {
		t.Errorf("title %q, first %d, summary %q", p.Title, p.First, p.Summary)
	}
	m := parts["Where it changes the model"]
	for k, v := range map[string]any{"rows": []any{"q", "k"}, "cols": []any{"0", "1"}, "items": []any{[]any{0.0, 2.0}, []any{1.0, 3.0}}} {
		if d := cmp.Diff(v, m[k]); d != "" {
			t.Errorf("map: %s: %s", k, d)
		}
	}
	values := map[string]any{}
	for _, x := range m["measures"].([]any) {
		x := x.(map[string]any)
		values[x["name"].(string)] = x["values"]
	}
	for name, v := range map[string][]any{"‖ΔW‖": {[]any{1.0, 3.0}, []any{2.0, nil}}, "Share of rank": {[]any{0.5, 0.5}, []any{0.5, nil}}, "Rank needed": {[]any{1.0, 3.0}, []any{2.0, nil}}} {
		if d := cmp.Diff(any(v), values[name]); d != "" {
			t.Errorf("map: %s: %s", name, d)
		}
	}
	if _, ok := values["‖ΔW‖/‖W‖"]; ok {
		t.Error("a measure of the base without a base")
	}
	// 2² + 1² + 1² = 6; the last singular value is rounding.
	if d := cmp.Diff([]float64{100 * 4. / 6, 100 * 5. / 6, 100}, p.Items[0].Charts[1].Series[0].Values, cmpopts.EquateApprox(1e-14, 0)); d != "" {
		t.Errorf("energy: %s", d)
	}
	if d := cmp.Diff([]any{3.0}, parts["What the check found"]["items"]); d != "" {
		t.Errorf("findings: %s", d)
	}
	if parts["What the check found"]["stacked"] != true {
		t.Error("findings are in columns where a window is narrow")
	}
	column := func(table string, i int) any {
		return parts[table]["columns"].([]any)[i].(map[string]any)["texts"]
	}
	for _, x := range []struct {
		table string
		i     int
		want  []any
	}{
		{"Configuration", 0, []any{"r", "target_modules"}}, {"Configuration", 1, []any{"4", `["q","k"]`}},
		{"Which rank would do", 1, []any{"4", "1 to 3", "3"}}, {"Which rank would do", 3, []any{"100 %", "50 %", "75 %"}}, {"Which rank would do", 4, []any{"", "graft resize", ""}},
	} {
		if d := cmp.Diff(any(x.want), column(x.table, x.i)); d != "" {
			t.Errorf("%s: %s", x.table, d)
		}
	}
}

// A page of a model, of ten thousand tensors with names of all kinds.
func TestModelPage(t *testing.T) {
	r := &inspectResult{Path: "m", ModelType: "<b>", kinds: map[string]string{}}
	const hostile = "</script><img src=x onerror=alert(1)>"
	for l := range 100 {
		for e := range 100 {
			x := tensorInfo{Name: fmt.Sprintf("layers.%d.experts.%d.%s.weight", l, e, hostile), DType: "BF16", Shape: []int64{3, int64(1 + e)}, Bytes: 6 * int64(1+e)}
			r.tensors = append(r.tensors, x)
			r.kinds[x.Name] = "linear"
			r.Params, r.Bytes, r.Tensors = r.Params+x.Bytes/2, r.Bytes+x.Bytes, r.Tensors+1
			if e == 0 {
				r.Spectrum = append(r.Spectrum, health.Spectrum{Module: x.Name, Tensor: x.Name, Shape: []int64{8, 2, 2}, EffectiveRank: 1 + float64(l)/100, Rank99: 1 + l%3})
			}
		}
	}
	r.tensors = append(r.tensors, tensorInfo{Name: "norm", DType: "F32", Shape: []int64{2}, Bytes: 8})
	p := r.page()
	parts, page := dataOf(t, p)
	if strings.Contains(page, "<img") || strings.Contains(page, "<b>") {
		t.Error("a name became markup")
	}
	// The effective rank of [8 2 2] is of 4.
	wantSummary := `A model of type "<b>": 1,515,000 parameters in 10,000 tensors, 3.03 MB of BF16, F32. The effective rank of all 100 layers is 37.4 % (from 25 % to 49.8 %) of the full rank, and rank 1 to 3 keeps 99 % of the energy.`
	if p.Summary != wantSummary || p.First != 0 {
		t.Errorf("first %d, summary %q", p.First, p.Summary)
	}
	m := parts["Where the parameters are"]
	if n := len(m["rows"].([]any)); n != 1 || len(m["cols"].([]any)) != 100 {
		t.Errorf("a map of %d rows", n)
	}
	if v := m["measures"].([]any)[0].(map[string]any)["values"].([]any)[0].([]any)[7]; v != 300.0 {
		t.Errorf("the largest tensor of a cell has %v parameters, want 300", v)
	}
	kinds := parts["What the parameters are for"]["columns"].([]any)
	if d := cmp.Diff([]any{"linear layers", "norms, biases and others"}, kinds[0].(map[string]any)["texts"]); d != "" {
		t.Error(d)
	}
}

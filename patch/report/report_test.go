package report_test

import (
	"bytes"
	"encoding/json"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-b982eded/graft/patch/report"
)

const hostile = "</script><img src=x onerror=alert(1)>\x00\u202e\"'&"

func small() *report.Page {
	return &report.Page{
		Title: hostile, Summary: "s", Facts: []report.Fact{{Label: "l", Value: hostile}},
		Parts: []report.Part{
			&report.HeatMap{Title: "map", Rows: []string{"r"}, Cols: []string{"0", "1"}, Items: [][]int{{0, -1}},
				Measures: []report.Measure{{Name: "m", Values: [][]float64{{math.Inf(1), math.NaN()}}}}},
			&report.Details{Title: "d"},
			&report.Table{Title: "t", Columns: []report.Column{{Name: "n", Texts: []string{hostile}}, {Name: "x", Numbers: []float64{1.23456789}}}, By: 1, Items: []int{0}},
		},
		Items: []report.Item{{Name: hostile, Charts: []report.Chart{{Title: "c", Series: []report.Series{{Name: "A", Values: []float64{2, 1}}}}}}},
	}
}

// TestPage checks what a page is made of: its data comes back as it went in, with names that
// are text, and nothing in it names a place to fetch something from.
func TestPage(t *testing.T) {
	var b bytes.Buffer
	if err := report.Write(&b, small()); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	block := regexp.MustCompile(`(?s)<script type="application/json" id="data">(.*?)</script>`).FindStringSubmatch(page)
	if block == nil {
		t.Fatal("no data block")
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(block[1]), &got); err != nil {
		t.Fatal(err)
	}
	shown := "</script><img src=x onerror=alert(1)>\\u0000\\u202e\"'&"
	want := map[string]any{
		"first": 0.0,
		"items": []any{map[string]any{"name": shown, "charts": []any{map[string]any{"title": "c", "series": []any{map[string]any{"name": "A", "values": []any{2.0, 1.0}}}}}}},
		"parts": []any{
			map[string]any{"kind": "heatmap", "part": map[string]any{
				"title": "map", "row_name": "", "col_name": "", "rows": []any{"r"}, "cols": []any{"0", "1"}, "items": []any{[]any{0.0, -1.0}},
				"measures": []any{map[string]any{"name": "m", "values": []any{[]any{"Infinity", nil}}}},
			}},
			map[string]any{"kind": "details", "part": map[string]any{"title": "d"}},
			map[string]any{"kind": "table", "part": map[string]any{
				"title": "t", "by": 1.0, "items": []any{0.0},
				"columns": []any{map[string]any{"name": "n", "texts": []any{shown}}, map[string]any{"name": "x", "numbers": []any{1.23457}}},
			}},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("data (- want, + got):\n%s", d)
	}
	if n := strings.Count(page, "<script"); n != 2 {
		t.Errorf("%d scripts, want the data and the page's own", n)
	}
	for _, s := range []string{"<img", `src="`, "@import", "url("} {
		if strings.Contains(page, s) {
			t.Errorf("the page has %s", s)
		}
	}
	if !strings.Contains(page, "default-src &#39;none&#39;") {
		t.Error("no content security policy")
	}
}

func TestRefused(t *testing.T) {
	for name, spoil := range map[string]func(*report.Page){
		"an item that is not there": func(p *report.Page) { p.Parts[0].(*report.HeatMap).Items[0][1] = 1 },
		"a row too short":           func(p *report.Page) { p.Parts[0].(*report.HeatMap).Measures[0].Values[0] = nil },
		"columns of two lengths":    func(p *report.Page) { p.Parts[2].(*report.Table).Columns[0].Texts = nil },
		"sorted by nothing":         func(p *report.Page) { p.Parts[2].(*report.Table).By = 2 },
		"no series":                 func(p *report.Page) { p.Items[0].Charts[0].Series = nil },
		"no first item":             func(p *report.Page) { p.First = 1 },
	} {
		p := small()
		spoil(p)
		var b bytes.Buffer
		if err := report.Write(&b, p); err == nil || b.Len() > 0 {
			t.Errorf("%s: %v with %d bytes", name, err, b.Len())
		}
	}
}

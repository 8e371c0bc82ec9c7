package main

import (
	"math"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-b982eded/graft/patch/diff"
	html "github.com/seed-b982eded/graft/patch/report"
)

func number(x float64) diff.Number { return diff.Number(x) }

// TestSpreadOfAnySize: a row over several modules measures them as one, also where no square
// of a norm is within float64.
func TestSpreadOfAnySize(t *testing.T) {
	for _, unit := range []float64{1, 1e-170, 1e160} {
		var s spread
		s.add("a", number(3*unit), number(6*unit), number(3*unit), 1, 1)
		s.add("b", number(4*unit), number(8*unit), number(12*unit), -1, 3)
		for name, x := range map[string][2]float64{
			"‖A‖": {s.normA / unit, 5}, "‖B‖": {s.normB / unit, 10}, "distance": {s.distance / unit, math.Sqrt(153)},
			"relative": {s.relative(), math.Sqrt(153) / 5}, "cosine": {s.cosine(), (18 - 32) / 50.},
		} {
			if !(math.Abs(x[0]-x[1]) < 1e-14*math.Abs(x[1])) {
				t.Errorf("unit %g: %s is %.17g, want %.17g", unit, name, x[0], x[1])
			}
		}
		var a amplified
		a.add(&diff.Amplification{Projected: number(3 * unit)}, number(6*unit))
		a.add(&diff.Amplification{Projected: number(4 * unit)}, number(8*unit))
		if a.text() != "2" {
			t.Errorf("unit %g: amplification %s, want 2", unit, a.text())
		}
	}
}

func delta(norm float64, shape ...int64) *diff.Update {
	return &diff.Update{Kind: "LowRank", Shape: shape, Rank: 2, Norm: number(norm), Spectrum: []diff.Number{number(norm), 0}}
}

// odd has modules that differ in more than what they add.
func odd() *diffResult {
	none := number(math.NaN())
	magnitude := delta(3, 4, 6)
	magnitude.Kind = "Magnitude"
	return &diffResult{A: diffSide{Path: "x"}, B: diffSide{Path: "y"}, Result: &diff.Result{
		Modules: []diff.Module{
			{Module: "l.0.same", What: diff.Equal, A: delta(3, 4, 6), B: delta(3, 4, 6), Cosine: 1},
			{Module: "l.0.kind", What: diff.Equal, A: magnitude, B: delta(3, 4, 6), Cosine: 1},
			{Module: "l.1.idle", What: diff.OnlyB, B: delta(0, 4, 6), Cosine: none},
			{Module: "l.1.shape", What: diff.Shape, A: delta(3, 4, 6), B: delta(5, 4, 8), Distance: none, Relative: none, Cosine: none},
		},
		Total: &diff.Total{NormA: 4.2, NormB: 4.2, Cosine: 1},
	}}
}

// TestModuleSentences: what has no distance is not said to differ by 0.
func TestModuleSentences(t *testing.T) {
	r := odd()
	const others = "ΔW has another shape in 1 of 4 modules and cannot be compared there; 1 of 4 modules is on one side alone and adds nothing"
	if got, want := r.summary(-1), `A = "x", B = "y": `+others; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	r.Modules[0] = diff.Module{Module: "l.0.other", What: diff.Differs, A: delta(3, 4, 6), B: delta(3, 4, 6), Distance: 1.5, Relative: 0.5, Cosine: 0.9}
	r.Total = &diff.Total{NormA: 3, NormB: 3, Distance: 1.5, Relative: 0.5, Cosine: 0.9}
	if got, want := r.summary(-1), `A = "x", B = "y": ΔW differs in 1 of 4 modules, by 0.5 of A's norm (‖A‖ 3, ‖B‖ 3, cosine 0.9); `+others; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// TestFirstItem: a page opens on what changed most, and never on what did not.
func TestFirstItem(t *testing.T) {
	r := odd()
	if got := r.page(-1).First; got != 3 { // the shape
		t.Errorf("item %d, want 3", got)
	}
	r.Modules = r.Modules[:3]
	if got := r.page(-1).First; got != 2 { // on one side alone
		t.Errorf("item %d, want 2", got)
	}
	r.Modules = r.Modules[:1]
	r.Tensors = []diff.Tensor{
		{Name: "a", Values: &diff.Values{Relative: 0, Differing: 1}},
		{Name: "b", Values: &diff.Values{Relative: 0.1, Differing: 1}},
	}
	if got := r.page(-1).First; got != 2 { // tensor b, since no module changed
		t.Errorf("item %d, want 2", got)
	}
}

// TestGrid: rows have the names that files have, and what is left out of a map is said.
func TestGrid(t *testing.T) {
	for _, c := range []struct {
		names, rows []string
		note        string
	}{
		{[]string{"/l/0/a/w", "/l/1/a/w", "/l/0/b/c/w", "/l/1/b/c/w"}, []string{"a", "b/c"}, "n."},
		{[]string{"m.0/a.x/w", "m.1/a.x/w", "m.1/a.y.w"}, []string{"x", "y"}, "n."},
		{[]string{"h/0/q", "h/1/q"}, []string{"q"}, "n."},
		{[]string{"h.0.q", "h.1.q", "embed"}, []string{"q"}, "n. 1 module is not in the map: the name tells no layer."},
		{[]string{"h.0.q", "h.1.q", "embed", "h.1000000.q"}, []string{"q"}, "n. 2 modules are not in the map: the names tell no layer."},
	} {
		g := gridOf(c.names, func(int) float64 { return 0 })
		if d := cmp.Diff(c.rows, g.rows); d != "" {
			t.Errorf("rows of %q (- want, + got):\n%s", c.names, d)
		}
		if h := g.heatMap("t", "n.", "module", "w", func(i int) int { return i }); h.Note != c.note {
			t.Errorf("note of %q: %s, want %s", c.names, h.Note, c.note)
		}
	}
}

// TestOneSide: a module that one side alone has is a change from or to zero, in numbers, and
// the other side has no curve.
func TestOneSide(t *testing.T) {
	inf, none := number(math.Inf(1)), number(math.NaN())
	m := diff.Module{Module: "m", What: diff.OnlyB, B: delta(3, 4, 6), Distance: 3, Relative: inf, Cosine: none}
	item := moduleItem(m)
	want := []html.Fact{
		{Label: "What", Value: "only in B"}, {Label: "Shape of ΔW", Value: "[4 6]"}, {Label: "Rank", Value: "2"}, {Label: "Scale s", Value: "0"}, {Label: "‖ΔW‖", Value: "0 → 3"},
		{Label: "Effective rank", Value: "0"}, {Label: "‖B − A‖", Value: "3"}, {Label: "Relative", Value: "∞"}, {Label: "Cosine", Value: "–"},
	}
	if d := cmp.Diff(want, item.Facts); d != "" {
		t.Errorf("facts (- want, + got):\n%s", d)
	}
	if s := item.Charts[0].Series; len(s) != 2 || s[0].Values != nil || len(s[1].Values) != 1 {
		t.Errorf("series %+v, want none of A", s)
	}
	for _, x := range measures {
		if got := x.of(m); x.name == "‖A‖" && got != 0 {
			t.Errorf("‖A‖ is %g in the table, want 0", got)
		}
	}
}

// TestSigns: numbers have one sort of minus sign.
func TestSigns(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{cosineText(-0.25), "-0.25"}, {cosineText(-1), "-1"}, {cosineText(-1 + 1e-9), "-(1 - 1e-09)"}, {scaleText(1 - 1e-6), "(1 - 1e-06)"}, {scaleText(-2), "-2"},
	} {
		if c.got != c.want {
			t.Errorf("%s, want %s", c.got, c.want)
		}
	}
}

// TestOneByOne: a page without a map does not speak of one.
func TestOneByOne(t *testing.T) {
	r := odd()
	for name, want := range map[string]string{"l.0.x": "What is chosen in the map or a table.", "x": "What is chosen in a table."} {
		for i := range r.Modules {
			r.Modules[i].Module = name + strconv.Itoa(i)
		}
		if parts, _ := dataOf(t, r.page(-1)); parts["One by one"]["note"] != want {
			t.Errorf("%v, want %s", parts["One by one"], want)
		}
	}
}

package main

import (
	"math"
	"testing"

	"github.com/seed-b982eded/graft/patch/diff"
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

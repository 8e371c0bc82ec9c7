package models

import (
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/formats/open"
)

// TestMeasure compares what Measure predicts with scores and embeddings.
func TestMeasure(t *testing.T) {
	ckpt, err := open.Checkpoint("../../testdata/models/bert")
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	m, err := LoadClassifier(ckpt, ClassifierOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b := Batch{Rows: 3, Cols: 3, IDs: []int32{4, 5, 6, 7, 8, 9, 10, 11, 12}, Lens: []int{3, 2, 3}, Labels: []int32{2, Ignored, 0}}
	p, sum, n, err := m.Measure(b)
	if err != nil {
		t.Fatal(err)
	}
	wantSum, wantN, err := m.Loss(b)
	if err != nil || sum != wantSum || n != wantN || n != 2 {
		t.Errorf("got %v over %d, want %v over %d (%v)", sum, n, wantSum, wantN, err)
	}
	scores, err := m.Scores(b)
	if err != nil {
		t.Fatal(err)
	}
	best := func(row []float32) int32 { return int32(slices.Index(row, slices.Max(row))) }
	if want := []int32{best(scores[:3]), best(scores[6:])}; !slices.Equal(p.Classes, want) || !slices.Equal(p.RightClasses, []int32{2, 0}) || p.Numbers != nil {
		t.Errorf("got %+v, want classes %v", p, want)
	}

	m, err = LoadClassifier(ckpt, ClassifierOptions{Outputs: 1, Problem: Regression, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	b.Labels, b.Targets = nil, []float32{0.5, -1, 2}
	if p, _, _, err = m.Measure(b); err != nil {
		t.Fatal(err)
	}
	scores, err = m.Scores(b)
	if err != nil {
		t.Fatal(err)
	}
	for i, x := range scores {
		if p.Numbers[i] != float64(x) || p.RightNumbers[i] != float64(b.Targets[i]) {
			t.Errorf("got %+v, want %v", p, scores)
		}
	}

	e, err := LoadEmbedder(ckpt, EmbedderOptions{SentenceConfig: SentenceConfig{Pooling: MeanPooling, Normalize: true}})
	if err != nil {
		t.Fatal(err)
	}
	pairs := Batch{Rows: 4, Cols: 2, IDs: []int32{4, 5, 6, 7, 6, 7, 4, 5}, Texts: 2} // each is like the other's second
	if p, _, _, err = e.Measure(pairs); err != nil || !slices.Equal(p.Classes, []int32{1, 0}) || !slices.Equal(p.RightClasses, []int32{0, 1}) {
		t.Errorf("got %+v, %v", p, err)
	}
}

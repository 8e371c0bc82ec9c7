package train

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/train/models"
)

// judged is a model that predicts what it is told, batch by batch.
type judged struct {
	Model
	says []models.Predictions
	at   *int
}

func (j judged) Measure(b models.Batch) (models.Predictions, float64, int, error) {
	p := j.says[*j.at%len(j.says)]
	*j.at++
	sum, n, err := j.Loss(b)
	return p, sum, n, err
}

func TestMeasure(t *testing.T) {
	source := loaderOf(6, nil, coin()[:12]...)
	if source.Batches() != 2 {
		t.Fatalf("%d batches", source.Batches())
	}
	model := judged{newBigram(3, nil), []models.Predictions{
		{Classes: []int32{0, 1, 1}, RightClasses: []int32{0, 1, 2}},
		{Classes: []int32{2}, RightClasses: []int32{2}},
	}, new(int)}
	loss, scores, labels, err := Measure(t.Context(), model, source, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantLoss, wantLabels, err := Evaluate(t.Context(), newBigram(3, nil), source, nil)
	if err != nil || loss != wantLoss || labels != wantLabels {
		t.Errorf("got %v over %d, want %v over %d (%v)", loss, labels, wantLoss, wantLabels, err)
	}
	// Class 0 has F1 1, classes 1 and 2 have 2·1/(2·1+1).
	if *scores.Accuracy != 0.75 || math.Abs(*scores.F1-7.0/9) > 1e-15 || scores.MSE != nil || scores.Pearson != nil {
		t.Errorf("got %+v", scores)
	}

	// Numbers, of which the second list does not vary.
	model.says = []models.Predictions{{Numbers: []float64{1, 2}, RightNumbers: []float64{1, 1}}}
	_, scores, _, err = Measure(t.Context(), model, source, nil)
	if err != nil || *scores.MSE != 0.5 || scores.Pearson != nil || scores.Spearman != nil || scores.Accuracy != nil {
		t.Errorf("got %+v, %v", scores, err)
	}
	if _, scores, _, err := Measure(t.Context(), newBigram(3, nil), source, nil); scores != nil || err != nil {
		t.Errorf("a language model has %+v, %v", scores, err)
	}
}

// TestScoresInFiles writes scores into all files of a run, and reads them again.
func TestScoresInFiles(t *testing.T) {
	accuracy, f1 := 0.75, 0.5
	p := Point{Step: 3, Epoch: 1, Eval: true, Loss: 2, Scores: &Scores{Accuracy: &accuracy, F1: &f1}}
	var line bytes.Buffer
	if err := NewMetricsWriter(&line, false).Write(p); err != nil {
		t.Fatal(err)
	}
	if want := `{"step":3,"eval_loss":2,"eval_accuracy":0.75,"eval_f1":0.5}` + "\n"; line.String() != want {
		t.Errorf("got %s, want %s", line.String(), want)
	}
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var back Point
	if err := json.Unmarshal(text, &back); err != nil || back.Scores == nil || *back.Scores.Accuracy != 0.75 || *back.Scores.F1 != 0.5 || back.Scores.MSE != nil {
		t.Errorf("%s: got %+v, %v", text, back, err)
	}
	var curve bytes.Buffer
	if err := CurveOf(&curve, []Point{p}, "loss of a text"); err != nil || !strings.Contains(curve.String(), "loss of a text") {
		t.Errorf("%v, %d bytes", err, curve.Len())
	}

	opt := DefaultOptions
	opt.MaxSteps, opt.Eval = 2, loaderOf(6, nil, coin()[:12]...)
	model := judged{newBigram(3, nil), []models.Predictions{{Classes: []int32{1}, RightClasses: []int32{1}}}, new(int)}
	var points []Point
	_, err = Run(t.Context(), model, loaderOf(6, nil, coin()[:12]...), opt, Events{Point: func(p Point) error { points = append(points, p); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range points {
		if p.Eval != (p.Scores != nil) || p.Eval && *p.Scores.Accuracy != 1 {
			t.Errorf("point %+v", p)
		}
	}
}

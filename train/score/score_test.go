package score_test

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/train/score"
)

// testdata/scores.json is from scikit-learn and SciPy: see testdata/gen/scores.py.
func TestScoresMatchScikitLearn(t *testing.T) {
	text, err := os.ReadFile("testdata/scores.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Classes []struct {
			Predicted, Right []int32
			Accuracy, F1     float64
			F1Of1            float64 `json:"f1_of_1"`
		}
		Labels []struct {
			Predicted, Right []bool
			F1               float64
		}
		LabelLists []struct {
			Labels                 int
			Predicted, Right       []int
			Accuracy, Macro, Micro float64
		} `json:"label_lists"`
		Numbers []struct {
			X, Y                   []float64
			Pearson, Spearman, MSE float64
		}
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	check := func(what string, got, want float64) {
		t.Helper()
		// Both sum in float64, in another order.
		if !(math.Abs(got-want) <= 1e-12) {
			t.Errorf("%s is %.15g, want %.15g", what, got, want)
		}
	}
	if len(want.Classes) != 4 || len(want.Labels) != 2 || len(want.LabelLists) != 3 || len(want.Numbers) != 3 {
		t.Fatal("the reference lacks cases")
	}
	for _, c := range want.Classes {
		check("accuracy", score.Accuracy(c.Predicted, c.Right), c.Accuracy)
		check("F1", score.F1(c.Predicted, c.Right), c.F1)
		check("F1 of class 1", score.F1Of(1, c.Predicted, c.Right), c.F1Of1)
	}
	for _, c := range want.Labels {
		check("F1 of labels", score.LabelF1(c.Predicted, c.Right), c.F1)
	}
	for _, c := range want.LabelLists {
		predicted, right := make([]bool, len(c.Predicted)), make([]bool, len(c.Right))
		for i := range predicted {
			predicted[i], right[i] = c.Predicted[i] == 1, c.Right[i] == 1
		}
		check("subset accuracy", score.SubsetAccuracy(predicted, right, c.Labels), c.Accuracy)
		check("macro F1 of labels", score.MacroLabelF1(predicted, right, c.Labels), c.Macro)
		check("micro F1 of labels", score.LabelF1(predicted, right), c.Micro)
	}
	for _, c := range want.Numbers {
		check("Pearson", score.Pearson(c.X, c.Y), c.Pearson)
		check("Spearman", score.Spearman(c.X, c.Y), c.Spearman)
		check("mean squared error", score.MeanSquaredError(c.X, c.Y), c.MSE)
	}
}

func TestEdges(t *testing.T) {
	if x := score.Pearson([]float64{1, 1}, []float64{1, 2}); x == x {
		t.Errorf("numbers that do not vary correlate by %g", x)
	}
	if score.F1(nil, nil) != 0 || score.Accuracy[int32](nil, nil) != 0 || score.LabelF1(nil, nil) != 0 {
		t.Error("nothing has a score")
	}
	if x := score.Pearson([]float64{1, 2, 3}, []float64{0.1, 0.2, 0.3}); x > 1 {
		t.Errorf("a correlation of %.17g", x)
	}
	if got := score.Best([]float32{1, 3, 3, 0, -1, -2}, 3); !slices.Equal(got, []int32{1, 0}) {
		t.Errorf("the best are %v", got)
	}
	if got := score.Above([]float32{0, 0.1, -1}, 0); !slices.Equal(got, []bool{false, true, false}) {
		t.Errorf("above 0 are %v", got)
	}
	got := score.Cosines([]float32{3, 4, 0, 0, 1, 0}, []float32{3, 4, 1, 1, -2, 0}, 2)
	if want := []float64{1, 0, -1}; !slices.Equal(got, want) {
		t.Errorf("cosines are %v, want %v", got, want)
	}
}

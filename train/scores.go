package train

import (
	"github.com/seed-b982eded/graft/train/models"
	"github.com/seed-b982eded/graft/train/score"
)

// Measurer is a [Model] of whole texts, whose evaluations give more than a loss: a
// [models.Classifier] or a [models.Embedder].
type Measurer interface {
	Model
	// Measure is Loss, with what the model predicts.
	Measure(b models.Batch) (p models.Predictions, sum float64, labels int, err error)
}

// Scores are what an evaluation of texts gives besides its loss. Nil are those that the
// task does not have, and correlations with numbers that do not vary.
type Scores struct {
	Accuracy *float64 `json:"eval_accuracy,omitempty"` // the share of texts that are right, in all their labels
	F1       *float64 `json:"eval_f1,omitempty"`       // the macro average, [score.F1]
	MicroF1  *float64 `json:"eval_f1_micro,omitempty"` // of texts with several labels, [score.LabelF1]
	MSE      *float64 `json:"eval_mse,omitempty"`      // the mean squared error
	Pearson  *float64 `json:"eval_pearson,omitempty"`
	Spearman *float64 `json:"eval_spearman,omitempty"`
}

// newScores measures predictions. Which text of a batch belongs to another, as embeddings
// tell it, is no class, and has no F1.
func newScores(model Measurer, p models.Predictions) *Scores {
	s := &Scores{}
	set := func(into **float64, x float64) {
		if finite(x) {
			*into = &x
		}
	}
	if len(p.Classes) > 0 {
		set(&s.Accuracy, score.Accuracy(p.Classes, p.RightClasses))
		if _, ok := model.(*models.Embedder); !ok {
			set(&s.F1, score.F1(p.Classes, p.RightClasses))
		}
	}
	if len(p.Labels) > 0 {
		set(&s.Accuracy, score.SubsetAccuracy(p.Labels, p.RightLabels, p.Outputs))
		set(&s.F1, score.MacroLabelF1(p.Labels, p.RightLabels, p.Outputs))
		set(&s.MicroF1, score.LabelF1(p.Labels, p.RightLabels))
	}
	if len(p.Numbers) > 0 {
		set(&s.MSE, score.MeanSquaredError(p.Numbers, p.RightNumbers))
		set(&s.Pearson, score.Pearson(p.Numbers, p.RightNumbers))
		set(&s.Spearman, score.Spearman(p.Numbers, p.RightNumbers))
	}
	return s
}

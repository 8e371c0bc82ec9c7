package train

import (
	"encoding/json"
	"math"
)

// Point is one measurement of a run: the training loss at a step, or the loss on
// held-out data after it.
type Point struct {
	Step   int     // optimizer steps done; 0 only for an evaluation before training
	Epoch  float64 // passes over the data done
	Tokens int64   // input tokens trained on so far, padding not counted
	Eval   bool    // on held-out data
	// Loss is in nats a label. Of training it is the mean over the steps since the
	// last such point, each by its own mean over labels; of an evaluation it is the
	// mean over all labels.
	Loss float64
	// Scores come with an evaluation of a [Measurer], and are nil else.
	Scores *Scores
	// LearningRate and GradNorm are those of the step itself, the norm before
	// clipping. An evaluation has neither.
	LearningRate, GradNorm float64
	// Seconds is the wall-clock time since this run began. Two equal runs differ here
	// and nowhere else.
	Seconds float64
}

// Perplexity returns e to the loss, which is +Inf above a loss of 709.
func (p Point) Perplexity() float64 { return math.Exp(p.Loss) }

// historyEntry is a point as Hugging Face writes it into log_history.
type historyEntry struct {
	Epoch        float64  `json:"epoch"`
	EvalLoss     *float64 `json:"eval_loss,omitempty"`
	GradNorm     *float64 `json:"grad_norm,omitempty"`
	LearningRate *float64 `json:"learning_rate,omitempty"`
	Loss         *float64 `json:"loss,omitempty"`
	Tokens       int64    `json:"num_input_tokens_seen,omitempty"`
	Step         int      `json:"step"`
	*Scores
}

// MarshalJSON writes the point as an entry of Hugging Face's log_history, without
// the time.
func (p Point) MarshalJSON() ([]byte, error) {
	e := historyEntry{Epoch: p.Epoch, Tokens: p.Tokens, Step: p.Step}
	if p.Eval {
		e.EvalLoss, e.Scores = &p.Loss, p.Scores
	} else {
		e.Loss, e.LearningRate, e.GradNorm = &p.Loss, &p.LearningRate, &p.GradNorm
	}
	return json.Marshal(e)
}

// UnmarshalJSON reads an entry of log_history. One that is neither a training nor an
// evaluation loss, as the Trainer's closing summary, gives the zero Point.
func (p *Point) UnmarshalJSON(text []byte) error {
	var e historyEntry
	if err := json.Unmarshal(text, &e); err != nil {
		return err
	}
	*p = Point{}
	switch {
	case e.EvalLoss != nil:
		*p = Point{Step: e.Step, Epoch: e.Epoch, Tokens: e.Tokens, Eval: true, Loss: *e.EvalLoss, Scores: e.Scores}
	case e.Loss != nil:
		*p = Point{Step: e.Step, Epoch: e.Epoch, Tokens: e.Tokens, Loss: *e.Loss}
		if e.LearningRate != nil {
			p.LearningRate = *e.LearningRate
		}
		if e.GradNorm != nil {
			p.GradNorm = *e.GradNorm
		}
	}
	return nil
}

package train

import (
	"encoding/json"
	"io"
	"math"

	"github.com/seed-b982eded/graft/formats"
)

// MetricsWriter writes points as metrics.jsonl, one JSON object a line:
//
//	{"step":10,"loss":2.5,"learning_rate":0.0002,"grad_norm":1.25,"tokens":5120,"epoch":0.5}
//	{"step":10,"eval_loss":2.75,"eval_perplexity":15.642631884188171}
//
// In place of the perplexity an evaluation of texts has its [Scores]. The fields are in
// this order and floats in the shortest form that reads back to the same number, so equal
// runs give equal files. With times, each line ends in "seconds", which differs from run
// to run.
type MetricsWriter struct {
	w     io.Writer
	times bool
}

// NewMetricsWriter returns a writer to w.
func NewMetricsWriter(w io.Writer, times bool) *MetricsWriter {
	return &MetricsWriter{w: w, times: times}
}

type trainLine struct {
	Step         int      `json:"step"`
	Loss         float64  `json:"loss"`
	LearningRate float64  `json:"learning_rate"`
	GradNorm     float64  `json:"grad_norm"`
	Tokens       int64    `json:"tokens"`
	Epoch        float64  `json:"epoch"`
	Seconds      *float64 `json:"seconds,omitempty"`
}

type evalLine struct {
	Step       int      `json:"step"`
	Loss       float64  `json:"eval_loss"`
	Perplexity *float64 `json:"eval_perplexity"` // null where it is beyond float64
	Seconds    *float64 `json:"seconds,omitempty"`
}

// scoresLine is the evaluation of a model of whole texts.
type scoresLine struct {
	Step int     `json:"step"`
	Loss float64 `json:"eval_loss"`
	*Scores
	Seconds *float64 `json:"seconds,omitempty"`
}

// Write writes one line, in one call to the underlying writer. A failure is a
// [formats.ErrOutput].
func (m *MetricsWriter) Write(p Point) error {
	var seconds *float64
	if m.times {
		seconds = &p.Seconds
	}
	var line any
	if p.Eval && p.Scores != nil {
		line = scoresLine{Step: p.Step, Loss: p.Loss, Scores: p.Scores, Seconds: seconds}
	} else if p.Eval {
		l := evalLine{Step: p.Step, Loss: p.Loss, Seconds: seconds}
		if ppl := p.Perplexity(); !math.IsInf(ppl, 0) {
			l.Perplexity = &ppl
		}
		line = l
	} else {
		line = trainLine{
			Step: p.Step, Loss: p.Loss, LearningRate: p.LearningRate, GradNorm: p.GradNorm,
			Tokens: p.Tokens, Epoch: p.Epoch, Seconds: seconds,
		}
	}
	text, err := json.Marshal(line)
	if err == nil {
		_, err = m.w.Write(append(text, '\n'))
	}
	if err != nil {
		return &formats.Error{Class: formats.ErrOutput, Detail: "writing metrics", Err: err}
	}
	return nil
}

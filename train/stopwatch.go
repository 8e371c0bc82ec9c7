package train

import "time"

// stopwatch measures a run for its display only: nothing that is computed depends
// on it.
type stopwatch struct {
	began           time.Time
	stepping        time.Duration
	evaluating      time.Duration
	steps, evals    int
	tokens          int64
	stepsLeft, todo int // steps and evaluations to come
}

func (w *stopwatch) seconds() float64 { return time.Since(w.began).Seconds() }

func (w *stopwatch) step(took time.Duration, tokens int64) {
	w.stepping += took
	w.steps++
	w.stepsLeft--
	w.tokens += tokens
}

func (w *stopwatch) evaluation(took time.Duration) {
	w.evaluating += took
	w.evals++
	w.todo--
}

func (w *stopwatch) tokensPerSecond() float64 {
	if w.stepping <= 0 {
		return 0
	}
	return float64(w.tokens) / w.stepping.Seconds()
}

func (w *stopwatch) remaining() time.Duration {
	var left float64
	if w.steps > 0 {
		left += float64(w.stepping) / float64(w.steps) * float64(w.stepsLeft)
	}
	if w.evals > 0 {
		left += float64(w.evaluating) / float64(w.evals) * float64(max(w.todo, 0))
	}
	return time.Duration(left)
}

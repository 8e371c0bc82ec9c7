package train

import "time"

// Events are called by [Run] in order and never at the same time. Any may be nil. An
// error ends the run and is returned as it is.
type Events struct {
	// Start is called once, before the first evaluation.
	Start func(Plan)
	// Step is called after every optimizer step, for a progress display.
	Step func(Progress)
	// Evaluating is called after each held-out batch with how many of all are done.
	Evaluating func(done, all int)
	// Point is called for every measurement, in the order of steps.
	Point func(Point) error
	// Save is called every [Options.SaveSteps] steps, after an evaluation of the same step
	// and not after the last step, with what is needed to go on from there. The snapshot
	// is valid until Save returns.
	Save func(Snapshot) error
}

// Progress is where a run is after a step.
type Progress struct {
	Step, Steps  int // done, and of the whole run
	Epoch        float64
	Loss         float64 // of this step, nats a label
	LearningRate float64
	GradNorm     float64 // before clipping
	Tokens       int64   // input tokens so far, padding not counted
	// TokensPerSecond and Remaining are estimates from the training steps of this
	// run. Remaining counts evaluations at what they cost so far.
	TokensPerSecond float64
	Remaining       time.Duration
}

// Result is how far a run came.
type Result struct {
	// Snapshot is the state after the last step that was completed. After a finished run
	// with [Options.LoadBest] its parameters, as those in the model, are the best ones.
	Snapshot
	Plan Plan
	// Finished is true if every step and the last evaluation were done, or if the run
	// stopped early as [Options.Patience] says, and Early in the latter case only.
	Finished, Early bool
}

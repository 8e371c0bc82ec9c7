package train

import (
	"math"
	"slices"
)

// Snapshot is all that it takes to resume a run with the same model, data and options:
// [Options.Resume]. Its slices are those of the run: copy or write what must outlive it.
type Snapshot struct {
	// State holds where the run is, and all points so far. BestModelCheckpoint is left to
	// whoever writes checkpoints.
	State TrainerState
	// Params are the trained parameters. When resuming, nil says that the model has them.
	Params  []Values
	Moments []Moments
	Pending Pending
	// Best are the parameters at State.BestGlobalStep; nil unless [Options.LoadBest] is
	// set and an evaluation was made.
	Best []Values
}

// Pending are the steps since the last training point, which the next one sums up.
type Pending struct {
	Steps        int     `json:"steps"`
	Loss         float64 `json:"loss"`          // sum over the steps
	LearningRate float64 `json:"learning_rate"` // of the last step
	GradNorm     float64 `json:"grad_norm"`     // of the last step
}

// snapshot returns the state after the last step.
func (r *run) snapshot() Snapshot {
	s := TrainerState{
		Epoch:              r.epoch,
		EvalSteps:          orWhole(r.opt.EvalSteps, r.plan.Steps),
		GlobalStep:         r.done,
		IsLocalProcessZero: true,
		IsWorldProcessZero: true,
		LogHistory:         slices.Clone(r.history),
		LoggingSteps:       r.opt.LogSteps,
		MaxSteps:           r.plan.Steps,
		NumInputTokensSeen: r.tokens,
		NumTrainEpochs:     int(math.Ceil(r.plan.Epochs)),
		SaveSteps:          orWhole(r.opt.SaveSteps, r.plan.Steps),
		TrainBatchSize:     r.opt.BatchSize,
	}
	if r.standing.value != nil {
		value, step := *r.standing.value, r.standing.step
		s.BestMetric, s.BestGlobalStep = &value, &step
	}
	if r.opt.Patience > 0 {
		s.StatefulCallbacks.EarlyStopping = newEarlyStoppingState(r.opt.Patience, r.opt.Threshold, r.standing.waited)
	}
	return Snapshot{State: s, Params: valuesOf(r.params), Moments: r.optim.Moments(), Pending: r.pending, Best: r.best}
}

// orWhole writes "never before the end" as the Trainer can read it: it divides by
// these intervals.
func orWhole(every, steps int) int {
	if every == 0 {
		return steps
	}
	return every
}

// restore puts the run where a snapshot was taken.
func (r *run) restore(from *Snapshot) error {
	if from.Params != nil {
		if err := setValues(valuesOf(r.params), from.Params); err != nil {
			return err
		}
	}
	if err := r.optim.Restore(from.State.GlobalStep, from.Moments); err != nil {
		return err
	}
	r.done, r.epoch, r.tokens = from.State.GlobalStep, from.State.Epoch, from.State.NumInputTokensSeen
	r.pending = from.Pending
	for _, p := range from.State.LogHistory {
		r.history = append(r.history, p)
		r.standing.judge(p)
	}
	if r.opt.LoadBest && r.standing.value != nil {
		r.best = copyValues(nil, r.params)
		return setValues(r.best, from.Best)
	}
	return nil
}

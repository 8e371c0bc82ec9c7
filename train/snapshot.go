package train

import (
	"math"
	"slices"
)

// Snapshot is what it takes, besides the model's parameters, to resume a run.
type Snapshot struct {
	State   TrainerState
	Moments []Moments
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
	for _, p := range r.history {
		if p.Eval && (s.BestMetric == nil || p.Loss < *s.BestMetric) {
			loss, step := p.Loss, p.Step
			s.BestMetric, s.BestGlobalStep = &loss, &step
		}
	}
	return Snapshot{State: s, Moments: r.optim.Moments()}
}

// orWhole writes "never before the end" as the Trainer can read it: it divides by
// these intervals.
func orWhole(every, steps int) int {
	if every == 0 {
		return steps
	}
	return every
}

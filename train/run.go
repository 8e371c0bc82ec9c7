package train

import (
	"context"
	"errors"
	"time"
)

// Run trains model on source.
//
// The loss of a step is the mean over all labels of its batches together, so how
// they are cut into batches does not weigh them. A step's gradient is clipped, the
// optimizer moves the parameters, and the schedule is asked for the next rate.
//
// When ctx ends, the step in progress is completed and Run returns with ctx's cause;
// nothing is evaluated or saved any more. After any error the result still holds the
// last completed step, which matches the parameters in the model, so the caller can
// save both. A loss or gradient that is not finite is [ErrDiverged] and leaves the
// parameters as they were after the step before.
func Run(ctx context.Context, model Model, source Source, opt Options, events Events) (Result, error) {
	r, err := newRun(model, source, opt, events)
	if err != nil {
		return Result{}, err
	}
	if events.Start != nil {
		events.Start(r.plan)
	}
	err = r.train(ctx)
	if err != nil {
		// What was trained since the last point would otherwise go unreported.
		err = errors.Join(err, r.flush())
	}
	return Result{Snapshot: r.snapshot(), Plan: r.plan, Finished: err == nil}, err
}

// run is the state of one call of [Run].
type run struct {
	model    Model
	source   Source
	opt      Options
	events   Events
	plan     Plan
	schedule Schedule
	optim    *AdamW

	done    int // steps
	epoch   float64
	tokens  int64
	history []Point
	pending pending // steps since the last point
	clock   stopwatch
}

func newRun(model Model, source Source, opt Options, events Events) (*run, error) {
	plan, err := NewPlan(model, source, opt)
	if err != nil {
		return nil, err
	}
	schedule, err := opt.schedule(plan.Steps)
	if err != nil {
		return nil, err
	}
	optim, err := NewAdamW(model.Params(), opt.AdamW)
	if err != nil {
		return nil, err
	}
	r := &run{
		model: model, source: source, opt: opt, events: events,
		plan: plan, schedule: schedule, optim: optim,
	}
	if from := opt.Resume; from != nil {
		if err := optim.Restore(from.State.GlobalStep, from.Moments); err != nil {
			return nil, err
		}
		r.done = from.State.GlobalStep
		r.epoch = from.State.Epoch
		r.tokens = from.State.NumInputTokensSeen
		r.history = append(r.history, from.State.LogHistory...)
	}
	r.clock = stopwatch{began: time.Now(), stepsLeft: plan.Steps - r.done, todo: r.evaluationsLeft()}
	return r, nil
}

// evaluationsLeft counts the evaluations of the rest of the run.
func (r *run) evaluationsLeft() int {
	if r.opt.Eval == nil {
		return 0
	}
	n := 0
	if r.done == 0 {
		n++
	}
	if r.opt.EvalSteps > 0 {
		n += r.plan.Steps/r.opt.EvalSteps - r.done/r.opt.EvalSteps
	}
	if r.opt.EvalSteps == 0 || r.plan.Steps%r.opt.EvalSteps != 0 {
		n++
	}
	return n
}

func (r *run) train(ctx context.Context) error {
	// A run may have been left between a step and its evaluation.
	if r.done == 0 || due(r.done, r.opt.EvalSteps) {
		if err := r.evaluate(ctx); err != nil {
			return err
		}
	}
	for r.done < r.plan.Steps {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := r.step(); err != nil {
			return err
		}
		// A step after which the run may be left ends the log's window, so that a
		// resumed run logs what an unbroken one does.
		last := r.done == r.plan.Steps
		evaluate := !last && due(r.done, r.opt.EvalSteps)
		save := !last && due(r.done, r.opt.SaveSteps)
		if last || evaluate || save || due(r.done, r.opt.LogSteps) {
			if err := r.flush(); err != nil {
				return err
			}
		}
		if evaluate {
			if err := r.evaluate(ctx); err != nil {
				return err
			}
		}
		if save && r.events.Save != nil {
			if err := r.events.Save(r.snapshot()); err != nil {
				return err
			}
		}
	}
	return r.evaluate(ctx)
}

// due reports whether something that happens every so many steps happens now.
func due(step, every int) bool { return every > 0 && step%every == 0 }

package train

import (
	"context"
	"time"

	"github.com/seed-b982eded/graft/train/models"
)

// Run trains model on source.
//
// The loss of a step is the mean over all labels of its batches together, so how
// they are cut into batches does not weigh them. A step's gradient is clipped, the
// optimizer moves the parameters, and the schedule is asked for the next rate.
//
// When ctx ends, the step in progress is completed and Run returns with ctx's cause;
// nothing is evaluated, reported or saved any more. After any error the result still
// holds the last completed step, so that the caller can save it and resume from there. A loss or gradient that is not finite is [ErrDiverged] and leaves the
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
	if err == nil && r.best != nil {
		err = setValues(valuesOf(r.params), r.best)
	}
	return Result{Snapshot: r.snapshot(), Plan: r.plan, Finished: err == nil, Early: err == nil && r.done < r.plan.Steps}, err
}

// run is the state of one call of [Run].
type run struct {
	model    Model
	source   Source
	opt      Options
	events   Events
	plan     Plan
	schedule Schedule
	params   []models.Param
	optim    Optimizer

	done    int // steps
	epoch   float64
	tokens  int64
	history []Point
	pending Pending
	clock   stopwatch

	standing standing
	best     []Values // at standing.step; nil unless they are loaded at the end
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
	metric, err := findMetric(opt.BestMetric)
	if err != nil {
		return nil, err
	}
	params := model.Params()
	optim, err := opt.optimizer(params)
	if err != nil {
		return nil, err
	}
	r := &run{
		model: model, source: source, opt: opt, events: events,
		plan: plan, schedule: schedule, params: params, optim: optim,
		standing: standing{metric: metric, threshold: opt.Threshold},
	}
	if opt.Resume != nil {
		if err := r.restore(opt.Resume); err != nil {
			return nil, err
		}
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
	for r.done < r.plan.Steps && !r.early() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := r.step(); err != nil {
			return err
		}
		last := r.done == r.plan.Steps
		evaluate := !last && due(r.done, r.opt.EvalSteps)
		save := !last && due(r.done, r.opt.SaveSteps)
		if last || evaluate || due(r.done, r.opt.LogSteps) {
			if err := r.flush(); err != nil {
				return err
			}
		}
		if evaluate {
			if err := r.evaluate(ctx); err != nil {
				return err
			}
		}
		if save && r.events.Save != nil && !r.early() {
			if err := r.events.Save(r.snapshot()); err != nil {
				return err
			}
		}
	}
	return r.evaluate(ctx)
}

// early reports whether the evaluations so far say that more steps are of no use.
func (r *run) early() bool { return r.opt.Patience > 0 && r.standing.waited >= r.opt.Patience }

// due reports whether something that happens every so many steps happens now.
func due(step, every int) bool { return every > 0 && step%every == 0 }

package train

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/seed-b982eded/graft/train/data"
)

// window returns where a step's batches lie: an epoch, and batches from to to−1 of
// it. Steps are counted from 0.
func (r *run) window(step int) (epoch, from, to int) {
	epoch = step / r.plan.StepsPerEpoch
	from = step % r.plan.StepsPerEpoch * r.opt.GradientAccumulation
	return epoch, from, min(from+r.opt.GradientAccumulation, r.source.Batches())
}

// step does one optimizer step and reports it.
func (r *run) step() error {
	began := time.Now()
	epoch, from, to := r.window(r.done)
	batches := make([]data.Batch, 0, to-from)
	labels, tokens := 0, int64(0)
	for i := from; i < to; i++ {
		b := r.source.At(epoch, i)
		labels += b.Count()
		for _, n := range b.Lens {
			tokens += int64(n)
		}
		batches = append(batches, b)
	}

	loss, err := r.gradients(batches, labels)
	if err != nil {
		return err
	}
	norm := GradNorm(r.params)
	if !finite(norm) {
		return diverged(allOrigins(batches), "step %d: the gradient norm is %v", r.done+1, norm)
	}
	if r.opt.MaxGradNorm > 0 {
		clipTo(r.params, norm, r.opt.MaxGradNorm)
	}
	rate := r.opt.LearningRate * r.schedule.Factor(r.done)
	r.optim.Step(rate)

	r.done++
	r.epoch = float64(epoch) + float64(to)/float64(r.source.Batches())
	r.tokens += tokens
	r.pending.add(loss, rate, norm)
	r.clock.step(time.Since(began), tokens)
	if r.events.Step != nil {
		r.events.Step(Progress{
			Step: r.done, Steps: r.plan.Steps, Epoch: r.epoch,
			Loss: loss, LearningRate: rate, GradNorm: norm, Tokens: r.tokens,
			TokensPerSecond: r.clock.tokensPerSecond(), Remaining: r.clock.remaining(),
		})
	}
	return nil
}

// gradients leaves the gradient of the mean loss over all labels of the batches in
// the parameters, and returns that loss.
func (r *run) gradients(batches []data.Batch, labels int) (loss float64, err error) {
	if labels == 0 {
		return 0, fmt.Errorf("step %d: no labels in %s", r.done+1, origins(allOrigins(batches)))
	}
	zeroGrad(r.params)
	scale := float32(1 / float64(labels))
	var sum float64
	counted := 0
	for _, b := range batches {
		batchSum, n, err := r.model.LossGrad(b.Batch, scale)
		if err != nil {
			return 0, fmt.Errorf("step %d, %s: %w", r.done+1, origins(b.Origins), err)
		}
		if !finite(batchSum) {
			return 0, diverged(b.Origins, "step %d: the loss is %v", r.done+1, batchSum)
		}
		sum += batchSum
		counted += n
	}
	if counted != labels {
		// The scale was made from labels, so the gradient would be of another length.
		return 0, fmt.Errorf("step %d: labels counted by the model (got %d, want %d)", r.done+1, counted, labels)
	}
	return sum / float64(labels), nil
}

// flush makes a point of the steps since the last one.
func (r *run) flush() error {
	if r.pending.Steps == 0 {
		return nil
	}
	p := Point{
		Step: r.done, Epoch: r.epoch, Tokens: r.tokens,
		Loss:         r.pending.Loss / float64(r.pending.Steps),
		LearningRate: r.pending.LearningRate, GradNorm: r.pending.GradNorm,
	}
	r.pending = Pending{}
	return r.record(p)
}

// evaluate measures the held-out loss, if there is held-out data and this step was
// not measured yet.
func (r *run) evaluate(ctx context.Context) error {
	if r.opt.Eval == nil {
		return nil
	}
	if n := len(r.history); n > 0 && r.history[n-1].Eval && r.history[n-1].Step == r.done {
		return nil
	}
	began := time.Now()
	loss, scores, _, err := Measure(ctx, r.model, r.opt.Eval, r.events.Evaluating)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("step %d: %w", r.done, err)
	}
	r.clock.evaluation(time.Since(began))
	p := Point{Step: r.done, Epoch: r.epoch, Tokens: r.tokens, Eval: true, Loss: loss, Scores: scores}
	if err := r.standing.metric.check(p); err != nil {
		return err
	}
	if r.standing.judge(p) && r.opt.LoadBest {
		r.best = copyValues(r.best, r.params)
	}
	return r.record(p)
}

// record keeps a point and reports it.
func (r *run) record(p Point) error {
	r.history = append(r.history, p)
	if r.events.Point == nil {
		return nil
	}
	p.Seconds = r.clock.seconds()
	return r.events.Point(p)
}

func (p *Pending) add(loss, rate, norm float64) {
	p.Loss += loss
	p.LearningRate, p.GradNorm = rate, norm
	p.Steps++
}

func allOrigins(batches []data.Batch) []data.Origin {
	var all []data.Origin
	for _, b := range batches {
		all = append(all, b.Origins...)
	}
	return all
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

package train

import (
	"math"

	"github.com/seed-b982eded/graft/formats"
)

// Options says how to train. The zero value is not usable; start from
// [DefaultOptions].
type Options struct {
	LearningRate float64 // the full rate, which the schedule scales
	Optimizer    string  // [AdamWOptimizer], which no name is too, or [SGDOptimizer]
	AdamW        AdamWConfig
	SGD          SGDConfig
	LoRAPlus     LoRAPlus // rates of factors; the zero value gives all the same
	Schedule     string   // a kind of [Schedule]
	WarmupSteps  int      // wins over WarmupRatio if not 0
	WarmupRatio  float64
	MinRate      float64 // the last share of the rate, of [CosineWithMinRate]

	MaxSteps int     // optimizer steps; wins over Epochs if not 0
	Epochs   float64 // passes over the data; the last may be a part of one
	// GradientAccumulation is how many batches make one step. The last step of an
	// epoch may have fewer: no step reaches into the next epoch.
	GradientAccumulation int
	MaxGradNorm          float64 // gradients are clipped to this norm; 0 leaves them

	Eval Source // held-out data, or nil
	// EvalSteps is how many steps lie between evaluations. There is always one before
	// the first step and one after the last; 0 adds none.
	EvalSteps int
	LogSteps  int // steps between training points, at least 1
	SaveSteps int // steps between calls of [Events.Save]; 0 makes none

	// BestMetric is what evaluations are compared by, for the fields below and the state:
	// loss, which no name is too, accuracy, f1, mse, pearson or spearman. Of loss and mse
	// less is better.
	BestMetric string
	// LoadBest leaves the parameters of the best evaluation in the model at the end, and
	// not those of the last step. It takes EvalSteps.
	LoadBest bool
	// Patience, unless it is 0, stops after so many evaluations in a row that are not
	// better than the best one by more than Threshold. It takes EvalSteps.
	Patience  int
	Threshold float64

	// BatchSize is only written into [TrainerState].
	BatchSize int
	// Resume goes on after the snapshot's step. With the same model, data and options the
	// result is that of a run that never stopped.
	Resume *Snapshot
}

// DefaultOptions are those of Hugging Face's Trainer, with a learning rate for
// adapters: theirs, 5e-5, is meant for all weights, and low-rank factors are
// commonly trained at four times that.
var DefaultOptions = Options{
	LearningRate:         2e-4,
	AdamW:                DefaultAdamW,
	Schedule:             Linear,
	Epochs:               3,
	GradientAccumulation: 1,
	MaxGradNorm:          1,
	LogSteps:             1,
}

// Plan is what a run will do.
type Plan struct {
	Steps         int     // optimizer steps in all
	FirstStep     int     // steps that were done before, when resuming
	StepsPerEpoch int     // optimizer steps
	Epochs        float64 // passes over the data
	Warmup        int     // steps of warm-up
	Parameters    int64   // trainable ones
}

// maxSteps bounds a run; a step a millisecond would take it 24 days.
const maxSteps = math.MaxInt32

// NewPlan works out a run of model over source without doing anything. Options that
// make no sense are a [formats.ErrUsage].
func NewPlan(model Model, source Source, opt Options) (Plan, error) {
	if err := opt.check(); err != nil {
		return Plan{}, err
	}
	batches := source.Batches()
	if batches < 1 {
		return Plan{}, formats.Usagef("no batches to train on")
	}
	p := Plan{StepsPerEpoch: (batches + opt.GradientAccumulation - 1) / opt.GradientAccumulation}
	for _, param := range model.Params() {
		p.Parameters += int64(len(param.Data))
	}
	if p.Parameters == 0 {
		return Plan{}, formats.Usagef("the model has no trainable parameters")
	}
	steps := float64(opt.MaxSteps)
	if opt.MaxSteps == 0 {
		steps = math.Ceil(opt.Epochs * float64(p.StepsPerEpoch))
	}
	if steps > maxSteps {
		return Plan{}, formats.Usagef("training steps (got %.0f, want at most %d)", steps, maxSteps)
	}
	p.Steps = int(steps)
	p.Epochs = steps / float64(p.StepsPerEpoch)
	schedule, err := opt.schedule(p.Steps)
	if err != nil {
		return Plan{}, err
	}
	p.Warmup = schedule.Warmup()
	if p.Warmup > p.Steps { // the full rate would never come
		return Plan{}, formats.Usagef("warm-up steps (got %d, want at most the run's %d)", p.Warmup, p.Steps)
	}
	if opt.Resume != nil {
		p.FirstStep = opt.Resume.State.GlobalStep
		if p.FirstStep > p.Steps {
			return Plan{}, formats.Usagef("the run to resume did %d steps (want at most %d)", p.FirstStep, p.Steps)
		}
	}
	return p, nil
}

func (opt Options) schedule(steps int) (Schedule, error) {
	return NewSchedule(steps, ScheduleConfig{opt.Schedule, opt.WarmupSteps, opt.WarmupRatio, opt.MinRate})
}

func (opt Options) check() error {
	switch {
	case !(opt.LearningRate > 0) || !finite(opt.LearningRate):
		return formats.Usagef("learning rate (got %v, want more than 0)", opt.LearningRate)
	case opt.MaxSteps < 0:
		return formats.Usagef("maximum steps (got %d, want at least 0)", opt.MaxSteps)
	case opt.MaxSteps == 0 && (!(opt.Epochs > 0) || !finite(opt.Epochs)):
		return formats.Usagef("epochs (got %v, want more than 0)", opt.Epochs)
	case opt.GradientAccumulation < 1 || opt.GradientAccumulation > maxSteps:
		return formats.Usagef("gradient accumulation steps (got %d, want 1 to %d)", opt.GradientAccumulation, maxSteps)
	case !(opt.MaxGradNorm >= 0):
		return formats.Usagef("maximum gradient norm (got %v, want at least 0)", opt.MaxGradNorm)
	case opt.EvalSteps < 0:
		return formats.Usagef("steps between evaluations (got %d, want at least 0)", opt.EvalSteps)
	case opt.LogSteps < 1:
		return formats.Usagef("steps between log entries (got %d, want at least 1)", opt.LogSteps)
	case opt.SaveSteps < 0:
		return formats.Usagef("steps between checkpoints (got %d, want at least 0)", opt.SaveSteps)
	case opt.Patience < 0:
		return formats.Usagef("early stopping patience (got %d, want at least 0)", opt.Patience)
	case !(opt.Threshold >= 0) || !finite(opt.Threshold):
		return formats.Usagef("early stopping threshold (got %v, want at least 0)", opt.Threshold)
	case opt.Patience > 0 && (opt.Eval == nil || opt.EvalSteps == 0):
		return formats.Usagef("stopping early takes held-out data and steps between evaluations")
	case opt.LoadBest && (opt.Eval == nil || opt.EvalSteps == 0):
		return formats.Usagef("loading the best model takes held-out data and steps between evaluations")
	}
	_, err := findMetric(opt.BestMetric)
	return err
}

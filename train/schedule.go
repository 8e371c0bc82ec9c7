package train

import (
	"math"

	"github.com/seed-b982eded/graft/formats"
)

// The kinds of [Schedule], by Hugging Face's lr_scheduler_type. Warm-up works with
// each: what they call constant_with_warmup is [Constant] with warm-up steps.
const (
	Constant = "constant" // the full rate after warm-up
	Linear   = "linear"   // down to 0 at the last step, in a straight line
	Cosine   = "cosine"   // down to 0 at the last step, along half a cosine
)

// Schedule gives the learning rate of each step as a share of the full one.
//
//	step < warmup        step / warmup
//	constant             1
//	linear               (total − step) / (total − warmup)
//	cosine               (1 + cos(π·(step − warmup)/(total − warmup))) / 2
//
// These are transformers' get_*_schedule_with_warmup. Steps are counted from 0, so
// that with warm-up the first step has rate 0, as there.
type Schedule struct {
	kind          string
	total, warmup int
}

// NewSchedule returns the schedule of a run of total steps. Warm-up takes
// warmupSteps or, if those are 0, ceil(warmupRatio·total) steps. An unknown kind and
// values out of range are a [formats.ErrUsage].
func NewSchedule(kind string, total, warmupSteps int, warmupRatio float64) (Schedule, error) {
	switch {
	case kind != Constant && kind != Linear && kind != Cosine:
		return Schedule{}, formats.Usagef("learning rate schedule (got %s, want %s, %s or %s)",
			formats.Quote(kind), Constant, Linear, Cosine)
	case total < 1:
		return Schedule{}, formats.Usagef("training steps (got %d, want at least 1)", total)
	case warmupSteps < 0:
		return Schedule{}, formats.Usagef("warm-up steps (got %d, want at least 0)", warmupSteps)
	case !(warmupRatio >= 0 && warmupRatio <= 1):
		return Schedule{}, formats.Usagef("warm-up ratio (got %v, want 0 to 1)", warmupRatio)
	}
	warmup := warmupSteps
	if warmup == 0 {
		warmup = int(math.Ceil(float64(total) * warmupRatio))
	}
	return Schedule{kind: kind, total: total, warmup: warmup}, nil
}

// Warmup returns the number of warm-up steps.
func (s Schedule) Warmup() int { return s.warmup }

// Factor returns the share of the full learning rate that a step uses, steps
// counted from 0.
func (s Schedule) Factor(step int) float64 {
	if step < s.warmup {
		return float64(step) / float64(s.warmup)
	}
	span := float64(max(1, s.total-s.warmup))
	switch s.kind {
	case Linear:
		return max(0, float64(s.total-step)/span)
	case Cosine:
		return max(0, 0.5*(1+math.Cos(math.Pi*(float64(step-s.warmup)/span))))
	}
	return 1
}

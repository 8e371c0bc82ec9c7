package train

import (
	"math"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
)

// The kinds of [Schedule], by Hugging Face's lr_scheduler_type. Warm-up works with
// each: what they call constant_with_warmup is [Constant] with warm-up steps.
const (
	Constant = "constant" // the full rate after warm-up
	Linear   = "linear"   // down to 0 at the last step, in a straight line
	Cosine   = "cosine"   // down to 0 at the last step, along half a cosine

	ConstantWithWarmup = "constant_with_warmup" // another name of [Constant]
	CosineWithMinRate  = "cosine_with_min_lr"   // like [Cosine], down to a share of the rate
)

// ScheduleConfig describes a [Schedule].
type ScheduleConfig struct {
	Kind        string
	WarmupSteps int     // at least 0
	WarmupRatio float64 // share of the steps that is warm-up where WarmupSteps is 0, rounded up; 0 to 1
	MinRate     float64 // Hugging Face's min_lr_rate, 0 to 1; of [CosineWithMinRate]
}

// Schedule gives the learning rate of each step as a share of the full one.
//
//	step < warmup        step / warmup
//	constant             1
//	linear               (total − step) / (total − warmup)
//	cosine               (1 + cos(π·(step − warmup)/(total − warmup))) / 2
//	cosine_with_min_lr   cosine·(1 − min) + min
//
// These are transformers' get_*_schedule_with_warmup. Steps are counted from 0, so
// that with warm-up the first step has rate 0, as there.
type Schedule struct {
	kind          string
	total, warmup int
	min           float64
}

// Schedules lists the kinds.
var Schedules = []string{Constant, ConstantWithWarmup, Linear, Cosine, CosineWithMinRate}

// NewSchedule returns the schedule of a run of total steps. An unknown kind, values out of
// range and a minimum that has no effect are a [formats.ErrUsage].
func NewSchedule(total int, cfg ScheduleConfig) (Schedule, error) {
	switch {
	case !slices.Contains(Schedules, cfg.Kind):
		return Schedule{}, formats.Usagef("learning rate schedule (got %s, want one of %s)",
			formats.Quote(cfg.Kind), strings.Join(Schedules, ", "))
	case total < 1:
		return Schedule{}, formats.Usagef("training steps (got %d, want at least 1)", total)
	case cfg.WarmupSteps < 0:
		return Schedule{}, formats.Usagef("warm-up steps (got %d, want at least 0)", cfg.WarmupSteps)
	case !(cfg.WarmupRatio >= 0 && cfg.WarmupRatio <= 1):
		return Schedule{}, formats.Usagef("warm-up ratio (got %v, want 0 to 1)", cfg.WarmupRatio)
	case !(cfg.MinRate >= 0 && cfg.MinRate <= 1):
		return Schedule{}, formats.Usagef("minimum of the learning rate, as a share (got %v, want 0 to 1)", cfg.MinRate)
	case cfg.MinRate != 0 && cfg.Kind != CosineWithMinRate:
		return Schedule{}, formats.Usagef("a minimum of the learning rate takes the schedule %s (got %s)", CosineWithMinRate, cfg.Kind)
	}
	warmup := cfg.WarmupSteps
	if warmup == 0 {
		warmup = int(math.Ceil(float64(total) * cfg.WarmupRatio))
	}
	return Schedule{kind: cfg.Kind, total: total, warmup: warmup, min: cfg.MinRate}, nil
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
	case Cosine, CosineWithMinRate:
		cosine := 0.5 * (1 + math.Cos(math.Pi*(float64(step-s.warmup)/span)))
		return max(0, float64(cosine*(1-s.min))+s.min)
	}
	return 1
}

package train

import (
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/models"
)

// metric is a number of an evaluation by which checkpoints are compared.
type metric struct {
	name    string
	greater bool // is better
	of      func(Point) *float64
	// has reports whether the task has it: a correlation can be missing from one
	// evaluation of a task that has correlations.
	has func(Point) bool
}

// metrics are those of [Options.BestMetric].
var metrics = []metric{
	{"loss", false, func(p Point) *float64 { return &p.Loss }, func(Point) bool { return true }},
	{"accuracy", true, func(p Point) *float64 { return p.scores().Accuracy }, func(p Point) bool { return p.scores().Accuracy != nil }},
	{"f1", true, func(p Point) *float64 { return p.scores().F1 }, func(p Point) bool { return p.scores().F1 != nil }},
	{"mse", false, func(p Point) *float64 { return p.scores().MSE }, hasNumbers},
	{"pearson", true, func(p Point) *float64 { return p.scores().Pearson }, hasNumbers},
	{"spearman", true, func(p Point) *float64 { return p.scores().Spearman }, hasNumbers},
}

func hasNumbers(p Point) bool { return p.scores().MSE != nil }

func (p Point) scores() Scores {
	if p.Scores == nil {
		return Scores{}
	}
	return *p.Scores
}

// findMetric looks up a metric by its name, which may begin with "eval_" as Hugging
// Face's may. No name is the loss.
func findMetric(name string) (metric, error) {
	short := strings.TrimPrefix(name, "eval_")
	var known []string
	for _, m := range metrics {
		if m.name == short || name == "" {
			return m, nil
		}
		known = append(known, m.name)
	}
	return metric{}, formats.Usagef("metric for the best model (got %s, want one of %s)", formats.Quote(name), strings.Join(known, ", "))
}

// check refuses a metric that an evaluation shows the task not to have.
func (m metric) check(p Point) error {
	if m.has(p) {
		return nil
	}
	var have []string
	for _, other := range metrics {
		if other.has(p) {
			have = append(have, other.name)
		}
	}
	return formats.Usagef("metric for the best model: the task has no %s (it has %s)", m.name, strings.Join(have, ", "))
}

// standing is what the evaluations of a run say so far. It follows from the points alone.
type standing struct {
	metric    metric
	threshold float64
	value     *float64 // the best, nil before the first evaluation
	step      int      // that it was measured at
	waited    int      // evaluations since the last one that was better by more than threshold
}

// judge takes in an evaluation and reports whether it is the best one. The one before
// training counts for nothing, as in Hugging Face's Trainer, whose EarlyStoppingCallback
// decides the rest.
func (s *standing) judge(p Point) (best bool) {
	if !p.Eval || p.Step == 0 {
		return false
	}
	x := s.metric.of(p)
	if x == nil { // not defined here, and so not better
		s.waited++
		return false
	}
	gain := 0.0
	if s.value != nil {
		if gain = *s.value - *x; s.metric.greater {
			gain = -gain
		}
	}
	if s.value == nil || gain > s.threshold {
		s.waited = 0
	} else {
		s.waited++
	}
	if s.value != nil && gain <= 0 {
		return false
	}
	s.value, s.step = x, p.Step
	return true
}

// Values are the numbers of one parameter.
type Values struct {
	Name string
	Data []float32
}

// valuesOf returns the parameters' own slices.
func valuesOf(params []models.Param) []Values {
	out := make([]Values, len(params))
	for i, p := range params {
		out[i] = Values{p.Name, p.Data}
	}
	return out
}

// copyValues returns values that later steps do not change, in the memory of old ones
// where there are some.
func copyValues(old []Values, params []models.Param) []Values {
	if old == nil {
		old = make([]Values, len(params))
	}
	for i, p := range params {
		old[i] = Values{p.Name, append(old[i].Data[:0], p.Data...)}
	}
	return old
}

// setValues copies saved values into those of parameters. It needs every parameter exactly
// once, by name and in any order; else it returns a [formats.ErrInput] and changes nothing.
func setValues(own, saved []Values) error {
	order := make([]int, len(own))
	for i, p := range own {
		at := slices.IndexFunc(saved, func(v Values) bool { return v.Name == p.Name })
		switch {
		case at < 0:
			return formats.Rejectf("", p.Name, "no saved values")
		case len(saved[at].Data) != len(p.Data):
			return formats.Rejectf("", p.Name, "saved values (got %d, want %d)", len(saved[at].Data), len(p.Data))
		}
		order[i] = at
	}
	if len(saved) != len(own) {
		return formats.Rejectf("", "", "saved values of %d parameters (want %d)", len(saved), len(own))
	}
	for i, p := range own {
		copy(p.Data, saved[order[i]].Data)
	}
	return nil
}

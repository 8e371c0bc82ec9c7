package train

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/models"
)

// TestStandingEqualsTransformers goes through testdata/early_stopping.json, which
// testdata/gen_early_stopping.py made of Hugging Face's callback.
func TestStandingEqualsTransformers(t *testing.T) {
	var cases []struct {
		Metric      string
		Patience    int
		Threshold   float64
		Evaluations []struct {
			Value    *float64
			Counter  int
			Best     float64
			BestStep int `json:"best_step"`
			Stop     bool
		}
	}
	readGolden(t, "early_stopping.json", &cases)
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for i, c := range cases {
		m, err := findMetric("eval_" + c.Metric)
		if err != nil {
			t.Fatal(err)
		}
		s := standing{metric: m, threshold: c.Threshold}
		for k, e := range c.Evaluations {
			p := Point{Step: k + 1, Eval: true, Scores: &Scores{}}
			switch c.Metric {
			case "loss":
				p.Loss = *e.Value
			case "accuracy":
				p.Scores.Accuracy = e.Value
			case "f1":
				p.Scores.F1 = e.Value
			case "pearson":
				p.Scores.Pearson = e.Value
			}
			best := s.judge(p)
			if s.waited != e.Counter || *s.value != e.Best || s.step != e.BestStep || best != (e.BestStep == k+1) {
				t.Errorf("case %d, evaluation %d: waited %d, best %v at step %d; want %d, %v, %d", i, k+1, s.waited, *s.value, s.step, e.Counter, e.Best, e.BestStep)
			}
			if !e.Stop && s.waited >= c.Patience {
				t.Errorf("case %d, evaluation %d: stops", i, k+1)
			}
			if e.Stop {
				if s.waited < c.Patience {
					t.Errorf("case %d, evaluation %d: goes on", i, k+1)
				}
				break
			}
		}
	}
}

// overfit is a run whose held-out loss has a minimum: what is held out differs from what
// is trained on.
func overfit() Options {
	opt := coinOptions()
	opt.MaxSteps, opt.EvalSteps, opt.LogSteps, opt.SaveSteps = 40, 3, 4, 2
	opt.LearningRate, opt.Schedule = 0.2, Constant
	held := coin()[:2]
	for i := range held {
		held[i].IDs = []int32{0, 1, 1, 2, 0, 1, 0}
	}
	opt.Eval = loaderOf(1, nil, held...)
	opt.LoadBest = true
	return opt
}

func TestBestIsLoadedAtTheEnd(t *testing.T) {
	model := newBigram(3, nil)
	tables := map[int][]float32{}
	evaluated := 0
	events := Events{Point: func(p Point) error {
		if p.Eval {
			tables[p.Step] = append([]float32(nil), model.param.Data...)
			evaluated = p.Step
		}
		return nil
	}}
	run := func(opt Options) Result {
		t.Helper()
		seed := uint64(7)
		r, err := Run(t.Context(), model, loaderOf(2, &seed, coin()...), opt, events)
		if err != nil || !r.Finished {
			t.Fatal(err)
		}
		return r
	}
	r := run(overfit())
	best := *r.State.BestGlobalStep
	if best == 0 || best == 40 || r.Early || r.State.GlobalStep != 40 {
		t.Fatalf("the best step is %d of %d", best, r.State.GlobalStep)
	}
	for _, p := range r.State.LogHistory {
		if p.Eval && p.Step > 0 && p.Loss < *r.State.BestMetric {
			t.Errorf("step %d has %v, less than %v", p.Step, p.Loss, *r.State.BestMetric)
		}
	}
	sameBits(t, "the best", model.param.Data, tables[best])
	sameBits(t, "the result's parameters", r.Params[0].Data, tables[best])

	// Stopping early leaves the same one.
	opt := overfit()
	opt.Patience = 2
	model = newBigram(3, nil)
	r = run(opt)
	if !r.Early || r.State.GlobalStep != best+6 || evaluated != best+6 || *r.State.BestGlobalStep != best {
		t.Errorf("early %v at step %d, best %d", r.Early, r.State.GlobalStep, *r.State.BestGlobalStep)
	}
	if c := r.State.StatefulCallbacks.EarlyStopping; c == nil || c.Attributes.Counter != 2 || c.Args.Patience != 2 {
		t.Errorf("callbacks %+v", c)
	}
	sameBits(t, "the best, stopped early", model.param.Data, tables[best])

	// A threshold that no step reaches stops sooner.
	opt.Threshold = 1
	model = newBigram(3, nil)
	if r = run(opt); r.State.GlobalStep != 9 {
		t.Errorf("with a threshold it stops at step %d", r.State.GlobalStep)
	}

	// Without loading the last ones stay.
	opt.LoadBest = false
	model = newBigram(3, nil)
	if r = run(opt); r.Best != nil {
		t.Error("best parameters are kept for nothing")
	}
	sameBits(t, "the last", model.param.Data, tables[9])
}

// TestResumedBest resumes from every snapshot, and after a stop at every step.
func TestResumedBest(t *testing.T) {
	opt := overfit()
	opt.Patience = 3
	var saved []Snapshot
	whole := newBigram(3, nil)
	metrics, result, err := record(t, t.Context(), whole, opt, Events{Save: func(s Snapshot) error {
		saved = append(saved, cloned(s))
		return nil
	}})
	if err != nil || !result.Early {
		t.Fatalf("early %v, %v", result.Early, err)
	}
	for _, from := range saved {
		opt.Resume = &from
		model := newBigram(3, nil)
		rest, r, err := record(t, t.Context(), model, opt, Events{})
		if err != nil {
			t.Fatal(err)
		}
		at := fmt.Sprintf("from step %d", from.State.GlobalStep)
		if !strings.HasSuffix(metrics, rest) || !reflect.DeepEqual(r.State, result.State) || !r.Early {
			t.Errorf("%s: metrics\n%s\nstate %+v\nwant %+v", at, rest, r.State, result.State)
		}
		sameBits(t, at, model.param.Data, whole.param.Data)
	}
	last := saved[len(saved)-1]
	last.Best = nil
	opt.Resume = &last
	if _, _, err := record(t, t.Context(), newBigram(3, nil), opt, Events{}); !errors.Is(err, formats.ErrInput) || !strings.Contains(err.Error(), "no saved values") {
		t.Errorf("without the best: %v", err)
	}
	for name, params := range map[string][]Values{
		"wrong name":   {{"other", make([]float32, 9)}},
		"wrong length": {{"table", make([]float32, 8)}},
		"too many":     {{"table", make([]float32, 9)}, {"other", nil}},
	} {
		last = saved[0]
		last.Params = params
		model := newBigram(3, nil)
		if _, _, err := record(t, t.Context(), model, opt, Events{}); !errors.Is(err, formats.ErrInput) {
			t.Errorf("%s: got %v", name, err)
		}
		if model.param.Data[0] != 0 {
			t.Errorf("%s: changed the model", name)
		}
	}
}

// cloned is a snapshot that later steps do not change, its state through a file.
func cloned(s Snapshot) Snapshot {
	var state bytes.Buffer
	if err := s.State.Write(&state); err != nil {
		panic(err)
	}
	var err error
	if s.State, err = ReadTrainerState("trainer_state.json", &state); err != nil {
		panic(err)
	}
	clone := func(values []Values) (out []Values) {
		for _, v := range values {
			out = append(out, Values{v.Name, append([]float32(nil), v.Data...)})
		}
		return out
	}
	s.Params, s.Best = clone(s.Params), clone(s.Best)
	var moments []Moments
	for _, m := range s.Moments {
		moments = append(moments, Moments{m.Name, append([]float32(nil), m.First...), append([]float32(nil), m.Second...)})
	}
	s.Moments = moments
	return s
}

func TestBestMetrics(t *testing.T) {
	accuracy, spearman, mse := 0.5, 0.25, 3.0
	texts := Point{Step: 1, Eval: true, Loss: 2, Scores: &Scores{Accuracy: &accuracy}}
	numbers := Point{Step: 1, Eval: true, Loss: 2, Scores: &Scores{MSE: &mse, Spearman: &spearman}}
	for _, c := range []struct {
		name  string
		point Point
		want  float64
		wrong string
	}{
		{"", Point{Loss: 2}, 2, ""}, {"loss", numbers, 2, ""}, {"eval_loss", texts, 2, ""},
		{"accuracy", texts, 0.5, ""}, {"eval_mse", numbers, 3, ""}, {"spearman", numbers, 0.25, ""},
		{"pearson", numbers, math.NaN(), ""},
		{"f1", texts, 0, "the task has no f1 (it has loss, accuracy)"},
		{"accuracy", Point{Loss: 2}, 0, "the task has no accuracy (it has loss)"},
		{"accuracy", numbers, 0, "the task has no accuracy (it has loss, mse, pearson, spearman)"},
	} {
		m, err := findMetric(c.name)
		if err != nil {
			t.Fatal(err)
		}
		err = m.check(c.point)
		if c.wrong != "" {
			if !errors.Is(err, formats.ErrUsage) || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%s: got %v, want %s", c.name, err, c.wrong)
			}
			continue
		}
		x := m.of(c.point)
		if err != nil || x == nil != math.IsNaN(c.want) || x != nil && *x != c.want {
			t.Errorf("%s: got %v, %v", c.name, x, err)
		}
	}
	opt := overfit()
	opt.BestMetric = "accuracy"
	if _, err := Run(t.Context(), newBigram(3, nil), loaderOf(2, nil, coin()...), opt, Events{}); !errors.Is(err, formats.ErrUsage) {
		t.Errorf("got %v", err)
	}
}

func TestBestOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"unknown metric":     func(o *Options) { o.BestMetric = "bleu" },
		"negative patience":  func(o *Options) { o.Patience = -1 },
		"negative threshold": func(o *Options) { o.Threshold = -1 },
		"NaN threshold":      func(o *Options) { o.Threshold = math.NaN() },
		"patience, no steps": func(o *Options) { o.Patience, o.LoadBest, o.EvalSteps = 1, false, 0 },
		"patience, no data":  func(o *Options) { o.Patience, o.LoadBest, o.Eval = 1, false, nil },
		"best without steps": func(o *Options) { o.EvalSteps = 0 },
		"best without data":  func(o *Options) { o.Eval = nil },
	} {
		opt := overfit()
		change(&opt)
		if _, err := NewPlan(newBigram(3, nil), loaderOf(2, nil, coin()...), opt); !errors.Is(err, formats.ErrUsage) {
			t.Errorf("%s: got %v, want a usage error", name, err)
		}
	}
}

func TestDivergedEvaluationNamesTheStep(t *testing.T) {
	model := newBigram(3, nil)
	trained := false
	model.spoil = func(b models.Batch, sum float64) float64 {
		if trained && b.Rows == 1 {
			return math.NaN()
		}
		return sum
	}
	r, err := Run(t.Context(), model, loaderOf(2, nil, coin()...), overfit(), Events{Step: func(Progress) { trained = true }})
	want := `step 3: the evaluation loss is NaN on "coin.jsonl" line 1: training diverged`
	if err == nil || err.Error() != want || !errors.Is(err, ErrDiverged) || r.State.GlobalStep != 3 {
		t.Errorf("step %d: got %v, want %s", r.State.GlobalStep, err, want)
	}
}

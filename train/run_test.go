package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/data"
	"github.com/seed-b982eded/graft/train/models"
)

// What the models package makes can be trained.
var _ Model = models.Model(nil)

// trainerGolden is testdata/trainer.json, a run of Hugging Face's Trainer that
// testdata/gen_trainer.py made.
type trainerGolden struct {
	Vocab        int
	Table, Final []float32
	Rows, Held   []struct {
		IDs     []int32
		Context int
	}
	History    []Point
	HistoryBy2 []Point   `json:"history_by_2"`
	HeldLosses []float64 `json:"held_losses"`

	trainSource, evalSource *data.Loader
}

func readTrainerGolden(t *testing.T) trainerGolden {
	t.Helper()
	var g trainerGolden
	readGolden(t, "trainer.json", &g)
	examples := func(rows []struct {
		IDs     []int32
		Context int
	}) []data.Example {
		var out []data.Example
		for i, row := range rows {
			out = append(out, data.Example{
				Origin: data.Origin{File: "rows.jsonl", Line: i + 1}, IDs: row.IDs, Context: row.Context,
			})
		}
		return out
	}
	g.trainSource = loaderOf(2, nil, examples(g.Rows)...)
	g.evalSource = loaderOf(2, nil, examples(g.Held)...)
	return g
}

// options are those of gen_trainer.py.
func (g trainerGolden) options() Options {
	return Options{
		LearningRate: 0.05,
		AdamW:        AdamWConfig{Beta1: 0.85, Beta2: 0.97, Eps: 1e-2, WeightDecay: 0.1},
		Schedule:     Cosine, WarmupRatio: 0.3,
		Epochs: 2.3, GradientAccumulation: 4, MaxGradNorm: 0.2,
		Eval: g.evalSource, EvalSteps: 1, LogSteps: 1, BatchSize: 2,
	}
}

func TestRunEqualsTrainer(t *testing.T) {
	g := readTrainerGolden(t)
	for _, logSteps := range []int{1, 2} {
		model := newBigram(g.Vocab, g.Table)
		opt := g.options()
		opt.LogSteps = logSteps
		want := g.History
		if logSteps == 2 {
			want = g.HistoryBy2
			opt.EvalSteps = 0
		}
		result, err := Run(t.Context(), model, g.trainSource, opt, Events{})
		if err != nil || !result.Finished {
			t.Fatalf("finished %v, %v", result.Finished, err)
		}
		var got []Point
		var held []float64
		for _, p := range result.State.LogHistory {
			if p.Eval {
				held = append(held, p.Loss)
			} else {
				got = append(got, p)
			}
		}
		if logSteps == 1 {
			if len(held) != len(g.HeldLosses) {
				t.Fatalf("evaluations (got %d, want %d)", len(held), len(g.HeldLosses))
			}
			for i := range held {
				near(t, fmt.Sprintf("evaluation %d", i), held[i], g.HeldLosses[i], 1e-6)
			}
		} else {
			// The last step closes the log here; the Trainer leaves it out.
			got = got[:len(want)]
		}
		if len(got) != len(want) {
			t.Fatalf("points (got %d, want %d)", len(got), len(want))
		}
		for i, w := range want {
			at := fmt.Sprintf("by %d, point %d: ", logSteps, i)
			if got[i].Step != w.Step || got[i].Epoch != w.Epoch {
				t.Errorf("%s step %d of epoch %v, want %d of %v", at, got[i].Step, got[i].Epoch, w.Step, w.Epoch)
			}
			near(t, at+"loss", got[i].Loss, w.Loss, 1e-6)
			near(t, at+"learning rate", got[i].LearningRate, w.LearningRate, 1e-12)
			near(t, at+"gradient norm", got[i].GradNorm, w.GradNorm, 2e-6)
		}
		closeTo(t, "parameters", model.param.Data, g.Final, 1e-6)
		if s := result.State; s.MaxSteps != 5 || s.NumTrainEpochs != 3 || s.GlobalStep != 5 || s.TrainBatchSize != 2 {
			t.Errorf("state: %+v", s)
		}
	}
}

func near(t *testing.T, what string, got, want, relative float64) {
	t.Helper()
	if !(math.Abs(got-want) <= relative*math.Abs(want)) {
		t.Errorf("%s (got %v, want %v)", what, got, want)
	}
}

// coin is data whose next token is 1 or 2 after 0 with equal chance, and always 0
// after those: the least loss is half of ln 2.
func coin() []data.Example {
	var all []data.Example
	for i := range 12 {
		ids := []int32{0, 1, 0, 2, 0, 1, 0, 2, 0}
		ids = ids[:5+i%2*4]
		all = append(all, data.Example{Origin: data.Origin{File: "coin.jsonl", Line: i + 1}, IDs: ids})
	}
	return all
}

func coinOptions() Options {
	opt := DefaultOptions
	opt.LearningRate = 0.1
	opt.MaxSteps = 150
	opt.GradientAccumulation = 2
	return opt
}

func TestRunFindsTheMinimum(t *testing.T) {
	seed := uint64(7)
	model := newBigram(3, nil)
	opt := coinOptions()
	opt.MaxSteps, opt.Schedule, opt.WarmupSteps = 400, Cosine, 10
	opt.Eval = loaderOf(4, nil, coin()...)
	result, err := Run(t.Context(), model, loaderOf(2, &seed, coin()...), opt, Events{})
	if err != nil {
		t.Fatal(err)
	}
	history := result.State.LogHistory
	near(t, "loss before training", history[0].Loss, math.Log(3), 1e-6)
	near(t, "loss after training", history[len(history)-1].Loss, math.Ln2/2, 1e-2)
	if *result.State.BestGlobalStep != 400 || *result.State.BestMetric != history[len(history)-1].Loss {
		t.Errorf("best: step %d, %v", *result.State.BestGlobalStep, *result.State.BestMetric)
	}
}

// record runs with everything on and returns all that a run leaves behind.
func record(t *testing.T, ctx context.Context, model *bigram, opt Options, events Events) (metrics string, r Result, err error) {
	t.Helper()
	seed := uint64(7)
	var buf bytes.Buffer
	w := NewMetricsWriter(&buf, false)
	events.Point = w.Write
	r, err = Run(ctx, model, loaderOf(2, &seed, coin()...), opt, events)
	return buf.String(), r, err
}

func everyOption() Options {
	opt := coinOptions()
	opt.MaxSteps, opt.EvalSteps, opt.LogSteps, opt.SaveSteps = 29, 6, 4, 5
	opt.Eval = loaderOf(5, nil, coin()[:7]...)
	return opt
}

func TestRunGivesTheSameBitsAtAnyGOMAXPROCS(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var metrics string
	var table []float32
	for _, procs := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(procs)
		model := newBigram(3, nil)
		got, _, err := record(t, t.Context(), model, everyOption(), Events{})
		if err != nil {
			t.Fatal(err)
		}
		if metrics == "" {
			metrics, table = got, model.param.Data
			continue
		}
		if got != metrics {
			t.Errorf("GOMAXPROCS=%d: metrics differ\n%s\n%s", procs, got, metrics)
		}
		sameBits(t, fmt.Sprintf("GOMAXPROCS=%d", procs), model.param.Data, table)
	}
}

func TestResumeGivesTheBitsOfAnUnbrokenRun(t *testing.T) {
	whole := newBigram(3, nil)
	var saved []struct {
		state   []byte
		moments []Moments
		table   []float32
		pending Pending
		at      int // of the metrics
	}
	seed := uint64(7)
	var buf bytes.Buffer
	w := NewMetricsWriter(&buf, false)
	opt := everyOption()
	result, err := Run(t.Context(), whole, loaderOf(2, &seed, coin()...), opt, Events{
		Point: w.Write,
		Save: func(s Snapshot) error {
			var state bytes.Buffer
			if err := s.State.Write(&state); err != nil {
				return err
			}
			m := s.Moments[0]
			saved = append(saved, struct {
				state   []byte
				moments []Moments
				table   []float32
				pending Pending
				at      int
			}{
				state.Bytes(),
				[]Moments{{m.Name, append([]float32(nil), m.First...), append([]float32(nil), m.Second...)}},
				append([]float32(nil), whole.param.Data...), s.Pending, buf.Len(),
			})
			return nil
		},
	})
	if err != nil || len(saved) != 5 {
		t.Fatalf("%d snapshots, %v", len(saved), err)
	}
	metrics := buf.String()
	for i, from := range saved {
		state, err := ReadTrainerState("trainer_state.json", bytes.NewReader(from.state))
		if err != nil {
			t.Fatal(err)
		}
		opt.Resume = &Snapshot{State: state, Moments: from.moments, Pending: from.pending}
		if i%2 == 0 {
			opt.Resume.Params = []Values{{"table", from.table}}
			from.table = nil
		}
		model := newBigram(3, from.table)
		rest, again, err := record(t, t.Context(), model, opt, Events{})
		if err != nil {
			t.Fatal(err)
		}
		if metrics[:from.at]+rest != metrics {
			t.Errorf("snapshot %d: metrics\n%s\nwant\n%s", i, rest, metrics[from.at:])
		}
		sameBits(t, fmt.Sprintf("snapshot %d", i), model.param.Data, whole.param.Data)
		if !reflect.DeepEqual(again.State, result.State) {
			t.Errorf("snapshot %d: state\n%+v\nwant\n%+v", i, again.State, result.State)
		}
		if again.Plan.FirstStep != (i+1)*5 {
			t.Errorf("snapshot %d: first step %d", i, again.Plan.FirstStep)
		}
	}
}

func TestRunStopsAfterTheStep(t *testing.T) {
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	model := newBigram(3, nil)
	metrics, r, err := record(t, ctx, model, everyOption(), Events{Step: func(p Progress) {
		if p.Step == 11 {
			cancel(stop)
		}
	}})
	if !errors.Is(err, stop) || r.Finished || r.State.GlobalStep != 11 {
		t.Fatalf("step %d, finished %v, %v", r.State.GlobalStep, r.Finished, err)
	}
	if r.Pending.Steps != 3 {
		t.Errorf("steps since the last point (got %d, want 3)", r.Pending.Steps)
	}

	whole := newBigram(3, nil)
	all, _, err := record(t, t.Context(), whole, everyOption(), Events{})
	if err != nil {
		t.Fatal(err)
	}
	opt := everyOption()
	opt.Resume = &r.Snapshot
	rest, r, err := record(t, t.Context(), model, opt, Events{})
	if err != nil || !r.Finished {
		t.Fatal(err)
	}
	if metrics+rest != all {
		t.Errorf("metrics\n%s%s\nwant\n%s", metrics, rest, all)
	}
	sameBits(t, "after a stop", model.param.Data, whole.param.Data)
}

// A run that is stopped while it evaluates makes up for it when it goes on.
func TestStoppedEvaluationIsMadeUpFor(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	model := newBigram(3, nil)
	steps := 0
	before, r, err := record(t, ctx, model, everyOption(), Events{
		Step: func(p Progress) { steps = p.Step },
		Evaluating: func(done, all int) {
			if all != 2 {
				t.Errorf("held-out batches (got %d, want 2)", all)
			}
			if steps == 12 {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) || r.State.GlobalStep != 12 {
		t.Fatalf("step %d, %v", r.State.GlobalStep, err)
	}
	opt := everyOption()
	opt.Resume = &r.Snapshot
	after, _, err := record(t, t.Context(), model, opt, Events{})
	if err != nil {
		t.Fatal(err)
	}
	whole, _, _ := record(t, t.Context(), newBigram(3, nil), everyOption(), Events{})
	if before+after != whole {
		t.Errorf("metrics\n%s%s\nwant\n%s", before, after, whole)
	}
}

func TestDivergenceNamesStepAndLines(t *testing.T) {
	model := newBigram(3, nil)
	calls := 0
	var last []float32
	model.spoil = func(b models.Batch, sum float64) float64 {
		if calls++; calls == 6 {
			return math.NaN()
		}
		return sum
	}
	opt := coinOptions()
	r, err := Run(t.Context(), model, loaderOf(2, nil, coin()...), opt, Events{Step: func(Progress) {
		last = append(last[:0], model.param.Data...)
	}})
	// Two batches of two rows are a step, so the sixth batch ends step 3.
	want := `step 3: the loss is NaN on "coin.jsonl" lines 11, 12: training diverged`
	if err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %s", err, want)
	}
	if !errors.Is(err, ErrDiverged) || !errors.Is(err, formats.ErrInput) {
		t.Errorf("class of %v", err)
	}
	if r.State.GlobalStep != 2 || r.Finished {
		t.Errorf("step %d, finished %v", r.State.GlobalStep, r.Finished)
	}
	sameBits(t, "parameters", model.param.Data, last)
}

func TestInfiniteGradientStops(t *testing.T) {
	model := newBigram(3, nil)
	model.spoil = func(_ models.Batch, sum float64) float64 {
		model.param.Grad[0] = float32(math.Inf(1))
		return sum
	}
	for _, limit := range []float64{0, 1} {
		opt := coinOptions()
		opt.MaxGradNorm = limit
		_, err := Run(t.Context(), model, loaderOf(6, nil, coin()[:6]...), opt, Events{})
		if !errors.Is(err, ErrDiverged) || !strings.Contains(err.Error(), "step 1: the gradient norm is +Inf on") {
			t.Errorf("limit %v: %v", limit, err)
		}
		for _, x := range model.param.Data {
			if x != 0 {
				t.Fatal("the parameters were changed")
			}
		}
	}
}

func TestInfiniteEvaluationStops(t *testing.T) {
	model := newBigram(3, nil)
	model.spoil = func(models.Batch, float64) float64 { return math.Inf(1) }
	_, _, err := Evaluate(t.Context(), model, loaderOf(1, nil, coin()[:1]...), nil)
	want := `the evaluation loss is +Inf on "coin.jsonl" line 1: training diverged`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestEvaluateWeighsTokens(t *testing.T) {
	model := newBigram(3, []float32{0, 2, 1, 3, 0, 0, 1, 1, 0})
	all, n, err := Evaluate(t.Context(), model, loaderOf(12, nil, coin()...), nil)
	if err != nil {
		t.Fatal(err)
	}
	some, m, err := Evaluate(t.Context(), model, loaderOf(5, nil, coin()...), nil)
	if err != nil || n != m || n != 72 {
		t.Fatalf("labels %d and %d, %v", n, m, err)
	}
	near(t, "in other batches", some, all, 1e-12)
}

func TestOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no learning rate":    func(o *Options) { o.LearningRate = 0 },
		"NaN learning rate":   func(o *Options) { o.LearningRate = math.NaN() },
		"no epochs":           func(o *Options) { o.MaxSteps, o.Epochs = 0, 0 },
		"infinite epochs":     func(o *Options) { o.MaxSteps, o.Epochs = 0, math.Inf(1) },
		"too many epochs":     func(o *Options) { o.MaxSteps, o.Epochs = 0, 1e12 },
		"negative steps":      func(o *Options) { o.MaxSteps = -1 },
		"no accumulation":     func(o *Options) { o.GradientAccumulation = 0 },
		"negative norm":       func(o *Options) { o.MaxGradNorm = -1 },
		"no log steps":        func(o *Options) { o.LogSteps = 0 },
		"negative eval steps": func(o *Options) { o.EvalSteps = -1 },
		"negative save steps": func(o *Options) { o.SaveSteps = -1 },
		"too long a warm-up":  func(o *Options) { o.MaxSteps, o.WarmupSteps = 3, 4 },
		"unknown schedule":    func(o *Options) { o.Schedule = "triangle" },
		"bad beta":            func(o *Options) { o.AdamW.Beta1 = 2 },
		"resumed too late":    func(o *Options) { o.Resume = &Snapshot{State: TrainerState{GlobalStep: 151}} },
	} {
		opt := coinOptions()
		change(&opt)
		_, err := Run(t.Context(), newBigram(3, nil), loaderOf(2, nil, coin()...), opt, Events{})
		if !errors.Is(err, formats.ErrUsage) {
			t.Errorf("%s: got %v, want a usage error", name, err)
		}
	}
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		rows, accumulate, maxSteps int
		epochs                     float64
		steps, perEpoch            int
	}{
		{5, 1, 0, 3, 9, 3},    // 12 examples: batches of 5, 5, 2
		{5, 2, 0, 3, 6, 2},    // a shorter step ends each epoch
		{5, 2, 0, 0.3, 1, 2},  // a part of an epoch is rounded up to a step
		{12, 4, 7, 3, 7, 1},   // steps win over epochs
		{1, 12, 0, 2.5, 3, 1}, // half an epoch is still a step
	} {
		opt := coinOptions()
		opt.MaxSteps, opt.Epochs, opt.GradientAccumulation = c.maxSteps, c.epochs, c.accumulate
		p, err := NewPlan(newBigram(3, nil), loaderOf(c.rows, nil, coin()...), opt)
		if err != nil || p.Steps != c.steps || p.StepsPerEpoch != c.perEpoch || p.Parameters != 9 {
			t.Errorf("%+v: got %+v, %v", c, p, err)
		}
	}
}

func TestEventErrorsEndTheRun(t *testing.T) {
	full := errors.New("disk full")
	opt := everyOption()
	for name, events := range map[string]Events{
		"point": {Point: func(p Point) error {
			if p.Step == 5 {
				return full
			}
			return nil
		}},
		"save": {Save: func(Snapshot) error { return full }},
	} {
		opt.LogSteps = 5
		r, err := Run(t.Context(), newBigram(3, nil), loaderOf(2, nil, coin()...), opt, events)
		if !errors.Is(err, full) || r.State.GlobalStep != 5 {
			t.Errorf("%s: step %d, %v", name, r.State.GlobalStep, err)
		}
	}
}

func TestProgress(t *testing.T) {
	var seen []Progress
	var plan Plan
	opt := everyOption()
	_, r, err := record(t, t.Context(), newBigram(3, nil), opt, Events{
		Start: func(p Plan) { plan = p },
		Step:  func(p Progress) { seen = append(seen, p) },
	})
	if err != nil || plan != r.Plan || len(seen) != 29 {
		t.Fatalf("%d steps, plan %+v, %v", len(seen), plan, err)
	}
	last := seen[28]
	if last.Step != 29 || last.Steps != 29 || last.Tokens != r.State.NumInputTokensSeen || last.TokensPerSecond <= 0 {
		t.Errorf("last: %+v", last)
	}
	// Four rows of 5 or 9 tokens, without their padding.
	if first := seen[0]; first.Tokens < 20 || first.Tokens > 36 || first.Tokens%4 != 0 {
		t.Errorf("tokens of the first step: %d", first.Tokens)
	}
	for i := 1; i < len(seen); i++ {
		if seen[i].Remaining < 0 {
			t.Errorf("step %d: remaining %v", i, seen[i].Remaining)
		}
	}
}

// short counts fewer labels than there are.
type short struct{ *bigram }

func (m short) LossGrad(b models.Batch, scale float32) (float64, int, error) {
	sum, n, err := m.bigram.LossGrad(b, scale)
	return sum, n - 1, err
}

// failing cannot take a batch.
type failing struct{ *bigram }

var errModel = errors.New("too long")

func (failing) LossGrad(models.Batch, float32) (float64, int, error) { return 0, 0, errModel }
func (failing) Loss(models.Batch) (float64, int, error)              { return 0, 0, errModel }

func TestModelErrorsNameStepAndLines(t *testing.T) {
	opt := coinOptions()
	for _, c := range []struct {
		model Model
		want  string
	}{
		{failing{newBigram(3, nil)}, `step 1, "coin.jsonl" lines 1, 2: too long`},
		{short{newBigram(3, nil)}, `step 1: labels counted by the model (got 22, want 24)`},
	} {
		_, err := Run(t.Context(), c.model, loaderOf(2, nil, coin()...), opt, Events{})
		if err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	_, _, err := Evaluate(t.Context(), failing{newBigram(3, nil)}, loaderOf(2, nil, coin()...), nil)
	if !errors.Is(err, errModel) || err.Error() != `evaluating "coin.jsonl" lines 1, 2: too long` {
		t.Errorf("got %v", err)
	}

	unlabelled := data.Example{Origin: data.Origin{File: "d", Line: 1}, IDs: []int32{1, 2}, Context: 2}
	_, err = Run(t.Context(), newBigram(3, nil), loaderOf(1, nil, unlabelled), opt, Events{})
	if err == nil || err.Error() != `step 1: no labels in "d" line 1` {
		t.Errorf("got %v", err)
	}
	if _, _, err = Evaluate(t.Context(), newBigram(3, nil), loaderOf(1, nil, unlabelled), nil); err == nil {
		t.Error("evaluated nothing")
	}
}

func TestOriginsAreListed(t *testing.T) {
	many := make([]data.Origin, 40)
	for i := range many {
		many[i] = data.Origin{File: "m", Line: i + 1}
	}
	for _, c := range []struct {
		from []data.Origin
		want string
	}{
		{nil, "a batch of unknown origin"},
		{[]data.Origin{{File: "a\n", Line: 3}}, `"a\n" line 3`},
		{[]data.Origin{{File: "a", Line: 3}, {File: "b", Line: 1}, {File: "a", Line: 9}}, `"a" lines 3, 9 and "b" line 1`},
	} {
		if got := origins(c.from); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
	if got := origins(many); !strings.HasSuffix(got, "31, 32 and 8 more") {
		t.Errorf("got %s", got)
	}
}

package train

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/models"
)

// golden is testdata/adamw.json, which testdata/gen_adamw.py made with PyTorch and
// transformers.
type golden struct {
	AdamW []struct {
		Name        string
		Beta1       float64
		Beta2       float64
		Eps         float64
		WeightDecay float64 `json:"weight_decay"`
		Start       [][]float32
		Steps       []struct {
			LR                           float64
			Grads, Params, First, Second [][]float32
		}
	}
	Schedules []scheduleRun
	Clips     []struct {
		Limit, Norm    float64
		Grads, Clipped [][]float32
	}
}

func readGolden(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

func paramsOf(data, grads [][]float32) []models.Param {
	params := make([]models.Param, len(data))
	for i := range data {
		params[i] = models.Param{
			Name: string(rune('a' + i)), Rows: 1, Cols: len(data[i]),
			Data: append([]float32(nil), data[i]...), Grad: append([]float32(nil), grads[i]...),
		}
	}
	return params
}

// Moments must be equal bit by bit; [AdamW] says why parameters are not.
func TestAdamWEqualsTorch(t *testing.T) {
	var g golden
	readGolden(t, "adamw.json", &g)
	if len(g.AdamW) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range g.AdamW {
		params := paramsOf(c.Start, c.Start)
		optim, err := NewAdamW(params, nil, AdamWConfig{Beta1: c.Beta1, Beta2: c.Beta2, Eps: c.Eps, WeightDecay: c.WeightDecay})
		if err != nil {
			t.Fatal(err)
		}
		for s, step := range c.Steps {
			for i := range params {
				copy(params[i].Grad, step.Grads[i])
			}
			optim.Step(step.LR)
			for i := range params {
				at := func(what string) string { return fmt.Sprintf("%s, step %d, tensor %d: %s", c.Name, s+1, i, what) }
				sameBits(t, at("first moment"), optim.Moments()[i].First, step.First[i])
				sameBits(t, at("second moment"), optim.Moments()[i].Second, step.Second[i])
				closeTo(t, at("parameter"), params[i].Data, step.Params[i], 2e-7)
			}
		}
	}
}

func sameBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: length (got %d, want %d)", what, len(got), len(want))
	}
	for k := range want {
		if math.Float32bits(got[k]) != math.Float32bits(want[k]) {
			t.Fatalf("%s [%d] (got %v, want %v)", what, k, got[k], want[k])
		}
	}
}

// closeTo compares relative to the value or to 1, whichever is larger.
func closeTo(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: length (got %d, want %d)", what, len(got), len(want))
	}
	for k := range want {
		w := float64(want[k])
		if !(math.Abs(float64(got[k])-w) <= tolerance*max(1, math.Abs(w))) {
			t.Fatalf("%s [%d] (got %v, want %v)", what, k, got[k], want[k])
		}
	}
}

func TestSchedulesEqualTransformers(t *testing.T) {
	var g golden
	readGolden(t, "adamw.json", &g)
	if len(g.Schedules) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range g.Schedules {
		c.check(t)
	}
}

// scheduleRun is a schedule's learning rates by transformers, of steps from 0.
type scheduleRun struct {
	Kind          string
	Total, Warmup int
	LR, Min       float64
	Rates         []float64
}

func (c scheduleRun) check(t *testing.T) {
	t.Helper()
	s, err := NewSchedule(c.Total, ScheduleConfig{Kind: c.Kind, WarmupSteps: c.Warmup, MinRate: c.Min})
	if err != nil {
		t.Fatal(err)
	}
	for step, want := range c.Rates {
		if got := c.LR * s.Factor(step); math.Abs(got-want) > 1e-15*c.LR {
			t.Errorf("%s %d/%d, step %d (got %v, want %v)", c.Kind, c.Warmup, c.Total, step, got, want)
		}
	}
}

func TestClipEqualsTorch(t *testing.T) {
	var g golden
	readGolden(t, "adamw.json", &g)
	if len(g.Clips) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range g.Clips {
		params := paramsOf(c.Grads, c.Grads)
		norm := ClipGradNorm(params, c.Limit)
		// torch sums in float32.
		if math.Abs(norm-c.Norm) > 1e-6*c.Norm {
			t.Errorf("limit %v: norm (got %v, want %v)", c.Limit, norm, c.Norm)
		}
		for i := range params {
			closeTo(t, "clipped", params[i].Grad, c.Clipped[i], 1e-6*c.Limit)
		}
	}
}

func TestClipLeavesInfiniteGradients(t *testing.T) {
	for _, x := range []float32{float32(math.Inf(1)), float32(math.NaN())} {
		params := paramsOf([][]float32{{1, x}}, [][]float32{{1, x}})
		if norm := ClipGradNorm(params, 0.5); finite(norm) || params[0].Grad[0] != 1 {
			t.Errorf("%v: norm %v, gradient %v", x, norm, params[0].Grad)
		}
	}
}

func TestNewAdamWRefuses(t *testing.T) {
	nan := math.NaN()
	for name, cfg := range map[string]AdamWConfig{
		"beta1 of 1":     {Beta1: 1, Beta2: 0.9, Eps: 1},
		"beta1 NaN":      {Beta1: nan, Beta2: 0.9, Eps: 1},
		"beta2 below 0":  {Beta1: 0.9, Beta2: -0.1, Eps: 1},
		"eps of 0":       {Beta1: 0.9, Beta2: 0.9},
		"eps below f32":  {Beta1: 0.9, Beta2: 0.9, Eps: 1e-50},
		"decay below 0":  {Beta1: 0.9, Beta2: 0.9, Eps: 1, WeightDecay: -1},
		"decay infinite": {Beta1: 0.9, Beta2: 0.9, Eps: 1, WeightDecay: math.Inf(1)},
	} {
		if _, err := NewAdamW(nil, nil, cfg); !errors.Is(err, formats.ErrUsage) {
			t.Errorf("%s: got %v, want a usage error", name, err)
		}
	}
	short := []models.Param{{Name: "p", Data: make([]float32, 2), Grad: make([]float32, 1)}}
	if _, err := NewAdamW(short, nil, DefaultAdamW); !errors.Is(err, formats.ErrUsage) {
		t.Errorf("short gradient: got %v, want a usage error", err)
	}
}

func TestRestore(t *testing.T) {
	values := [][]float32{{1, 2}, {3}}
	fresh := func() *AdamW {
		o, err := NewAdamW(paramsOf(values, values), nil, DefaultAdamW)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	for name, bad := range map[string][]Moments{
		"missing":      {{Name: "a", First: make([]float32, 2), Second: make([]float32, 2)}},
		"unknown":      {moment("a", 2), moment("b", 1), moment("c", 1)},
		"twice":        {moment("a", 2), moment("b", 1), moment("a", 2)},
		"wrong length": {moment("a", 2), moment("b", 2)},
	} {
		o := fresh()
		if err := o.Restore(3, bad); !errors.Is(err, formats.ErrInput) {
			t.Errorf("%s: got %v, want an input error", name, err)
		}
		if o.Steps() != 0 || o.Moments()[0].First[0] != 0 {
			t.Errorf("%s: changed the state", name)
		}
	}
	if err := fresh().Restore(-1, []Moments{moment("a", 2), moment("b", 1)}); !errors.Is(err, formats.ErrInput) {
		t.Errorf("negative steps: got %v", err)
	}

	one, two := fresh(), fresh()
	for range 3 {
		one.Step(0.1)
	}
	// In the other order, to see that names count.
	if err := two.Restore(3, []Moments{one.Moments()[1], one.Moments()[0]}); err != nil {
		t.Fatal(err)
	}
	for i := range two.params {
		copy(two.params[i].Data, one.params[i].Data)
	}
	one.Step(0.1)
	two.Step(0.1)
	for i := range one.params {
		sameBits(t, "after restoring", two.params[i].Data, one.params[i].Data)
	}
	if two.Steps() != 4 {
		t.Errorf("steps (got %d, want 4)", two.Steps())
	}
}

func moment(name string, n int) Moments {
	m := Moments{Name: name, First: make([]float32, n), Second: make([]float32, n)}
	m.First[0] = 1
	return m
}

func TestNewScheduleRefuses(t *testing.T) {
	for _, c := range []struct {
		total int
		ScheduleConfig
	}{
		{10, ScheduleConfig{Kind: "polynomial"}}, {0, ScheduleConfig{Kind: Cosine}},
		{10, ScheduleConfig{Kind: Cosine, WarmupSteps: -1}}, {10, ScheduleConfig{Kind: Cosine, WarmupRatio: -0.1}},
		{10, ScheduleConfig{Kind: Cosine, WarmupRatio: 1.1}}, {10, ScheduleConfig{Kind: Cosine, WarmupRatio: math.NaN()}},
		{10, ScheduleConfig{Kind: CosineWithMinRate, MinRate: 1.1}}, {10, ScheduleConfig{Kind: CosineWithMinRate, MinRate: math.NaN()}},
		{10, ScheduleConfig{Kind: Cosine, MinRate: 0.1}},
	} {
		if _, err := NewSchedule(c.total, c.ScheduleConfig); !errors.Is(err, formats.ErrUsage) {
			t.Errorf("%v: got %v, want a usage error", c, err)
		}
	}
}

func TestWarmupRatio(t *testing.T) {
	for _, c := range []struct {
		total, steps int
		ratio        float64
		want         int
	}{
		{10, 0, 0.25, 3}, {10, 4, 0.25, 4}, {10, 0, 0, 0}, {3, 0, 1, 3},
	} {
		s, err := NewSchedule(c.total, ScheduleConfig{Kind: Linear, WarmupSteps: c.steps, WarmupRatio: c.ratio})
		if err != nil || s.Warmup() != c.want {
			t.Errorf("%v: got %d, %v", c, s.Warmup(), err)
		}
	}
}

func BenchmarkAdamW(b *testing.B) {
	values := [][]float32{make([]float32, 1<<20)}
	o, err := NewAdamW(paramsOf(values, values), nil, DefaultAdamW)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(4 << 20)
	for b.Loop() {
		o.Step(1e-3)
	}
}

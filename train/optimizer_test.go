package train

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/models"
)

// optimizersGolden is testdata/optimizers.json, which testdata/gen_optimizers.py made
// with PyTorch, transformers and PEFT.
type optimizersGolden struct {
	SGD []struct {
		Name        string
		Momentum    float64
		Nesterov    bool
		WeightDecay float64 `json:"weight_decay"`
		Start       [][]float32
		Steps       []struct {
			LR                   float64
			Grads, Params, First [][]float32
		}
	}
	LoRAPlusAdamW []groupedRun `json:"loraplus_adamw"`
	LoRAPlusSGD   []groupedRun `json:"loraplus_sgd"`
	Trainer       []groupedRun
	Schedules     []scheduleRun
}

// groupedRun is a run over parameters of several kinds.
type groupedRun struct {
	Rate        float64
	WeightDecay float64 `json:"weight_decay"`
	Params      []struct {
		Name  string
		Shape []int
		Start []float32
	}
	Steps []struct {
		Factor        float64
		Grads, Params [][]float32
	}
}

// The momentum must be equal bit by bit, and so must what follows from it.
func TestSGDEqualsTorch(t *testing.T) {
	var g optimizersGolden
	readGolden(t, "optimizers.json", &g)
	if len(g.SGD) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range g.SGD {
		params := paramsOf(c.Start, c.Start)
		optim, err := NewSGD(params, nil, SGDConfig{Momentum: c.Momentum, Nesterov: c.Nesterov, WeightDecay: c.WeightDecay})
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
				if c.Momentum != 0 {
					sameBits(t, at("momentum"), optim.Moments()[i].First, step.First[i])
				}
				sameBits(t, at("parameter"), params[i].Data, step.Params[i])
			}
		}
	}
}

// params returns the parameters of a run as a model has them.
func (c groupedRun) params() []models.Param {
	var out []models.Param
	for _, p := range c.Params {
		q := models.Param{Name: p.Name, Data: append([]float32(nil), p.Start...), Grad: make([]float32, len(p.Start)), Rows: 1, Cols: p.Shape[0], Vector: true}
		if len(p.Shape) == 2 {
			q.Rows, q.Cols, q.Vector = p.Shape[0], p.Shape[1], false
		}
		out = append(out, q)
	}
	return out
}

// check goes through the run with an optimizer over params.
func (c groupedRun) check(t *testing.T, what string, params []models.Param, optim Optimizer) {
	t.Helper()
	for s, step := range c.Steps {
		for i := range params {
			copy(params[i].Grad, step.Grads[i])
		}
		optim.Step(c.Rate * step.Factor)
		for i, p := range params {
			// A step or two of the last place: see AdamW, and torch's foreach.
			closeTo(t, fmt.Sprintf("%s, step %d: %s", what, s+1, p.Name), p.Data, step.Params[i], 2.5e-7)
		}
	}
}

func TestGroupsEqualPEFT(t *testing.T) {
	var g optimizersGolden
	readGolden(t, "optimizers.json", &g)
	adam := AdamWConfig{Beta1: 0.8, Beta2: 0.9, Eps: 1e-3}
	for _, c := range g.LoRAPlusAdamW {
		params := c.params()
		opt := Options{LearningRate: c.Rate, AdamW: adam, LoRAPlus: LoRAPlus{Ratio: 7.5, EmbeddingRate: 0.05}}
		opt.AdamW.WeightDecay = c.WeightDecay
		optim, err := opt.optimizer(params)
		if err != nil {
			t.Fatal(err)
		}
		c.check(t, "LoRA+ with AdamW", params, optim)
	}
	for _, c := range g.LoRAPlusSGD {
		params := c.params()
		opt := Options{Optimizer: SGDOptimizer, LearningRate: c.Rate, SGD: SGDConfig{Momentum: 0.6, WeightDecay: c.WeightDecay},
			LoRAPlus: LoRAPlus{Ratio: 3, EmbeddingRate: DefaultEmbeddingRate}}
		optim, err := opt.optimizer(params)
		if err != nil {
			t.Fatal(err)
		}
		c.check(t, "LoRA+ with SGD", params, optim)
	}
	for _, c := range g.Trainer {
		params := c.params()
		opt := Options{Optimizer: AdamWOptimizer, LearningRate: c.Rate, AdamW: adam}
		opt.AdamW.WeightDecay = c.WeightDecay
		optim, err := opt.optimizer(params)
		if err != nil {
			t.Fatal(err)
		}
		c.check(t, "the Trainer's groups", params, optim)
	}
	if len(g.LoRAPlusAdamW)*len(g.LoRAPlusSGD)*len(g.Trainer) == 0 {
		t.Fatal("no cases")
	}
}

func TestNamedSchedulesEqualTransformers(t *testing.T) {
	var g optimizersGolden
	readGolden(t, "optimizers.json", &g)
	if len(g.Schedules) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range g.Schedules {
		c.check(t)
	}
}

func TestOptimizersRefuse(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"unknown optimizer":     func(o *Options) { o.Optimizer = "lion" },
		"momentum of 1":         func(o *Options) { o.SGD.Momentum = 1 },
		"momentum NaN":          func(o *Options) { o.SGD.Momentum = math.NaN() },
		"nesterov alone":        func(o *Options) { o.SGD = SGDConfig{Nesterov: true} },
		"decay below 0":         func(o *Options) { o.SGD.WeightDecay = -1 },
		"ratio below 0":         func(o *Options) { o.LoRAPlus.Ratio = -1 },
		"ratio infinite":        func(o *Options) { o.LoRAPlus.Ratio = math.Inf(1) },
		"embedding rate alone":  func(o *Options) { o.LoRAPlus.EmbeddingRate = 1 },
		"embedding rate NaN":    func(o *Options) { o.LoRAPlus = LoRAPlus{2, math.NaN()} },
		"embedding rate beyond": func(o *Options) { o.LoRAPlus = LoRAPlus{2, math.Inf(1)} },
	} {
		opt := Options{Optimizer: SGDOptimizer, LearningRate: 1, SGD: SGDConfig{Momentum: 0.5}}
		change(&opt)
		if _, err := opt.optimizer(nil); !errors.Is(err, formats.ErrUsage) {
			t.Errorf("%s: got %v, want a usage error", name, err)
		}
	}
	values := [][]float32{{1, 2}, {3}}
	for name, groups := range map[string][]Group{
		"too few groups": {{1, 0}}, "negative rate": {{-1, 0}, {1, 0}}, "infinite decay": {{1, math.Inf(1)}, {1, 0}},
	} {
		if _, err := NewSGD(paramsOf(values, values), groups, SGDConfig{}); !errors.Is(err, formats.ErrUsage) {
			t.Errorf("%s: got %v, want a usage error", name, err)
		}
	}
}

// Moments of one optimizer are not those of another.
func TestRestoreOfAnotherOptimizer(t *testing.T) {
	values := [][]float32{{1, 2}, {3}}
	params := paramsOf(values, values)
	adam, err := NewAdamW(params, nil, DefaultAdamW)
	if err != nil {
		t.Fatal(err)
	}
	sgd, err := NewSGD(params, nil, SGDConfig{Momentum: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	if err := sgd.Restore(1, adam.Moments()); !errors.Is(err, formats.ErrInput) || !strings.Contains(err.Error(), "(got 2 and 2, want 2 and 0)") {
		t.Errorf("got %v", err)
	}
	if err := adam.Restore(1, sgd.Moments()); !errors.Is(err, formats.ErrInput) {
		t.Errorf("got %v", err)
	}
}

// TestStepsAllocateNothing: the numbers of a step take no memory of their own.
func TestStepsAllocateNothing(t *testing.T) {
	values := [][]float32{make([]float32, 1000), make([]float32, 7)}
	params := paramsOf(values, values)
	for i := range params[0].Grad {
		params[0].Grad[i] = 1
	}
	for _, opt := range []Options{
		{AdamW: DefaultAdamW, LearningRate: 1},
		{AdamW: DefaultAdamW, LearningRate: 1, LoRAPlus: LoRAPlus{16, 1e-6}},
		{Optimizer: SGDOptimizer, SGD: SGDConfig{Momentum: 0.9, Nesterov: true, WeightDecay: 0.1}, LearningRate: 1},
	} {
		optim, err := opt.optimizer(params)
		if err != nil {
			t.Fatal(err)
		}
		n := testing.AllocsPerRun(10, func() {
			ClipGradNorm(params, 1e-3)
			optim.Step(1e-3)
			zeroGrad(params)
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", opt.Optimizer, n)
		}
	}
	var best []Values
	best = copyValues(best, params)
	if n := testing.AllocsPerRun(10, func() { best = copyValues(best, params) }); n != 0 {
		t.Errorf("keeping the best: %v allocations", n)
	}
}

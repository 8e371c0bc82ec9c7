package train

import (
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/models"
)

// The optimizers of [Options], by Hugging Face's words.
const (
	AdamWOptimizer = "adamw" // [AdamW]
	SGDOptimizer   = "sgd"   // [SGD]
)

// Optimizer moves parameters along their gradients. [AdamW] and [SGD] are some; their
// steps allocate nothing.
type Optimizer interface {
	// Step moves all parameters once along their Grad, which it does not clear, at a
	// learning rate that each parameter's [Group] scales.
	Step(lr float64)
	// Steps returns how many steps were done, those before a restore included.
	Steps() int
	// Moments returns the state, one entry a parameter in their order. The slices are
	// the optimizer's own: copy what must outlive the next step.
	Moments() []Moments
	// Restore copies saved moments into the optimizer and sets the number of steps
	// done. It needs every parameter exactly once, by name and in any order; else it
	// returns a [formats.ErrInput] and changes nothing.
	Restore(steps int, saved []Moments) error
}

// Moments is an optimizer's state for one parameter, in the order of its Data. A moment
// that the optimizer does not have is nil.
type Moments struct {
	Name   string
	First  []float32 // torch's exp_avg of AdamW, momentum_buffer of SGD
	Second []float32 // torch's exp_avg_sq of AdamW
}

// optimizer makes the one that the options name.
func (opt Options) optimizer(params []models.Param) (Optimizer, error) {
	sgd := opt.Optimizer == SGDOptimizer
	decay := opt.AdamW.WeightDecay
	if sgd {
		decay = opt.SGD.WeightDecay
	}
	groups := TrainerGroups(params, decay)
	if opt.LoRAPlus != (LoRAPlus{}) {
		var err error
		if groups, err = LoRAPlusGroups(params, opt.LoRAPlus, opt.LearningRate, decay); err != nil {
			return nil, err
		}
	}
	switch {
	case sgd:
		return NewSGD(params, groups, opt.SGD)
	case opt.Optimizer == "" || opt.Optimizer == AdamWOptimizer:
		return NewAdamW(params, groups, opt.AdamW)
	}
	return nil, formats.Usagef("optimizer (got %s, want %s)", formats.Quote(opt.Optimizer), strings.Join([]string{AdamWOptimizer, SGDOptimizer}, " or "))
}

// core is what optimizers share.
type core struct {
	params  []models.Param
	groups  []Group
	moments []Moments
	step    int
}

// newCore checks the parameters and their groups, nil for the same in all, and makes
// moments of zeros.
func newCore(params []models.Param, groups []Group, decay float64, first, second bool) (core, error) {
	c := core{params: params, groups: groups, moments: make([]Moments, len(params))}
	if !(decay >= 0) || !finite(decay) {
		return c, formats.Usagef("weight decay (got %v, want at least 0)", decay)
	}
	if groups == nil {
		c.groups = make([]Group, len(params))
		for i := range c.groups {
			c.groups[i] = Group{Rate: 1, Decay: decay}
		}
	} else if len(groups) != len(params) {
		return c, formats.Usagef("parameter groups (got %d, want one for each of %d parameters)", len(groups), len(params))
	}
	for i, p := range params {
		if len(p.Grad) != len(p.Data) {
			return c, formats.Usagef("parameter %s: gradient length (got %d, want %d)",
				formats.Quote(p.Name), len(p.Grad), len(p.Data))
		}
		if g := c.groups[i]; !(g.Rate >= 0) || !finite(g.Rate) || !(g.Decay >= 0) || !finite(g.Decay) {
			return c, formats.Usagef("parameter %s: rate and decay of its group (got %v and %v, want at least 0)", formats.Quote(p.Name), g.Rate, g.Decay)
		}
		c.moments[i].Name = p.Name
		if first {
			c.moments[i].First = make([]float32, len(p.Data))
		}
		if second {
			c.moments[i].Second = make([]float32, len(p.Data))
		}
	}
	return c, nil
}

// Steps implements [Optimizer].
func (c *core) Steps() int { return c.step }

// Moments implements [Optimizer].
func (c *core) Moments() []Moments { return c.moments }

// Restore implements [Optimizer].
func (c *core) Restore(steps int, saved []Moments) error {
	if steps < 0 {
		return formats.Rejectf("", "", "optimizer state: steps (got %d, want at least 0)", steps)
	}
	byName := make(map[string]Moments, len(saved))
	for _, m := range saved {
		if _, twice := byName[m.Name]; twice {
			return formats.Rejectf("", m.Name, "optimizer state given twice")
		}
		byName[m.Name] = m
	}
	for _, own := range c.moments {
		m, ok := byName[own.Name]
		switch {
		case !ok:
			return formats.Rejectf("", own.Name, "no optimizer state")
		case len(m.First) != len(own.First) || len(m.Second) != len(own.Second):
			return formats.Rejectf("", own.Name, "optimizer state lengths (got %d and %d, want %d and %d)",
				len(m.First), len(m.Second), len(own.First), len(own.Second))
		}
	}
	if len(byName) > len(c.moments) {
		own := make(map[string]bool, len(c.moments))
		for _, m := range c.moments {
			own[m.Name] = true
		}
		for _, m := range saved {
			if !own[m.Name] {
				return formats.Rejectf("", m.Name, "optimizer state for a parameter that is not trained")
			}
		}
	}
	for _, own := range c.moments {
		copy(own.First, byName[own.Name].First)
		copy(own.Second, byName[own.Name].Second)
	}
	c.step = steps
	return nil
}

// zeroGrad clears the gradients of all parameters.
func zeroGrad(params []models.Param) {
	for _, p := range params {
		clear(p.Grad)
	}
}

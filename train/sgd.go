package train

import (
	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/models"
)

// SGDConfig holds the constants of [SGD].
type SGDConfig struct {
	Momentum    float64 // in [0, 1); 0 keeps no state
	Nesterov    bool    // looks ahead along the momentum, which must not be 0
	WeightDecay float64 // added to the gradient; at least 0; of parameters whose [Group] does not say
}

// SGD is stochastic gradient descent with the order of operations and the float32 state
// of torch.optim.SGD without dampening:
//
//	g ← fma(wd, p, g)
//	m ← fma(1, g, μ·m), or g in the first step
//	g ← m, or fma(μ, m, g) with Nesterov's momentum
//	p ← fma(−lr, g, p)
//
// Weight decay is coupled: it passes through the momentum, unlike that of [AdamW].
type SGD struct {
	core
	cfg SGDConfig
}

// NewSGD returns an optimizer over params with zero state; see [NewAdamW].
func NewSGD(params []models.Param, groups []Group, cfg SGDConfig) (*SGD, error) {
	switch {
	case !(cfg.Momentum >= 0 && cfg.Momentum < 1):
		return nil, formats.Usagef("momentum (got %v, want at least 0 and less than 1)", cfg.Momentum)
	case cfg.Nesterov && cfg.Momentum == 0:
		return nil, formats.Usagef("Nesterov's momentum takes a momentum (got 0, want more)")
	}
	c, err := newCore(params, groups, cfg.WeightDecay, cfg.Momentum != 0, false)
	if err != nil {
		return nil, err
	}
	return &SGD{core: c, cfg: cfg}, nil
}

// Step implements [Optimizer].
func (o *SGD) Step(lr float64) {
	o.step++
	momentum := float32(o.cfg.Momentum)
	for i, p := range o.params {
		rate, decay := -float32(lr*o.groups[i].Rate), float32(o.groups[i].Decay)
		buffer := o.moments[i].First
		for k, g := range p.Grad {
			if decay != 0 {
				g = fma32(decay, p.Data[k], g)
			}
			if buffer != nil {
				m := float32(momentum*buffer[k]) + g // of zero, the first time
				buffer[k] = m
				if o.cfg.Nesterov {
					m = fma32(momentum, m, g)
				}
				g = m
			}
			p.Data[k] = fma32(rate, g, p.Data[k])
		}
	}
}

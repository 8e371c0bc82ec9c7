package train

import (
	"math"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/models"
)

// AdamWConfig holds the constants of [AdamW]. The learning rate is not among them,
// as a schedule changes it every step.
type AdamWConfig struct {
	Beta1, Beta2 float64 // decay of the first and second moment, in [0, 1)
	Eps          float64 // added to the root of the second moment; more than 0 as a float32
	WeightDecay  float64 // decoupled; at least 0; of parameters whose [Group] does not say
}

// DefaultAdamW has the constants of Hugging Face's Trainer: torch's, without decay.
var DefaultAdamW = AdamWConfig{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}

// AdamW is Adam with decoupled weight decay (Loshchilov and Hutter, 2019), with the
// order of operations and the float32 state of torch.optim.AdamW without amsgrad:
//
//	p ← p·(1 − lr·wd)
//	m ← fma(1−β1, g − m, m)
//	v ← fma((1−β2)·g, g, β2·v)
//	p ← p − (lr/(1−β1ᵗ) · m) / (√v/√(1−β2ᵗ) + ε)
//
// Every operation on elements rounds to float32; the coefficients are made in
// float64 and then rounded. The moments have the bits of torch on x86. Parameters
// can differ in the last bit of a step, as the square root of torch's vector library
// is not always the nearest number and this one is.
type AdamW struct {
	core
	cfg AdamWConfig
	pow [2]float64 // β1ᵗ and β2ᵗ
}

// NewAdamW returns an optimizer over params with zero state. It keeps the slices of
// params and writes to their Data. groups has one entry for each, or is nil: then all
// have the learning rate itself and cfg's weight decay. Constants out of range are a
// [formats.ErrUsage].
func NewAdamW(params []models.Param, groups []Group, cfg AdamWConfig) (*AdamW, error) {
	switch {
	case !(cfg.Beta1 >= 0 && cfg.Beta1 < 1):
		return nil, formats.Usagef("beta1 (got %v, want at least 0 and less than 1)", cfg.Beta1)
	case !(cfg.Beta2 >= 0 && cfg.Beta2 < 1):
		return nil, formats.Usagef("beta2 (got %v, want at least 0 and less than 1)", cfg.Beta2)
	case !(float32(cfg.Eps) > 0) || math.IsInf(cfg.Eps, 0):
		// torch takes 0 and then divides 0 by 0 where a gradient is 0.
		return nil, formats.Usagef("epsilon (got %v, want more than 0)", cfg.Eps)
	}
	c, err := newCore(params, groups, cfg.WeightDecay, true, true)
	if err != nil {
		return nil, err
	}
	return &AdamW{core: c, cfg: cfg, pow: [2]float64{1, 1}}, nil
}

// Step implements [Optimizer].
func (o *AdamW) Step(lr float64) {
	o.advance()
	var (
		grow1   = float32(1 - o.cfg.Beta1)
		keep2   = float32(o.cfg.Beta2)
		grow2   = float32(1 - o.cfg.Beta2)
		correct = float32(math.Sqrt(1 - o.pow[1]))
		eps     = float32(o.cfg.Eps)
	)
	for i, p := range o.params {
		own := lr * o.groups[i].Rate
		decay := float32(1 - float64(own*o.groups[i].Decay))
		rate := float32(own / (1 - o.pow[0]))
		first, second := o.moments[i].First, o.moments[i].Second
		// The conversions keep the compiler from fusing anything else, which it may do
		// on some machines and not on others.
		for k, g := range p.Grad {
			m := fma32(grow1, g-first[k], first[k])
			v := fma32(float32(grow2*g), g, float32(keep2*second[k]))
			first[k], second[k] = m, v
			denom := float32(sqrt32(v)/correct) + eps
			p.Data[k] = float32(p.Data[k]*decay) - float32(float32(rate*m)/denom)
		}
	}
}

// fma32 is a·b + c. The product is exact in float64, so nothing depends on whether
// the machine fuses; rounding the sum twice differs from once in about one of 2²⁹.
func fma32(a, b, c float32) float32 {
	return float32(float64(a)*float64(b) + float64(c))
}

// advance counts a step. The powers are kept as products: multiplication rounds
// alike on every machine, and math.Pow need not.
func (o *AdamW) advance() {
	o.step++
	o.pow[0] *= o.cfg.Beta1
	o.pow[1] *= o.cfg.Beta2
}

// sqrt32 is the correctly rounded float32 root: the float64 root has more than twice
// the bits, so rounding it once more cannot go wrong.
func sqrt32(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// Restore implements [Optimizer].
func (o *AdamW) Restore(steps int, saved []Moments) error {
	if err := o.core.Restore(steps, saved); err != nil {
		return err
	}
	o.step, o.pow = 0, [2]float64{1, 1}
	for range steps {
		o.advance()
	}
	return nil
}

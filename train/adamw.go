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
	WeightDecay  float64 // decoupled; at least 0
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
// is not always the nearest number and this one is. Decay applies to every parameter.
type AdamW struct {
	cfg     AdamWConfig
	params  []models.Param
	moments []Moments
	step    int
	pow     [2]float64 // β1ᵗ and β2ᵗ
}

// Moments is the optimizer's state for one parameter, in the order of its Data.
type Moments struct {
	Name   string
	First  []float32 // exp_avg in torch
	Second []float32 // exp_avg_sq in torch
}

// NewAdamW returns an optimizer over params with zero state. It keeps the slices of
// params and writes to their Data. Constants out of range are a [formats.ErrUsage].
func NewAdamW(params []models.Param, cfg AdamWConfig) (*AdamW, error) {
	switch {
	case !(cfg.Beta1 >= 0 && cfg.Beta1 < 1):
		return nil, formats.Usagef("beta1 (got %v, want at least 0 and less than 1)", cfg.Beta1)
	case !(cfg.Beta2 >= 0 && cfg.Beta2 < 1):
		return nil, formats.Usagef("beta2 (got %v, want at least 0 and less than 1)", cfg.Beta2)
	case !(float32(cfg.Eps) > 0) || math.IsInf(cfg.Eps, 0):
		// torch takes 0 and then divides 0 by 0 where a gradient is 0.
		return nil, formats.Usagef("epsilon (got %v, want more than 0)", cfg.Eps)
	case !(cfg.WeightDecay >= 0) || math.IsInf(cfg.WeightDecay, 0):
		return nil, formats.Usagef("weight decay (got %v, want at least 0)", cfg.WeightDecay)
	}
	o := &AdamW{cfg: cfg, params: params, moments: make([]Moments, len(params)), pow: [2]float64{1, 1}}
	for i, p := range params {
		if len(p.Grad) != len(p.Data) {
			return nil, formats.Usagef("parameter %s: gradient length (got %d, want %d)",
				formats.Quote(p.Name), len(p.Grad), len(p.Data))
		}
		o.moments[i] = Moments{
			Name:   p.Name,
			First:  make([]float32, len(p.Data)),
			Second: make([]float32, len(p.Data)),
		}
	}
	return o, nil
}

// Step moves all parameters once along their Grad, which it does not clear.
func (o *AdamW) Step(lr float64) {
	o.advance()
	var (
		decay   = float32(1 - float64(lr*o.cfg.WeightDecay))
		grow1   = float32(1 - o.cfg.Beta1)
		keep2   = float32(o.cfg.Beta2)
		grow2   = float32(1 - o.cfg.Beta2)
		correct = float32(math.Sqrt(1 - o.pow[1]))
		rate    = float32(lr / (1 - o.pow[0]))
		eps     = float32(o.cfg.Eps)
	)
	for i, p := range o.params {
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

// ZeroGrad clears the gradients of all parameters.
func (o *AdamW) ZeroGrad() {
	for _, p := range o.params {
		clear(p.Grad)
	}
}

// Steps returns how many steps were done, those before a restore included.
func (o *AdamW) Steps() int { return o.step }

// Moments returns the state, one entry a parameter in their order. The slices are
// the optimizer's own: copy what must outlive the next step.
func (o *AdamW) Moments() []Moments { return o.moments }

// Restore copies saved moments into the optimizer and sets the number of steps
// done. It needs every parameter exactly once, by name and in any order; else it
// returns a [formats.ErrInput] and changes nothing.
func (o *AdamW) Restore(steps int, saved []Moments) error {
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
	for _, own := range o.moments {
		m, ok := byName[own.Name]
		switch {
		case !ok:
			return formats.Rejectf("", own.Name, "no optimizer state")
		case len(m.First) != len(own.First) || len(m.Second) != len(own.Second):
			return formats.Rejectf("", own.Name, "optimizer state lengths (got %d and %d, want %d)",
				len(m.First), len(m.Second), len(own.First))
		}
		delete(byName, own.Name)
	}
	for _, m := range saved {
		if _, left := byName[m.Name]; left {
			return formats.Rejectf("", m.Name, "optimizer state for a parameter that is not trained")
		}
	}
	for _, m := range saved {
		byName[m.Name] = m
	}
	for _, own := range o.moments {
		copy(own.First, byName[own.Name].First)
		copy(own.Second, byName[own.Name].Second)
	}
	o.step, o.pow = 0, [2]float64{1, 1}
	for range steps {
		o.advance()
	}
	return nil
}

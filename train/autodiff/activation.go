package autodiff

import "math"

// Activation is a function that [Tape.Activate] applies to each element.
type Activation int

// The activations of encoders and of GPT-2.
const (
	// GELU is x·Φ(x) with Φ the normal distribution, x/2·(1+erf(x/√2)) (Hendrycks,
	// Gimpel, "Gaussian error linear units", 2016).
	GELU Activation = iota
	// GELUTanh is their approximation x/2·(1+tanh(√(2/π)·(x+0.044715·x³))).
	GELUTanh
	// ReLU is max(x, 0), with slope 0 at 0.
	ReLU
	// Tanh is the hyperbolic tangent.
	Tanh
)

// Activate returns f of each element of x.
func (t *Tape) Activate(x *Value, f Activation) *Value {
	y := t.newValue(x.Rows, x.Cols, x)
	eachBlock(len(y.Data), func(lo, hi int) {
		f.apply(y.Data[lo:hi], x.Data[lo:hi])
	})
	if !y.needs {
		return y
	}
	keep(x)
	t.record(func() {
		dy := t.gradOf(y)
		dx, first := t.startGrad(x)
		eachBlock(len(dy), func(lo, hi int) {
			if first {
				clear(dx[lo:hi])
			}
			var room [expBlock]float32
			slopes := room[:hi-lo]
			f.slopes(slopes, x.Data[lo:hi])
			for i, s := range slopes {
				dx[lo+i] += dy[lo+i] * s
			}
		})
	}, y)
	return y
}

// apply sets y to f(x).
func (f Activation) apply(y, x []float32) {
	switch f {
	case GELU:
		for i, v := range x {
			y[i] = float32(float64(v) / 2 * (1 + math.Erf(float64(v)/math.Sqrt2)))
		}
	case GELUTanh:
		geluTanh.powers(y, x)
		for i, v := range x {
			y[i] = v / (1 + y[i])
		}
	case ReLU:
		for i, v := range x {
			// A NaN stays: comparisons with it are false.
			if v <= 0 {
				v = 0
			}
			y[i] = v
		}
	case Tanh:
		for i, v := range x {
			y[i] = float32(math.Tanh(float64(v)))
		}
	default:
		panic("autodiff: no such activation")
	}
}

// slopes sets d to f′(x).
func (f Activation) slopes(d, x []float32) {
	switch f {
	case GELU:
		// Φ(x) + x·φ(x), with φ the density.
		for i, v := range x {
			x := float64(v)
			d[i] = float32((1+math.Erf(x/math.Sqrt2))/2 + x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi))
		}
	case GELUTanh:
		var room [expBlock]float32
		s := room[:len(x)]
		geluTanh.powers(s, x)
		for i, p := range s {
			s[i] = 1 / (1 + p)
		}
		geluTanh.slopes(d, x, s)
	case ReLU:
		for i, v := range x {
			d[i] = 0
			if v > 0 {
				d[i] = 1
			}
		}
	case Tanh:
		for i, v := range x {
			y := math.Tanh(float64(v))
			d[i] = float32(1 - y*y)
		}
	}
}

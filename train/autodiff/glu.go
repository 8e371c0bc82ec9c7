package autodiff

import "math"

// SwiGLU returns silu(gate)∘up with silu(x) = x/(1+e**−x) (Shazeer, "GLU variants
// improve transformer", 2020), for two matrices of the same shape.
func (t *Tape) SwiGLU(gate, up *Value) *Value { return t.glu(gate, up, silu) }

// GeGLU returns gelu(gate)∘up (Shazeer, above) with the approximation
// gelu(x) = x/2·(1+tanh(√(2/π)·(x+0.044715·x³))) (Hendrycks, Gimpel, "Gaussian error
// linear units", 2016), for two matrices of the same shape.
func (t *Tape) GeGLU(gate, up *Value) *Value { return t.glu(gate, up, geluTanh) }

// activation is a function x·s with s = 1/(1+e**−φ(x)).
type activation int

const (
	silu     activation = iota // φ(x) = x
	geluTanh                   // φ(x) = 2·√(2/π)·(x+0.044715·x³), for 1/(1+e**−2u) is (1+tanh u)/2
)

const (
	geluFactor = math.Sqrt2 * 2 / math.SqrtPi
	geluCubic  = 0.044715
)

// powers sets p to e**−φ(x).
func (a activation) powers(p, x []float32) {
	if a == silu {
		exps(p, x, -1, 0)
		return
	}
	for i, v := range x {
		x := float64(v)
		p[i] = float32(geluFactor * x * (1 + geluCubic*x*x))
	}
	exps(p, p, -1, 0)
}

// slopes sets d to the derivative, s + x·φ′(x)·s·(1−s).
func (a activation) slopes(d, x, s []float32) {
	if a == silu {
		for i, v := range x {
			d[i] = s[i] * (1 + v*(1-s[i]))
		}
		return
	}
	for i, v := range x {
		x, s := float64(v), float64(s[i])
		d[i] = float32(s + x*geluFactor*(1+3*geluCubic*x*x)*s*(1-s))
	}
}

// glu returns act(gate)∘up.
func (t *Tape) glu(gate, up *Value, act activation) *Value {
	up.mustMatch("up", gate.Rows, gate.Cols)
	y := t.newValue(gate.Rows, gate.Cols, gate, up)
	eachBlock(len(y.Data), func(lo, hi int) {
		g, u, out := gate.Data[lo:hi], up.Data[lo:hi], y.Data[lo:hi]
		var powers [expBlock]float32
		act.powers(powers[:len(g)], g)
		for i, x := range g {
			out[i] = x / (1 + powers[i]) * u[i]
		}
	})
	if !y.needs {
		return y
	}
	keep(gate, up)
	t.record(func() {
		dy := t.gradOf(y)
		var dg, du []float32
		var firstGate, firstUp bool
		if gate.needs {
			dg, firstGate = t.startGrad(gate)
		}
		if up.needs {
			du, firstUp = t.startGrad(up)
		}
		eachBlock(len(dy), func(lo, hi int) {
			g, u, d := gate.Data[lo:hi], up.Data[lo:hi], dy[lo:hi]
			var room [2 * expBlock]float32
			s, slopes := room[:len(g)], room[expBlock:][:len(g)]
			if firstGate {
				clear(dg[lo:hi])
			}
			if firstUp {
				clear(du[lo:hi])
			}
			act.powers(s, g)
			for i, p := range s {
				s[i] = 1 / (1 + p)
			}
			act.slopes(slopes, g, s)
			for i, x := range g {
				if du != nil {
					du[lo+i] += d[i] * (x * s[i])
				}
				if dg != nil {
					dg[lo+i] += d[i] * u[i] * slopes[i]
				}
			}
		})
	}, y)
	return y
}

// eachBlock splits n elements into ranges [lo, hi) of at most expBlock.
func eachBlock(n int, f func(lo, hi int)) {
	eachRows((n+expBlock-1)/expBlock, expBlock, func(first, last int) {
		for i := first; i < last; i++ {
			f(i*expBlock, min((i+1)*expBlock, n))
		}
	})
}

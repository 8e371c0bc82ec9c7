package autodiff

// SwiGLU returns silu(gate)∘up with silu(x) = x/(1+e**−x) (Shazeer, "GLU variants
// improve transformer", 2020), for two matrices of the same shape.
func (t *Tape) SwiGLU(gate, up *Value) *Value {
	up.mustMatch("up", gate.Rows, gate.Cols)
	y := t.newValue(gate.Rows, gate.Cols, gate, up)
	eachBlock(len(y.Data), func(lo, hi int) {
		g, u, out := gate.Data[lo:hi], up.Data[lo:hi], y.Data[lo:hi]
		var powers [expBlock]float32
		exps(powers[:], g, -1, 0)
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
		if gate.needs {
			dg = t.gradOf(gate)
		}
		if up.needs {
			du = t.gradOf(up)
		}
		eachBlock(len(dy), func(lo, hi int) {
			g, u, d := gate.Data[lo:hi], up.Data[lo:hi], dy[lo:hi]
			var powers [expBlock]float32
			exps(powers[:], g, -1, 0)
			for i, x := range g {
				s := 1 / (1 + powers[i])
				if du != nil {
					du[lo+i] += d[i] * (x * s)
				}
				if dg != nil {
					dg[lo+i] += d[i] * u[i] * (s * (1 + x*(1-s)))
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

package autodiff

import "math/bits"

// Dropout returns x with each element zeroed with probability p, 0 ≤ p < 1, and the
// others divided by 1−p. The choice depends on seed and the element's place alone:
// it is a hash, not a stream, so no mask is stored and the order of work does not
// matter. With p = 0 it returns x itself.
func (t *Tape) Dropout(x *Value, p float64, seed uint64) *Value {
	if p == 0 {
		return x
	}
	if !(p > 0 && p < 1) {
		panic("autodiff: dropout's probability must be in [0, 1)")
	}
	y := t.newValue(x.Rows, x.Cols, x)
	drop, factor := uint32(p*(1<<32)), float32(1/(1-p))
	eachRows(y.Rows, y.Cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			clear(y.row(i))
			addKept(y.row(i), x.row(i), drop, factor, seed, i)
		}
	})
	if !y.needs {
		return y
	}
	t.record(func() {
		dy := t.gradOf(y)
		dx, first := t.startGrad(x)
		eachRows(y.Rows, y.Cols, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				from, to := i*y.Cols, (i+1)*y.Cols
				if first {
					clear(dx[from:to])
				}
				addKept(dx[from:to], dy[from:to], drop, factor, seed, i)
			}
		})
	}, y)
	return y
}

// addKept adds factor·src to dst where the mask keeps an element of row i.
func addKept(dst, src []float32, drop uint32, factor float32, seed uint64, i int) {
	state := mix(seed ^ mix(uint64(i)+1))
	var random uint64
	for j, x := range src {
		// One hash serves two elements.
		if j%2 == 0 {
			random = mix(state + uint64(j))
		} else {
			random = bits.RotateLeft64(random, 32)
		}
		if uint32(random) >= drop {
			dst[j] += factor * x
		}
	}
}

// mix is the output function of SplitMix64 with its increment (Steele, Lea, Flood,
// "Fast splittable pseudorandom number generators", 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

package diff

import "math"

// moments are the sums that norms and angles are made of, over pairs of elements x and y:
// each is its value times 2^(2·exp), so that squares neither overflow nor vanish.
type moments struct {
	xx, yy, xy, dd float64 // d = y − x
	exp            int
}

// add adds other sums, at the larger of both exponents.
func (m *moments) add(o moments) {
	if o.xx == 0 && o.yy == 0 {
		return
	}
	if m.xx == 0 && m.yy == 0 {
		*m = o
		return
	}
	if m.exp < o.exp {
		*m, o = o, *m
	}
	if m.exp != o.exp {
		down := 2 * (o.exp - m.exp)
		o.xx, o.yy, o.xy, o.dd = math.Ldexp(o.xx, down), math.Ldexp(o.yy, down), math.Ldexp(o.xy, down), math.Ldexp(o.dd, down)
	}
	m.xx, m.yy, m.xy, m.dd = m.xx+o.xx, m.yy+o.yy, m.xy+o.xy, m.dd+o.dd
}

// norms returns ‖x‖, ‖y‖ and ‖y − x‖.
func (m *moments) norms() (x, y, d float64) {
	return math.Ldexp(math.Sqrt(m.xx), m.exp), math.Ldexp(math.Sqrt(m.yy), m.exp), math.Ldexp(math.Sqrt(m.dd), m.exp)
}

// relative returns ‖y − x‖/‖x‖: 0 where they are the same, and infinite where x alone is zero.
func (m *moments) relative() float64 { return ratio(math.Sqrt(m.dd), math.Sqrt(m.xx)) }

// cosine returns the cosine of the angle between x and y; NaN where one of them is zero.
func (m *moments) cosine() float64 {
	if m.xx == 0 || m.yy == 0 {
		return math.NaN()
	}
	return max(-1, min(1, m.xy/math.Sqrt(m.xx)/math.Sqrt(m.yy)))
}

// ratio is d/x for norms.
func ratio(d, x float64) float64 {
	if d == 0 {
		return 0
	}
	return d / x
}

// Squares of numbers between these neither overflow nor lose digits, also when 2⁶³ of
// them are added.
const (
	smallSafe = 0x1p-480
	largeSafe = 0x1p+480
)

// sum returns the sums over a few elements whose squares are within float64, and the largest
// |d|. Pairs with an infinity or a NaN are left out.
func sum(x, y []float64) (m moments, most float64) {
	y = y[:len(x)]
	for i, a := range x {
		b := y[i]
		aa, bb := a*a, b*b
		if n := aa + bb; n-n != 0 {
			continue
		}
		d := b - a
		if size := math.Abs(d); size > most {
			most = size
		}
		m.xx += aa
		m.yy += bb
		m.xy += a * b
		m.dd += d * d
	}
	return m, most
}

// sumWide is sum for numbers of any size, which are scaled by a power of two where their
// squares would not fit.
func sumWide(x, y []float64) (m moments, most float64) {
	var large float64
	for i, a := range x {
		b := y[i]
		if d := b - a; a-a == 0 && b-b == 0 {
			large = max(large, math.Abs(a), math.Abs(b))
			most = max(most, math.Abs(d))
		}
	}
	if large == 0 || smallSafe < large && large < largeSafe {
		m, _ = sum(x, y)
		return m, most
	}
	exp := math.Ilogb(large) + 1
	sx, sy := make([]float64, len(x)), make([]float64, len(y))
	for i := range x {
		sx[i], sy[i] = math.Ldexp(x[i], -exp), math.Ldexp(y[i], -exp)
	}
	m, _ = sum(sx, sy)
	m.exp = exp
	return m, most
}

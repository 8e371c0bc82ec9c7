package health

import "math"

// squares sums squares relative to a power of two that is above all numbers so far, so that
// none overflows, those that vanish are nothing beside the rest, and scaling rounds nothing.
type squares struct {
	sum  float64
	exp  int     // the numbers are below 2^exp in magnitude
	unit float64 // 2^−exp; 0 before the first number that is not zero
}

// add takes a number that is finite.
func (s *squares) add(x float64) {
	y := x * s.unit
	if !(y < 1 && y > -1) || s.unit == 0 && x != 0 {
		s.raise(x)
		y = x * s.unit
	}
	s.sum += y * y
}

// raise makes room for a number.
func (s *squares) raise(x float64) {
	_, exp := math.Frexp(x)
	exp = max(-1022, min(exp, 1022)) // so that both powers are normal numbers
	if s.unit != 0 {
		s.sum = math.Ldexp(s.sum, 2*(s.exp-exp))
	}
	s.exp, s.unit = exp, math.Ldexp(1, -exp)
}

// norm returns the root of the sum: +Inf where float64 does not hold it.
func (s *squares) norm() float64 { return math.Ldexp(math.Sqrt(s.sum), s.exp) }

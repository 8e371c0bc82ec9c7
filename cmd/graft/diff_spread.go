package main

import (
	"cmp"
	"math"

	"github.com/seed-b982eded/graft/patch/diff"
)

// spread is a row of a table of tensors or modules: one of them, or a group over layers.
type spread struct {
	name       string
	count      int
	worst      string // the one that changed most
	worstBy    float64
	xx, yy, dd float64 // squares of ‖A‖, ‖B‖ and ‖B − A‖
	xy         float64
	one        [2]float64 // relative change and cosine of the last one
	none       bool       // some have nothing to measure
	first      bool       // some are more than a change: they are listed first
}

func (s *spread) add(name string, a, b, d, cosine, relative diff.Number) {
	s.count++
	by := float64(relative)
	s.one = [2]float64{by, float64(cosine)}
	if math.IsNaN(by) {
		s.none, s.first, by = true, true, math.Inf(1)
	}
	if s.worst == "" || by > s.worstBy {
		s.worst, s.worstBy = name, by
	}
	x, y, z := float64(a), float64(b), float64(d)
	if math.IsNaN(z) {
		return
	}
	s.xx, s.yy, s.dd = s.xx+x*x, s.yy+y*y, s.dd+z*z
	if x > 0 && y > 0 {
		s.xy += float64(cosine) * x * y
	}
}

func (s *spread) relative() float64 {
	switch {
	case s.count == 1:
		return s.one[0]
	case s.none:
		return math.NaN()
	case s.dd == 0:
		return 0
	}
	return math.Sqrt(s.dd / s.xx)
}

func (s *spread) cosine() float64 {
	switch {
	case s.count == 1:
		return s.one[1]
	case s.none || s.xx == 0 || s.yy == 0:
		return math.NaN()
	}
	return max(-1, min(1, s.xy/math.Sqrt(s.xx)/math.Sqrt(s.yy)))
}

// byChange sorts rows: first those that are more than a change, then the largest relative
// change.
func byChange(a, b *spread) int {
	if a.first != b.first {
		return cmp.Compare(count(b.first), count(a.first))
	}
	x, y := a.relative(), b.relative()
	if math.IsNaN(x) || math.IsNaN(y) {
		return cmp.Compare(count(math.IsNaN(y)), count(math.IsNaN(x)))
	}
	return cmp.Compare(y, x)
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

package main

import (
	"cmp"
	"math"

	"github.com/seed-b982eded/graft/patch/diff"
)

// spread is a row of a table of tensors or modules: one of them, or a group over layers.
type spread struct {
	name         string
	count        int
	worst        string // the one that changed most
	worstBy      float64
	normA, normB float64
	distance     float64    // ‖B − A‖
	angle        float64    // cosine of all so far
	one          [2]float64 // relative change and cosine of the last one
	none         bool       // some have nothing to measure
	first        bool       // some are more than a change: they are listed first
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
	x, y := float64(a), float64(b)
	if math.IsNaN(x) || math.IsNaN(y) {
		return
	}
	oldA, oldB := s.normA, s.normB
	s.normA, s.normB = math.Hypot(oldA, x), math.Hypot(oldB, y) // of any size, as no square is
	if math.IsNaN(float64(d)) {
		return
	}
	s.distance = math.Hypot(s.distance, float64(d))
	if s.normA > 0 && s.normB > 0 {
		s.angle *= (oldA / s.normA) * (oldB / s.normB)
		if x > 0 && y > 0 {
			s.angle += float64(cosine) * (x / s.normA) * (y / s.normB)
		}
	}
}

func (s *spread) relative() float64 {
	switch {
	case s.count == 1:
		return s.one[0]
	case s.none:
		return math.NaN()
	case s.distance == 0:
		return 0
	}
	return s.distance / s.normA
}

func (s *spread) cosine() float64 {
	switch {
	case s.count == 1:
		return s.one[1]
	case s.none || s.normA == 0 || s.normB == 0:
		return math.NaN()
	}
	return max(-1, min(1, s.angle))
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

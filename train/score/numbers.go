package score

import (
	"cmp"
	"math"
	"slices"
)

// Pearson returns the correlation of two lists of numbers, NaN where one of them does not
// vary.
func Pearson(x, y []float64) float64 {
	mustMatch(len(x), len(y))
	mx, my := mean(x), mean(y)
	var xx, yy, xy float64
	for i := range x {
		dx, dy := x[i]-mx, y[i]-my
		xx, yy, xy = xx+dx*dx, yy+dy*dy, xy+dx*dy
	}
	if xx == 0 || yy == 0 {
		return math.NaN()
	}
	// Rounding may lead out of the range.
	return max(-1, min(1, xy/math.Sqrt(xx)/math.Sqrt(yy)))
}

// Spearman returns the correlation of the ranks of two lists of numbers, equal numbers
// sharing the mean of their ranks (Spearman, "The proof and measurement of association
// between two things", 1904).
func Spearman(x, y []float64) float64 {
	mustMatch(len(x), len(y))
	return Pearson(ranks(x), ranks(y))
}

// MeanSquaredError returns the mean of (x−y)².
func MeanSquaredError(x, y []float64) float64 {
	mustMatch(len(x), len(y))
	var sum float64
	for i := range x {
		sum += (x[i] - y[i]) * (x[i] - y[i])
	}
	return sum / float64(len(x))
}

// Cosines returns the cosine of each row of a with that of b, for n × dim numbers each; 0
// where a row is 0.
func Cosines(a, b []float32, dim int) []float64 {
	mustMatch(len(a), len(b))
	out := make([]float64, len(a)/dim)
	for r := range out {
		var aa, bb, ab float64
		for i := r * dim; i < (r+1)*dim; i++ {
			x, y := float64(a[i]), float64(b[i])
			aa, bb, ab = aa+x*x, bb+y*y, ab+x*y
		}
		if aa > 0 && bb > 0 {
			out[r] = ab / math.Sqrt(aa) / math.Sqrt(bb)
		}
	}
	return out
}

func mean(x []float64) float64 {
	var sum float64
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// ranks returns the place of each number in their order, from 1.
func ranks(x []float64) []float64 {
	order := make([]int, len(x))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(x[a], x[b]) })
	out := make([]float64, len(x))
	for from := 0; from < len(order); {
		to := from + 1
		for to < len(order) && x[order[to]] == x[order[from]] {
			to++
		}
		for _, i := range order[from:to] {
			out[i] = float64(from+1+to) / 2
		}
		from = to
	}
	return out
}

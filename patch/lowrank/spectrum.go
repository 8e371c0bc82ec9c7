package lowrank

import "math"

// All spectra here are singular values, none negative, largest first.

// Tail returns what is left out after the first k singular values: √Σ_{i≥k} σᵢ², the
// Frobenius norm of the best rank-k approximation's error. k is from 0 on; from len(s) on
// nothing is left out.
func Tail(s []float64, k int) float64 {
	largest, sum := 0.0, 0.0
	for i := len(s) - 1; i >= max(k, 0); i-- { // small ones first, and none overflows
		if s[i] > largest {
			ratio := largest / s[i]
			sum *= ratio * ratio
			largest = s[i]
		}
		if largest > 0 {
			x := s[i] / largest
			sum += x * x
		}
	}
	return largest * math.Sqrt(sum)
}

// RankForError returns the smallest rank whose best approximation is at most limit away in
// the Frobenius norm; 0 where nothing is needed.
func RankForError(s []float64, limit float64) int {
	k := len(s)
	for k > 0 && Tail(s, k-1) <= limit {
		k--
	}
	return k
}

// RankForRelativeError is [RankForError] with a limit relative to the norm of the whole.
func RankForRelativeError(s []float64, limit float64) int {
	return RankForError(s, limit*Tail(s, 0))
}

// RankForEnergy returns the smallest rank that keeps a share of the energy Σσ². A share of 1
// keeps every singular value that is not zero.
func RankForEnergy(s []float64, share float64) int {
	total := Tail(s, 0)
	k := len(s)
	for k > 0 {
		lost := Tail(s, k-1) / total
		if total == 0 || lost*lost <= 1-share {
			k--
			continue
		}
		break
	}
	return k
}

// NumericalRank returns how many singular values of an out×in matrix are more than
// rounding: larger than max(out, in)·ε·σ₁, as numpy's and PyTorch's matrix_rank count. eps
// is the rounding unit of the numbers that the matrix came from, such as 2⁻⁵².
func NumericalRank(s []float64, out, in int, eps float64) int {
	k := 0
	for k < len(s) && s[k] > float64(max(out, in))*eps*s[0] {
		k++
	}
	return k
}

// EffectiveRank returns exp of the entropy of the singular values' distribution σ/Σσ (Roy
// and Vetterli, The effective rank, 2007): from 1 to the rank; 0 for a matrix of zeros.
func EffectiveRank(s []float64) float64 {
	if len(s) == 0 || s[0] == 0 {
		return 0
	}
	sum := 0.0
	for i := len(s) - 1; i >= 0; i-- {
		sum += s[i] / s[0]
	}
	entropy := 0.0
	for i := len(s) - 1; i >= 0; i-- {
		if p := s[i] / s[0] / sum; p > 0 {
			entropy -= p * math.Log(p)
		}
	}
	return math.Exp(entropy)
}

// StableRank returns ‖M‖²_F/‖M‖²₂ (Rudelson and Vershynin, 2007): from 1 to the rank; 0 for
// a matrix of zeros.
func StableRank(s []float64) float64 {
	if len(s) == 0 || s[0] == 0 {
		return 0
	}
	x := Tail(s, 0) / s[0]
	return x * x
}

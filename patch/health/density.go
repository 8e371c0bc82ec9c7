package health

import (
	"cmp"
	"math"
	"slices"
)

// atom is an eigenvalue, or a share of some that are about as large.
type atom struct{ value, weight float64 }

// density is what is known of the eigenvalues of WᵀW: some one by one, and of the others
// samples of their distribution, each of the whole weight.
type density struct {
	known        []atom
	samples      [][]atom
	shorter      [][]atom // the same from half of the steps
	energy       float64  // the sum of all eigenvalues, ‖W‖²
	largest      float64
	largestError float64
	count        int     // of all eigenvalues
	floor        float64 // what is below is rounding, and zero
}

// energies are the shares that ranks are given for.
var energies = [3]float64{0.5, 0.9, 0.99}

// summary is what a density says; ranks are not rounded.
type summary struct {
	effective float64
	ranks     [3]float64
	lost      float64 // how far off the effective rank may be by what is below the floor
}

// rank is a whole number of singular values.
func (s summary) rank(i int) int { return int(math.Ceil(s.ranks[i] - 1e-6)) }

// summary describes known eigenvalues and the mean of all samples but one, or of all where
// without is −1.
func (d *density) summary(samples [][]atom, without int) summary {
	var some []atom
	count := float64(len(samples))
	if without >= 0 {
		count--
	}
	for i, sample := range samples {
		if i == without {
			continue
		}
		for _, a := range sample {
			some = append(some, atom{max(a.value, 0), a.weight / count})
		}
	}
	rest := d.energy
	for _, a := range d.known {
		rest -= a.value
	}
	calibrate(some, rest)
	atoms := append(slices.Clone(d.known), some...)
	below := 0.0
	atoms = slices.DeleteFunc(atoms, func(a atom) bool {
		if a.value > d.floor {
			return false
		}
		below += a.weight
		return true
	})
	slices.SortStableFunc(atoms, func(a, b atom) int { return cmp.Compare(b.value, a.value) })
	// Small ones first, so that they are not lost in the sums.
	sum, energy := 0.0, 0.0
	for _, a := range slices.Backward(atoms) {
		sum += a.weight * math.Sqrt(a.value)
		energy += a.weight * a.value
	}
	var s summary
	if energy == 0 {
		return s
	}
	entropy := 0.0
	for _, a := range slices.Backward(atoms) {
		p := math.Sqrt(a.value) / sum
		entropy -= a.weight * p * math.Log(p)
	}
	s.effective = math.Exp(entropy)
	// Their sum is the largest where all are the same.
	below = min(below, float64(d.count-len(d.known)))
	left := min(below*d.floor, max(0, rest)+unit(d.count)*d.energy)
	s.lost = s.effective * math.Expm1(spread(below, math.Sqrt(below*left)/sum, entropy))
	at, kept, rank := 0, 0.0, 0.0
	for i, share := range energies {
		for at < len(atoms)-1 && kept+atoms[at].weight*atoms[at].value < share*energy {
			kept += atoms[at].weight * atoms[at].value
			rank += atoms[at].weight
			at++
		}
		s.ranks[i] = rank + max(0, min(atoms[at].weight, (share*energy-kept)/atoms[at].value))
	}
	return s
}

// unit is n·2⁻⁵², the share to which sums and products over n numbers are exact.
func unit(n int) float64 { return float64(n) * 0x1p-52 }

// spread is how much an entropy moves at most where a number of values, of a sum relative to
// that of the others, come in: from H/(1+δ) + log(1+δ) + δ/(1+δ)·log(n/δ).
func spread(count, sum, entropy float64) float64 {
	if !(count > 0 && sum > 0) {
		return 0
	}
	return sum * (1 + entropy + max(0, math.Log(count/sum)))
}

// calibrate corrects the weights of sampled eigenvalues so that their sum stays and their
// energy is what it is known to be: w·(1 + c·(λ − mean)), the regression estimator of survey
// sampling (Särndal, Swensson and Wretman, 1992). What the probes saw too much of, mostly
// large eigenvalues, counts less then.
func calibrate(atoms []atom, energy float64) {
	weight, first, second := 0.0, 0.0, 0.0
	for _, a := range atoms {
		weight += a.weight
		first += a.weight * a.value
		second += a.weight * a.value * a.value
	}
	mean := first / weight
	spread := second - first*mean
	if !(spread > 1e-12*second) { // all are the same
		return
	}
	c := (energy - first) / spread
	for i, a := range atoms {
		atoms[i].weight = max(0, a.weight*(1+c*(a.value-mean)))
	}
}

// leastError is the share of an effective rank that its error has at least: singular values
// that are equal but for the rounding of float32 look alike to all probes.
const leastError = 0x1p-20

// errors returns four standard errors by the jackknife, from how the summaries without one
// probe differ, and how far that of half the steps is off beside; of the effective rank also
// what may be below the floor.
func (d *density) errors(whole summary) *SpectrumError {
	n := float64(len(d.samples))
	least := whole.lost + leastError*whole.effective
	if n < 2 {
		return &SpectrumError{EffectiveRank: least}
	}
	var squares [4]float64
	for i := range d.samples {
		for j, x := range d.summary(d.samples, i).minus(whole) {
			squares[j] += x * x
		}
	}
	off := d.summary(d.shorter, -1).minus(whole)
	of := func(i int) float64 { return 4*math.Sqrt((n-1)/n*squares[i]) + math.Abs(off[i]) }
	return &SpectrumError{EffectiveRank: of(0) + least, Rank50: of(1), Rank90: of(2), Rank99: of(3)}
}

func (s summary) minus(t summary) [4]float64 {
	return [4]float64{s.effective - t.effective, s.ranks[0] - t.ranks[0], s.ranks[1] - t.ranks[1], s.ranks[2] - t.ranks[2]}
}

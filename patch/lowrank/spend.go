package lowrank

import (
	"cmp"
	"slices"
)

// Spend chooses a rank for each of several matrices that together take at most size bytes,
// where a rank of matrix i costs costs[i] bytes and keeps the energy σ² of its next singular
// value in spectra[i]. The value that is worth most a byte is taken first; where one does not
// fit, its matrix gets no more, and cheaper ones may. Zeros are not bought.
func Spend(costs []int64, spectra [][]float64, size int64) []int {
	type offer struct {
		matrix int
		worth  float64 // of a byte
	}
	var offers []offer
	for i, s := range spectra {
		for _, x := range s {
			if x > 0 {
				offers = append(offers, offer{i, x / float64(costs[i]) * x})
			}
		}
	}
	slices.SortStableFunc(offers, func(a, b offer) int { return cmp.Compare(b.worth, a.worth) })
	ranks, full := make([]int, len(costs)), make([]bool, len(costs))
	for _, x := range offers {
		if full[x.matrix] || costs[x.matrix] > size {
			full[x.matrix] = true
			continue
		}
		size -= costs[x.matrix]
		ranks[x.matrix]++
	}
	return ranks
}

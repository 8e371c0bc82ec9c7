package data

import (
	"math/bits"
	"math/rand/v2"
)

// Streams keep the random choices that share one seed apart.
const (
	streamShuffle uint64 = 1
	streamSplit   uint64 = 2
	streamBatch   uint64 = 3
	streamGroup   uint64 = 4
)

// newPCG returns the generator of one choice. Seeds and epochs are small and close
// to each other, so they are spread over all bits first.
func newPCG(seed, stream, index uint64) *rand.PCG {
	return rand.NewPCG(spread(seed^spread(stream)), spread(index))
}

// batchSeed gives a batch a seed from its place in the run.
func batchSeed(seed uint64, epoch, i int) uint64 {
	return spread(spread(spread(seed^spread(streamBatch))^uint64(epoch)) ^ uint64(i))
}

// spread is the finaliser of SplitMix64 (Steele, Lea and Flood, 2014), one step from x.
func spread(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// permutation returns 0…n−1 in random order by Fisher and Yates's method. It is
// written out here, and not rand.Perm, so that the order stays the same whatever
// math/rand does with the generator's output in later releases.
func permutation(src *rand.PCG, n int) []int32 {
	p := make([]int32, n)
	for i := range p {
		p[i] = int32(i)
	}
	for i := n - 1; i > 0; i-- {
		j := below(src, uint64(i)+1)
		p[i], p[j] = p[j], p[i]
	}
	return p
}

// below returns a uniform number in [0, n) (Lemire, "Fast random integer generation
// in an interval", 2019). n must not be 0.
func below(src *rand.PCG, n uint64) uint64 {
	hi, lo := bits.Mul64(src.Uint64(), n)
	if lo < n {
		for reject := -n % n; lo < reject; {
			hi, lo = bits.Mul64(src.Uint64(), n)
		}
	}
	return hi
}

package models

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/score"
)

// Sampler chooses tokens by their scores. The same seed and scores give the same
// choices.
type Sampler struct {
	temperature float64
	topK        int
	rng         *rand.Rand
	order       []int32 // reused between calls
}

// NewSampler returns a sampler from softmax(scores/temperature) over the topK best
// tokens; topK 0 means all. A temperature of 0 always takes the best.
func NewSampler(temperature float64, topK int, seed uint64) (*Sampler, error) {
	if !(temperature >= 0) || math.IsInf(temperature, 0) {
		return nil, formats.Usagef("temperature must be a number from 0 up (got %g)", temperature)
	}
	if topK < 0 {
		return nil, formats.Usagef("top-k must be 0 or more (got %d)", topK)
	}
	return &Sampler{temperature: temperature, topK: topK, rng: rand.New(rand.NewPCG(seed, 0))}, nil
}

// Next returns a token. Of equal scores the lower token is the better one.
func (s *Sampler) Next(scores []float32) int32 {
	if s.temperature == 0 || s.topK == 1 {
		return best(scores)
	}
	s.order = s.order[:0]
	for i := range scores {
		s.order = append(s.order, int32(i))
	}
	if s.topK > 0 && s.topK < len(s.order) {
		slices.SortFunc(s.order, func(a, b int32) int {
			return cmp.Or(cmp.Compare(scores[b], scores[a]), cmp.Compare(a, b))
		})
		s.order = s.order[:s.topK]
	}
	top := float64(scores[best(scores)])
	weight := func(id int32) float64 { return math.Exp((float64(scores[id]) - top) / s.temperature) }
	var sum float64
	for _, id := range s.order {
		sum += weight(id)
	}
	left := s.rng.Float64() * sum
	for _, id := range s.order {
		if left -= weight(id); left < 0 {
			return id
		}
	}
	// Rounding may leave a crumb after the last token.
	return s.order[len(s.order)-1]
}

func best(scores []float32) int32 { return score.Best(scores, len(scores))[0] }

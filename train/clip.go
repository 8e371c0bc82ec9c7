package train

import (
	"math"

	"github.com/seed-b982eded/graft/train/models"
)

// GradNorm returns the Euclidean norm of all gradients taken as one vector, summed
// in float64 in the order of the parameters.
func GradNorm(params []models.Param) float64 {
	var sum float64
	for _, p := range params {
		for _, g := range p.Grad {
			sum += float64(float64(g) * float64(g))
		}
	}
	return math.Sqrt(sum)
}

// ClipGradNorm scales all gradients by min(1, limit/(norm+1e-6)), as
// torch.nn.utils.clip_grad_norm_ does, and returns the norm before that. With a norm
// that is not finite it changes nothing: there is no scale that would mend it.
func ClipGradNorm(params []models.Param, limit float64) float64 {
	norm := GradNorm(params)
	clipTo(params, norm, limit)
	return norm
}

// clipTo is ClipGradNorm where the norm is known.
func clipTo(params []models.Param, norm, limit float64) {
	coef := limit / (norm + 1e-6)
	if !(coef < 1) || !finite(norm) {
		return
	}
	c := float32(coef)
	for _, p := range params {
		for k := range p.Grad {
			p.Grad[k] *= c
		}
	}
}

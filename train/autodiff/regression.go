package autodiff

import (
	"fmt"
	"math"
)

// SquaredError returns Σ (y−target)² over all elements of y. Backward starts from scale
// times the sum, which is in float64. targets has the elements of y and must stay as
// they are until Backward.
func (t *Tape) SquaredError(y *Value, targets []float32, scale float32) (loss float64) {
	return t.pointwiseLoss(y, targets, func(y, target float64) (float64, float64) {
		return (y - target) * (y - target), 2 * (y - target) * float64(scale)
	})
}

// LogisticLoss returns the binary cross-entropy in nats of the logits y, summed over all
// elements: Σ log(1+e**y) − target·y, for targets from 0 to 1. Backward starts from scale
// times the sum, which is in float64. targets has the elements of y and must stay as
// they are until Backward.
func (t *Tape) LogisticLoss(y *Value, targets []float32, scale float32) (loss float64) {
	return t.pointwiseLoss(y, targets, func(y, target float64) (float64, float64) {
		// log(1+e**y) without overflow.
		loss := max(y, 0) + math.Log1p(math.Exp(-math.Abs(y))) - target*y
		return loss, (1/(1+math.Exp(-y)) - target) * float64(scale)
	})
}

// pointwiseLoss sums a loss of each element, which f gives with its scaled derivative.
func (t *Tape) pointwiseLoss(y *Value, targets []float32, f func(y, target float64) (loss, slope float64)) (sum float64) {
	if len(targets) != len(y.Data) {
		panic(fmt.Sprintf("autodiff: %d targets for %d×%d", len(targets), y.Rows, y.Cols))
	}
	for i, v := range y.Data {
		loss, _ := f(float64(v), float64(targets[i]))
		sum += loss
	}
	if !t.wants(y) {
		return sum
	}
	keep(y)
	t.record(func() {
		dy := t.gradOf(y)
		for i, v := range y.Data {
			_, slope := f(float64(v), float64(targets[i]))
			dy[i] += float32(slope)
		}
	})
	return sum
}

package train

import (
	"context"
	"fmt"
)

// Evaluate returns the loss of model on one pass over source in its order, as the
// mean in nats over all labels, and their number. progress, unless it is nil, is
// called after each batch. It returns ctx's cause when that ends, and [ErrDiverged]
// with the batch's lines for a loss that is not finite.
func Evaluate(ctx context.Context, model Model, source Source, progress func(done, all int)) (loss float64, labels int64, err error) {
	all := source.Batches()
	var sum float64
	for i := range all {
		if ctx.Err() != nil {
			return 0, 0, context.Cause(ctx)
		}
		b := source.At(0, i)
		batchSum, n, err := model.Loss(b.Batch)
		if err != nil {
			return 0, 0, fmt.Errorf("evaluating %s: %w", origins(b.Origins), err)
		}
		if !finite(batchSum) {
			return 0, 0, diverged(b.Origins, "the evaluation loss is %v", batchSum)
		}
		sum += batchSum
		labels += int64(n)
		if progress != nil {
			progress(i+1, all)
		}
	}
	if labels == 0 {
		return 0, 0, fmt.Errorf("evaluating: no labels in %d batches", all)
	}
	return sum / float64(labels), labels, nil
}

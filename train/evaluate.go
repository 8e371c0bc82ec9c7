package train

import (
	"context"
	"fmt"

	"github.com/seed-b982eded/graft/train/models"
)

// Evaluate returns the loss of model on one pass over source in its order, as the
// mean in nats over all labels, and their number. progress, unless it is nil, is
// called after each batch. It returns ctx's cause when that ends, and [ErrDiverged]
// with the batch's lines for a loss that is not finite.
func Evaluate(ctx context.Context, model Model, source Source, progress func(done, all int)) (loss float64, labels int64, err error) {
	loss, _, labels, err = Measure(ctx, model, source, progress)
	return loss, labels, err
}

// Measure is [Evaluate] with the scores of a [Measurer]; of another model they are nil.
func Measure(ctx context.Context, model Model, source Source, progress func(done, all int)) (loss float64, scores *Scores, labels int64, err error) {
	all := source.Batches()
	var sum float64
	measurer, _ := model.(Measurer)
	var predicted models.Predictions
	for i := range all {
		if ctx.Err() != nil {
			return 0, nil, 0, context.Cause(ctx)
		}
		b := source.At(0, i)
		var batchSum float64
		var n int
		if measurer != nil {
			var p models.Predictions
			p, batchSum, n, err = measurer.Measure(b.Batch)
			predicted.Add(p)
		} else {
			batchSum, n, err = model.Loss(b.Batch)
		}
		if err != nil {
			return 0, nil, 0, fmt.Errorf("evaluating %s: %w", origins(b.Origins), err)
		}
		if !finite(batchSum) {
			return 0, nil, 0, diverged(b.Origins, "the evaluation loss is %v", batchSum)
		}
		sum += batchSum
		labels += int64(n)
		if progress != nil {
			progress(i+1, all)
		}
	}
	if labels == 0 {
		return 0, nil, 0, fmt.Errorf("evaluating: no labels in %d batches", all)
	}
	if measurer != nil {
		scores = newScores(measurer, predicted)
	}
	return sum / float64(labels), scores, labels, nil
}

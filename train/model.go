package train

import (
	"github.com/seed-b982eded/graft/train/data"
	"github.com/seed-b982eded/graft/train/models"
)

// Model is what the loop needs of a model; a [models.Adaptable] that trains an adapter is
// one.
type Model interface {
	// Params returns the trainable parameters, always the same ones in the same
	// order, with Data and Grad of the same length.
	Params() []models.Param
	// LossGrad adds scale times the gradient of the summed loss of the batch to every
	// Grad: for a language model the cross-entropy. It returns that sum in nats, without
	// scale, and the number of labels it runs over.
	LossGrad(b models.Batch, scale float32) (sum float64, tokens int, err error)
	// Loss is LossGrad without gradients.
	Loss(b models.Batch) (sum float64, tokens int, err error)
}

// Source gives batches by their place; [data.Loader] is one.
type Source interface {
	// Batches returns the number of batches in an epoch, at least 1.
	Batches() int
	// At returns batch i of an epoch, both counted from 0.
	At(epoch, i int) data.Batch
}

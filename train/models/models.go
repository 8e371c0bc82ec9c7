package models

import (
	"maps"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// Adaptable is what all models have: a frozen base that adapters lie on, and a loss.
type Adaptable interface {
	// Attach puts an adapter on the model, its deltas multiplied by weight. Several may
	// be attached; their deltas add up, and magnitudes (DoRA) scale what is there before
	// them, as in PEFT. An update that the model cannot apply is an
	// [formats.ErrUnfit], and then nothing is attached.
	Attach(ad *adapter.Adapter, weight float64) error
	// Train attaches an adapter whose factors are trained from their present values, and
	// so are magnitudes, biases, and the parameters that it replaces (modules_to_save, bias),
	// but for the weights of embeddings and heads that PEFT saved along. A model trains one
	// adapter.
	Train(ad *adapter.Adapter, opts TrainOptions) error
	// Params returns what is being trained in the adapter's order, A, B and the magnitude for
	// each pair of factors: the same slices at every call. What embedding and head share
	// (ensure_weight_tying) is there once.
	Params() []Param
	// Export returns the trained adapter with the present factors in memory as F32:
	// modules, keys, scales and config are those that Train was given. Later steps do
	// not change it.
	Export() (*adapter.Adapter, error)

	// LossGrad adds the derivatives of scale · Σ loss to the parameters' Grad. It returns
	// Σ loss, summed over all labels of the batch, and their number, [Batch.Count]. The
	// loss of a language model is the cross-entropy in nats.
	LossGrad(b Batch, scale float32) (sum float64, labels int, err error)
	// Loss returns what LossGrad returns, without gradients and without dropout.
	Loss(b Batch) (sum float64, labels int, err error)

	// Modules returns the linear layers, which low-rank updates may target, in the
	// order of the model.
	Modules() []Module
	// Paths returns the modules that have parameters, sorted.
	Paths() []string
	// Size counts parameters.
	Size() Size
	// Vocabulary returns the number of tokens that the model knows.
	Vocabulary() int
	// MaxPositions returns the longest sequence that the model was made for.
	MaxPositions() int
}

// Model is a causal language model on a frozen base.
type Model interface {
	Adaptable
	// Logits returns Rows·Cols × vocabulary scores of the next token, zeros at padding.
	Logits(b Batch) ([]float32, error)
	// NewSession begins a sequence to generate from.
	NewSession() Session
	// EndTokens returns the tokens that end a text, by the model's own files.
	EndTokens() []int32
}

// TrainOptions are the parts of training that happen inside the model.
type TrainOptions struct {
	// Dropout is the probability that an element of a factor pair's input is zeroed in
	// LossGrad (PEFT's lora_dropout), 0 ≤ Dropout < 1.
	Dropout float64
	// GradientCheckpointing keeps only the input of each block for LossGrad's way back, which
	// runs the blocks again: less memory for up to half as much time again, as a frozen weight
	// costs one product on either way, and the same gradients.
	GradientCheckpointing bool
}

// Param is a trainable matrix, row-major. Grad has the length of Data; clearing it
// between steps is up to the caller.
type Param struct {
	Name       string // such as "model.layers.0.self_attn.q_proj.lora_A.weight"
	Data, Grad []float32
	Rows, Cols int
	// Vector says that it has one dimension, as a bias or a norm's weight, and not one row
	// of a matrix.
	Vector bool
}

// Module is a linear layer, a place for a factor pair.
type Module struct {
	Path    string
	Out, In int
}

// Size counts parameters. Tied weights count once.
type Size struct {
	Base      int64 // of the base model
	Attached  int64 // factors and replaced parameters of all adapters, the trained one too
	Trainable int64 // factors and parameters being trained
}

// Load builds the model that the checkpoint's config.json describes, with all weights
// as float32 in memory. It refuses model types and options that are not implemented, as
// [formats.ErrInput], before it reads any weight. The checkpoint may be closed afterwards.
func Load(ckpt *formats.Checkpoint) (Model, error) {
	doc, err := readConfig(ckpt, "config.json")
	if err != nil {
		return nil, err
	}
	kind, _ := doc.Get("model_type").(string)
	if kind == "" {
		return nil, formats.Rejectf(ckpt.Path(), "", "config.json: no model_type")
	}
	if kind == "gpt2" {
		return loadGPT2(ckpt, doc)
	}
	f, ok := families[kind]
	if !ok {
		if _, ok := encoderFamilies[kind]; ok {
			return nil, formats.Rejectf(ckpt.Path(), "", "config.json: model_type %s is an encoder: it writes no text (it classifies and embeds)", formats.Quote(kind))
		}
		known := append(slices.Collect(maps.Keys(families)), "gpt2")
		slices.Sort(known)
		return nil, formats.Rejectf(ckpt.Path(), "", "config.json: model_type %s cannot be trained or run (known: %s)", formats.Quote(kind), strings.Join(known, ", "))
	}
	s, err := readSpec(ckpt.Path(), doc, f, ckpt.Len())
	if err != nil {
		return nil, err
	}
	m, err := loadDecoder(ckpt, doc, s)
	if err != nil {
		return nil, err // and not a nil decoder in a Model
	}
	return m, nil
}

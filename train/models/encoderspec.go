package models

import (
	"strings"

	"github.com/seed-b982eded/graft/train/autodiff"
)

// encoderSpec is what config.json says about an encoder.
type encoderSpec struct {
	vocabulary, hidden, intermediate int
	layers, heads, positions, types  int
	eps                              float64
	activation                       autodiff.Activation
	pad                              int32
	firstPosition                    int // of a text's first token
	initRange                        float64
	padding, positionPadding         int32 // of the two tables, see [table]

	body  string // the first segment of the paths, with a dot
	names encoderNames
}

// encoderNames are the paths below a layer, whose own has its number in it.
type encoderNames struct {
	layer                     string
	query, key, value, output string
	up, down                  string
	attentionNorm, outputNorm string
}

var bertNames = encoderNames{
	layer: "encoder.layer.%d.",
	query: "attention.self.query", key: "attention.self.key", value: "attention.self.value", output: "attention.output.dense",
	attentionNorm: "attention.output.LayerNorm", up: "intermediate.dense", down: "output.dense", outputNorm: "output.LayerNorm",
}

var distilNames = encoderNames{
	layer: "transformer.layer.%d.",
	query: "attention.q_lin", key: "attention.k_lin", value: "attention.v_lin", output: "attention.out_lin",
	attentionNorm: "sa_layer_norm", up: "ffn.lin1", down: "ffn.lin2", outputNorm: "output_layer_norm",
}

// encoderFamily is a model type.
type encoderFamily struct {
	// class is what the names of its classes begin with.
	class string
	read  func(o *options) encoderSpec
}

var encoderFamilies = map[string]encoderFamily{
	"bert":       {"Bert", readBERT},
	"roberta":    {"Roberta", readRoBERTa},
	"distilbert": {"DistilBert", readDistilBERT},
}

// encoder makes the encoder that a config describes, without its weights. With the
// checkpoint's own head it must be of the family's class for classifiers.
func (o *options) encoder(f encoderFamily, ownHead bool) *encoder {
	m := &encoder{spec: f.read(o)}
	m.prefix = m.spec.body
	o.architectures(classesOf(f.class, ownHead, o.doc))
	return m
}

// readBERT reads a BertConfig.
func readBERT(o *options) encoderSpec { return o.bert("bert.") }

// readRoBERTa reads a RobertaConfig: a BERT whose positions begin behind the padding
// token's (Liu et al., "RoBERTa", 2019).
func readRoBERTa(o *options) encoderSpec {
	s := o.bert("roberta.")
	s.pad = int32(o.count("pad_token_id", 1))
	s.firstPosition = int(s.pad) + 1
	s.padding = o.padding(s.vocabulary, 1)
	s.positionPadding = o.padding(s.positions, 1)
	if s.firstPosition >= s.positions {
		o.reject("max_position_embeddings", "leaves no position behind pad_token_id (got %d and %d)", s.positions, s.pad)
	}
	return s
}

func (o *options) bert(body string) encoderSpec {
	s := encoderSpec{
		vocabulary: o.size("vocab_size", 30522), hidden: o.size("hidden_size", 768), intermediate: o.size("intermediate_size", 3072),
		layers: o.size("num_hidden_layers", 12), heads: o.size("num_attention_heads", 12),
		positions: o.size("max_position_embeddings", 512), types: o.size("type_vocab_size", 2),
		eps: o.positive("layer_norm_eps", 1e-12), activation: o.activation("hidden_act", "gelu"),
		initRange: o.positive("initializer_range", 0.02), body: body, names: bertNames, positionPadding: noPadding,
	}
	s.padding = o.padding(s.vocabulary, 0)
	o.mustBe("position_embedding_type", `"absolute"`, "absolute")
	o.mustBe("is_decoder", "false", false)
	o.mustBe("add_cross_attention", "false", false)
	o.bounds(&s)
	return s
}

// readDistilBERT reads a DistilBertConfig: a BERT without segments (Sanh et al.,
// "DistilBERT", 2019). Sinusoidal positions lie in the checkpoint like learned ones.
func readDistilBERT(o *options) encoderSpec {
	s := encoderSpec{
		vocabulary: o.size("vocab_size", 30522), hidden: o.size("dim", 768), intermediate: o.size("hidden_dim", 3072),
		layers: o.size("n_layers", 6), heads: o.size("n_heads", 12), positions: o.size("max_position_embeddings", 512),
		eps: 1e-12, activation: o.activation("activation", "gelu"),
		initRange: o.positive("initializer_range", 0.02), body: "distilbert.", names: distilNames, positionPadding: noPadding,
	}
	s.padding = o.padding(s.vocabulary, 0)
	o.bounds(&s)
	return s
}

// bounds checks what all encoders have.
func (o *options) bounds(s *encoderSpec) {
	if s.hidden%s.heads != 0 {
		o.reject("hidden size", "must be a multiple of the number of heads (got %d and %d)", s.hidden, s.heads)
	}
	s.layers = o.boundedLayers(s.layers)
	o.mustBeEmpty("quantization_config")
	o.mustBeEmpty("pruned_heads")
}

// encoderHeads are what lies beside the layers in checkpoints of an encoder with any head.
var encoderHeads = []string{
	"cls.", "lm_head.", "classifier.", "pre_classifier.", "qa_outputs.",
	"vocab_transform.", "vocab_layer_norm.", "vocab_projector.", "pooler.",
}

// leave says which tensors are no part of the body: heads, the pooler, and the numbers of
// positions that old versions of transformers saved.
func (s *encoderSpec) leave(name string) bool {
	for _, head := range encoderHeads {
		if strings.HasPrefix(strings.TrimPrefix(name, s.body), head) {
			return true
		}
	}
	return strings.HasSuffix(name, "embeddings.position_ids") || strings.HasSuffix(name, "embeddings.token_type_ids")
}

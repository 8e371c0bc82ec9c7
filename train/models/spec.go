package models

import (
	"fmt"
	"slices"

	"github.com/seed-b982eded/graft/internal/strictjson"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// spec says in full what a decoder computes. A family's file makes it from config.json,
// and the decoder knows no families.
type spec struct {
	vocabulary, hidden, intermediate int
	heads, keyValueHeads, headDim    int
	maxPositions                     int
	layers                           []layerSpec
	ropes                            []rope

	norm      autodiff.RMS
	norms     normNames
	headNorms bool // queries and keys are normed head by head, before they turn
	fused     bool // q, k and v are one linear layer, and gate and up another
	biases    biases
	glu       func(t *autodiff.Tape, gate, up *autodiff.Value) *autodiff.Value

	embedScale float32 // what embeddings are multiplied by; 1 for nothing
	scoreScale float32 // see [autodiff.Heads]
	scoreCap   float32 // see [autodiff.Heads]
	logitCap   float32 // limit·tanh(x/limit) of the logits; 0 for none
	tied       bool
	padding    int32 // see [table]
}

// layerSpec is what differs from layer to layer.
type layerSpec struct {
	window int // see [autodiff.Heads]
	rope   int // index in spec.ropes
}

// normNames are the modules that norm the input and the output of a layer's two halves;
// an output is not normed where there is no name.
type normNames struct{ attentionIn, attentionOut, mlpIn, mlpOut string }

// Pre-norm blocks, and the sandwiches of Gemma.
var (
	preNorms      = normNames{attentionIn: "input_layernorm", mlpIn: "post_attention_layernorm"}
	sandwichNorms = normNames{"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"}
)

// biases says which linear layers have one.
type biases struct{ qkv, output, mlp bool }

// family is a model type.
type family struct {
	// classes are those that are computed here: with a head, and the body alone.
	classes []any
	read    func(o *options) spec
}

var families = map[string]family{
	"llama":       {[]any{"LlamaForCausalLM", "LlamaModel"}, readLlama},
	"mistral":     {[]any{"MistralForCausalLM", "MistralModel"}, readMistral},
	"qwen2":       {[]any{"Qwen2ForCausalLM", "Qwen2Model"}, readQwen2},
	"qwen3":       {[]any{"Qwen3ForCausalLM", "Qwen3Model"}, readQwen3},
	"gemma2":      {[]any{"Gemma2ForCausalLM", "Gemma2Model"}, readGemma2},
	"gemma3_text": {[]any{"Gemma3ForCausalLM", "Gemma3TextModel"}, readGemma3},
	"phi3":        {[]any{"Phi3ForCausalLM", "Phi3Model"}, readPhi3},
}

// readSpec reads a config and refuses, by name, what would make transformers compute
// something that is not implemented here. Options that the model's class does not read
// make no difference there and are passed over. Every layer has tensors, so their number
// bounds that of the layers before anything is made for each.
func readSpec(file string, doc *strictjson.Object, f family, tensors int) (spec, error) {
	o := &options{file: file, doc: doc, tensors: tensors}
	s := f.read(o)
	o.mustBe("attention_dropout", "0", 0.)
	o.mustBeEmpty("quantization_config")
	o.mustBeEmpty("quantization") // MLX's name for it
	o.mustBeEmpty("pruned_heads")
	o.architectures(f.classes)
	if err := o.problems.Err(); err != nil {
		return s, err
	}
	if s.heads%s.keyValueHeads != 0 {
		o.reject("num_key_value_heads", "must divide num_attention_heads (got %d and %d)", s.keyValueHeads, s.heads)
	}
	return s, o.problems.Err()
}

// defaults are what a family's class assumes for options that a config lacks.
type defaults struct {
	maxPositions  int
	headDim       int // 0 for hidden_size / num_attention_heads
	keyValueHeads int // 0 for num_attention_heads
	eps           float64
	activation    string // the option's name
	gate          string // and its value
	tied          bool
}

// common reads what all families have: sizes, norms, the gate and the head. The layers
// see everything and turn by the first rope, which the family has to add.
func (o *options) common(d defaults) spec {
	s := spec{
		vocabulary:   o.size("vocab_size", 0),
		hidden:       o.size("hidden_size", 0),
		intermediate: o.size("intermediate_size", 0),
		heads:        o.size("num_attention_heads", 0),
		maxPositions: o.size("max_position_embeddings", d.maxPositions),
		norm:         autodiff.RMS{Eps: o.positive("rms_norm_eps", d.eps)},
		norms:        preNorms,
		embedScale:   1,
		tied:         o.flag("tie_word_embeddings", d.tied),
		glu:          o.gate(d.activation, d.gate),
	}
	s.padding = o.padding(s.vocabulary, noPadding)
	s.layers = make([]layerSpec, o.boundedLayers(o.size("num_hidden_layers", 0)))
	s.keyValueHeads = s.heads
	if d.keyValueHeads != 0 && !o.has("num_key_value_heads") {
		s.keyValueHeads = d.keyValueHeads
	}
	s.keyValueHeads = o.size("num_key_value_heads", s.keyValueHeads)
	s.headDim = d.headDim
	if s.headDim == 0 {
		s.headDim = max(s.hidden/s.heads, 1)
		if o.doc.Get("head_dim") == nil && s.hidden%s.heads != 0 {
			o.reject("num_attention_heads", "must divide hidden_size where there is no head_dim (got %d and %d)", s.heads, s.hidden)
		}
	}
	s.headDim = o.size("head_dim", s.headDim)
	if s.headDim > maxHeadDim {
		o.reject("head_dim", "is above %d (got %d)", maxHeadDim, s.headDim)
		s.headDim = maxHeadDim
	}
	return s
}

// maxHeadDim bounds what is made from a config alone, the frequencies of a rope; the
// widest heads have 512.
const maxHeadDim = 1 << 16

// gate reads the activation of the gated layers.
func (o *options) gate(name, fallback string) func(t *autodiff.Tape, gate, up *autodiff.Value) *autodiff.Value {
	v := o.doc.Get(name)
	if v == nil {
		v = fallback
	}
	switch v {
	case "silu", "swish":
		return (*autodiff.Tape).SwiGLU
	case "gelu_pytorch_tanh", "gelu_new":
		return (*autodiff.Tape).GeGLU
	}
	o.refuse(name, `"silu" or "gelu_pytorch_tanh"`)
	return nil
}

// architectures refuses a list of classes that has none of those that are computed
// here: another head or somebody's own code would compute something else.
func (o *options) architectures(classes []any) {
	list, _ := o.doc.Get("architectures").([]any)
	if len(list) > 0 && !slices.ContainsFunc(list, func(a any) bool { return slices.Contains(classes, a) }) {
		want := fmt.Sprint(classes[0])
		if len(classes) > 1 {
			want += fmt.Sprint(" or ", classes[1])
		}
		o.reject("architectures", "[%s] is not implemented (want %s)", show(list[0]), want)
	}
}

// The kinds of layers, as layer_types calls them.
const (
	full    = "full_attention"
	sliding = "sliding_attention"
)

// layerTypes returns the kind of each layer: layer_types, or by the rule for the layer's
// number where there is no list.
func (o *options) layerTypes(layers int, rule func(i int) string) []string {
	kinds := make([]string, layers)
	for i := range kinds {
		kinds[i] = rule(i)
	}
	switch v := o.doc.Get("layer_types").(type) {
	case nil:
	case []any:
		if len(v) != layers {
			o.reject("layer_types", "must have a word for each of %d layers (got %d)", layers, len(v))
			break
		}
		for i, kind := range v {
			if kind != full && kind != sliding {
				o.reject("layer_types", "%s is not implemented (want %q or %q)", show(kind), full, sliding)
				break
			}
			kinds[i] = kind.(string)
		}
	default:
		o.reject("layer_types", "must be a list or null (got %s)", show(v))
	}
	return kinds
}

// slideAll gives all layers a window, none for 0. It refuses a layer_types that says
// something else than what the class computes, which does not read it: one of the two is
// not meant.
func (o *options) slideAll(s *spec, window int) {
	want := full
	if window > 0 {
		want = sliding
	}
	for i := range s.layers {
		s.layers[i].window = window
	}
	for _, kind := range o.layerTypes(len(s.layers), func(int) string { return want }) {
		if kind != want {
			o.reject("layer_types", "%q is not implemented for this model type (want %q)", kind, want)
			return
		}
	}
}

// slide gives the sliding layers a window. Without one they cannot be meant to slide.
func (o *options) slide(s *spec, kinds []string, window int) {
	for i, kind := range kinds {
		if kind != sliding {
			continue
		}
		if window == 0 {
			o.reject("layer_types", "has sliding layers, but there is no sliding_window")
			return
		}
		s.layers[i].window = window
	}
}

// window reads sliding_window, 0 where it is null.
func (o *options) window(fallback int) int {
	switch {
	case !o.has("sliding_window"):
		return fallback
	case o.doc.Get("sliding_window") == nil:
		return 0
	}
	return o.size("sliding_window", 0)
}

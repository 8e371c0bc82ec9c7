package models

import (
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// llamaConfig is what config.json says about a Llama, with the defaults of transformers'
// LlamaConfig.
type llamaConfig struct {
	vocabulary, hidden, intermediate, layers int
	heads, keyValueHeads, headDim            int
	maxPositions                             int
	eps, theta                               float64
	attentionBias, mlpBias, tied             bool
}

// parseLlama reads the config and refuses, by name, what would make transformers compute
// something that is not implemented here. Options that LlamaForCausalLM does not read
// make no difference there and are passed over.
func parseLlama(file string, doc *strictjson.Object) (llamaConfig, error) {
	o := &options{file: file, doc: doc}
	c := llamaConfig{
		vocabulary:    o.size("vocab_size", 0),
		hidden:        o.size("hidden_size", 0),
		intermediate:  o.size("intermediate_size", 0),
		layers:        o.size("num_hidden_layers", 0),
		heads:         o.size("num_attention_heads", 0),
		maxPositions:  o.size("max_position_embeddings", 2048),
		eps:           o.positive("rms_norm_eps", 1e-6),
		attentionBias: o.flag("attention_bias", false),
		mlpBias:       o.flag("mlp_bias", false),
		tied:          o.flag("tie_word_embeddings", false),
	}
	c.keyValueHeads = o.size("num_key_value_heads", max(c.heads, 1))
	c.headDim = o.size("head_dim", max(c.hidden/max(c.heads, 1), 1))
	c.theta = o.rotary()
	o.mustBe("hidden_act", `"silu"`, "silu", "swish")
	o.mustBe("pretraining_tp", "1", 1.)
	o.mustBe("attention_dropout", "0", 0.)
	o.mustBe("rope_interleaved", "false", false)
	o.mustBeEmpty("quantization_config")
	o.mustBeEmpty("pruned_heads")
	o.architectures()
	if err := o.problems.Err(); err != nil {
		return c, err
	}
	if c.heads%c.keyValueHeads != 0 {
		o.reject("num_key_value_heads", "must divide num_attention_heads (got %d and %d)", c.keyValueHeads, c.heads)
	}
	if c.headDim%2 != 0 {
		o.reject("head_dim", "must be even for rotary embeddings (got %d)", c.headDim)
	}
	if doc.Get("head_dim") == nil && c.hidden%c.heads != 0 {
		o.reject("num_attention_heads", "must divide hidden_size where there is no head_dim (got %d and %d)", c.heads, c.hidden)
	}
	return c, o.problems.Err()
}

// architectures refuses a list of classes that has none of the two that are computed
// here: another head or somebody's own code would compute something else.
func (o *options) architectures() {
	list, _ := o.doc.Get("architectures").([]any)
	known := []any{"LlamaForCausalLM", "LlamaModel"}
	if len(list) > 0 && !slices.ContainsFunc(list, func(a any) bool { return slices.Contains(known, a) }) {
		o.reject("architectures", "[%s] is not implemented (want LlamaForCausalLM or LlamaModel)", show(list[0]))
	}
}

// rotary reads the base of the rotary embeddings: rope_theta, or rope_parameters as
// transformers 5 writes it. Every kind of scaling is refused.
func (o *options) rotary() float64 {
	const usual = 10000
	theta := o.positive("rope_theta", 0)
	o.mustBe("partial_rotary_factor", "1", 1.)
	for _, name := range []string{"rope_parameters", "rope_scaling"} {
		switch v := o.doc.Get(name).(type) {
		case nil:
		case *strictjson.Object:
			inner := o.rotaryObject(name, v)
			if theta != 0 && inner != 0 && inner != theta {
				o.reject(name, "has a rope_theta of %g beside one of %g", inner, theta)
			}
			if theta == 0 {
				theta = inner
			}
		default:
			o.reject(name, "must be an object or null (got %s)", show(v))
		}
	}
	if theta == 0 {
		return usual
	}
	return theta
}

// rotaryObject returns the rope_theta of rope_parameters or rope_scaling, 0 without one.
func (o *options) rotaryObject(name string, v *strictjson.Object) (theta float64) {
	for _, key := range v.Keys {
		value := v.Get(key)
		switch key {
		case "rope_type", "type":
			if value != nil && value != "default" {
				o.reject(name, "%s %s is not implemented (want \"default\")", key, show(value))
			}
		case "rope_theta":
			f, ok := number(value)
			if !ok || f <= 0 {
				o.reject(name, "rope_theta must be a positive number (got %s)", show(value))
			}
			theta = f
		case "partial_rotary_factor":
			if f, ok := number(value); value != nil && (!ok || f != 1) {
				o.reject(name, "partial_rotary_factor %s is not implemented (want 1)", show(value))
			}
		default:
			if value != nil {
				o.reject(name, "%s is not implemented", formats.Quote(key))
			}
		}
	}
	return theta
}

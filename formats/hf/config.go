package hf

import (
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// Config is what graft needs to know of a model's config.json to find its layers.
type Config struct {
	ModelType     string
	Architectures []string
	TiedHead      bool   // tie_word_embeddings: the output head is the input embedding
	Untied        bool   // tie_word_embeddings is there and false
	Quantization  string // quantization_config.quant_method; "" when not quantised
}

// ReadConfig reads the plain facts of config.json. A checkpoint without one gives
// the zero Config.
func ReadConfig(c *formats.Checkpoint) (Config, error) {
	if _, ok := c.SideFile("config.json"); !ok {
		return Config{}, nil
	}
	data, err := c.ReadSideFile("config.json", formats.MaxConfigBytes)
	if err != nil {
		return Config{}, err
	}
	doc, err := strictjson.ParseObject(data, formats.MaxJSONDepth)
	if err != nil {
		return Config{}, formats.Rejectf(c.Path(), "", "config.json: %v", err)
	}
	var cfg Config
	cfg.ModelType, _ = doc.Get("model_type").(string)
	if list, ok := doc.Get("architectures").([]any); ok {
		for _, a := range list {
			if s, ok := a.(string); ok {
				cfg.Architectures = append(cfg.Architectures, s)
			}
		}
	}
	tied, ok := doc.Get("tie_word_embeddings").(bool)
	cfg.Untied = ok && !tied
	cfg.TiedHead = tied || !ok && slices.Contains(tiedByDefault, cfg.ModelType)
	if q, ok := doc.Get("quantization_config").(*strictjson.Object); ok {
		if cfg.Quantization, _ = q.Get("quant_method").(string); cfg.Quantization == "" {
			cfg.Quantization = "unnamed"
		}
	}
	return cfg, nil
}

// tiedByDefault are the model types whose configuration class ties the head unless
// config.json says otherwise (transformers 5).
var tiedByDefault = []string{
	"bert", "roberta", "xlm-roberta", "distilbert", "electra", "albert", "deberta", "deberta-v2", "mpnet",
	"gpt2", "gpt_neo", "gpt_bigcode", "bloom", "opt", "gemma", "gemma2", "gemma3", "gemma3_text", "cohere", "t5",
}

// Family is how the layers of a kind of model are named.
type Family struct {
	// Prefix is the attribute under which a model with a head keeps its body
	// (transformers' base_model_prefix): "model" gives "model.layers.0…". Checkpoints
	// saved from the body alone lack it.
	Prefix string
	// Conv1D are the last parts of the paths of layers that store their weight as
	// (in, out), as GPT-2 does.
	Conv1D []string
	// Known is false for a type that is not in the table, for which Prefix is a guess.
	Known bool
}

var families = map[string]Family{
	"bert": {Prefix: "bert"}, "roberta": {Prefix: "roberta"}, "xlm-roberta": {Prefix: "roberta"}, "camembert": {Prefix: "roberta"},
	"distilbert": {Prefix: "distilbert"}, "electra": {Prefix: "electra"}, "albert": {Prefix: "albert"},
	"deberta": {Prefix: "deberta"}, "deberta-v2": {Prefix: "deberta"}, "mpnet": {Prefix: "mpnet"}, "modernbert": {Prefix: "model"},
	"gpt2":    {Prefix: "transformer", Conv1D: []string{"c_attn", "c_proj", "c_fc", "q_attn"}},
	"gpt_neo": {Prefix: "transformer"}, "gptj": {Prefix: "transformer"}, "bloom": {Prefix: "transformer"}, "falcon": {Prefix: "transformer"},
	"mpt": {Prefix: "transformer"}, "gpt_bigcode": {Prefix: "transformer"}, "codegen": {Prefix: "transformer"},
	"openai-gpt": {Prefix: "transformer", Conv1D: []string{"c_attn", "c_proj", "c_fc"}},
	"imagegpt":   {Prefix: "transformer", Conv1D: []string{"c_attn", "c_proj", "c_fc", "q_attn"}},
	// No model of this type has a head beside a body.
	"decision_transformer": {Conv1D: []string{"c_attn", "c_proj", "c_fc", "q_attn"}},
	"gpt_neox":             {Prefix: "gpt_neox"}, "vit": {Prefix: "vit"}, "mamba": {Prefix: "backbone"},
}

// FamilyOf returns how the layers of a model type are named. Decoders since Llama
// all keep their body in "model", so that is the answer for a type not in the table.
func FamilyOf(modelType string) Family {
	if f, ok := families[modelType]; ok {
		f.Known = true
		return f
	}
	return Family{Prefix: "model"}
}

// heads are modules that lie beside the body in a model with a head, by their first
// path segment.
var heads = []string{"lm_head", "score", "classifier", "cls", "qa_outputs", "embed_out", "pre_classifier", "vocab_projector", "vocab_transform", "vocab_layer_norm", "lm_head_norm", "predictions", "discriminator_predictions", "generator_predictions", "generator_lm_head"}

// IsHead reports whether a module path belongs to a head that lies beside the body.
func IsHead(module string) bool {
	first, _, _ := strings.Cut(module, ".")
	return slices.Contains(heads, first)
}

// outputHeads are the modules that transformers' get_output_embeddings returns.
var outputHeads = []string{"lm_head", "embed_out", "cls.predictions.decoder", "lm_head.decoder", "vocab_projector", "generator_lm_head", "predictions.decoder", "proj_out"}

// IsOutputHead reports whether a module projects to the vocabulary.
func IsOutputHead(module string) bool {
	return slices.Contains(outputHeads, module) || strings.HasSuffix(module, ".lm_head")
}

// RenamedInMemory reports whether transformers 5 is known to name modules of a model type in
// memory otherwise than its checkpoints do, or to have one weight in several modules that PEFT
// wraps one by one.
func RenamedInMemory(modelType string) bool {
	return slices.Contains([]string{
		"vit", "deit", "beit", "gpt_neox", "mixtral", "qwen2_moe", "qwen3_moe", "llava", "llava_next", "gemma3",
		"t5", "mt5", "umt5", "bart", "mbart", "pegasus", "marian", "m2m_100",
	}, modelType)
}

// OutputHead returns the module that projects to the vocabulary in a model of this type.
func (c Config) OutputHead() string {
	switch c.ModelType {
	case "bert", "mobilebert":
		return "cls.predictions.decoder"
	case "roberta", "xlm-roberta", "camembert":
		return "lm_head.decoder"
	case "distilbert":
		return "vocab_projector"
	case "electra":
		return "generator_lm_head"
	case "albert":
		return "predictions.decoder"
	case "gpt_neox":
		return "embed_out"
	case "whisper":
		return "proj_out"
	}
	return "lm_head"
}

// IsEmbedding reports whether a module is an embedding, by the last segment of its
// path: a checkpoint does not tell a linear layer's weight from an embedding's.
func IsEmbedding(module string) bool {
	last := module[strings.LastIndexByte(module, '.')+1:]
	switch last {
	case "wte", "wpe", "tokens_embed", "positions_embed", "shared", "relative_attention_bias", "embed_in", "tok_embeddings", "embeddings":
		return true
	}
	return strings.HasPrefix(last, "embed_") && last != "embed_out" || strings.HasSuffix(last, "_embeddings") || strings.HasSuffix(last, "_embedding") || strings.HasSuffix(last, "_emb")
}

// ScoresTokens reports whether the config's architecture is a language model, whose
// output head may be its input embedding. Without an architecture it says yes where the
// config says that they are tied.
func (c Config) ScoresTokens() bool {
	if len(c.Architectures) == 0 {
		return c.TiedHead
	}
	return slices.ContainsFunc([]string{"ForCausalLM", "LMHeadModel", "ForMaskedLM", "ForPreTraining", "ForConditionalGeneration"},
		func(kind string) bool { return strings.HasSuffix(c.Architectures[0], kind) })
}

// HasHead reports whether the config's architecture is a model with a head
// ("LlamaForCausalLM") and not a body alone ("LlamaModel").
func (c Config) HasHead() bool {
	if len(c.Architectures) == 0 {
		return true
	}
	a := c.Architectures[0]
	return strings.Contains(a, "For") || strings.HasSuffix(a, "LMHeadModel")
}

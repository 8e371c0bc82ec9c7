package train

import (
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/models"
)

// Group is how an optimizer treats one parameter.
type Group struct {
	Rate  float64 // what the learning rate is multiplied by; at least 0
	Decay float64 // weight decay; at least 0
}

// TrainerGroups returns the groups of Hugging Face's Trainer, one a parameter: all have
// the learning rate itself, and weight decay but for biases and the weights of norms.
func TrainerGroups(params []models.Param, decay float64) []Group {
	groups := make([]Group, len(params))
	for i, p := range params {
		groups[i].Rate = 1
		if decays(p) {
			groups[i].Decay = decay
		}
	}
	return groups
}

// decays reports whether a parameter has weight decay. Parameters of one dimension are
// biases and the weights of norms, which have none, and DoRA's magnitudes, which have.
func decays(p models.Param) bool {
	if strings.Contains(p.Name, "bias") {
		return false
	}
	return !p.Vector || strings.Contains(p.Name, "lora_magnitude")
}

// LoRAPlus gives the factors different learning rates: B, which starts at zero, learns
// faster than A (Hayou, Ghosh and Yu, 2024). The zero value is off.
type LoRAPlus struct {
	// Ratio is what B's learning rate is over A's, more than 0; the paper finds about 16.
	Ratio float64
	// EmbeddingRate is the full learning rate of factors on embeddings, which the
	// schedule scales too.
	EmbeddingRate float64
}

// DefaultEmbeddingRate is PEFT's loraplus_lr_embedding.
const DefaultEmbeddingRate = 1e-6

// LoRAPlusGroups returns the groups of PEFT's create_loraplus_optimizer for a full
// learning rate, one a parameter: Ratio times the rate for one with "lora_B" in its name
// or with one dimension, EmbeddingRate for an embedding's factors, the rate itself for
// every other one. Decay is for the same ones as in [TrainerGroups]; PEFT, which knows
// torch's LayerNorm alone, has it for the weights of an RMSNorm too.
func LoRAPlusGroups(params []models.Param, l LoRAPlus, rate, decay float64) ([]Group, error) {
	if !(l.Ratio > 0) || !finite(l.Ratio) {
		return nil, formats.Usagef("ratio of LoRA+ (got %v, want more than 0)", l.Ratio)
	}
	if !(l.EmbeddingRate >= 0) || !finite(l.EmbeddingRate) {
		return nil, formats.Usagef("learning rate of embeddings in LoRA+ (got %v, want at least 0)", l.EmbeddingRate)
	}
	groups := TrainerGroups(params, decay)
	for i, p := range params {
		switch {
		case strings.Contains(p.Name, "lora_embedding_"):
			groups[i].Rate = l.EmbeddingRate / rate
		case strings.Contains(p.Name, "lora_B") || strings.Contains(p.Name, "lora_magnitude") || p.Vector:
			groups[i].Rate = l.Ratio
		}
	}
	return groups, nil
}

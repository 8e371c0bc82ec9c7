package models

import "math"

// readGemma2 reads a Gemma2Config: norms around both halves of a layer, scores and logits
// that are bent, and every other layer slides (Gemma Team, "Gemma 2", 2024).
func readGemma2(o *options) spec {
	s := o.gemma(8192)
	s.scoreCap = o.limit("attn_logit_softcapping", 50)
	s.logitCap = o.limit("final_logit_softcapping", 30)
	o.rotary(&s)
	o.slide(&s, o.layerTypes(len(s.layers), func(i int) string {
		if i%2 == 0 {
			return sliding
		}
		return full
	}), o.window(4096))
	return s
}

// readGemma3 reads a Gemma3TextConfig: as Gemma 2, but queries and keys are normed instead
// of bending scores, five of six layers slide, and those turn by frequencies of their own
// (Gemma Team, "Gemma 3", 2025).
func readGemma3(o *options) spec {
	s := o.gemma(131072)
	s.headNorms = true
	// transformers reads this option and does not apply it, other programs do.
	o.mustBe("attn_logit_softcapping", "null")
	s.logitCap = o.limit("final_logit_softcapping", 0)
	pattern := o.size("sliding_window_pattern", 6)
	kinds := o.layerTypes(len(s.layers), func(i int) string {
		if (i+1)%pattern == 0 {
			return full
		}
		return sliding
	})
	o.slide(&s, kinds, o.window(4096))
	o.rotaryByKind(&s, kinds)
	return s
}

// gemma reads what Gemma 2 and 3 share.
func (o *options) gemma(maxPositions int) spec {
	s := o.common(defaults{
		maxPositions: maxPositions, headDim: 256, keyValueHeads: 4, eps: 1e-6,
		activation: "hidden_activation", gate: "gelu_pytorch_tanh", tied: true,
	})
	s.padding = o.padding(s.vocabulary, 0)
	s.norms, s.norm.Offset = sandwichNorms, 1
	s.embedScale = float32(math.Sqrt(float64(s.hidden)))
	s.scoreScale = float32(1 / math.Sqrt(o.positive("query_pre_attn_scalar", 256)))
	attention := o.flag("attention_bias", false)
	s.biases = biases{qkv: attention, output: attention}
	o.mustBe("use_bidirectional_attention", "false", false)
	return s
}

// limit reads the limit of a soft cap: 0, for none, where it is null.
func (o *options) limit(name string, fallback float64) float32 {
	switch {
	case !o.has(name):
		return float32(fallback)
	case o.doc.Get(name) == nil:
		return 0
	}
	return float32(o.positive(name, 1))
}

package models

// readQwen2 reads a Qwen2Config: a Llama with biases on q, k and v, whose upper layers may
// slide.
func readQwen2(o *options) spec {
	s := o.common(defaults{maxPositions: 32768, keyValueHeads: 32, eps: 1e-6, activation: "hidden_act", gate: "silu"})
	s.biases.qkv = true
	o.rotary(&s)
	o.upperLayersSlide(&s)
	return s
}

// readQwen3 reads a Qwen3Config: queries and keys are normed, and biases are an option.
func readQwen3(o *options) spec {
	s := o.common(defaults{maxPositions: 32768, headDim: 128, keyValueHeads: 32, eps: 1e-6, activation: "hidden_act", gate: "silu"})
	s.headNorms = true
	attention := o.flag("attention_bias", false)
	s.biases = biases{qkv: attention, output: attention}
	o.rotary(&s)
	o.upperLayersSlide(&s)
	return s
}

// upperLayersSlide reads the windows of Qwen: only with use_sliding_window, and where
// there is no layer_types, from the layer max_window_layers on.
func (o *options) upperLayersSlide(s *spec) {
	window, first := 0, o.count("max_window_layers", 28)
	if o.flag("use_sliding_window", false) {
		window = o.window(4096)
	}
	o.slide(s, o.layerTypes(len(s.layers), func(i int) string {
		if window > 0 && i >= first {
			return sliding
		}
		return full
	}), window)
}

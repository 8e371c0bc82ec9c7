package models

// readMistral reads a MistralConfig: a Llama without biases whose layers all slide (Jiang et
// al., "Mistral 7B", 2023). A config without sliding_window has one of 4096, and one with
// null has none.
func readMistral(o *options) spec {
	s := o.common(defaults{maxPositions: 4096 * 32, keyValueHeads: 8, eps: 1e-6, activation: "hidden_act", gate: "silu"})
	o.rotary(&s)
	o.slideAll(&s, o.window(4096))
	return s
}

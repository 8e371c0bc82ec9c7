package models

// readLlama reads a LlamaConfig.
func readLlama(o *options) spec {
	s := o.common(defaults{maxPositions: 2048, eps: 1e-6, activation: "hidden_act", gate: "silu"})
	attention := o.flag("attention_bias", false)
	s.biases = biases{qkv: attention, output: attention, mlp: o.flag("mlp_bias", false)}
	o.rotary(&s)
	o.slideAll(&s, 0)
	o.mustBe("pretraining_tp", "1", 1.)
	o.mustBe("rope_interleaved", "false", false)
	return s
}

package models

// readPhi3 reads a Phi3Config: a Llama with q, k and v in one layer and gate and up in
// another, which may turn a part of each head only (Abdin et al., "Phi-3", 2024).
func readPhi3(o *options) spec {
	s := o.common(defaults{maxPositions: 4096, eps: 1e-5, activation: "hidden_act", gate: "silu"})
	s.fused = true
	s.padding = o.padding(s.vocabulary, 32000)
	o.partRotary(&s)
	o.slideAll(&s, o.window(0))
	o.mustBe("resid_pdrop", "0", 0.)
	o.mustBe("embd_pdrop", "0", 0.)
	return s
}

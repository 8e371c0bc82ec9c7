package peft

import (
	"slices"
	"strings"
)

// part says what a key of an adapter file holds.
type part int

const (
	partOther part = iota // a whole parameter, or something unknown
	partA
	partB
	partEmbeddingA
	partEmbeddingB
	partMagnitude
	partBias
	partRefused // of a method that is not plain LoRA
)

// refusedParts are path segments that belong to other methods or to parts of LoRA that
// are not supported, by the beginning of the segment.
var refusedParts = []string{
	"lora_diag", "lora_E", "lora_ga", "trainable_tokens_", "token_adapter",
	"hada_", "lokr_", "ia3_", "vera_", "oft_", "boft_", "hra_", "randlora_", "vblora_", "fourierft_",
	"prompt_", "adaption_", "miss_", "bone_", "shira_", "c3a_",
}

// parseKey splits a key of an adapter file into module path and part. For a whole
// parameter, param is its name and module the path before it. The prefix that PEFT's
// wrapper adds and names of torch.compile are taken off, and forms that keep the
// adapter's name in the key are understood.
func parseKey(key string) (module, param string, p part) {
	segments := slices.DeleteFunc(strings.Split(key, "."), func(s string) bool { return s == "_orig_mod" })
	if len(segments) > 1 && segments[0] == "base_model" {
		segments = segments[1:]
		if len(segments) > 1 && segments[0] == "model" {
			segments = segments[1:]
		}
	}
	for i, s := range segments {
		rest := segments[i+1:]
		module := strings.Join(segments[:i], ".")
		switch {
		case s == "lora_B" && (len(rest) == 1 || len(rest) == 2) && rest[len(rest)-1] == "bias":
			return module, "", partBias
		case s == "lora_A" || s == "lora_B":
			if len(rest) == 0 || len(rest) > 2 || rest[len(rest)-1] != "weight" {
				return module, strings.Join(segments[i:], "."), partRefused
			}
			if s == "lora_A" {
				return module, "", partA
			}
			return module, "", partB
		case s == "lora_embedding_A" && len(rest) <= 1:
			return module, "", partEmbeddingA
		case s == "lora_embedding_B" && len(rest) <= 1:
			return module, "", partEmbeddingB
		case s == "lora_magnitude_vector" && (len(rest) <= 1 || len(rest) == 2 && rest[1] == "weight"):
			return module, "", partMagnitude // files before PEFT 0.10 end in ".weight"
		case slices.ContainsFunc(refusedParts, func(prefix string) bool { return strings.HasPrefix(s, prefix) }):
			return module, strings.Join(segments[i:], "."), partRefused
		}
	}
	// Of a module that PEFT targets, an embedding that it saves along and a bias that it
	// trains are under the wrapper's name for it.
	if i := len(segments) - 2; i > 0 && segments[i] == "base_layer" && (segments[i+1] == "weight" || segments[i+1] == "bias") {
		segments = slices.Delete(segments, i, i+1)
	}
	if i := slices.Index(segments, "modules_to_save"); i >= 0 && i+2 < len(segments) {
		segments = slices.Delete(segments, i, i+2) // and the adapter's name after it
	}
	if len(segments) < 2 {
		return "", key, partOther
	}
	last := len(segments) - 1
	return strings.Join(segments[:last], "."), segments[last], partOther
}

// foreignStyle names who writes keys of such a form, if it is not PEFT.
func foreignStyle(key string) string {
	switch {
	case strings.HasPrefix(key, "lora_unet_") || strings.HasPrefix(key, "lora_te"),
		strings.Contains(key, ".lora_down.") || strings.Contains(key, ".lora_up."), strings.HasSuffix(key, ".alpha"):
		return "kohya's scripts"
	case strings.Contains(key, "_lora.down.") || strings.Contains(key, "_lora.up."):
		return "older versions of diffusers"
	}
	return ""
}

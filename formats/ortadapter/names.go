package ortadapter

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-b982eded/graft/formats"
)

// Names is how the parameters of an adapter are named. They must be the names of the
// model's inputs, so each tool that makes models has its own.
type Names string

const (
	// Olive names factors MODULE.lora_A.weight, as olive convert-adapters does.
	Olive Names = "olive"
	// PEFT names them base_model.model.MODULE.lora_A.weight, as PEFT's own files do.
	PEFT Names = "peft"
	// GenAI names them MODULE.lora_A.MatMul.weight, with attn for self_attn, as the model
	// builder of ONNX Runtime GenAI and olive extract-adapters do.
	GenAI Names = "genai"
)

// ParseNames returns the naming that a user means.
func ParseNames(s string) (Names, error) {
	switch n := Names(s); n {
	case Olive, PEFT, GenAI:
		return n, nil
	}
	return "", formats.Usagef("naming %s is not known (want olive, peft or genai)", formats.Quote(s))
}

// factor says which factor a parameter holds.
type factor int

const (
	factorA factor = iota
	factorB
	embeddingA
	embeddingB
)

var segments = map[string]factor{"lora_A": factorA, "lora_B": factorB, "lora_embedding_A": embeddingA, "lora_embedding_B": embeddingB}

// refused are path segments of what is no plain LoRA factor, by their beginnings.
var refused = []struct{ prefix, what string }{
	{"lora_magnitude_vector", "DoRA's magnitudes are not supported"},
	{"hada_", "LoHa is not supported"}, {"lokr_", "LoKr is not supported"},
	{"modules_to_save", "saved modules are not supported"},
}

const wrapper = "base_model.model."

// name returns the name of a module's factor.
func (n Names) name(module string, f factor) string {
	suffix := [...]string{".lora_A", ".lora_B", ".lora_embedding_A", ".lora_embedding_B"}[f]
	switch {
	case n == GenAI && f <= factorB:
		return rename(module, "self_attn", "attn") + suffix + ".MatMul.weight"
	case f <= factorB:
		suffix += ".weight"
	}
	if n == PEFT {
		return wrapper + module + suffix
	}
	return module + suffix
}

// Of returns the names of a module's factors A and B.
func (n Names) Of(module string, embedding bool) (a, b string) {
	if embedding {
		return n.name(module, embeddingA), n.name(module, embeddingB)
	}
	return n.name(module, factorA), n.name(module, factorB)
}

// parseName splits a parameter's name into a module and a factor. It understands all
// namings, and names that keep the adapter's, as exports of PEFT models have them.
func parseName(name string) (module string, f factor, err error) {
	parts := strings.Split(strings.TrimPrefix(name, wrapper), ".")
	for i, s := range parts {
		for _, r := range refused {
			if strings.HasPrefix(s, r.prefix) {
				return "", 0, fmt.Errorf("%s", r.what)
			}
		}
		f, ok := segments[s]
		if !ok {
			continue
		}
		module, rest := strings.Join(parts[:i], "."), parts[i+1:]
		if len(rest) > 0 && rest[0] == "quant" {
			return "", 0, fmt.Errorf("quantised factors are not supported")
		}
		if f <= factorB { // an embedding's factors are parameters, and no modules with a weight
			if len(rest) == 0 || rest[len(rest)-1] != "weight" {
				break
			}
			rest = rest[:len(rest)-1]
		}
		if len(rest) > 1 || module == "" {
			break
		}
		if len(rest) == 1 && rest[0] == "MatMul" {
			module = rename(module, "attn", "self_attn")
		}
		return module, f, nil
	}
	return "", 0, fmt.Errorf("unexpected parameter: it is no LoRA factor by its name (want for example %q)", "MODULE.lora_A.weight")
}

// rename replaces the name of the attention in a layer, layers.N.attn.q_proj. A model
// that calls it attn elsewhere keeps its name.
func rename(module, from, to string) string {
	parts := strings.Split(module, ".")
	i := slices.Index(parts, from)
	if i < 2 || parts[i-2] != "layers" {
		return module
	}
	if _, err := strconv.Atoi(parts[i-1]); err != nil {
		return module
	}
	parts[i] = to
	return strings.Join(parts, ".")
}

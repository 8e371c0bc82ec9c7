package peft

import (
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// isBias reports whether an entry is one of the base's biases that the option bias has
// trained, and not a part of a module that is saved whole.
func isBias(cfg *Config, e adapter.Entry) bool {
	u, ok := e.Update.(*adapter.Replace)
	return ok && u.Param == "bias" && !savesWhole(cfg, e.Module)
}

// savesWhole reports whether modules_to_save names a module or one that holds it.
func savesWhole(cfg *Config, module string) bool {
	return slices.ContainsFunc(cfg.Selection.ModulesToSave, func(name string) bool {
		return strings.HasSuffix(module, name) || strings.Contains("."+module+".", "."+name+".")
	})
}

// checkBias refuses a trained bias that the config does not speak of.
func checkBias(cfg *Config, e adapter.Entry, targeted bool, file string) error {
	if !isBias(cfg, e) || cfg.Bias == BiasAll || cfg.Bias == BiasOfTargets && targeted {
		return nil
	}
	return formats.Unfitf(file, e.Keys[0], "a trained bias of a module without factors, but the config's bias is %q", cfg.Bias)
}

// savedAgain reports whether a tensor is a bias that PEFT writes besides, with bias "all",
// for a module that is saved whole: the one that it stands in for, which no longer has a
// use, and its own under the wrapper's name. The latter must be what the module's key has.
func savedAgain(cfg *Config, ckpt *formats.Checkpoint, t formats.Tensor) (bool, error) {
	if cfg.Bias != BiasAll {
		return false, nil
	}
	segments := strings.Split(t.Name, ".")
	if segments[len(segments)-1] != "bias" {
		return false, nil
	}
	if slices.Contains(segments, "original_module") {
		return true, nil
	}
	at := slices.Index(segments, "modules_to_save")
	if at < 0 {
		return false, nil
	}
	// The adapter's name comes after it where the module holds others.
	var own formats.Tensor
	for n := 1; n <= 2 && own.Name == "" && at+n < len(segments); n++ {
		own, _ = ckpt.Tensor(strings.Join(slices.Delete(slices.Clone(segments), at, at+n), "."))
	}
	if own.Name == "" {
		return false, nil
	}
	if own.DType == t.DType && slices.Equal(own.Shape, t.Shape) {
		if same, err := formats.SameBytes(ckpt.Path(), own, ckpt.Path(), t, nil); same || err != nil {
			return same, err
		}
	}
	return false, formats.Unfitf(ckpt.Path(), t.Name, "differs from %s", formats.Quote(own.Name))
}

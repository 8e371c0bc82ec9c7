package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/patch"
)

// extraFlags say what a fresh adapter has beside its factors.
func extraFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "use-dora", Usage: "train a magnitude for each output of a layer too (DoRA)"},
		&cli.StringFlag{Name: "bias", Value: "none", Usage: "train the base's biases too: none, all, or lora_only for those of the targets"},
		&cli.BoolFlag{Name: "lora-bias", Usage: "give B a bias"},
		&cli.StringFlag{Name: "modules-to-save", Usage: "modules to train whole: names split by commas"},
	}
}

// readExtras takes the flags into a config.
func readExtras(c *cli.Context, cfg *peft.Config) error {
	cfg.UseDoRA, cfg.LoRABias = c.Bool("use-dora"), c.Bool("lora-bias")
	switch bias := c.String("bias"); bias {
	case "none", "":
	case peft.BiasAll, peft.BiasOfTargets:
		cfg.Bias = bias
	default:
		return formats.Usagef("--bias %s is not supported (want none, all or lora_only)", formats.Quote(bias))
	}
	for _, name := range strings.Split(c.String("modules-to-save"), ",") {
		if name = strings.TrimSpace(name); name != "" {
			cfg.Selection.ModulesToSave = append(cfg.Selection.ModulesToSave, name)
		}
	}
	switch init := cfg.InitWeights; {
	case cfg.UseDoRA && cfg.LoRABias:
		return formats.Usagef("--lora-bias cannot be used with --use-dora")
	case cfg.LoRABias && init != patch.InitDefault && init != patch.InitRandom:
		return formats.Usagef("--lora-bias needs --init-lora-weights true or false (got %s)", formats.Quote(init))
	case cfg.UseDoRA && init != patch.InitDefault && init != patch.InitRandom && init != patch.InitGaussian:
		return formats.Usagef("--use-dora with --init-lora-weights %s is not supported", formats.Quote(init))
	}
	return nil
}

// addExtras puts on a fresh adapter what its config says beside the factors.
func addExtras(m *patch.Model, a *adapter.Adapter, cfg *peft.Config) error {
	if cfg.UseDoRA {
		if err := patch.WithMagnitudes(m, a); err != nil {
			return err
		}
	}
	if cfg.LoRABias {
		if err := patch.WithBiasDeltas(a); err != nil {
			return err
		}
	}
	if len(cfg.Selection.ModulesToSave) > 0 {
		if err := patch.WithSaved(m, a, cfg.Selection.ModulesToSave); err != nil {
			return err
		}
	}
	if cfg.Bias != "" {
		patch.WithBiases(m, a, cfg.Bias == peft.BiasOfTargets)
	}
	return nil
}

package main

import (
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train"
)

// optimizerFlags say how parameters move.
func optimizerFlags() []cli.Flag {
	d := train.DefaultAdamW
	return []cli.Flag{
		&cli.StringFlag{Name: "optim", Value: train.AdamWOptimizer, Usage: "the optimizer: adamw or sgd"},
		&cli.Float64Flag{Name: "adam-beta1", Value: d.Beta1, Usage: "decay of AdamW's first moment"},
		&cli.Float64Flag{Name: "adam-beta2", Value: d.Beta2, Usage: "decay of AdamW's second moment"},
		&cli.Float64Flag{Name: "adam-epsilon", Value: d.Eps, Usage: "AdamW's epsilon"},
		&cli.Float64Flag{Name: "momentum", Usage: "SGD's momentum"},
		&cli.BoolFlag{Name: "nesterov", Usage: "SGD with Nesterov's momentum"},
		&cli.Float64Flag{Name: "weight-decay", Value: d.WeightDecay, Usage: "weight decay of all but biases and norms; AdamW's is decoupled, SGD's is not"},
		&cli.Float64Flag{Name: "loraplus-lr-ratio", Usage: "LoRA+: B's learning rate over A's"},
		&cli.Float64Flag{Name: "loraplus-lr-embedding", Value: train.DefaultEmbeddingRate, Usage: "LoRA+: the learning rate of factors on embeddings"},
	}
}

// checkpointFlags say what stays of a run, and when it ends.
func checkpointFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "save-steps", Usage: "steps between checkpoints, which are written as OUT/checkpoint-N"},
		&cli.IntFlag{Name: "save-total-limit", Usage: "how many checkpoints stay: the newest ones, and the best one"},
		&cli.BoolFlag{Name: "resume", Usage: "go on from the newest checkpoint in OUT, if there is one, to the bytes of a run that never stopped"},
		&cli.IntFlag{Name: "early-stopping-patience", Usage: "stop after so many evaluations in a row without an improvement"},
		&cli.Float64Flag{Name: "early-stopping-threshold", Usage: "what an improvement must exceed"},
		&cli.BoolFlag{Name: "load-best-model-at-end", Usage: "write the adapter of the best evaluation, not that of the last step"},
		&cli.StringFlag{Name: "metric-for-best-model", Value: "loss", Usage: "what is best: the least loss or mse, or the greatest accuracy, f1, pearson or spearman"},
	}
}

// trainOptions reads the loop's options from the flags.
func trainOptions(c *cli.Context) train.Options {
	o := train.DefaultOptions
	o.LearningRate, o.Schedule, o.MinRate = c.Float64("learning-rate"), c.String("lr-scheduler-type"), c.Float64("min-lr-rate")
	o.WarmupSteps, o.WarmupRatio = c.Int("warmup-steps"), c.Float64("warmup-ratio")
	o.MaxSteps, o.Epochs = c.Int("max-steps"), c.Float64("epochs")
	o.GradientAccumulation, o.BatchSize = c.Int("gradient-accumulation-steps"), c.Int("batch-size")
	o.MaxGradNorm = c.Float64("max-grad-norm")
	o.EvalSteps, o.LogSteps, o.SaveSteps = c.Int("eval-steps"), c.Int("logging-steps"), c.Int("save-steps")

	o.Optimizer = c.String("optim")
	decay := c.Float64("weight-decay")
	o.AdamW = train.AdamWConfig{Beta1: c.Float64("adam-beta1"), Beta2: c.Float64("adam-beta2"), Eps: c.Float64("adam-epsilon"), WeightDecay: decay}
	o.SGD = train.SGDConfig{Momentum: c.Float64("momentum"), Nesterov: c.Bool("nesterov"), WeightDecay: decay}
	if c.IsSet("loraplus-lr-ratio") {
		o.LoRAPlus = train.LoRAPlus{Ratio: c.Float64("loraplus-lr-ratio"), EmbeddingRate: c.Float64("loraplus-lr-embedding")}
	}
	o.BestMetric, o.LoadBest = c.String("metric-for-best-model"), c.Bool("load-best-model-at-end")
	o.Patience, o.Threshold = c.Int("early-stopping-patience"), c.Float64("early-stopping-threshold")
	return o
}

// changed reports whether a flag of the loop is set to another value than its default: a
// file of flags may name them all.
func changed(c *cli.Context, name string) bool {
	if !c.IsSet(name) {
		return false
	}
	for _, f := range slices.Concat(optimizerFlags(), checkpointFlags()) {
		if f.Names()[0] != name {
			continue
		}
		switch f := f.(type) {
		case *cli.BoolFlag:
			return c.Bool(name) != f.Value
		case *cli.Float64Flag:
			return c.Float64(name) != f.Value
		case *cli.StringFlag:
			return c.String(name) != f.Value
		}
	}
	return true
}

// checkLoopFlags refuses flags of the loop that would take no effect.
func checkLoopFlags(c *cli.Context) error {
	held := c.IsSet("eval-data") || c.IsSet("eval-share")
	for _, need := range []struct {
		flag, takes string
		ok          bool
	}{
		{"adam-beta1", "--optim adamw", c.String("optim") != train.SGDOptimizer},
		{"adam-beta2", "--optim adamw", c.String("optim") != train.SGDOptimizer},
		{"adam-epsilon", "--optim adamw", c.String("optim") != train.SGDOptimizer},
		{"momentum", "--optim sgd", c.String("optim") == train.SGDOptimizer},
		{"nesterov", "--momentum", c.Float64("momentum") != 0},
		{"loraplus-lr-embedding", "--loraplus-lr-ratio", c.IsSet("loraplus-lr-ratio")},
		{"min-lr-rate", "--lr-scheduler-type " + train.CosineWithMinRate, c.String("lr-scheduler-type") == train.CosineWithMinRate},
		{"save-total-limit", "--save-steps", c.IsSet("save-steps")},
		{"early-stopping-threshold", "--early-stopping-patience", c.IsSet("early-stopping-patience")},
		{"early-stopping-patience", "--eval-steps", c.IsSet("eval-steps")},
		{"early-stopping-patience", "--eval-data or --eval-share", held},
		{"load-best-model-at-end", "--eval-steps", c.IsSet("eval-steps")},
		{"load-best-model-at-end", "--eval-data or --eval-share", held},
		{"metric-for-best-model", "--eval-data or --eval-share", held},
	} {
		if !need.ok && changed(c, need.flag) {
			return formats.Usagef("--%s takes %s", need.flag, need.takes)
		}
	}
	for _, flag := range []string{"save-steps", "save-total-limit", "early-stopping-patience"} {
		if n := c.Int(flag); c.IsSet(flag) && n < 1 {
			return formats.Usagef("--%s must be 1 or more (got %d)", flag, n)
		}
	}
	return nil
}

package main

import (
	"context"
	"errors"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/patch"
)

const initWeightsUsage = "how factors start: true (B zero), gaussian (B zero, A normal), orthogonal (B·A zero), false (both random); " +
	"pissa, pissa_niter_N (the largest singular values of the weight) or olora (its QR factors), which come out of the base"

// freshFactors makes the factors that a config asks for. Those that are made of the weights take a while,
// and the config then says of the adapter what is true of it: that it is a plain one.
func freshFactors(ctx context.Context, co *console, m *patch.Model, sites []patch.Site, scaling patch.Scaling, cfg *peft.Config, seed uint64) (*adapter.Adapter, error) {
	opts := patch.InitOptions{Weights: cfg.InitWeights, FanInFanOut: cfg.FanInFanOut, Seed: seed}
	var b *bar
	if patch.ChangesBase(cfg.InitWeights) {
		b = co.newBar("decomposing", float64(len(sites)))
		opts.Done = func(module string) { b.add(1, func(float64) string { return printable(module) }) }
		cfg.InitWeights = patch.InitDefault
	}
	a, err := patch.Init(ctx, sites, scaling, opts)
	b.end()
	var e *formats.Error
	if errors.As(err, &e) && e.File == "" && e.Class != formats.ErrUsage {
		e.File = m.Checkpoint.Path()
	}
	return a, err
}

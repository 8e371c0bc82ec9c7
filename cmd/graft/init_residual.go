package main

import (
	"context"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/internal/atomicfile"
	"github.com/seed-b982eded/graft/patch"
)

func residualFlag() cli.Flag {
	return &cli.StringFlag{Name: "residual", Usage: "with pissa and olora: write the base without what the factors took out of it to `PATH`"}
}

// residualPath returns what --residual names, "" where the initialisation leaves the base alone.
func residualPath(c *cli.Context) (string, error) {
	kind := c.String("init-lora-weights")
	switch {
	case !patch.ChangesBase(kind) && c.IsSet("residual"):
		return "", formats.Usagef("--residual is for factors that are taken out of the base (pissa, olora), and --init-lora-weights %s takes nothing", formats.Quote(kind))
	case !patch.ChangesBase(kind):
		return "", nil
	case !c.IsSet("residual"):
		return "", formats.Usagef("--init-lora-weights %s takes the factors out of the base: --residual PATH says where to write the base that they belong to", kind).
			WithHint("graft train --init-lora-weights %s needs no other base, and saves a plain adapter", kind)
	}
	return filepath.Clean(c.String("residual")), nil
}

// residual is the base W − s·B₀·A₀ of a fresh adapter, on its way to the disk.
type residual struct {
	path string
	set  publish.Set
	opts publish.Options
}

// newResidual plans the base that a fresh adapter belongs to, and names it in the adapter's config.
func newResidual(c *cli.Context, path string, base *formats.Checkpoint, a *adapter.Adapter) (*residual, error) {
	plan, err := patch.NewPlan(base, patch.Weighted{Adapter: a, Weight: -1})
	if err != nil {
		return nil, err
	}
	r := &residual{path: path, opts: publish.Options{Force: c.Bool("force"), Inputs: []string{placeOf(base)}}}
	if r.set, err = hf.Files(plan.Merge(), path); err != nil {
		return nil, err
	}
	cfg, err := peft.ParseConfig(a.Config, peft.ConfigName)
	if err != nil {
		return nil, err
	}
	cfg.BaseModel = path
	a.Base, a.Config = path, cfg.Encode()
	return r, publish.Check(r.set, path, r.opts)
}

// write publishes both. The adapter, which needs the base, appears last.
func (r *residual) write(ctx context.Context, co *console, out string, force bool, a *adapter.Adapter) error {
	stage, err := atomicfile.NewDir(out, atomicfile.Options{Force: force})
	if err != nil {
		return err
	}
	if err := peft.Write(stage.Path(), a); err != nil {
		stage.Abort()
		return finalName(err, stage.Path(), out)
	}
	size := int64(0)
	for _, f := range r.set.Files {
		size += f.Size
	}
	b := co.newBar("writing the residual base", float64(size))
	r.opts.Progress = func(n int64) {
		b.add(float64(n), func(rate float64) string { return sizeText(int64(rate)) + "/s" })
	}
	err = publish.Write(ctx, r.set, r.path, r.opts)
	b.end()
	if err != nil {
		stage.Abort()
		return err
	}
	co.noteLeft(r.path)
	return stage.Publish()
}

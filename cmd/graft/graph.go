package main

import (
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/onnx"
)

// weightsFlag names the checkpoint that an ONNX model was exported from.
func weightsFlag() cli.Flag {
	return &cli.StringFlag{Name: "weights", Usage: "for an ONNX base whose names do not tell its modules: the checkpoint that it was exported from, a `PATH`"}
}

// externalFlag says where the weights of a written ONNX model lie.
func externalFlag() cli.Flag {
	return &cli.StringFlag{Name: "external", Usage: "for an ONNX base: auto (weights stay inside or outside as they are), always (in OUT.data), never"}
}

func externalMode(c *cli.Context) (wire.ExternalMode, error) {
	switch s := c.String("external"); s {
	case "", "auto":
		return wire.ExternalAuto, nil
	case "always":
		return wire.ExternalAlways, nil
	case "never":
		return wire.ExternalNever, nil
	default:
		return 0, formats.Usagef("--external %s is not known (want auto, always or never)", formats.Quote(s))
	}
}

// openWeights opens what --weights names.
func (o *operands) openWeights(c *cli.Context) error {
	if o.graph == nil {
		for _, name := range []string{"weights", "external"} {
			if c.IsSet(name) {
				return formats.Usagef("--%s is about an ONNX base, and %s is none", name, formats.Quote(o.base.Path()))
			}
		}
		return nil
	}
	if c.IsSet("max-shard-size") {
		return formats.Usagef("--max-shard-size is about Hugging Face models, and %s is an ONNX model", formats.Quote(o.base.Path())).WithHint("--external always puts its weights into one file beside it")
	}
	if _, err := externalMode(c); err != nil {
		return err
	}
	if !c.IsSet("weights") {
		return nil
	}
	var err error
	o.weights, err = open.Checkpoint(c.String("weights"))
	return err
}

// bind finds the adapters' modules in the graph.
func (o *operands) bind() (*onnx.Binding, error) {
	weights, err := o.weightsModel()
	if err != nil {
		return nil, err
	}
	list := make([]*adapter.Adapter, len(o.adapters))
	for i, w := range o.adapters {
		list[i] = w.Adapter
	}
	return onnx.Bind(o.graph, weights, list...)
}

// weightsModel returns the modules of --weights, or nil.
func (o *operands) weightsModel() (*patch.Model, error) {
	if o.weights == nil {
		return nil, nil
	}
	return patch.NewModel(o.weights)
}

// mergePlan is a merge and how its result is written.
type mergePlan struct {
	*patch.Plan
	sites *onnx.Sites // of an ONNX base
}

// plan fits the adapters to the base.
func (o *operands) plan(rounding string) (*mergePlan, error) {
	if o.graph == nil {
		p, err := patch.NewPlanRounding(o.base, patch.Rounding(rounding), o.adapters...)
		return &mergePlan{Plan: p}, err
	}
	b, err := o.bind()
	if err != nil {
		return nil, err
	}
	sites, err := b.Sites()
	if err != nil {
		return nil, err
	}
	p, err := patch.NewModelPlan(sites.Model, patch.Rounding(rounding), o.adapters...)
	return &mergePlan{p, sites}, err
}

// files returns what the merged model is written as.
func (p *mergePlan) files(c *cli.Context, out string) (publish.Set, error) {
	if p.sites != nil {
		return graphFiles(c, p.sites.Merge(p.Plan), p.Base().Path(), out)
	}
	merged, err := resharded(c, p.Merge())
	if err != nil {
		return publish.Set{}, err
	}
	return hf.Files(merged, out)
}

// graphFiles returns what an edited ONNX model is written as.
func graphFiles(c *cli.Context, e *wire.Edit, base, out string) (publish.Set, error) {
	mode, err := externalMode(c)
	if err != nil {
		return publish.Set{}, err
	}
	set := publish.Set{Path: base, Layout: publish.Beside}
	if set.Files, err = e.Files(filepath.Base(out), wire.FileOptions{External: mode}); err != nil {
		return set, err
	}
	if len(set.Files) == 1 {
		set.Layout = publish.OneFile
	}
	return set, nil
}

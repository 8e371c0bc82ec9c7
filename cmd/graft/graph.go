package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

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
	return &cli.StringFlag{Name: "weights", Usage: "for an ONNX model whose names do not tell its modules: the checkpoint that it was exported from, a `PATH`"}
}

// externalFlag says where the weights of a written ONNX model lie. share says that they may
// be the base's own.
func externalFlag(share bool) cli.Flag {
	usage := "for an ONNX base, where weights lie: auto (inside or outside of the model file as they do), always (outside, in OUT.data) or never"
	if share {
		usage = "where weights lie: auto (inside or outside of the model file as they do), always (outside, in OUT.data), never, or share (OUT, beside the base, uses the base's own data files)"
	}
	return &cli.StringFlag{Name: "external", Value: "auto", Usage: usage}
}

// sharesData reports whether the output is to use the base's data files.
func sharesData(c *cli.Context) bool { return c.String("external") == "share" }

func externalMode(c *cli.Context) (wire.ExternalMode, error) {
	switch s := c.String("external"); s {
	case "", "auto": // a command without the flag writes nothing
		return wire.ExternalAuto, nil
	case "always":
		return wire.ExternalAlways, nil
	case "never":
		return wire.ExternalNever, nil
	case "share":
		if c.Command.Name != "inject" {
			return 0, formats.Usagef("--external share is for inject, which leaves the weights as they are")
		}
		return wire.ExternalAuto, nil
	default:
		return 0, formats.Usagef("--external %s is not known (want auto, always or never)", formats.Quote(s))
	}
}

// checkSharing refuses an output that cannot use the base's data files where they are.
func (o *operands) checkSharing(out string) error {
	base := o.base.Path()
	data := o.base.Shards()[1:]
	if len(data) == 0 {
		return formats.Usagef("--external share: all data of %s lies in it, and there is none beside it to share", formats.Quote(base))
	}
	here, err := os.Stat(filepath.Dir(base))
	if err != nil {
		return err
	}
	if there, err := os.Stat(filepath.Dir(out)); err != nil || !os.SameFile(here, there) {
		return formats.Usagef("--external share: %s is not in the directory of %s, whose data files lie there", formats.Quote(out), formats.Quote(base))
	}
	for _, s := range data {
		if s.Name == filepath.Base(out)+".data" {
			return formats.Usagef("--external share: %s is where new data of %s would go, and the base's data is there", formats.Quote(s.Name), formats.Quote(out))
		}
	}
	return nil
}

// openModel opens a model, which may be an ONNX file.
func openModel(path string) (*operands, error) {
	base, graph, err := open.Model(path)
	if err != nil {
		return nil, namingONNX(path, err)
	}
	return &operands{base: base, graph: graph}, nil
}

// namingONNX gives an error about a directory that holds no model a hint where ONNX files
// are in it, which have to be named themselves.
func namingONNX(path string, err error) error {
	var e *formats.Error
	if !errors.As(err, &e) || e.Hint != "" || e.File != path {
		return err
	}
	for _, pattern := range []string{"*.onnx", "onnx/*.onnx"} {
		// What a name cannot be a pattern for has no hint.
		if found, _ := fs.Glob(os.DirFS(path), pattern); len(found) > 0 {
			return e.WithHint("of an ONNX model name the file: %s", formats.Quote(filepath.Join(path, filepath.FromSlash(found[0]))))
		}
	}
	return err
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
	if sharesData(c) {
		if err := o.checkSharing(outPath(c)); err != nil {
			return err
		}
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
	name := filepath.Base(out)
	if set.Files, err = e.Files(name, wire.FileOptions{External: mode, KeepLocations: sharesData(c)}); err != nil {
		return set, err
	}
	if sharesData(c) { // the others are there
		set.Files = slices.DeleteFunc(set.Files, func(f publish.File) bool { return f.Name != name && f.Name != name+".data" })
	}
	if len(set.Files) == 1 {
		set.Layout = publish.OneFile
		if c.Bool("resume") {
			return set, formats.Usagef("a model in one file cannot be resumed: it is written whole or not at all").
				WithHint("leave --resume out, or put the weights into a file beside the model with --external always")
		}
	}
	return set, nil
}

// noteUnused says that an older output's data file stays where the new model has none: it
// may be another's by now.
func (p *publication) noteUnused() {
	data := filepath.Base(p.out) + ".data"
	for _, f := range p.set.Files {
		if f.Name == data {
			return
		}
	}
	path := filepath.Join(filepath.Dir(p.out), data)
	if _, err := os.Lstat(p.out); err != nil {
		return
	}
	if _, err := os.Lstat(path); err == nil {
		p.co.note("note: %s stays: the new model does not need it", formats.Quote(path))
	}
}

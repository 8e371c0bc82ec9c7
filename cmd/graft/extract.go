package main

import (
	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/internal/atomicfile"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/extract"
)

func extractCommand() *cli.Command {
	return &cli.Command{
		Name:      "extract",
		Usage:     "find the adapter that lies between two models",
		UsageText: "graft extract --base B --tuned T --rank N|--energy X|--max-error X|--size S --out ADAPTER",
		Description: "Every weight that differs gets the factors of its rank that are nearest to the difference; biases\n" +
			"become biases on B, and norms and what else is no matrix is saved whole (modules_to_save). Weights\n" +
			"that did not change are left out. Then the adapter is merged in memory and compared with the tuned\n" +
			"model, and what the merge will differ by is said. --max-error 0 gives the tuned model's bits.\n" +
			"docs/extract.md tells what the numbers mean.",
		Flags: append([]cli.Flag{
			baseFlag(),
			&cli.StringFlag{Name: "tuned", Required: true, Usage: "the model that was made of the base: a `PATH`"},
			&cli.IntFlag{Name: "rank", Aliases: []string{"r"}, Usage: "give every module at most this rank"},
			&cli.Float64Flag{Name: "energy", Usage: "keep this share of the squared norm of every module's change, above 0 and at most 1"},
			&cli.Float64Flag{Name: "max-error", Usage: "lose at most this much of every module's change, relative to its norm, from 0 to less than 1"},
			&cli.StringFlag{Name: "size", Usage: "let all tensors of the adapter take at most `SIZE`, such as 20MB, spent where it keeps most"},
			&cli.StringSliceFlag{Name: "exclude", Usage: "leave the modules or tensors that `PATTERN` matches as the base has them, in the form of PEFT's rank_pattern; may be repeated"},
			&cli.BoolFlag{Name: "exact", Usage: "decompose every difference whole, which takes minutes for a large layer"},
			&cli.BoolFlag{Name: "no-check", Usage: "do not compare the merged model with the tuned one at the end"},
			&cli.BoolFlag{Name: "resume", Usage: "keep finished layers on a failure or Ctrl-C, and go on from those of an earlier run"},
			&cli.StringFlag{Name: "dtype", Usage: "dtype of the factors: bf16, f16, f32 or f64 (default: f32, and f64 for f64 weights)"},
		}, outputFlags("the adapter")...),
		Action: extractAction,
	}
}

type extractResult struct {
	Schema   string           `json:"schema"`
	Version  string           `json:"version"`
	Base     string           `json:"base"`
	Tuned    string           `json:"tuned"`
	Out      string           `json:"out"`
	DryRun   bool             `json:"dry_run,omitempty"`
	Params   int64            `json:"parameters"`
	Bytes    int64            `json:"bytes"`
	Energy   float64          `json:"energy"`   // share of ‖ΔW‖² over all weights with factors
	Residual float64          `json:"residual"` // relative, over the same
	Same     int              `json:"unchanged_tensors"`
	BaseOnly []string         `json:"only_in_base,omitempty"`
	Buffers  []string         `json:"buffers,omitempty"`
	Excluded []string         `json:"excluded,omitempty"`
	Modules  []extract.Module `json:"modules"`
	Inputs   []inputFile      `json:"inputs"`

	vocabulary bool
	narrower   bool
	modelType  string
	checked    bool
}

func extractAction(c *cli.Context) error {
	if err := noPaths(c); err != nil {
		return err
	}
	opts, err := extractOptions(c)
	if err != nil {
		return err
	}
	co := newConsole(c)
	res := &extractResult{Schema: "graft.extract/1", Version: readVersion().Version, Base: c.String("base"), Tuned: c.String("tuned"), Out: outPath(c), DryRun: c.Bool("dry-run")}
	var models [2]*patch.Model
	for i, path := range []string{res.Base, res.Tuned} {
		ckpt, err := open.Checkpoint(path)
		if err != nil {
			return namingONNX(path, err)
		}
		defer ckpt.Close()
		if models[i], err = patch.NewModel(ckpt); err != nil {
			return err
		}
		files, err := weightFiles(ckpt)
		if err != nil {
			return err
		}
		res.Inputs = append(res.Inputs, files...)
		for _, p := range []string{placeOf(ckpt), path} {
			if err := publish.CheckApart(p, res.Out); err != nil {
				return err
			}
		}
		if err := co.checkReport(res.Out, placeOf(ckpt)); err != nil {
			return err
		}
	}
	if err := atomicfile.Check(res.Out, true, c.Bool("force")); err != nil {
		return err
	}
	total := float64(models[0].Checkpoint.Size() + models[1].Checkpoint.Size())
	if !c.Bool("no-check") {
		total *= 2
	}
	b := co.newBar("extracting", total)
	opts.Progress = func(n int64) {
		b.add(float64(n), func(rate float64) string { return sizeText(int64(rate)) + "/s" })
	}
	work := func(store extract.Store) (*extract.Result, error) {
		opts.Store = store
		r, err := extract.Extract(c.Context, models[0], models[1], opts)
		if err == nil && !c.Bool("no-check") {
			err = r.Check(c.Context, opts)
		}
		b.end()
		return r, err
	}
	r, err := publishExtracted(c, co, res, models[0], opts, work)
	if err != nil {
		return err
	}
	res.Modules, res.Same, res.BaseOnly, res.Buffers, res.Excluded = r.Modules, r.Same, r.BaseOnly, r.Buffers, r.Excluded
	res.narrower, res.modelType = r.Narrower, models[1].Config.ModelType
	res.vocabulary, res.checked = r.NewVocabulary, !c.Bool("no-check")
	res.Energy, res.Residual = r.Energy()
	res.notes(co)
	return co.emit(res, res.print)
}

// publishExtracted does the work in the output's staging place, where finished layers are
// kept, and publishes the adapter. With --dry-run it only does the work.
func publishExtracted(c *cli.Context, co *console, res *extractResult, base *patch.Model, opts extract.Options, work func(extract.Store) (*extract.Result, error)) (*extract.Result, error) {
	finish := func(r *extract.Result, dir string) error {
		a := r.Adapter
		a.Path, a.Base = res.Out, res.Base
		cfg, err := peft.ConfigFor(a)
		if err != nil {
			return err
		}
		cfg.TaskType = taskType(base)
		a.Config = cfg.Encode()
		res.Params, res.Bytes = adapterShape(a)
		if dir == "" {
			return nil
		}
		return peft.Write(dir, a)
	}
	if res.DryRun {
		r, err := work(nil)
		if err == nil {
			err = finish(r, "")
		}
		return r, err
	}
	id, err := jobID(res.Inputs, opts.Rank, opts.Energy, opts.MaxError, opts.Size, opts.DType, opts.Exact, opts.Exclude)
	if err != nil {
		return nil, err
	}
	stage, err := newLayerStage(res.Out, atomicfile.Options{Force: c.Bool("force"), ID: id, Resume: c.Bool("resume")})
	if err != nil {
		return nil, err
	}
	r, err := work(stage)
	if err == nil {
		err = finish(r, stage.Path())
	}
	if err == nil {
		err = stage.Publish()
	}
	if err != nil {
		return nil, stage.abandon(err)
	}
	co.noteLeft(res.Out)
	return r, nil
}

// extractOptions reads the flags that say how far.
func extractOptions(c *cli.Context) (extract.Options, error) {
	far, err := resizeOptions(c)
	return extract.Options{Rank: far.Rank, Energy: far.Energy, MaxError: far.MaxError, Size: far.Size, DType: far.DType, Exact: c.Bool("exact"), Exclude: c.StringSlice("exclude")}, err
}

package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/patch"
)

func resizeCommand() *cli.Command {
	return &cli.Command{
		Name:      "resize",
		Usage:     "give an adapter other ranks, losing as little as can be",
		UsageText: "graft resize --adapter A [--rank N|--energy X|--max-error X|--size S] [--slim [--base B]] --out ADAPTER",
		Description: "Every module gets the best factors of its new rank: those of the singular value decomposition of its\n" +
			"change. --size is spent over all modules where a byte keeps most; modules that get none are left out.\n" +
			"Ranks that are rounding alone are never kept. The scale becomes 1. --slim loses nothing: what is merged\n" +
			"with the result has the same bits. It comes after the others, or alone. With --base an adapter of DoRA\n" +
			"becomes one of LoRA: the best factors of what it changes in that base.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "adapter", Required: true, Usage: "the adapter: a PEFT directory or an .onnx_adapter file: a `PATH`"},
			&cli.IntFlag{Name: "rank", Aliases: []string{"r"}, Usage: "keep at most this rank in every module"},
			&cli.Float64Flag{Name: "energy", Usage: "keep this share of the squared norm of every module's change, above 0 and at most 1"},
			&cli.Float64Flag{Name: "max-error", Usage: "lose at most this much of every module's change, relative to its norm, from 0 to less than 1"},
			&cli.StringFlag{Name: "size", Usage: "let all factors together take at most `SIZE`, such as 20MB"},
			&cli.BoolFlag{Name: "common", Usage: "one rank for all modules, as some servers need it: the largest that was chosen, with zeros where there is less"},
			factorTypeFlag(),
			&cli.BoolFlag{Name: "slim", Usage: "leave out what changes nothing: modules and ranks that are zero, and with --base parameters saved whole that are the base's; store tensors in the narrowest type that holds them exactly"},
			&cli.StringFlag{Name: "base", Usage: "the model that the adapter is for: a `PATH`"},
		}, outputFlags("the adapter")...),
		Action: resizeAction,
	}
}

type resizeResult struct {
	Schema    string                `json:"schema"`
	Version   string                `json:"version"`
	Adapter   string                `json:"adapter"`
	Out       string                `json:"out"`
	DryRun    bool                  `json:"dry_run,omitempty"`
	OldParams int64                 `json:"old_parameters"`
	OldBytes  int64                 `json:"old_bytes"`
	Params    int64                 `json:"parameters"`
	Bytes     int64                 `json:"bytes"`
	Error     float64               `json:"error"` // relative, over all modules
	Modules   []patch.ResizedModule `json:"modules"`
	Slimmed   []patch.Slimmed       `json:"slimmed,omitempty"`
	Saved     []string              `json:"saved_modules,omitempty"`
	Inputs    []inputFile           `json:"inputs"`
}

func resizeAction(c *cli.Context) error {
	if err := noPaths(c); err != nil {
		return err
	}
	slimAlone, err := onlySlims(c)
	if err != nil {
		return err
	}
	var opts patch.ResizeOptions
	if !slimAlone {
		if opts, err = resizeOptions(c); err != nil {
			return err
		}
	}
	co := newConsole(c)
	a, err := open.Adapter(c.String("adapter"))
	if err != nil {
		return err
	}
	defer a.Close()
	sources := []*adapter.Adapter{a}
	out, err := checkAdapterOut(c, co, sources)
	if err != nil {
		return err
	}
	base, closeBase, err := resizeBase(c, out)
	if err != nil {
		return err
	}
	defer closeBase()
	res := &resizeResult{Schema: "graft.resize/1", Version: readVersion().Version, Adapter: a.Path, Out: out, DryRun: c.Bool("dry-run")}
	if res.Inputs, err = adapterFiles(a); err != nil {
		return err
	}
	small := a
	switch dora := hasDoRA(a); {
	case base != nil && !dora && !c.Bool("slim"):
		return formats.Usagef("--base goes with --slim, or with an adapter of DoRA")
	case slimAlone:
	case dora && base != nil:
		small, res.Modules, err = flattened(c.Context, base, a, opts)
	default:
		small, res.Modules, err = patch.Resize(c.Context, a, opts)
	}
	if err != nil {
		return err
	}
	var cfg *peft.Config
	if c.Bool("slim") {
		if small, cfg, err = res.slim(c, base, small, a); err != nil {
			return err
		}
	} else {
		small.Path = out
		if cfg, err = derivedConfig(small, sources); err != nil {
			return err
		}
	}
	res.OldParams, res.OldBytes = adapterShape(a)
	res.Params, res.Bytes = adapterShape(small)
	res.Saved = savedNames(small)
	lost, norm := 0.0, 0.0
	for _, m := range res.Modules {
		lost, norm = math.Hypot(lost, m.Error*m.Norm), math.Hypot(norm, m.Norm)
	}
	if norm > 0 {
		res.Error = lost / norm
	}
	if err := writeAdapter(c, co, small, cfg, out); err != nil {
		return err
	}
	return co.emit(res, res.print)
}

// resizeBase opens what --base names; nil where it is not given.
func resizeBase(c *cli.Context, out string) (*patch.Model, func(), error) {
	path := c.String("base")
	if !c.IsSet("base") {
		return nil, func() {}, nil
	}
	if err := publish.CheckApart(path, out); err != nil {
		return nil, nil, err
	}
	ckpt, err := open.Checkpoint(path)
	if err != nil {
		return nil, nil, namingONNX(path, err)
	}
	m, err := patch.NewModel(ckpt)
	if err != nil {
		ckpt.Close()
		return nil, nil, err
	}
	return m, func() { ckpt.Close() }, nil
}

// resizeOptions reads the flags that say how far.
func resizeOptions(c *cli.Context) (patch.ResizeOptions, error) {
	opts := patch.ResizeOptions{Rank: int64(c.Int("rank")), Energy: c.Float64("energy"), Common: c.Bool("common")}
	given := 0
	for _, flag := range []string{"rank", "energy", "max-error", "size"} {
		if c.IsSet(flag) {
			given++
		}
	}
	maxError := c.Float64("max-error")
	switch {
	case given == 0:
		return opts, formats.Usagef("how far: --rank, --energy, --max-error or --size is missing")
	case given > 1:
		return opts, formats.Usagef("--rank, --energy, --max-error and --size exclude each other")
	case c.IsSet("rank") && opts.Rank < 1:
		return opts, formats.Usagef("--rank must be 1 or more (got %d)", opts.Rank)
	case c.IsSet("energy") && !(opts.Energy > 0 && opts.Energy <= 1):
		return opts, formats.Usagef("--energy must be above 0 and at most 1 (got %g)", opts.Energy)
	case c.IsSet("max-error"):
		opts.MaxError = &maxError
	}
	var err error
	if c.IsSet("size") {
		if opts.Size, err = parseSize(c.String("size")); err != nil {
			return opts, err
		}
	}
	opts.DType, err = factorType(c)
	return opts, err
}

func (r *resizeResult) print(w io.Writer) {
	if r.DryRun && len(r.Modules) > 0 {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "MODULE\tSHAPE\tOLD RANK\tEFFECTIVE\tRANK\tNORM\tERROR")
		for _, m := range r.Modules {
			fmt.Fprintf(t, "%s\t%v\t%d\t%.1f\t%d\t%.4g\t%.4g\n", printable(m.Module), m.Shape, m.OldRank, m.EffectiveRank, m.Rank, m.Norm, m.Error)
		}
		t.Flush()
	}
	r.printSlimmed(w)
	if len(r.Modules) == 0 {
		fmt.Fprintf(w, "%s: %s parameters of %s, %s of %s; nothing is lost\n", r.Out, countText(r.Params), countText(r.OldParams), sizeText(r.Bytes), sizeText(r.OldBytes))
		return
	}
	left, whole, least, most := 0, 0, int64(math.MaxInt64), int64(0)
	for _, m := range r.Modules {
		if m.Whole {
			whole++
			continue
		}
		if m.Rank == 0 {
			left++
			continue
		}
		least, most = min(least, m.Rank), max(most, m.Rank)
	}
	fmt.Fprintf(w, "%s: ", r.Out)
	if n := len(r.Modules) - left - whole; n > 0 || whole == 0 {
		fmt.Fprintf(w, "%s of rank %s", countOf(n, "module"), rangeText(least, most))
	}
	if whole > 0 {
		if whole+left < len(r.Modules) {
			fmt.Fprint(w, ", ")
		}
		fmt.Fprintf(w, "%s saved whole, for factors would be no better", countOf(whole, "weight"))
	}
	if left > 0 {
		fmt.Fprintf(w, ", %d left out", left)
	}
	fmt.Fprintf(w, "; %s parameters of %s, %s of %s; error %s\n", countText(r.Params), countText(r.OldParams), sizeText(r.Bytes), sizeText(r.OldBytes), percentText(r.Error))
}

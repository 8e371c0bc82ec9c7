package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/patch"
)

func combineCommand() *cli.Command {
	return &cli.Command{
		Name:      "combine",
		Usage:     "make one adapter of several",
		UsageText: "graft combine --adapter A[=W]... --out ADAPTER [--method M] [--rank N] [--density D]",
		Description: "cat, the default, is exact: the weighted sum of the changes, with the ranks added up. svd is the\n" +
			"best approximation of that sum of a rank. The others are PEFT's, by their names there: linear, ties,\n" +
			"dare_linear, dare_ties and magnitude_prune work on A and B one by one, which is not the sum of the\n" +
			"changes, and need one rank; with _svd they work on the changes themselves and hold those of a layer in\n" +
			"full. The report says how far each result is from the weighted sum. Targets may differ.",
		Flags: append([]cli.Flag{
			adaptersFlag(true),
			&cli.StringFlag{Name: "method", Value: string(patch.CombineCat), Usage: "how: cat, svd, linear, ties, dare_linear, dare_ties, magnitude_prune, or one of the last four with _svd"},
			&cli.IntFlag{Name: "rank", Aliases: []string{"r"}, Usage: "rank of the result of svd and the _svd methods (default: the largest of the adapters')"},
			&cli.Float64Flag{Name: "density", Usage: "the share of elements that ties, dare and magnitude_prune methods keep, above 0 and at most 1"},
			&cli.StringFlag{Name: "majority-sign-method", Usage: "how ties methods elect a sign: total, that of the sum, or frequency, that of most adapters (default: total)"},
			&cli.Uint64Flag{Name: "seed", Usage: "seed of what dare methods drop"},
			&cli.BoolFlag{Name: "peft-bugs", Usage: "reproduce faults of PEFT " + peft.Version + ": √r too large where the first adapter has use_rslora, and linear for a single adapter"},
			factorTypeFlag(),
		}, outputFlags("the adapter")...),
		Action: combineAction,
	}
}

type combineResult struct {
	Schema   string                 `json:"schema"`
	Version  string                 `json:"version"`
	Adapters []usedAdapter          `json:"adapters"`
	Method   string                 `json:"method"`
	Rank     int64                  `json:"rank,omitempty"` // that was asked for
	Density  float64                `json:"density,omitempty"`
	Majority string                 `json:"majority_sign_method,omitempty"`
	Seed     uint64                 `json:"seed,omitempty"`
	Bugs     bool                   `json:"peft_bugs,omitempty"`
	Out      string                 `json:"out"`
	DryRun   bool                   `json:"dry_run,omitempty"`
	Params   int64                  `json:"parameters"`
	Bytes    int64                  `json:"bytes"`
	Distance float64                `json:"distance"` // from the weighted sum, relative to it, over all modules
	Modules  []patch.CombinedModule `json:"modules"`
	Saved    []string               `json:"saved_modules,omitempty"`
	Inputs   []inputFile            `json:"inputs"`
}

func combineAction(c *cli.Context) error {
	if err := noPaths(c); err != nil {
		return err
	}
	opts, err := combineOptions(c)
	if err != nil {
		return err
	}
	co := newConsole(c)
	list, err := openAdapters(c)
	if err != nil {
		return err
	}
	var sources []*adapter.Adapter
	for _, w := range list {
		defer w.Adapter.Close()
		sources = append(sources, w.Adapter)
	}
	out, err := checkAdapterOut(c, co, sources)
	if err != nil {
		return err
	}
	if c.Bool("peft-bugs") {
		opts.PEFTBugs = &patch.PEFTBugs{}
		if first := sources[0]; first.Config != nil {
			cfg, err := peft.ParseConfig(first.Config, first.Path)
			if err != nil {
				return err
			}
			opts.PEFTBugs.RSLoRA = cfg.UseRSLoRA
		}
	}
	res := &combineResult{
		Schema: "graft.combine/1", Version: readVersion().Version, Method: string(opts.Method), Rank: opts.Rank, Density: opts.Density,
		Majority: opts.MajoritySign, Seed: opts.Seed, Bugs: opts.PEFTBugs != nil, Out: out, DryRun: c.Bool("dry-run"),
	}
	res.Adapters = usedAdapters(list)
	for _, w := range list {
		files, err := adapterFiles(w.Adapter)
		if err != nil {
			return err
		}
		res.Inputs = append(res.Inputs, files...)
		if b := w.Adapter.Base; b != "" && sources[0].Base != "" && b != sources[0].Base {
			co.note("note: %s is for base %s and %s for %s", formats.Quote(sources[0].Path), formats.Quote(sources[0].Base), formats.Quote(w.Adapter.Path), formats.Quote(b))
		}
	}
	a, modules, err := patch.Combine(c.Context, list, opts)
	if err != nil {
		return err
	}
	res.Modules, res.Saved = modules, savedNames(a)
	res.Params, res.Bytes = adapterShape(a)
	distance, sum := 0.0, 0.0
	for _, m := range modules {
		distance, sum = math.Hypot(distance, m.Distance), math.Hypot(sum, m.SumNorm)
	}
	if sum > 0 {
		res.Distance = distance / sum
	}
	if err := writeDerived(c, co, a, sources, out); err != nil {
		return err
	}
	return co.emit(res, res.print)
}

// combineOptions reads the flags that say how.
func combineOptions(c *cli.Context) (patch.CombineOptions, error) {
	opts := patch.CombineOptions{
		Method: patch.CombineMethod(c.String("method")), Rank: int64(c.Int("rank")), Density: c.Float64("density"),
		MajoritySign: c.String("majority-sign-method"), Seed: c.Uint64("seed"),
	}
	switch {
	case c.IsSet("rank") && opts.Rank < 1:
		return opts, formats.Usagef("--rank must be 1 or more (got %d)", opts.Rank)
	case c.IsSet("density") && !(opts.Density > 0 && opts.Density <= 1):
		return opts, formats.Usagef("--density must be above 0 and at most 1 (got %g)", opts.Density)
	case c.IsSet("seed") && !strings.HasPrefix(string(opts.Method), "dare_"):
		return opts, formats.Usagef("--seed is for the dare methods: nothing in %s is random", formats.Quote(string(opts.Method)))
	}
	var err error
	opts.DType, err = factorType(c)
	return opts, err
}

// openAdapters opens what --adapter names.
func openAdapters(c *cli.Context) ([]patch.Weighted, error) {
	for _, arg := range c.StringSlice("adapter") {
		if err := checkWeight(arg); err != nil {
			return nil, err
		}
	}
	var list []patch.Weighted
	for _, arg := range c.StringSlice("adapter") {
		path, weight := splitWeight(arg)
		a, err := open.Adapter(path)
		if err != nil {
			for _, w := range list {
				w.Adapter.Close()
			}
			return nil, err
		}
		list = append(list, patch.Weighted{Adapter: a, Weight: weight})
	}
	return list, nil
}

func (r *combineResult) print(w io.Writer) {
	if r.DryRun {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "MODULE\tSHAPE\tADAPTERS\tRANK\tNORM\tDISTANCE\tLOST")
		for _, m := range r.Modules {
			fmt.Fprintf(t, "%s\t%v\t%d\t%d\t%.4g\t%.4g\t%.4g\n", printable(m.Module), m.Shape, len(m.From), m.Rank, m.Norm, m.Distance, m.Lost)
		}
		t.Flush()
	}
	least, most := r.Modules[0].Rank, int64(0)
	for _, m := range r.Modules {
		least, most = min(least, m.Rank), max(most, m.Rank)
	}
	fmt.Fprintf(w, "%s: %s of rank %s by %s, %s parameters, %s", r.Out, countOf(len(r.Modules), "module"), rangeText(least, most), r.Method, countText(r.Params), sizeText(r.Bytes))
	if patch.CombineMethod(r.Method) != patch.CombineCat {
		fmt.Fprintf(w, "; %s from the weighted sum", percentText(r.Distance))
	}
	fmt.Fprintln(w)
}

// rangeText writes the numbers from least to most.
func rangeText(least, most int64) string {
	if least == most {
		return fmt.Sprint(least)
	}
	return fmt.Sprintf("%d to %d", least, most)
}

// percentText writes a share for people.
func percentText(x float64) string { return fmt.Sprintf("%.3g %%", 100*x) }

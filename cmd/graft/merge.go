package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/patch"
)

func mergeCommand() *cli.Command {
	return &cli.Command{
		Name:      "merge",
		Usage:     "write the base with adapters merged into its weights",
		UsageText: "graft merge --base B --adapter A[=W]... --out P",
		Description: "The output has the base's layout, file names, dtypes and side files; tensors that no\n" +
			"adapter changes are copied byte for byte. Several adapters add up before the one\n" +
			"rounding to the base's dtype. Memory does not grow with the model.\n" +
			"Of an ONNX model the weights change and the graph stays, but for weights that layers\n" +
			"share: one that changes alone gets a copy.",
		Flags: append([]cli.Flag{
			onnxBaseFlag(), adaptersFlag(true), weightsFlag(), externalFlag(false),
			roundingFlag(),
			&cli.BoolFlag{Name: "allow-lost", Usage: "accept targets whose whole change is lost to rounding"},
		}, slices.Concat(narrowFlags(), publishFlags(), outputFlags("the merged model"))...),
		Action: mergeAction,
	}
}

// mergeResult is the JSON of merge.
type mergeResult struct {
	Schema   string        `json:"schema"`
	Version  string        `json:"version"`
	Base     string        `json:"base"`
	Adapters []usedAdapter `json:"adapters"`
	Rounding string        `json:"rounding"`
	Out      string        `json:"out"`
	DryRun   bool          `json:"dry_run,omitempty"`
	Files    int           `json:"files"`
	Bytes    int64         `json:"bytes"`
	Tensors  int           `json:"tensors"`
	Targets  []mergeTarget `json:"targets"`
	LeftOut  []string      `json:"left_out,omitempty"`
	Inputs   []inputFile   `json:"inputs"`
	Written  []writtenFile `json:"written,omitempty"`
}

type mergeTarget struct {
	Module  string  `json:"module"`
	Tensor  string  `json:"tensor"`
	File    string  `json:"file"`
	Kind    string  `json:"kind"`
	DType   string  `json:"dtype"`
	Shape   []int64 `json:"shape"`
	Rank    int64   `json:"rank,omitempty"`
	Scale   float64 `json:"scale,omitempty"`
	Bytes   int64   `json:"bytes"`
	Outcome string  `json:"outcome,omitempty"`

	Changed  int64    `json:"changed_elements,omitempty"`
	Max      float64  `json:"max_change,omitempty"`
	Mean     float64  `json:"mean_change,omitempty"`
	Survived *float64 `json:"surviving_share,omitempty"` // of the update, after rounding
}

func mergeAction(c *cli.Context) error {
	if err := noPaths(c); err != nil {
		return err
	}
	co := newConsole(c)
	in, err := openOperands(c, true)
	if err != nil {
		return err
	}
	defer in.Close()
	in.noteLeftOutModules(co)
	plan, err := in.plan(c.String("rounding"))
	if err != nil {
		return err
	}
	if err := co.checkReport(outPath(c), in.paths()...); err != nil {
		return err
	}
	set, err := plan.files(c, outPath(c))
	if err != nil {
		return err
	}
	pub := newPublication(c, co, "merging", set, in.paths())
	res, err := newMergeResult(in, plan, pub)
	if err != nil {
		return err
	}
	if pub.opts.ID, err = jobID(res.Inputs, "merge", res.Adapters, res.Rounding, c.String("max-shard-size"), c.String("external"), c.String("prefix"), c.StringSlice("skip-modules")); err != nil {
		return err
	}
	if err := pub.check(); err != nil {
		return err
	}
	pub.noteLeftOut(res.LeftOut)
	if in.graph != nil {
		pub.noteUnused()
	}
	if res.DryRun = c.Bool("dry-run"); res.DryRun {
		return co.emit(res, func(w io.Writer) { res.table(w) })
	}
	observer := plan.Observer(co.json || co.report != "")
	pub.opts.Observe = observer.Observe
	pub.opts.Check = func() error {
		results, err := observer.Results()
		if err != nil {
			return err
		}
		res.account(results)
		if c.Bool("allow-lost") {
			return nil
		}
		return patch.CheckLost(results)
	}
	if err := pub.run(c.Context); err != nil {
		return err
	}
	res.Written = pub.files
	return co.emit(res, res.summary)
}

func newMergeResult(in *operands, plan *mergePlan, pub *publication) (*mergeResult, error) {
	res := &mergeResult{
		Schema: "graft.merge/1", Version: readVersion().Version, Base: in.base.Path(), Out: pub.out,
		Bytes: in.base.Size(), Tensors: in.base.Len(),
	}
	for _, f := range pub.set.Files {
		if f.Weights {
			res.Files++
		}
	}
	res.Rounding = string(plan.Rounding())
	res.Adapters = usedAdapters(in.adapters)
	for _, t := range plan.Targets() {
		res.Targets = append(res.Targets, mergeTarget{
			Module: t.Module, Tensor: t.Tensor.Name, File: t.Shard, Kind: t.Kind, DType: t.Tensor.DType.String(), Shape: t.Tensor.Shape,
			Rank: t.Rank, Scale: t.Scale, Bytes: t.Tensor.Size(),
		})
	}
	var err error
	if res.LeftOut, err = hf.LeftOut(in.base); err != nil {
		return nil, err
	}
	res.Inputs, err = in.files()
	return res, err
}

// account takes in what became of the targets.
func (r *mergeResult) account(results []patch.Result) {
	at := map[string]patch.Result{}
	for _, x := range results {
		at[x.Tensor.Name] = x
	}
	for i := range r.Targets {
		t := &r.Targets[i]
		if x, ok := at[t.Tensor]; ok {
			t.Outcome = x.Outcome.String()
			t.measured(x.Statistics)
		} else {
			t.Outcome = "replaced"
		}
	}
}

// measured takes in a target's statistics, if there are any.
func (t *mergeTarget) measured(s *patch.Statistics) {
	if s == nil {
		return
	}
	t.Changed, t.Max, t.Mean = s.Changed, s.Max, s.Mean
	if s.Survived == s.Survived {
		t.Survived = &s.Survived
	}
}

// table prints the plan.
func (r *mergeResult) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TARGET\tSHAPE\tKIND\tRANK\tSCALE\tDTYPE\tFILE\tBYTES")
	for _, x := range r.Targets {
		fmt.Fprintf(t, "%s\t%v\t%s\t%d\t%.6g\t%s\t%s\t%d\n", x.Tensor, x.Shape, x.Kind, x.Rank, x.Scale, x.DType, printable(x.File), x.Bytes)
	}
	t.Flush()
	fmt.Fprintf(w, "%d of %s are targets, in %s of %s\n", len(r.Targets), countOf(r.Tensors, "tensor"), countOf(r.Files, "file"), sizeText(r.Bytes))
}

func (r *mergeResult) summary(w io.Writer) {
	counts := map[string]int{}
	for _, t := range r.Targets {
		counts[t.Outcome]++
	}
	fmt.Fprintf(w, "%s: %d of %s are targets", r.Out, len(r.Targets), countOf(r.Tensors, "tensor"))
	for _, o := range []string{"changed", "replaced", "zero delta", "lost to rounding"} {
		if counts[o] > 0 {
			fmt.Fprintf(w, ", %d %s", counts[o], o)
		}
	}
	fmt.Fprintf(w, "; %s in %s\n", sizeText(r.Bytes), countOf(r.Files, "file"))
	printSums(w, r.Written)
}

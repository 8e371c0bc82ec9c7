package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/patch"
)

func mergeCommand() *cli.Command {
	return &cli.Command{
		Name:      "merge",
		Usage:     "write the base with adapters merged into its weights",
		UsageText: "graft merge --base B --adapter A[=W]... --out P",
		Description: "The output has the base's layout, file names, dtypes and side files; tensors that no\n" +
			"adapter changes are copied byte for byte. Several adapters add up before the one\n" +
			"rounding to the base's dtype. Memory does not grow with the model.",
		Flags: append([]cli.Flag{
			baseFlag(), adaptersFlag(true),
			roundingFlag(),
			&cli.BoolFlag{Name: "allow-lost", Usage: "accept targets whose whole change is lost to rounding"},
			&cli.BoolFlag{Name: "no-fsync", Usage: "do not wait for the disk: faster, not safe against power loss"},
		}, outputFlags("the merged model")...),
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
}

type usedAdapter struct {
	Path   string  `json:"path"`
	Weight float64 `json:"weight"`
}

type mergeTarget struct {
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
	in, err := openOperands(c)
	if err != nil {
		return err
	}
	defer in.Close()
	plan, err := patch.NewPlanRounding(in.base, patch.Rounding(c.String("rounding")), in.adapters...)
	if err != nil {
		return err
	}
	out := outPath(c)
	if err := co.checkReport(out, in.paths()...); err != nil {
		return err
	}
	res, err := newMergeResult(in, plan, out)
	if err != nil {
		return err
	}
	observer := plan.Observer(co.json || co.report != "")
	opts := hf.WriteOptions{
		WriteOptions: safetensors.WriteOptions{Observe: observer.Observe},
		Force:        c.Bool("force"), NoSync: c.Bool("no-fsync"), Inputs: in.paths(),
	}
	merged := plan.Merge()
	if err := hf.CheckOutput(merged, out, opts); err != nil {
		return err
	}
	if n := len(res.LeftOut); n > 0 {
		shown := res.LeftOut[:min(n, 5)]
		more := ""
		if n > len(shown) {
			more = fmt.Sprintf(" and %d more", n-len(shown))
		}
		co.note("note: not carried to the output: %s%s", joinNames(shown), more)
	}
	if res.DryRun = c.Bool("dry-run"); res.DryRun {
		return co.emit(res, func(w io.Writer) { res.table(w) })
	}
	began := time.Now()
	b := co.newBar("merging", float64(merged.Size()))
	opts.Progress = func(n int64) {
		b.add(float64(n), func(rate float64) string { return sizeText(int64(rate)) + "/s" })
	}
	opts.Check = func() error {
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
	err = hf.Write(c.Context, merged, out, opts)
	b.end()
	if err != nil {
		return err
	}
	co.note("merged %s in %.1f s", sizeText(res.Bytes), time.Since(began).Seconds())
	return co.emit(res, res.summary)
}

func newMergeResult(in *operands, plan *patch.Plan, out string) (*mergeResult, error) {
	res := &mergeResult{
		Schema: "graft.merge/1", Version: readVersion().Version, Base: in.base.Path(), Out: out,
		Files: len(in.base.Shards()), Bytes: in.base.Size(), Tensors: in.base.Len(),
	}
	res.Rounding = string(plan.Rounding())
	for _, w := range in.adapters {
		res.Adapters = append(res.Adapters, usedAdapter{w.Adapter.Path, w.Weight})
	}
	for _, t := range plan.Targets() {
		res.Targets = append(res.Targets, mergeTarget{
			Tensor: t.Tensor.Name, File: t.Shard, Kind: t.Kind, DType: t.Tensor.DType.String(), Shape: t.Tensor.Shape,
			Rank: t.Rank, Scale: t.Scale, Bytes: t.Tensor.Size(),
		})
	}
	var err error
	res.LeftOut, err = hf.LeftOut(in.base)
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
}

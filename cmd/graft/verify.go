package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/patch"
)

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "check that a merged model is what merging gives",
		UsageText: "graft verify --base B --adapter A[=W]... --merged M",
		Description: "Computes every target again and compares every byte of every tensor. Exits with 3 and the\n" +
			"first differences where they are not the same. Of an ONNX model it compares the tensors,\n" +
			"not the nodes.",
		Flags: append([]cli.Flag{
			onnxBaseFlag(), adaptersFlag(true), weightsFlag(),
			&cli.StringFlag{Name: "merged", Required: true, Usage: "the merged model: a `PATH`"},
			roundingFlag(),
		}, slices.Concat(narrowFlags(), commonFlags())...),
		Action: verifyAction,
	}
}

func roundingFlag() cli.Flag {
	return &cli.StringFlag{Name: "rounding", Value: string(patch.RoundOnce), Usage: "once; peft: as PEFT's merge rounds, adapters one after another; or peft-safe: as its safe_merge"}
}

type verifyResult struct {
	Schema      string             `json:"schema"`
	Base        string             `json:"base"`
	Adapters    []usedAdapter      `json:"adapters"`
	Merged      string             `json:"merged"`
	Rounding    string             `json:"rounding"`
	Tensors     int                `json:"tensors"`
	Targets     int                `json:"targets"`
	Differences []patch.Difference `json:"differences"`
}

func verifyAction(c *cli.Context) error {
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
	merged, graph, err := open.Model(c.String("merged"))
	if err != nil {
		return namingONNX(c.String("merged"), err)
	}
	defer merged.Close()
	switch {
	case graph == nil && in.graph != nil:
		return formats.Usagef("the base is an ONNX model, and %s is none", formats.Quote(merged.Path()))
	case graph != nil && in.graph == nil:
		return formats.Usagef("%s is an ONNX model, and the base is none", formats.Quote(merged.Path()))
	}
	if err := co.checkReport("", append(in.paths(), merged.Path())...); err != nil {
		return err
	}
	plan, err := in.plan(c.String("rounding"))
	if err != nil {
		return err
	}
	want := plan.Merge()
	b := co.newBar("verifying", float64(want.Size()))
	diffs, err := patch.Compare(c.Context, merged, want, func(n int64) {
		b.add(float64(n), func(rate float64) string { return sizeText(int64(rate)) + "/s" })
	})
	b.end()
	if err != nil {
		return err
	}
	res := &verifyResult{
		Schema: "graft.verify/1", Base: in.base.Path(), Merged: merged.Path(), Rounding: c.String("rounding"),
		Tensors: want.Len(), Targets: len(plan.Targets()), Differences: diffs,
	}
	res.Adapters = usedAdapters(in.adapters)
	err = co.emit(res, func(w io.Writer) {
		if len(diffs) == 0 {
			fmt.Fprintf(w, "%s: as merging gives it, all %s (%s)\n", merged.Path(), countOf(res.Tensors, "tensor"), countOf(res.Targets, "target"))
		}
	})
	if err != nil || len(diffs) == 0 {
		return err
	}
	var problems formats.Problems
	for _, d := range diffs {
		problems.Add(&formats.Error{Class: formats.ErrDiffers, Op: "verifying", File: merged.Path(), Detail: d.String()})
	}
	return problems.Err()
}

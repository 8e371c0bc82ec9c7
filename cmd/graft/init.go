package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/internal/atomicfile"
)

func initCommand() *cli.Command {
	return &cli.Command{
		Name:      "init",
		Usage:     "make a fresh adapter for a base, without training",
		UsageText: "graft init --base B --target-modules LIST|REGEX|all-linear --rank N --alpha X --out ADAPTER",
		Description: "Factors start as PEFT starts them: A random, B zero, so that the adapter changes nothing\n" +
			"until it is trained. The result loads in PEFT. Where factors are made of the weights (pissa, olora),\n" +
			"--residual writes the base that they belong to: W − s·B·A. On it the adapter gives the base's own outputs.",
		Flags:  slices.Concat([]cli.Flag{baseFlag()}, loraFlags(), []cli.Flag{residualFlag()}, outputFlags("the adapter")),
		Action: initAction,
	}
}

type initResult struct {
	Schema   string       `json:"schema"`
	Base     string       `json:"base"`
	Out      string       `json:"out"`
	Residual string       `json:"residual,omitempty"` // the base that was made for the adapter
	DryRun   bool         `json:"dry_run,omitempty"`
	Params   int64        `json:"parameters"`
	Bytes    int64        `json:"bytes"`
	Modules  []moduleInfo `json:"modules"`
}

func initAction(c *cli.Context) error {
	if err := noPaths(c); err != nil {
		return err
	}
	rest, err := residualPath(c)
	if err != nil {
		return err
	}
	co := newConsole(c)
	base, err := open.Checkpoint(c.String("base"))
	if err != nil {
		return err
	}
	defer base.Close()
	out := outPath(c)
	if err := publish.CheckApart(placeOf(base), out); err != nil {
		return err
	}
	if err := co.checkReport(out, placeOf(base)); err != nil {
		return err
	}
	if rest != "" && overlap(rest, out) {
		return formats.Usagef("residual %s overlaps output %s", formats.Quote(rest), formats.Quote(out))
	}
	a, err := freshAdapter(c, base)
	if err != nil {
		return err
	}
	var of *residual
	if rest != "" {
		if err := co.checkReport(rest); err != nil {
			return err
		}
		if of, err = newResidual(c, rest, base, a); err != nil {
			return err
		}
	}
	res := &initResult{Schema: "graft.init/1", Base: base.Path(), Out: out, Residual: rest, DryRun: c.Bool("dry-run")}
	res.Params, res.Bytes = adapterShape(a)
	for _, e := range a.Entries {
		u, ok := adapter.LowRankOf(e.Update)
		if !ok {
			continue
		}
		res.Modules = append(res.Modules, moduleInfo{e.Module, e.Update.Kind(), u.Shape(), u.Rank(), u.Scale})
	}
	if res.DryRun {
		if err := atomicfile.Check(out, true, c.Bool("force")); err != nil {
			return err
		}
		return co.emit(res, res.table)
	}
	if of != nil {
		err = of.write(c.Context, co, out, c.Bool("force"), a)
	} else {
		err = publishDir(out, c.Bool("force"), func(dir string) error { return peft.Write(dir, a) })
	}
	if err != nil {
		return err
	}
	co.noteLeft(out)
	return co.emit(res, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %s parameters in %s, %s\n", out, countText(res.Params), countOf(len(res.Modules), "module"), sizeText(res.Bytes))
		if rest != "" {
			fmt.Fprintf(w, "%s: the base that it belongs to, %s\n", rest, sizeText(base.Size()))
		}
	})
}

func (r *initResult) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MODULE\tSHAPE\tRANK\tSCALE")
	for _, m := range r.Modules {
		fmt.Fprintf(t, "%s\t%v\t%d\t%.6g\n", m.Module, m.Shape, m.Rank, m.Scale)
	}
	t.Flush()
}

// publishDir makes a directory appear at out with what fill writes into it.
func publishDir(out string, force bool, fill func(dir string) error) error {
	stage, err := atomicfile.NewDir(out, atomicfile.Options{Force: force})
	if err != nil {
		return err
	}
	if err := fill(stage.Path()); err != nil {
		stage.Abort()
		return finalName(err, stage.Path(), filepath.Clean(out))
	}
	return stage.Publish()
}

package main

import (
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/ortadapter"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/patch/onnx"
)

func injectCommand() *cli.Command {
	return &cli.Command{
		Name:      "inject",
		Usage:     "put adapters into an ONNX graph and leave its weights alone",
		UsageText: "graft inject --base M.onnx --adapter A[=W]... --mode inputs|baked|in-graph --out M2.onnx",
		Description: "inputs: the factors become inputs of the model with a default of rank 0, so that it computes\n" +
			"what it did; each adapter is written as M2.NAME.onnx_adapter for ONNX Runtime, which can\n" +
			"take another one for every run. baked: the factors are part of the graph, beside each layer.\n" +
			"in-graph: the graph adds them to the weights, which a runtime does once when it loads it.\n" +
			"Quantised layers can take inputs and baked.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "base", Required: true, Usage: "the ONNX model, a `PATH`"}, adaptersFlag(true),
			&cli.StringFlag{Name: "mode", Required: true, Usage: "inputs, baked or in-graph"},
			&cli.StringFlag{Name: "names", Usage: "how factors are named: olive, peft or genai", Value: string(ortadapter.Olive)},
			weightsFlag(), externalFlag(true),
			&cli.BoolFlag{Name: "sha256", Usage: "report the SHA-256 of every file, by reading it back"},
			&cli.BoolFlag{Name: "no-fsync", Usage: "do not wait for the disk: faster, not safe against power loss"},
		}, slices.Concat(narrowFlags(), outputFlags("the model"))...),
		Action: injectAction,
	}
}

type injectResult struct {
	Schema   string        `json:"schema"`
	Version  string        `json:"version"`
	Base     string        `json:"base"`
	Adapters []usedAdapter `json:"adapters"`
	Mode     string        `json:"mode"`
	Names    string        `json:"names"`
	Out      string        `json:"out"`
	DryRun   bool          `json:"dry_run,omitempty"`
	Files    []string      `json:"files"`
	Sites    []injectSite  `json:"sites"`
	Inputs   []inputFile   `json:"inputs"`
	Written  []writtenFile `json:"written,omitempty"`
}

type injectSite struct {
	Module    string `json:"module"`
	Node      string `json:"node"`
	Rank      int64  `json:"rank"`
	Quantized string `json:"quantized,omitempty"`
}

func injectAction(c *cli.Context) error {
	if err := noPaths(c); err != nil {
		return err
	}
	mode := onnx.Mode(c.String("mode"))
	if mode != onnx.Inputs && mode != onnx.Baked && mode != onnx.InGraph {
		return formats.Usagef("--mode %s is not known (want inputs, baked or in-graph)", formats.Quote(string(mode)))
	}
	names, err := ortadapter.ParseNames(c.String("names"))
	if err != nil {
		return err
	}
	co := newConsole(c)
	in, err := openOperands(c, true)
	if err != nil {
		return err
	}
	defer in.Close()
	in.noteLeftOutModules(co)
	if in.graph == nil {
		return formats.Usagef("inject takes an ONNX model, and %s is none", formats.Quote(in.base.Path())).WithHint("graft merge takes Hugging Face models")
	}
	if err := co.checkReport(outPath(c), in.paths()...); err != nil {
		return err
	}
	b, err := in.bind()
	if err != nil {
		return err
	}
	injected, err := b.Inject(in.adapters, onnx.InjectOptions{Mode: mode, Names: names})
	if err != nil {
		return err
	}
	out := outPath(c)
	set, err := graphFiles(c, injected.Edit, in.base.Path(), out)
	if err != nil {
		return err
	}
	if err := addAdapterFiles(&set, injected, names, out); err != nil {
		return err
	}
	pub := newPublication(c, co, "injecting", set, in.paths())
	res := &injectResult{
		Schema: "graft.inject/1", Version: readVersion().Version, Base: in.base.Path(), Mode: string(mode), Names: string(names), Out: out,
	}
	res.Adapters = usedAdapters(in.adapters)
	for _, s := range injected.Sites {
		res.Sites = append(res.Sites, injectSite{s.Module, s.Node, s.Rank, s.Quantized})
	}
	for _, f := range set.Files[:len(set.Files)-1] {
		res.Files = append(res.Files, f.Name)
	}
	res.Files = append(res.Files, filepath.Base(out))
	if res.Inputs, err = in.files(); err != nil {
		return err
	}
	if pub.opts.ID, err = jobID(res.Inputs, "inject", res.Adapters, res.Mode, res.Names, c.String("external"), c.String("prefix"), c.StringSlice("skip-modules")); err != nil {
		return err
	}
	if err := pub.check(); err != nil {
		return err
	}
	pub.noteUnused()
	if res.DryRun = c.Bool("dry-run"); res.DryRun {
		return co.emit(res, res.table)
	}
	if err := pub.run(c.Context); err != nil {
		return err
	}
	res.Written = pub.files
	return co.emit(res, res.summary)
}

// addAdapterFiles puts a file for each adapter before the model.
func addAdapterFiles(set *publish.Set, injected *onnx.Injected, names ortadapter.Names, out string) error {
	stem := strings.TrimSuffix(filepath.Base(out), ".onnx")
	taken := map[string]bool{}
	model := len(set.Files) - 1
	files := set.Files[:model:model]
	for i, a := range injected.Adapters {
		name := adapterName(a.Path)
		if name == "" || taken[name] {
			name = strings.TrimPrefix(fmt.Sprintf("%s-%d", name, i+1), "-")
		}
		taken[name] = true
		f, err := ortadapter.FileOf(a, stem+"."+name+".onnx_adapter", ortadapter.WriteOptions{Names: names})
		if err != nil {
			return err
		}
		files = append(files, f)
		set.Layout = publish.Beside
	}
	set.Files = append(files, set.Files[model])
	return nil
}

var unusual = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// adapterName returns the name of an adapter's directory or file, fit for a file name.
func adapterName(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		abs = path
	}
	name := strings.TrimSuffix(filepath.Base(abs), ".onnx_adapter")
	return strings.Trim(unusual.ReplaceAllString(name, "-"), "-")
}

func (r *injectResult) table(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MODULE\tNODE\tRANK\tQUANTISED")
	for _, s := range r.Sites {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", printable(s.Module), printable(s.Node), s.Rank, s.Quantized)
	}
	t.Flush()
	fmt.Fprintf(w, "to write: %s\n", joinNames(r.Files))
}

func (r *injectResult) summary(w io.Writer) {
	fmt.Fprintf(w, "%s: %s got adapters (%s); wrote %s\n", r.Out, countOf(len(r.Sites), "layer"), r.Mode, joinNames(r.Files))
	printSums(w, r.Written)
}

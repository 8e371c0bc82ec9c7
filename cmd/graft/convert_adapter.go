package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/formats/ortadapter"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/internal/atomicfile"
)

type convertAdapterResult struct {
	Schema  string      `json:"schema"`
	Version string      `json:"version"`
	In      string      `json:"in"`
	Out     string      `json:"out"`
	To      string      `json:"to"`
	Names   string      `json:"names,omitempty"`
	DryRun  bool        `json:"dry_run,omitempty"`
	Modules int         `json:"modules"`
	Params  int64       `json:"parameters"`
	Bytes   int64       `json:"bytes"`
	Inputs  []inputFile `json:"inputs"`
}

// convertAdapterAction is convert of an adapter.
func convertAdapterAction(c *cli.Context) error {
	for _, flag := range []string{"dtype", "keep-dtype", "overflow", "max-shard-size", "resume", "sha256"} {
		if c.IsSet(flag) {
			return formats.Usagef("--%s is for models, and %s is an adapter", flag, formats.Quote(c.Args().First()))
		}
	}
	to, names := c.String("to"), ortadapter.Names("")
	switch to {
	case "peft":
		if c.IsSet("names") {
			return formats.Usagef("--names says how an .onnx_adapter file is written")
		}
	case ortadapter.Dialect:
		names = ortadapter.Olive
		if c.IsSet("names") {
			var err error
			if names, err = ortadapter.ParseNames(c.String("names")); err != nil {
				return err
			}
		}
	default:
		return formats.Usagef("format %s is not supported for an adapter (want \"peft\" or \"onnx_adapter\")", formats.Quote(to))
	}
	co := newConsole(c)
	a, err := open.Adapter(c.Args().First())
	if err != nil {
		return err
	}
	defer a.Close()
	out := outPath(c)
	if err := publish.CheckApart(a.Path, out); err != nil {
		return err
	}
	if err := co.checkReport(out, a.Path); err != nil {
		return err
	}
	res := &convertAdapterResult{
		Schema: "graft.convert-adapter/1", Version: readVersion().Version, In: a.Path, Out: out, To: to, Names: string(names),
		DryRun: c.Bool("dry-run"), Modules: len(a.Entries),
	}
	res.Params, res.Bytes = adapterShape(a)
	if res.Inputs, err = adapterFiles(a); err != nil {
		return err
	}
	write := writePEFT
	if to == ortadapter.Dialect {
		write = writeORT
	}
	if err := write(c, a, out, names); err != nil {
		return err
	}
	return co.emit(res, res.print)
}

// writePEFT publishes an adapter as a PEFT directory, or with --dry-run only checks.
func writePEFT(c *cli.Context, a *adapter.Adapter, out string, _ ortadapter.Names) error {
	described := *a
	if a.Config == nil {
		cfg, err := peft.ConfigFor(a)
		if err != nil {
			return err
		}
		described.Config = cfg.Encode()
	}
	if c.Bool("dry-run") {
		return atomicfile.Check(out, true, c.Bool("force"))
	}
	return publishDir(out, c.Bool("force"), func(dir string) error { return peft.Write(dir, &described) })
}

// writeORT publishes an adapter as an .onnx_adapter file, or with --dry-run only checks.
func writeORT(c *cli.Context, a *adapter.Adapter, out string, names ortadapter.Names) error {
	opts := ortadapter.WriteOptions{Names: names, Force: c.Bool("force"), NoSync: c.Bool("no-fsync")}
	if a.Dialect == ortadapter.Dialect { // its versions go along
		f, err := ortadapter.Open(a.Path)
		if err != nil {
			return err
		}
		f.Close()
		opts.AdapterVersion, opts.ModelVersion = f.AdapterVersion, f.ModelVersion
	}
	if c.Bool("dry-run") {
		if err := ortadapter.Check(a, out, opts); err != nil {
			return err
		}
		return atomicfile.Check(out, false, opts.Force)
	}
	return ortadapter.Write(c.Context, a, out, opts)
}

func (r *convertAdapterResult) print(w io.Writer) {
	verb := "converted"
	if r.DryRun {
		verb = "to convert"
	}
	fmt.Fprintf(w, "%s: %s %s, %s parameters\n", r.Out, countOf(r.Modules, "module"), verb, countText(r.Params))
}

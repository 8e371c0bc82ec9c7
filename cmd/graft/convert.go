package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/patch"
)

func convertCommand() *cli.Command {
	return &cli.Command{
		Name:      "convert",
		Usage:     "write a model with another dtype or cut into other files, or an adapter in another format",
		UsageText: "graft convert IN --to safetensors|peft|onnx_adapter --out P [--dtype D] [--max-shard-size S] [--names N]",
		Description: "Elements are rounded to nearest even, once. The config's dtype follows. Tensors that do not\n" +
			"change are copied byte for byte, and so are the files beside the weights.\n\n" +
			"An adapter becomes a PEFT directory or an ONNX Runtime adapter file. Such a file has no scale: it is\n" +
			"multiplied into B and rounded once. Its names must be those of the model's inputs.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "to", Required: true, Usage: "format of the output: safetensors, or of an adapter peft or onnx_adapter"},
			&cli.StringFlag{Name: "names", Usage: "names in an .onnx_adapter file: those of olive, the default, peft or genai"},
			&cli.StringFlag{Name: "dtype", Usage: "dtype of the output's float tensors: bf16, f16, f32 or f64"},
			&cli.StringSliceFlag{Name: "keep-dtype", Usage: "leave tensors as they are whose path ends with `PATTERN`, a regular expression; may be repeated"},
			&cli.StringFlag{Name: "overflow", Value: string(patch.OverflowError), Usage: "what to do with numbers too large for the dtype: error, or saturate to the largest"},
		}, slices.Concat(publishFlags(), outputFlags("the model or adapter"))...),
		Action: convertAction,
	}
}

type convertResult struct {
	Schema    string        `json:"schema"`
	Version   string        `json:"version"`
	In        string        `json:"in"`
	Out       string        `json:"out"`
	DType     string        `json:"dtype,omitempty"`
	DryRun    bool          `json:"dry_run,omitempty"`
	Tensors   int           `json:"tensors"`
	Converted int64         `json:"converted_tensors"`
	Overflow  int64         `json:"overflowed_elements"`
	Underflow int64         `json:"underflowed_elements"`
	Files     int           `json:"files"`
	Bytes     int64         `json:"bytes"`
	LeftOut   []string      `json:"left_out,omitempty"`
	Inputs    []inputFile   `json:"inputs"`
	Written   []writtenFile `json:"written,omitempty"`
}

func convertAction(c *cli.Context) error {
	if c.NArg() != 1 {
		return formats.Usagef("convert takes one path (got %d)", c.NArg())
	}
	if open.IsAdapter(c.Args().First()) {
		return convertAdapterAction(c)
	}
	switch to := c.String("to"); to {
	case "safetensors":
	case "peft", "onnx_adapter":
		return formats.Usagef("format %q is one of adapters, and %s is none", to, formats.Quote(c.Args().First()))
	default:
		return formats.Usagef("format %s is not supported (want \"safetensors\")", formats.Quote(to))
	}
	if c.IsSet("names") {
		return formats.Usagef("--names says how an .onnx_adapter file is written")
	}
	if !c.IsSet("dtype") && (c.IsSet("keep-dtype") || c.IsSet("overflow")) {
		return formats.Usagef("--keep-dtype and --overflow say how --dtype is meant, which is missing")
	}
	co := newConsole(c)
	base, err := open.Checkpoint(c.Args().First())
	if err != nil {
		return err
	}
	defer base.Close()
	if err := co.checkReport(outPath(c), base.Path()); err != nil {
		return err
	}
	ckpt, counts, err := converted(c, base)
	if err != nil {
		return err
	}
	if ckpt, err = resharded(c, ckpt); err != nil {
		return err
	}
	set, err := hf.Files(ckpt, outPath(c))
	if err != nil {
		return err
	}
	pub := newPublication(c, co, "converting", set, []string{base.Path()})
	res := &convertResult{
		Schema: "graft.convert/1", Version: readVersion().Version, In: base.Path(), Out: pub.out, DType: c.String("dtype"),
		Tensors: base.Len(), Converted: counts.Tensors, Files: len(ckpt.Shards()), Bytes: ckpt.Size(),
	}
	if res.LeftOut, err = hf.LeftOut(base); err != nil {
		return err
	}
	if res.Inputs, err = weightFiles(base); err != nil {
		return err
	}
	if pub.opts.ID, err = jobID(res.Inputs, "convert", res.DType, c.StringSlice("keep-dtype"), c.String("overflow"), c.String("max-shard-size")); err != nil {
		return err
	}
	if err := pub.check(); err != nil {
		return err
	}
	pub.noteLeftOut(res.LeftOut)
	if res.DryRun = c.Bool("dry-run"); res.DryRun {
		return co.emit(res, res.print)
	}
	if err := pub.run(c.Context); err != nil {
		return err
	}
	res.Overflow, res.Underflow, res.Written = counts.Overflow.Load(), counts.Underflow.Load(), pub.files
	return co.emit(res, res.print)
}

// converted returns the checkpoint in the dtype that was asked for, if one was.
func converted(c *cli.Context, base *formats.Checkpoint) (*formats.Checkpoint, *patch.Converted, error) {
	if !c.IsSet("dtype") {
		return base, &patch.Converted{}, nil
	}
	dtype, err := formats.ParseDType(strings.ToUpper(c.String("dtype")))
	if err != nil || !dtype.IsFloat() {
		return nil, nil, formats.Usagef("dtype %s is not supported (want bf16, f16, f32 or f64)", formats.Quote(c.String("dtype")))
	}
	ckpt, counts, err := patch.Convert(base, patch.ConvertOptions{DType: dtype, Keep: c.StringSlice("keep-dtype"), Overflow: patch.Overflow(c.String("overflow"))})
	if err != nil {
		return nil, nil, err
	}
	ckpt, err = hf.WithDType(ckpt, dtype)
	return ckpt, counts, err
}

func (r *convertResult) print(w io.Writer) {
	verb := "converted"
	if r.DryRun {
		verb = "to convert"
	}
	fmt.Fprintf(w, "%s: %d of %s %s", r.Out, r.Converted, countOf(r.Tensors, "tensor"), verb)
	if r.Overflow > 0 {
		fmt.Fprintf(w, ", %s saturated", countOf(int(r.Overflow), "element"))
	}
	if r.Underflow > 0 {
		fmt.Fprintf(w, ", %s became zero", countOf(int(r.Underflow), "element"))
	}
	fmt.Fprintf(w, "; %s in %s\n", sizeText(r.Bytes), countOf(r.Files, "file"))
	printSums(w, r.Written)
}

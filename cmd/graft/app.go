package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
)

// execute parses the arguments, runs a command and returns the exit code.
func execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := newApp()
	out := &checkedWriter{w: stdout}
	app.Reader, app.Writer, app.ErrWriter = stdin, out, stderr
	args, err := normalize(app, args)
	if err == nil {
		err = app.RunContext(ctx, append([]string{app.Name}, args...))
	}
	if out.err != nil && ctx.Err() == nil {
		err = formats.Outputf("stdout", formats.Cause(out.err), "")
	}
	return report(ctx, stderr, err)
}

// checkedWriter remembers the first error of a writer, so that a result that did not
// arrive is a failure wherever it was printed.
type checkedWriter struct {
	w   io.Writer
	err error
}

func (c *checkedWriter) Write(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.w.Write(p)
	c.err = err
	return n, err
}

// newApp is the table of commands.
func newApp() *cli.App {
	app := &cli.App{
		Name:  "graft",
		Usage: "LoRA for real checkpoints",
		Description: "graft gives chosen layers of a pretrained model low-rank factors, trains only those, and\n" +
			"writes either the adapter or the merged model. It reads Hugging Face directories,\n" +
			"safetensors files and ONNX models, holds a few blocks in memory, and leaves nothing half\n" +
			"written.",
		UsageText:                 "graft COMMAND [flags and paths in any order]",
		HideVersion:               true,
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		CustomAppHelpTemplate:     appHelp,
		Commands: []*cli.Command{
			quickstartCommand(), inspectCommand(), initCommand(), trainCommand(), evalCommand(), generateCommand(),
			mergeCommand(), injectCommand(), verifyCommand(), diffCommand(), convertCommand(), extractCommand(), combineCommand(), resizeCommand(), completionCommand(), versionCommand(),
		},
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   usageError,
	}
	for _, c := range app.Commands {
		c.OnUsageError = usageError
		c.HideHelpCommand = true
		c.CustomHelpTemplate = commandHelp
		c.Before = setWorkers
		c.Action = orPrintConfig(c.Action)
	}
	return app
}

// maxWorkers bounds --workers on machines with fewer processors.
const maxWorkers = 32

// setWorkers gives every part of the program the number of workers that was asked for.
func setWorkers(c *cli.Context) error {
	if !c.IsSet("workers") {
		return nil
	}
	n := c.Int("workers")
	if n < 1 {
		return formats.Usagef("--workers must be 1 or more (got %d)", n)
	}
	// More workers than this gain nothing, and each of them costs a thread and a block.
	runtime.GOMAXPROCS(min(n, max(maxWorkers, runtime.NumCPU())))
	return nil
}

func usageError(_ *cli.Context, err error, _ bool) error {
	return formats.Usagef("%v", err)
}

const appHelp = `{{.Name}}: {{.Usage}}

{{.Description}}

usage: {{.UsageText}}

commands:{{range .VisibleCommands}}
  {{printf "%-12s" .Name}}{{.Usage}}{{end}}

Run "graft COMMAND --help" for a command's flags.
exit codes: 0 ok, 1 usage, 3 differs, 4 input rejected, 5 adapter does not fit the
base, 6 output failed, 130 interrupted
`

const commandHelp = `graft {{.Name}}: {{.Usage}}

usage: {{.UsageText}}
{{if .Description}}
{{.Description}}
{{end}}{{if .VisibleFlags}}
flags:
{{flags .}}{{end}}`

func init() {
	// The library's own flag lines repeat the zero values of flags as defaults.
	print := cli.HelpPrinterCustom
	cli.HelpPrinterCustom = func(w io.Writer, template string, data any, funcs map[string]any) {
		if funcs == nil {
			funcs = map[string]any{}
		}
		funcs["flags"] = func(c *cli.Command) string { return flagTable(c) }
		print(w, template, data, funcs)
	}
	cli.HelpPrinter = func(w io.Writer, template string, data any) {
		cli.HelpPrinterCustom(w, template, data, nil)
	}
}

// flagTable lists a command's flags, one a line: name, value, meaning, default.
func flagTable(c *cli.Command) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range c.Flags {
		d := f.(cli.DocGenerationFlag)
		value, usage := flagValue(d)
		name := "--" + f.Names()[0]
		for _, alias := range f.Names()[1:] {
			name += ", -" + alias
		}
		if value != "" {
			name += " " + value
		}
		if def := flagDefault(d); def != "" {
			usage += " (default: " + def + ")"
		}
		if r, ok := f.(cli.RequiredFlag); ok && r.IsRequired() {
			usage += " (required)"
		}
		fmt.Fprintf(t, "  %s\t%s\n", name, usage)
	}
	t.Flush()
	return b.String()
}

// flagValue returns the placeholder for a flag's value, which its usage has in
// backquotes, and the usage without them.
func flagValue(f cli.DocGenerationFlag) (value, usage string) {
	usage = f.GetUsage()
	if before, rest, ok := strings.Cut(usage, "`"); ok {
		value, rest, _ = strings.Cut(rest, "`")
		return value, before + value + rest
	}
	switch f.(type) {
	case *cli.BoolFlag:
		return "", usage
	case *cli.StringFlag, *cli.StringSliceFlag:
		return "TEXT", usage
	case *cli.Float64Flag:
		return "X", usage
	}
	return "N", usage
}

// flagDefault returns the default of a flag that has one worth telling.
func flagDefault(f cli.DocGenerationFlag) string {
	switch f := f.(type) {
	case *cli.StringFlag:
		return f.Value
	case *cli.IntFlag:
		if f.Value != 0 {
			return fmt.Sprint(f.Value)
		}
	case *cli.Uint64Flag:
		if f.Value != 0 {
			return fmt.Sprint(f.Value)
		}
	case *cli.Float64Flag:
		if f.Value != 0 {
			return fmt.Sprint(f.Value)
		}
	}
	return ""
}

// commonFlags are those of every command that does something.
func commonFlags() []cli.Flag {
	return []cli.Flag{
		jsonFlag(),
		&cli.StringFlag{Name: "report", Usage: "also write the result as JSON to `FILE`, in place of an earlier report"},
		&cli.IntFlag{Name: "workers", Usage: "work on `N` pieces at once (default: one a processor); the result does not depend on it"},
		&cli.BoolFlag{Name: "quiet", Usage: "no progress and no notes"},
	}
}

// outputFlags are those of a command that writes a model or an adapter, and its common ones.
func outputFlags(what string) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "out", Required: true, Usage: "write " + what + " to `PATH`"},
		&cli.BoolFlag{Name: "force", Usage: "replace the output if it exists"},
		&cli.BoolFlag{Name: "dry-run", Usage: "check everything, show the plan, and write nothing"},
	}, commonFlags()...)
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print the result as JSON on stdout"}
}

func baseFlag() cli.Flag {
	return &cli.StringFlag{Name: "base", Required: true, Usage: "the pretrained model: a directory, a cache folder or a safetensors file, a `PATH`"}
}

// onnxBaseFlag is that of commands that take ONNX models too.
func onnxBaseFlag() cli.Flag {
	return &cli.StringFlag{Name: "base", Required: true, Usage: "the pretrained model: a directory, a cache folder, a safetensors file or an ONNX file, a `PATH`"}
}

func adaptersFlag(required bool) cli.Flag {
	return &cli.StringSliceFlag{Name: "adapter", Required: required, Usage: "an adapter `A[=W]`, its delta times W: a PEFT directory or an .onnx_adapter file; may be repeated"}
}

// outPath returns the path of --out. A slash at its end, as shells complete it, is not
// part of it.
func outPath(c *cli.Context) string { return filepath.Clean(c.String("out")) }

// noPaths refuses arguments that belong to no flag.
func noPaths(c *cli.Context) error {
	if c.NArg() > 0 {
		return formats.Usagef("unexpected argument %s", formats.Quote(c.Args().First())).
			WithHint("run \"graft %s --help\"", c.Command.Name)
	}
	return nil
}

// oneOf says which of two flags that exclude each other were both given.
func oneOf(c *cli.Context, a, b string) error {
	if c.IsSet(a) && c.IsSet(b) {
		return formats.Usagef("--%s and --%s exclude each other", a, b)
	}
	return nil
}

// countOf writes a count of things, in the plural where it is not one.
func countOf(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return countText(int64(n)) + " " + thing + "s"
}

// sizeText writes a number of bytes for people.
func sizeText(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	x := float64(n)
	for _, name := range []string{"kB", "MB", "GB", "TB"} {
		x /= unit
		if x < 999.5 || name == "TB" {
			if x < 9.995 {
				return fmt.Sprintf("%.2f %s", x, name)
			}
			return fmt.Sprintf("%.1f %s", x, name)
		}
	}
	return ""
}

// countText writes a count with thin groups of three digits.
func countText(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

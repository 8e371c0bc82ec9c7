package main

import (
	"context"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
)

// execute parses the arguments, runs a command and returns the exit code.
func execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := newApp()
	app.Reader, app.Writer, app.ErrWriter = stdin, stdout, stderr
	args, err := normalize(app, args)
	if err == nil {
		err = app.RunContext(ctx, append([]string{app.Name}, args...))
	}
	return report(ctx, stderr, err)
}

// newApp is the table of commands.
func newApp() *cli.App {
	app := &cli.App{
		Name:  "graft",
		Usage: "LoRA for real checkpoints",
		Description: "graft gives chosen layers of a pretrained model low-rank factors, trains only those, and\n" +
			"writes either the adapter or the merged model. It reads Hugging Face directories and\n" +
			"safetensors files, holds a few blocks in memory, and leaves nothing half written.",
		UsageText:                 "graft COMMAND [flags and paths in any order]",
		HideVersion:               true,
		HideHelpCommand:           true,
		DisableSliceFlagSeparator: true,
		CustomAppHelpTemplate:     appHelp,
		Commands: []*cli.Command{
			quickstartCommand(), inspectCommand(), initCommand(), trainCommand(), evalCommand(), generateCommand(),
			mergeCommand(), completionCommand(), versionCommand(),
		},
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   usageError,
	}
	for _, c := range app.Commands {
		c.OnUsageError = usageError
		c.HideHelpCommand = true
		c.CustomHelpTemplate = commandHelp
	}
	return app
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
flags:{{range .VisibleFlags}}
  {{.}}{{end}}
{{end}}`

// Flags that several commands share.
func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print the result as JSON on stdout"}
}
func reportFlag() cli.Flag {
	return &cli.StringFlag{Name: "report", Usage: "also write the result as JSON to `FILE`"}
}
func quietFlag() cli.Flag { return &cli.BoolFlag{Name: "quiet", Usage: "no progress and no notes"} }
func workersFlag() cli.Flag {
	return &cli.IntFlag{Name: "workers", Usage: "work on `N` pieces at once (default: one a processor); the result does not depend on it"}
}
func forceFlag() cli.Flag {
	return &cli.BoolFlag{Name: "force", Usage: "replace the output if it exists"}
}
func dryRunFlag() cli.Flag {
	return &cli.BoolFlag{Name: "dry-run", Usage: "check everything, show the plan, and write nothing"}
}
func baseFlag() cli.Flag {
	return &cli.StringFlag{Name: "base", Required: true, Usage: "the pretrained model: a directory, a cache folder or a safetensors `PATH`"}
}
func outFlag(what string) cli.Flag {
	return &cli.StringFlag{Name: "out", Required: true, Usage: "write " + what + " to `PATH`"}
}
func adaptersFlag(required bool) cli.Flag {
	return &cli.StringSliceFlag{Name: "adapter", Required: required, Usage: "a PEFT adapter's directory `A[=W]`, its delta times W; may be repeated"}
}

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

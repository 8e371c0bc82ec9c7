package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/internal/atomicfile"
)

// console is where a command talks: data to stdout, everything else to stderr.
type console struct {
	out, err io.Writer
	quiet    bool
	json     bool
	report   string // path for the JSON, "" if none
	tty      bool   // stderr is a terminal
}

func newConsole(c *cli.Context) *console {
	co := &console{out: c.App.Writer, err: c.App.ErrWriter, quiet: c.Bool("quiet"), json: c.Bool("json"), report: c.String("report")}
	if f, ok := co.err.(*os.File); ok {
		co.tty = term.IsTerminal(int(f.Fd()))
	}
	return co
}

// note prints a line of talk.
func (co *console) note(format string, args ...any) {
	if !co.quiet {
		fmt.Fprintf(co.err, format+"\n", args...)
	}
}

// emit prints a command's result: as JSON with --json, else by text. With --report the
// JSON goes to that file too.
func (co *console) emit(result any, text func(w io.Writer)) error {
	if co.report != "" {
		if err := writeJSON(co.report, result); err != nil {
			return err
		}
	}
	if !co.json {
		text(co.out)
		return nil
	}
	data, err := encodeJSON(result)
	if err != nil {
		return err
	}
	_, err = co.out.Write(data)
	return err
}

// checkReport refuses a report over an input, before any work is done.
func (co *console) checkReport(inputs ...string) error {
	if co.report == "" {
		return nil
	}
	for _, in := range inputs {
		if err := hf.CheckApart(in, co.report); err != nil {
			return err
		}
	}
	return atomicfile.Check(co.report, false, true)
}

func encodeJSON(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	return append(data, '\n'), err
}

// writeJSON writes a file whole or not at all, replacing an old one.
func writeJSON(path string, v any) error {
	data, err := encodeJSON(v)
	if err != nil {
		return err
	}
	stage, err := atomicfile.NewFile(path, atomicfile.Options{Force: true})
	if err != nil {
		return err
	}
	if err := os.WriteFile(stage.Path(), data, 0o666); err != nil {
		stage.Abort()
		return formats.Outputf(filepath.Clean(path), err, "")
	}
	return stage.Publish()
}

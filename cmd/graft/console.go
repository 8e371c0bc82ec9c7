package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/publish"
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

// columns returns the width of the terminal, and one that all have where it is not known.
func (co *console) columns() int {
	if f, ok := co.err.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 1 {
			return n
		}
	}
	return 80
}

// note prints a line of talk.
func (co *console) note(format string, args ...any) {
	if !co.quiet {
		fmt.Fprintf(co.err, format+"\n", args...)
	}
}

// noteLeft says what stays beside an output that has just been published.
func (co *console) noteLeft(out string) {
	for _, path := range atomicfile.Left(out) {
		co.note("note: %s of an earlier run is not yours to remove, and stays", formats.Quote(path))
	}
}

// emit prints a command's result: as JSON with --json, else by text. With --report the
// JSON goes to that file too.
func (co *console) emit(result any, text func(w io.Writer)) error {
	if co.report != "" {
		if err := writeJSON(co.report, result); err != nil {
			var e *formats.Error
			if errors.As(err, &e) {
				return e.WithHint("only the report is missing: all else is done")
			}
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

// checkReport refuses a report over an input, over the output or over a file of another
// kind, before any work is done. out is "" where there is none.
func (co *console) checkReport(out string, inputs ...string) error {
	if co.report == "" {
		return nil
	}
	if err := checkNotStdout("report", co.report); err != nil {
		return err
	}
	if out != "" && overlap(co.report, out) {
		return formats.Usagef("report %s overlaps output %s", formats.Quote(co.report), formats.Quote(out))
	}
	for _, in := range inputs {
		if err := publish.CheckApart(in, co.report); err != nil {
			return err
		}
	}
	return checkReplace(co.report)
}

// overlap reports whether one of two paths is the other or lies in it. Both may be
// there or not; what holds them may be reached through links.
func overlap(a, b string) bool {
	a, b = resolve(a), resolve(b)
	for _, p := range [][2]string{{a, b}, {b, a}} {
		if rel, err := filepath.Rel(p[0], p[1]); err == nil && filepath.IsLocal(rel) {
			return true
		}
	}
	return false
}

func resolve(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		return filepath.Join(dir, filepath.Base(abs))
	}
	return abs
}

func encodeJSON(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	return append(data, '\n'), err
}

// writeJSON writes a file whole or not at all; what [checkReplace] lets pass is replaced.
func writeJSON(path string, v any) error {
	data, err := encodeJSON(v)
	if err != nil {
		return err
	}
	return writeWhole(path, data)
}

// writeWhole writes a report or a page whole or not at all; what [checkReplace] lets pass,
// which may be another file than when the work began, is replaced.
func writeWhole(path string, data []byte) error {
	if err := checkReplace(path); err != nil {
		return err
	}
	stage, err := atomicfile.NewFile(path, atomicfile.Options{Force: true})
	if err != nil {
		return err
	}
	if err := os.WriteFile(stage.Path(), data, 0o666); err != nil {
		stage.Abort()
		return formats.Outputf(filepath.Clean(path), formats.Cause(err), "")
	}
	return stage.Publish()
}

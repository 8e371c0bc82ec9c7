package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/health"
)

// healthInfo is what a check of an adapter found.
type healthInfo struct {
	*health.Result
	Base string `json:"base,omitempty"`
	// SlimBytes is what the adapter would take less after resize --slim, with the same base; nil
	// where that refuses the adapter.
	SlimBytes *int64         `json:"slim_bytes,omitempty"`
	Advice    *health.Advice `json:"advice,omitempty"`
	// Command is the resize that the advice asks for; absent where that refuses the adapter.
	Command string `json:"command,omitempty"`
}

func checkFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "check", Usage: "read an adapter whole and say what is wrong or odd in it"},
		&cli.StringFlag{Name: "base", Usage: "with --check: also compare with the model that the adapter is for, a `PATH`, which may be an ONNX model"},
		&cli.BoolFlag{Name: "advice", Usage: "with --check: say which rank every module needs"},
		&cli.Float64Flag{Name: "energy", Value: 0.99, Usage: "with --advice: the share of the squared norm of every module's change that is to be kept, above 0 and at most 1"},
		&cli.BoolFlag{Name: "exit-code", Usage: "with --check: exit with 3 if there are errors or warnings; notes do not count"},
	}
}

// adapterFlags are those that are about adapters alone.
var adapterFlags = []string{"check", "base", "advice", "energy", "exit-code"}

// checkOptions refuses flags of a check without one.
func checkOptions(c *cli.Context) error {
	for _, name := range adapterFlags[1:] {
		needs := "check"
		if name == "energy" {
			needs = "advice"
		}
		if c.IsSet(name) && !wants(c, needs) {
			return formats.Usagef("--%s goes with --%s", name, needs)
		}
	}
	if x := c.Float64("energy"); !(x > 0 && x <= 1) {
		return formats.Usagef("--energy must be above 0 and at most 1 (got %g)", x)
	}
	return nil
}

// wants reports whether a check, or its advice, is asked for: a page has both.
func wants(c *cli.Context, name string) bool { return c.Bool(name) || c.IsSet("html") }

// checkAdapter checks an adapter, against its base where one is given.
func checkAdapter(c *cli.Context, co *console, a *adapter.Adapter) (*healthInfo, error) {
	h := &healthInfo{}
	var opts health.Options
	var slim patch.SlimOptions
	if c.IsSet("base") {
		h.Base = c.String("base")
		o, err := openModel(h.Base)
		if err != nil {
			return nil, err
		}
		base := &diffBase{operands: o}
		defer base.Close()
		if err := o.openWeights(c); err != nil {
			return nil, err
		}
		if err := co.checkReport("", o.paths()...); err != nil {
			return nil, err
		}
		if err := checkPage(c, o.paths()...); err != nil {
			return nil, err
		}
		if slim.Base, err = base.model(a); err != nil {
			return nil, err
		}
		places, misfits, err := patch.Fit(slim.Base, a)
		if err != nil {
			return nil, err
		}
		opts.BasePath, opts.Findings = o.base.Path(), misfitFindings(a, misfits)
		for _, p := range places {
			opts.Bases = append(opts.Bases, health.Base(p))
		}
	}
	b := co.newBar("checking", float64(health.Work(a, opts.Bases)))
	opts.Progress = func(n int64) {
		b.add(float64(n), func(rate float64) string { return sizeText(int64(rate)) + "/s" })
	}
	var err error
	h.Result, err = health.Check(c.Context, a, opts)
	b.end()
	if err != nil {
		return nil, err
	}
	finite := !slices.ContainsFunc(h.Findings, func(f health.Finding) bool { return f.What == health.NotFinite })
	if finite && len(opts.Findings) == 0 {
		small, _, err := patch.Slim(c.Context, a, slim)
		if err != nil {
			return nil, err
		}
		_, before := adapterShape(a)
		_, after := adapterShape(small)
		saved := before - after
		h.SlimBytes = &saved
	}
	if !wants(c, "advice") {
		return h, nil
	}
	if h.Advice, err = health.Advise(h.Result, a, c.Float64("energy")); err != nil {
		return nil, err
	}
	if finite && len(h.Advice.Modules) > 0 {
		h.Command = resizeFor(a, h.Advice)
	}
	return h, nil
}

// misfitFindings are what does not fit a base.
func misfitFindings(a *adapter.Adapter, list []patch.Misfit) []health.Finding {
	var out []health.Finding
	for _, x := range list {
		f := health.Finding{Level: health.Error, What: health.DoesNotFit, Text: x.Err.Error()}
		if x.Entry >= 0 {
			f.Module = a.Entries[x.Entry].Module
		}
		var e *formats.Error
		if errors.As(x.Err, &e) {
			f.Tensor, f.Text = e.Tensor, e.Detail
		}
		if x.Found {
			f.Level, f.What, f.Text = health.Warning, health.NotMergeable, "it cannot be merged: "+f.Text
		}
		if e != nil && e.Hint != "" {
			f.Text += "; " + e.Hint
		}
		out = append(out, f)
	}
	return out
}

// resizeFor is the command that gives an adapter the ranks of an advice and keeps its type;
// "" where resize refuses the adapter, every rank stays or no rank is of use.
func resizeFor(a *adapter.Adapter, adv *health.Advice) string {
	types := map[formats.DType]bool{}
	for _, e := range a.Entries {
		switch u := e.Update.(type) {
		case *adapter.LowRank:
			types[u.A.DType], types[u.B.DType] = true, true
		case *adapter.Replace:
		default:
			return ""
		}
	}
	if adv.NewBytes >= adv.Bytes || adv.CommonRank == 0 {
		return ""
	}
	command := fmt.Sprintf("graft resize --adapter %s --energy %g", shellWord(a.Path), adv.Energy)
	if len(types) == 1 {
		for d := range types {
			if d != formats.F32 {
				command += " --dtype " + strings.ToLower(d.String())
			}
		}
	}
	return command + " --out OUT"
}

// shellWord quotes a path for a POSIX shell where it needs that.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_-./+=@:,", r)
	}
	if s != "" && strings.TrimLeftFunc(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// exitCode is the error for --exit-code.
func (h *healthInfo) exitCode(path string) error {
	if h.Errors+h.Warnings == 0 {
		return nil
	}
	return &formats.Error{Class: formats.ErrDiffers, Detail: fmt.Sprintf("%s is not sound: %s", formats.Quote(path), h.counts())}
}

func (h *healthInfo) counts() string {
	var parts []string
	for _, x := range []struct {
		n    int
		what string
	}{{h.Errors, "error"}, {h.Warnings, "warning"}, {h.Notes, "note"}} {
		if x.n > 0 {
			parts = append(parts, countOf(x.n, x.what))
		}
	}
	if len(parts) == 0 {
		return "nothing found"
	}
	return strings.Join(parts, ", ")
}

func (h *healthInfo) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	h.printModules(t)
	t.Flush()
	fmt.Fprintf(w, "\ncheck: %s\n", h.counts())
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	h.printFindings(t)
	t.Flush()
	if n := h.SlimBytes; n != nil && *n > 0 {
		fmt.Fprintf(w, "\nresize --slim would save %s and lose nothing\n", sizeText(*n))
	}
	if a := h.Advice; a != nil && len(a.Modules) > 0 {
		h.printAdvice(w)
	}
}

// printFindings lists what was found, and where there is much, that of all layers as one.
func (h *healthInfo) printFindings(t *tabwriter.Writer) {
	if len(h.Findings) == 0 {
		return
	}
	type row struct {
		health.Finding
		count int
	}
	grouped := len(h.Findings) > maxRows
	var rows []*row
	at := map[string]*row{}
	for _, f := range h.Findings {
		place := f.Tensor
		if place == "" {
			place = f.Module
		}
		if grouped {
			place = overLayers(place)
		}
		key := fmt.Sprintf("%s %s %q", f.Level, f.What, place)
		if at[key] == nil || !grouped {
			at[key] = &row{Finding: f}
			at[key].Module = place
			rows = append(rows, at[key])
		}
		at[key].count++
	}
	if grouped {
		fmt.Fprintln(t, "LEVEL\tCOUNT\tWHERE\tWHAT, IN THE FIRST")
	} else {
		fmt.Fprintln(t, "LEVEL\tWHERE\tWHAT")
	}
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t", r.Level)
		if grouped {
			fmt.Fprintf(t, "%d\t", r.count)
		}
		where := "–"
		if r.Module != "" {
			where = printable(r.Module)
		}
		fmt.Fprintf(t, "%s\t%s\n", where, r.Text)
	}
}

// healthRow is a module in the table, or a group over layers.
type healthRow struct {
	name, kind, shape  string
	rank               int64
	count, measured    int
	squares            float64 // of RMS
	effective, stable  float64
	dead               int
	relative           float64 // the largest; NaN where there is none
	needed, neededMost int
	advised            bool
}

func (h *healthInfo) printModules(t *tabwriter.Writer) {
	if len(h.Modules) == 0 {
		return
	}
	grouped := len(h.Modules) > maxRows
	needed := map[string]int{}
	if h.Advice != nil {
		for _, m := range h.Advice.Modules {
			needed[m.Module] = m.Needed
		}
	}
	var rows []*healthRow
	at := map[string]*healthRow{}
	for _, m := range h.Modules {
		name := m.Module
		if grouped {
			name = overLayers(name)
		}
		key := fmt.Sprintf("%q %s %v %d", name, m.Kind, m.Shape, m.Rank)
		r := at[key]
		if r == nil {
			r = &healthRow{name: name, kind: m.Kind, shape: fmt.Sprint(m.Shape), rank: m.Rank, relative: math.NaN(), needed: math.MaxInt}
			at[key] = r
			rows = append(rows, r)
		}
		r.count++
		r.dead += m.DeadRanks
		if p := m.Product; p != nil {
			r.measured++
			r.squares += p.RMS * p.RMS
			r.effective += p.EffectiveRank
			r.stable += p.StableRank
		}
		if m.Base != nil {
			if x := relativeOf(m); x == x && !(x <= r.relative) {
				r.relative = x
			}
		}
		if n, ok := needed[m.Module]; ok {
			r.advised = true
			r.needed, r.neededMost = min(r.needed, n), max(r.neededMost, n)
		}
	}
	title := "\nMODULE"
	if grouped {
		title = "\nMODULES\tCOUNT"
	}
	title += "\tUPDATE\tSHAPE\tRANK\tDEAD\tEFF. RANK\tSTABLE RANK\tRMS OF ΔW"
	if h.Base != "" {
		title += "\t‖ΔW‖/‖W‖"
	}
	if h.Advice != nil {
		title += "\tNEEDED"
	}
	fmt.Fprintln(t, title)
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t", printable(r.name))
		if grouped {
			fmt.Fprintf(t, "%d\t", r.count)
		}
		n := float64(r.measured) // NaN without any
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\t%s", r.kind, r.shape, r.rank, r.dead, tenth(r.effective/n), tenth(r.stable/n), short(math.Sqrt(r.squares/n)))
		if h.Base != "" {
			fmt.Fprintf(t, "\t%s", short(r.relative))
		}
		switch {
		case h.Advice == nil:
		case !r.advised:
			fmt.Fprint(t, "\t–")
		default:
			fmt.Fprintf(t, "\t%s", rangeText(int64(r.needed), int64(r.neededMost)))
		}
		fmt.Fprintln(t)
	}
}

// tenth writes a number with one decimal.
func tenth(x float64) string {
	if math.IsNaN(x) {
		return "–"
	}
	return fmt.Sprintf("%.1f", x)
}

func (h *healthInfo) printAdvice(w io.Writer) {
	a := h.Advice
	of := ""
	if n := len(a.Modules); n < len(h.Modules) {
		of = " of " + someOf(n, len(h.Modules), "module")
	}
	if a.CommonRank == 0 {
		fmt.Fprintf(w, "\nno rank is needed: the factors%s change nothing\n", of)
		return
	}
	fmt.Fprintf(w, "\n%s of the energy%s takes rank %s: %s of factors in place of %s; with rank %d everywhere %s\n",
		energyText(a), of, neededRanks(a), sizeText(a.NewBytes), sizeText(a.Bytes), a.CommonRank, sizeText(a.CommonBytes))
	if h.Command != "" {
		fmt.Fprintf(w, "  %s\n", h.Command)
	}
}

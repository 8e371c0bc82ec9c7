package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/train"
	"github.com/seed-b982eded/graft/train/data"
	"github.com/seed-b982eded/graft/train/models"
	"github.com/seed-b982eded/graft/train/tokenizer"
)

func evalCommand() *cli.Command {
	return &cli.Command{
		Name:      "eval",
		Usage:     "measure the loss of a base, with adapters, and merged",
		UsageText: "graft eval --base B [--adapter A[=W]]... --data F",
		Description: "With adapters three models are measured: the base, the base with the adapters beside its\n" +
			"weights, and the model that merging would write. Of a base without the head that an adapter\n" +
			"brings, only the second is. With --latency a forward pass of each is timed.\n" + taskFields,
		Flags: slices.Concat([]cli.Flag{baseFlag(), adaptersFlag(false)}, configFlags(), dataFlags("data"), []cli.Flag{
			&cli.IntFlag{Name: "batch-size", Value: 8, Usage: "examples in a batch"},
			maxLengthFlag(),
		}, latencyFlags(), commonFlags()),
		Action: evalAction,
	}
}

type evalResult struct {
	Schema string      `json:"schema"`
	Base   string      `json:"base"`
	Data   string      `json:"data"`
	Labels int64       `json:"tokens"` // that the loss runs over
	Models []modelLoss `json:"models"`
	// Latency is there with --latency.
	Latency *latency `json:"latency,omitempty"`
}

type modelLoss struct {
	Model      string   `json:"model"`
	Loss       float64  `json:"loss"`
	Perplexity *float64 `json:"perplexity"` // null where it overflows
}

func evalAction(c *cli.Context) error {
	if err := noPaths(c); err != nil {
		return err
	}
	reads, err := readOptions(c)
	if err != nil {
		return err
	}
	if err := checkLatencyFlags(c); err != nil {
		return err
	}
	co := newConsole(c)
	in, err := openOperands(c, false)
	if err != nil {
		return err
	}
	defer in.Close()
	files, err := data.Expand([]string{c.String("data")})
	if err != nil {
		return err
	}
	if path := chatTemplateFile(c); path != "" {
		files = append(files, path)
	}
	if c.IsSet("config") {
		files = append(files, c.String("config"))
	}
	if err := co.checkReport("", readable(append(in.paths(), files...))...); err != nil {
		return err
	}
	tok, err := openTokenizer(in.base)
	if err != nil {
		return err
	}
	if reads.Task != data.LanguageModel {
		return evalTexts(c, co, reads, in, tok)
	}
	variants := []variant{{"base", func() (models.Adaptable, error) { return models.Load(in.base) }}}
	if len(in.adapters) > 0 {
		plan, err := patch.NewPlan(in.base, in.adapters...)
		if err != nil {
			return err
		}
		variants = append(variants,
			variant{"base + adapter", func() (models.Adaptable, error) { return in.load() }},
			variant{"merged", func() (models.Adaptable, error) { return models.Load(plan.Merge()) }})
	}
	res := &evalResult{Schema: "graft.eval/1", Base: in.base.Path(), Data: c.String("data")}
	batches := func(m models.Adaptable) (*data.Loader, error) {
		records, err := data.ReadFiles([]string{c.String("data")}, reads)
		if err != nil {
			return nil, err
		}
		return evalBatches(c, co, tok, in.base, m, reads.Task, nil, records)
	}
	res.Latency, err = measure(c, co, variants, batches, func(name string, loss float64, _ *train.Scores, labels int64) {
		res.Labels = labels
		res.Models = append(res.Models, newModelLoss(name, loss))
	})
	if err != nil {
		return err
	}
	return co.emit(res, res.print)
}

// variant is a model to measure.
type variant struct {
	name string
	load func() (models.Adaptable, error)
}

// measure measures models one after another on the batches that the first of them gets, and
// then their latency, where it is asked for.
func measure(c *cli.Context, co *console, variants []variant, batches func(m models.Adaptable) (*data.Loader, error), report func(name string, loss float64, scores *train.Scores, labels int64)) (*latency, error) {
	var source *data.Loader
	for _, v := range variants {
		m, err := v.load()
		if err != nil {
			return nil, err
		}
		if source == nil {
			if source, err = batches(m); err != nil {
				return nil, err
			}
		}
		b := co.newBar("evaluating "+v.name, float64(source.Batches()))
		loss, scores, labels, err := train.Measure(c.Context, m, source, func(done, all int) {
			b.add(1, func(float64) string { return fmt.Sprintf("batch %d/%d", done, all) })
		})
		b.end()
		if err != nil {
			return nil, err
		}
		report(v.name, loss, scores, labels)
	}
	return measureLatency(c, co, variants, source)
}

func newModelLoss(name string, loss float64) modelLoss {
	l := modelLoss{Model: name, Loss: loss}
	if p := math.Exp(loss); !math.IsInf(p, 0) {
		l.Perplexity = &p
	}
	return l
}

// evalBatches makes batches of records for a task and its classes.
func evalBatches(c *cli.Context, co *console, tok *tokenizer.Tokenizer, base *formats.Checkpoint, m models.Adaptable, task data.Task, classes []string, records []data.Record) (*data.Loader, error) {
	enc, err := newEncoder(tok, m, c.Int("max-length"))
	if err != nil {
		return nil, err
	}
	enc.base, enc.opts.Task, enc.opts.Classes = base, task, classes
	if err := enc.readChats(c, records); err != nil {
		return nil, err
	}
	set, err := enc.set(c.Context, co, c.String("data"), records)
	if err != nil {
		return nil, err
	}
	return data.NewLoader(set, data.LoaderOptions{Rows: c.Int("batch-size"), Pad: enc.pad()})
}

func (r *evalResult) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MODEL\tLOSS\tPERPLEXITY")
	for _, m := range r.Models {
		p := math.Inf(1)
		if m.Perplexity != nil {
			p = *m.Perplexity
		}
		fmt.Fprintf(t, "%s\t%.6f\t%.4f\n", m.Model, m.Loss, p)
	}
	t.Flush()
	fmt.Fprintf(w, "over %s tokens of %s\n", countText(r.Labels), r.Data)
	r.Latency.print(w)
}

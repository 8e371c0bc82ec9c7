package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/train"
	"github.com/seed-b982eded/graft/train/data"
	"github.com/seed-b982eded/graft/train/models"
	"github.com/seed-b982eded/graft/train/tokenizer"
)

// textResult is the JSON of eval for tasks of whole texts.
type textResult struct {
	Schema string      `json:"schema"`
	Task   string      `json:"task"`
	Base   string      `json:"base"`
	Data   string      `json:"data"`
	Texts  int64       `json:"texts"` // or groups of texts that belong together
	Models []textModel `json:"models"`
	// Latency is there with --latency.
	Latency *latency `json:"latency,omitempty"`
}

type textModel struct {
	Model string  `json:"model"`
	Loss  float64 `json:"loss"`
	*train.Scores
}

// variants are the models that can be measured: a base that has not the adapters' head
// cannot be, without them.
func (t *textTask) variants(in *operands) ([]variant, error) {
	own := t.task == data.Embedding || t.own
	if len(in.adapters) == 0 && !own {
		return nil, formats.Rejectf(in.base.Path(), "", "the base has no head for %s", t.name).
			WithHint("graft train --task %s makes one, as a part of an adapter", t.name)
	}
	var all []variant
	if t.outputs > 0 && own { // an adapter's head takes the place of one with as many outputs
		labels, err := ownLabels(in.base)
		if err != nil {
			return nil, err
		}
		own = len(labels) == t.outputs
	}
	if own {
		all = append(all, variant{"base", func() (models.Adaptable, error) { return t.load(in.base, true) }})
	}
	if len(in.adapters) == 0 {
		return all, nil
	}
	all = append(all, variant{"base + adapter", func() (models.Adaptable, error) {
		m, err := t.load(in.base, false)
		if err != nil {
			return nil, err
		}
		return m, in.attach(m)
	}})
	if own {
		plan, err := patch.NewPlan(in.base, in.adapters...)
		if err != nil {
			return nil, err
		}
		all = append(all, variant{"merged", func() (models.Adaptable, error) { return t.load(plan.Merge(), true) }})
	}
	return all, nil
}

func evalTexts(c *cli.Context, co *console, reads data.ReadOptions, in *operands, tok *tokenizer.Tokenizer) error {
	records, err := data.ReadFiles([]string{c.String("data")}, reads)
	if err != nil {
		return err
	}
	var adapters []*adapter.Adapter
	for _, w := range in.adapters {
		adapters = append(adapters, w.Adapter)
	}
	t, err := newTextTask(c, reads.Task, in.base, records, adapters...)
	if err != nil {
		return err
	}
	variants, err := t.variants(in)
	if err != nil {
		return err
	}
	res := &textResult{Schema: "graft.eval/1", Task: t.name, Base: in.base.Path(), Data: c.String("data")}
	batches := func(m models.Adaptable) (*data.Loader, error) {
		return evalBatches(c, co, tok, in.base, m, reads.Task, t.classes, records)
	}
	res.Latency, err = measure(c, co, variants, batches, func(name string, loss float64, scores *train.Scores, texts int64) {
		res.Texts = texts
		res.Models = append(res.Models, textModel{name, loss, scores})
	})
	if err != nil {
		return err
	}
	return co.emit(res, res.print)
}

func (r *textResult) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	shown := map[string]bool{}
	header := "MODEL\tLOSS"
	for i := range namedScores(nil) {
		for _, m := range r.Models {
			if s := namedScores(m.Scores)[i]; s.value != nil && !shown[s.name] {
				shown[s.name] = true
				header += "\t" + strings.ToUpper(s.name)
			}
		}
	}
	fmt.Fprintln(t, header)
	for _, m := range r.Models {
		fmt.Fprintf(t, "%s\t%.6f", m.Model, m.Loss)
		for _, s := range namedScores(m.Scores) {
			switch {
			case s.value != nil:
				fmt.Fprintf(t, "\t%.4f", *s.value)
			case shown[s.name]:
				fmt.Fprint(t, "\t-")
			}
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	fmt.Fprintf(w, "over %s of %s\n", countOf(int(r.Texts), "example"), r.Data)
	r.Latency.print(w)
}

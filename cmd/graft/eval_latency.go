package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/data"
	"github.com/seed-b982eded/graft/train/models"
)

// latencyFlags ask for times beside the losses.
func latencyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "latency", Usage: "measure too how long a forward pass of each model takes, on the batch with the most tokens; all models are in memory together"},
		&cli.IntFlag{Name: "latency-rounds", Value: 10, Usage: "passes of each model that --latency measures, taken in turns"},
	}
}

func checkLatencyFlags(c *cli.Context) error {
	if n := c.Int("latency-rounds"); n < 1 || n > maxLatencyRounds {
		return formats.Usagef("--latency-rounds must be from 1 to %d (got %d)", maxLatencyRounds, n)
	}
	return nil
}

const maxLatencyRounds = 1 << 20

// latency is how long a forward pass of a batch takes.
type latency struct {
	Rows   int            `json:"rows"`
	Length int            `json:"length"` // of the longest row
	Tokens int            `json:"tokens"` // without padding
	Rounds int            `json:"rounds"`
	Models []modelLatency `json:"models"`
}

type modelLatency struct {
	Model   string  `json:"model"`
	Fastest float64 `json:"fastest_ms"`
	Median  float64 `json:"median_ms"`
}

// measureLatency times the models on the largest batch, nil without --latency. The passes
// are taken in turns, each round beginning with another model, so that what else the machine
// does meets all of them alike; a pass of each before the first round is not counted.
func measureLatency(c *cli.Context, co *console, variants []variant, source *data.Loader) (*latency, error) {
	if !c.Bool("latency") {
		return nil, nil
	}
	batch, tokens := largestBatch(source)
	l := &latency{Rows: batch.Rows, Length: batch.Cols, Tokens: tokens, Rounds: c.Int("latency-rounds")}
	passes := make([]func(models.Batch) error, len(variants))
	for i, v := range variants {
		m, err := v.load()
		if err != nil {
			return nil, err
		}
		passes[i] = forwardOf(m)
		if err := passes[i](batch); err != nil {
			return nil, err
		}
	}
	took := make([][]float64, len(variants))
	b := co.newBar("timing", float64(l.Rounds))
	defer b.end()
	for round := range l.Rounds {
		for turn := range variants {
			if err := c.Context.Err(); err != nil {
				return nil, err
			}
			i := (turn + round) % len(variants)
			runtime.GC() // what another model left is not this one's to clear away
			began := time.Now()
			if err := passes[i](batch); err != nil {
				return nil, err
			}
			took[i] = append(took[i], float64(time.Since(began).Nanoseconds())/1e6)
		}
		b.add(1, func(float64) string { return fmt.Sprintf("round %d/%d", round+1, l.Rounds) })
	}
	for i, v := range variants {
		slices.Sort(took[i])
		l.Models = append(l.Models, modelLatency{v.name, took[i][0], median(took[i])})
	}
	return l, nil
}

// forwardOf returns what a model does with a batch in use: no loss and no gradients.
func forwardOf(m models.Adaptable) func(models.Batch) error {
	return func(b models.Batch) (err error) {
		switch m := m.(type) {
		case models.Model:
			_, err = m.Logits(b)
		case *models.Classifier:
			_, err = m.Scores(b)
		case *models.Embedder:
			_, err = m.Embed(b)
		}
		return err
	}
}

// largestBatch returns the batch with the most tokens; of equal ones the first.
func largestBatch(source *data.Loader) (largest models.Batch, tokens int) {
	for i := range source.Batches() {
		b := source.At(0, i).Batch
		n := 0
		for _, length := range b.Lens {
			n += length
		}
		if n > tokens {
			largest, tokens = b, n
		}
	}
	return largest, tokens
}

// median returns the middle of sorted numbers.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func (l *latency) print(w io.Writer) {
	if l == nil {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nMODEL\tFASTEST ms\tMEDIAN ms\tTIMES BASE")
	for _, m := range l.Models {
		times := "-"
		if base := l.Models[0]; base.Model == "base" {
			times = fmt.Sprintf("%.3f", m.Fastest/base.Fastest)
		}
		fmt.Fprintf(t, "%s\t%.3f\t%.3f\t%s\n", m.Model, m.Fastest, m.Median, times)
	}
	t.Flush()
	fmt.Fprintf(w, "a forward pass of %s, the longest of %s, in float32; %s in turns\n",
		countOf(l.Rows, "row"), countOf(l.Length, "token"), countOf(l.Rounds, "round"))
}

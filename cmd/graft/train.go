package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/internal/atomicfile"
	"github.com/seed-b982eded/graft/train"
	"github.com/seed-b982eded/graft/train/data"
	"github.com/seed-b982eded/graft/train/models"
)

func trainCommand() *cli.Command {
	d := train.DefaultOptions
	start := []cli.Flag{baseFlag(), &cli.StringFlag{Name: "adapter", Usage: "go on with this adapter `A` in place of a fresh one"}}
	loop := []cli.Flag{
		&cli.StringFlag{Name: "eval-data", Usage: "held-out data `FILE`"},
		&cli.Float64Flag{Name: "eval-share", Usage: "hold this share of the data out for evaluation"},
		&cli.IntFlag{Name: "max-steps", Usage: "optimizer steps, in place of epochs"},
		&cli.Float64Flag{Name: "epochs", Value: d.Epochs, Usage: "passes over the data"},
		&cli.Float64Flag{Name: "learning-rate", Value: d.LearningRate, Usage: "the full learning rate"},
		&cli.StringFlag{Name: "lr-scheduler-type", Value: train.Cosine, Usage: "constant, linear or cosine, after the warm-up"},
		&cli.IntFlag{Name: "warmup-steps", Usage: "steps of warm-up"},
		&cli.Float64Flag{Name: "warmup-ratio", Usage: "share of the steps that is warm-up"},
		&cli.IntFlag{Name: "batch-size", Value: 4, Usage: "examples in a batch"},
		&cli.IntFlag{Name: "gradient-accumulation-steps", Value: 1, Usage: "batches in a step"},
		&cli.Float64Flag{Name: "weight-decay", Value: d.AdamW.WeightDecay, Usage: "AdamW's weight decay"},
		&cli.Float64Flag{Name: "max-grad-norm", Value: d.MaxGradNorm, Usage: "clip gradients to this norm; 0 leaves them"},
		&cli.Float64Flag{Name: "lora-dropout", Usage: "dropout on the factors' input"},
		maxLengthFlag(),
		&cli.IntFlag{Name: "eval-steps", Usage: "steps between evaluations (default: only first and last)"},
		&cli.IntFlag{Name: "logging-steps", Value: 1, Usage: "steps between entries of metrics.jsonl"},
	}
	return &cli.Command{
		Name:      "train",
		Usage:     "train an adapter on a frozen base",
		UsageText: "graft train --base B --target-modules LIST|REGEX|all-linear --data F --out ADAPTER",
		Description: taskFields + "\nThe output is a PEFT adapter with metrics.jsonl, trainer_state.json and loss.svg beside it.\n" +
			"A head for texts, the base's or a new one, is trained whole and is a part of the adapter;\n" +
			"labels.json names its classes. " +
			"The same seed gives the same bytes, on any number of processors. Ctrl-C stops after the\n" +
			"step and leaves what was learned as OUT/checkpoint-N.",
		Flags:  slices.Concat(start, configFlags(), loraFlags(), dataFlags("training data"), loaderFlags(), loop, outputFlags("the adapter")),
		Action: trainAction,
	}
}

type trainResult struct {
	Schema       string          `json:"schema"`
	Base         string          `json:"base"`
	Out          string          `json:"out"`
	Steps        int             `json:"steps"`
	Tokens       int64           `json:"tokens"`
	Loss         float64         `json:"loss"` // of the last logged steps
	EvalBefore   *float64        `json:"eval_loss_before,omitempty"`
	EvalAfter    *float64        `json:"eval_loss_after,omitempty"`
	ScoresBefore *train.Scores   `json:"eval_scores_before,omitempty"`
	ScoresAfter  *train.Scores   `json:"eval_scores_after,omitempty"`
	Memory       train.Footprint `json:"memory"`
	AdapterBytes int64           `json:"adapter_bytes"`
	Seconds      float64         `json:"seconds"`
}

// trainOptions reads the loop's options from the flags.
func trainOptions(c *cli.Context) train.Options {
	o := train.DefaultOptions
	o.LearningRate, o.Schedule = c.Float64("learning-rate"), c.String("lr-scheduler-type")
	o.WarmupSteps, o.WarmupRatio = c.Int("warmup-steps"), c.Float64("warmup-ratio")
	o.MaxSteps, o.Epochs = c.Int("max-steps"), c.Float64("epochs")
	o.GradientAccumulation, o.BatchSize = c.Int("gradient-accumulation-steps"), c.Int("batch-size")
	o.AdamW.WeightDecay, o.MaxGradNorm = c.Float64("weight-decay"), c.Float64("max-grad-norm")
	o.EvalSteps, o.LogSteps = c.Int("eval-steps"), c.Int("logging-steps")
	return o
}

func trainAction(c *cli.Context) error {
	if err := checkTrainFlags(c); err != nil {
		return err
	}
	if err := noPaths(c); err != nil {
		return err
	}
	reads, err := readOptions(c)
	if err != nil {
		return err
	}
	co, out := newConsole(c), outPath(c)
	base, err := open.Checkpoint(c.String("base"))
	if err != nil {
		return err
	}
	defer base.Close()
	inputs := []string{placeOf(base)}
	for _, flag := range []string{"data", "adapter", "eval-data", "config"} {
		if !c.IsSet(flag) {
			continue
		}
		paths := []string{c.String(flag)}
		if strings.HasSuffix(flag, "data") {
			if paths, err = data.Expand(paths); err != nil {
				return err
			}
		}
		inputs = append(inputs, paths...)
	}
	if path := chatTemplateFile(c); path != "" {
		inputs = append(inputs, path)
	}
	inputs = readable(inputs)
	for _, in := range inputs {
		if err := publish.CheckApart(in, out); err != nil {
			return err
		}
	}
	if err := co.checkReport(out, inputs...); err != nil {
		return err
	}
	if err := atomicfile.Check(out, true, c.Bool("force")); err != nil {
		return err
	}
	l, err := newLesson(c, co, reads, base)
	if err != nil {
		return err
	}
	defer l.start.Close()
	opts := trainOptions(c)
	if l.held != nil {
		opts.Eval = l.held
	}
	if c.Bool("dry-run") {
		return showTrainPlan(co, l.model, l.source, opts, out)
	}
	job := &trainJob{model: l.model, source: l.source, opts: opts, out: out, force: c.Bool("force"), co: co, classes: l.classes, texts: reads.Task != data.LanguageModel}
	res, err := job.run(c.Context)
	if err != nil {
		return err
	}
	res.Base = base.Path()
	return co.emit(res, res.print)
}

// exclusiveTrainFlags are flags of which one would take no effect beside the other.
func exclusiveTrainFlags() [][2]string {
	pairs := [][2]string{{"eval-data", "eval-share"}, {"max-steps", "epochs"}, {"warmup-steps", "warmup-ratio"}}
	for _, f := range loraFlags() {
		if name := f.Names()[0]; name != "seed" {
			pairs = append(pairs, [2]string{"adapter", name})
		}
	}
	return pairs
}

// checkTrainFlags refuses flags that make no sense together.
func checkTrainFlags(c *cli.Context) error {
	for _, pair := range exclusiveTrainFlags() {
		if err := oneOf(c, pair[0], pair[1]); err != nil {
			return err
		}
	}
	if n := c.Int("max-steps"); c.IsSet("max-steps") && n < 1 {
		return formats.Usagef("--max-steps must be 1 or more (got %d)", n)
	}
	return nil
}

// trainPlan is the JSON of train --dry-run.
type trainPlan struct {
	Schema        string          `json:"schema"`
	Out           string          `json:"out"`
	DryRun        bool            `json:"dry_run"`
	Steps         int             `json:"steps"`
	StepsPerEpoch int             `json:"steps_per_epoch"`
	Warmup        int             `json:"warmup_steps"`
	Memory        train.Footprint `json:"memory"`
}

func showTrainPlan(co *console, m models.Adaptable, source train.Source, opts train.Options, out string) error {
	p, err := train.NewPlan(m, source, opts)
	if err != nil {
		return err
	}
	size := m.Size()
	res := &trainPlan{
		Schema: "graft.train/1", Out: out, DryRun: true, Steps: p.Steps, StepsPerEpoch: p.StepsPerEpoch, Warmup: p.Warmup,
		Memory: train.OptimizerFootprint(size.Trainable, size.Base),
	}
	return co.emit(res, func(w io.Writer) {
		fmt.Fprintf(w, "%s: would train %s of %s parameters for %s, %d an epoch, %d of warm-up\n", out,
			countText(res.Memory.Trainable), countText(res.Memory.Total), countOf(p.Steps, "step"), p.StepsPerEpoch, p.Warmup)
	})
}

// startAdapter returns what training starts from: the adapter that was named, or a
// fresh one.
func startAdapter(c *cli.Context, base *formats.Checkpoint) (*adapter.Adapter, error) {
	if !c.IsSet("adapter") {
		return freshAdapter(c, base)
	}
	a, err := open.Adapter(c.String("adapter"))
	if err == nil && a.Config == nil { // the result is written with the config of what it came from
		a.Close()
		return nil, formats.Usagef("training goes on from a PEFT adapter, and %s is none", formats.Quote(a.Path)).
			WithHint("graft convert %s --to peft --out DIR", formats.Quote(a.Path))
	}
	return a, err
}

// trainJob is a run and where its results go; quickstart runs one too.
type trainJob struct {
	model   models.Adaptable
	source  train.Source
	opts    train.Options
	out     string
	force   bool
	co      *console
	texts   bool     // whole texts are learned
	classes []string // that a head is trained to tell
}

// run trains and publishes the adapter's directory. An interruption publishes what was
// learned so far as checkpoint-N in it, and is an error.
func (j *trainJob) run(ctx context.Context) (*trainResult, error) {
	began := time.Now()
	var points []train.Point
	var metrics bytes.Buffer
	lines := train.NewMetricsWriter(&metrics, false)
	var b *bar
	events := train.Events{
		Start: func(p train.Plan) {
			j.co.note("training %s parameters for %s", countText(p.Parameters), countOf(p.Steps, "step"))
			b = j.co.newBar("training", float64(p.Steps-p.FirstStep))
		},
		Step: func(p train.Progress) {
			b.add(1, func(float64) string {
				return fmt.Sprintf("step %d/%d  loss %.4f  rate %.2g  %.0f tokens/s", p.Step, p.Steps, p.Loss, p.LearningRate, p.TokensPerSecond)
			})
		},
		Point: func(p train.Point) error {
			points = append(points, p)
			return lines.Write(p)
		},
	}
	result, err := train.Run(ctx, j.model, j.source, j.opts, events)
	b.end()
	stopped := err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled)
	if err != nil && !(stopped && result.State.GlobalStep > 0) {
		return nil, err
	}
	trained, err := j.model.Export()
	if err != nil {
		return nil, err
	}
	unit := "token"
	if j.texts {
		unit = "text"
	}
	write := func(dir string) error {
		if j.classes != nil {
			if err := writeLabels(dir, j.classes); err != nil {
				return err
			}
		}
		return writeTraining(dir, trained, result.State, points, metrics.Bytes(), "loss (nats per "+unit+")")
	}
	if stopped {
		return nil, j.leave(result.State.GlobalStep, write)
	}
	if err := publishDir(j.out, j.force, write); err != nil {
		return nil, err
	}
	j.co.noteLeft(j.out)
	return j.result(result, points, trained, time.Since(began)), nil
}

// readable leaves out pipes, such as a shell's <(…): they have no place on the disk that
// an output could take.
func readable(inputs []string) []string {
	return slices.DeleteFunc(inputs, func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && info.Mode()&fs.ModeNamedPipe != 0
	})
}

// leave publishes what an interrupted run has learned as OUT/checkpoint-N. What else is
// in OUT stays: with --force it would be replaced by a finished run only.
func (j *trainJob) leave(step int, write func(dir string) error) error {
	if err := os.MkdirAll(j.out, 0o777); err != nil {
		return formats.Outputf(j.out, formats.Cause(err), "")
	}
	dir := filepath.Join(j.out, fmt.Sprintf("checkpoint-%d", step))
	if err := publishDir(dir, true, write); err != nil {
		os.Remove(j.out) // if it is empty
		return err
	}
	return &interruption{fmt.Sprintf("what was learned in %s is in %s", countOf(step, "step"), dir)}
}

func (j *trainJob) result(r train.Result, points []train.Point, trained *adapter.Adapter, took time.Duration) *trainResult {
	size := j.model.Size()
	res := &trainResult{
		Schema: "graft.train/1", Out: j.out, Steps: r.State.GlobalStep, Tokens: r.State.NumInputTokensSeen,
		Memory: train.OptimizerFootprint(size.Trainable, size.Base), Seconds: took.Seconds(),
	}
	_, res.AdapterBytes = adapterShape(trained)
	for _, p := range points {
		switch {
		case !p.Eval:
			res.Loss = p.Loss
		case res.EvalBefore == nil:
			res.EvalBefore, res.ScoresBefore = &p.Loss, p.Scores
		default:
			res.EvalAfter, res.ScoresAfter = &p.Loss, p.Scores
		}
	}
	return res
}

// writeTraining writes an adapter with the record of its training.
func writeTraining(dir string, a *adapter.Adapter, state train.TrainerState, points []train.Point, metrics []byte, loss string) error {
	if err := peft.Write(dir, a); err != nil {
		return err
	}
	var stateText, curve bytes.Buffer
	if err := state.Write(&stateText); err != nil {
		return err
	}
	files := map[string][]byte{"metrics.jsonl": metrics, "trainer_state.json": stateText.Bytes()}
	if len(points) > 0 {
		if err := train.CurveOf(&curve, points, loss); err != nil {
			return err
		}
		files["loss.svg"] = curve.Bytes()
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o666); err != nil {
			return formats.Outputf(path, err, "")
		}
	}
	return nil
}

func (r *trainResult) print(w io.Writer) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s, %s tokens in %.1f s, loss %.4f", r.Out, countOf(r.Steps, "step"), countText(r.Tokens), r.Seconds, r.Loss)
	if r.EvalBefore != nil && r.EvalAfter != nil {
		fmt.Fprintf(&b, "; held-out loss %.4f, before %.4f", *r.EvalAfter, *r.EvalBefore)
		before := namedScores(r.ScoresBefore)
		for i, s := range namedScores(r.ScoresAfter) {
			if s.value != nil && before[i].value != nil {
				fmt.Fprintf(&b, "; %s %.4f, before %.4f", s.name, *s.value, *before[i].value)
			}
		}
	}
	fmt.Fprintln(w, b.String())
}

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
	"sync"
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
		&cli.StringFlag{Name: "lr-scheduler-type", Value: train.Cosine, Usage: "what follows the warm-up: " + strings.Join(train.Schedules, ", ")},
		&cli.Float64Flag{Name: "min-lr-rate", Usage: "the share of the learning rate at which cosine_with_min_lr ends"},
		&cli.IntFlag{Name: "warmup-steps", Usage: "steps of warm-up"},
		&cli.Float64Flag{Name: "warmup-ratio", Usage: "share of the steps that is warm-up"},
		&cli.IntFlag{Name: "batch-size", Value: 4, Usage: "examples in a batch"},
		&cli.IntFlag{Name: "gradient-accumulation-steps", Value: 1, Usage: "batches in a step"},
		&cli.Float64Flag{Name: "max-grad-norm", Value: d.MaxGradNorm, Usage: "clip gradients to this norm; 0 leaves them"},
		&cli.Float64Flag{Name: "lora-dropout", Usage: "dropout on the factors' input"},
		&cli.BoolFlag{Name: "gradient-checkpointing", Usage: "run the blocks twice in a step, which takes less memory"},
		maxLengthFlag(),
		&cli.IntFlag{Name: "eval-steps", Usage: "steps between evaluations (default: only first and last)"},
		&cli.IntFlag{Name: "logging-steps", Value: 1, Usage: "steps between entries of metrics.jsonl"},
	}
	loop = slices.Concat(loop, optimizerFlags(), checkpointFlags())
	return &cli.Command{
		Name:      "train",
		Usage:     "train an adapter on a frozen base",
		UsageText: "graft train --base B --target-modules LIST|REGEX|all-linear --data F --out ADAPTER",
		Description: taskFields + "\nThe output is a PEFT adapter with metrics.jsonl, trainer_state.json and loss.svg beside it.\n" +
			"A head for texts, the base's or a new one, is trained whole and is a part of the adapter;\n" +
			"labels.json names its classes. " +
			"The same seed gives the same bytes, on any number of processors. Ctrl-C stops after the\n" +
			"step and leaves what was learned as OUT/checkpoint-N, from which the same command with\n" +
			"--resume goes on to the bytes of a run that was not stopped. So it does after a crash from\n" +
			"the checkpoints of --save-steps.",
		Flags:  slices.Concat(start, configFlags(), loraFlags(), dataFlags("training data"), loaderFlags(), loop, outputFlags("the adapter")),
		Action: trainAction,
	}
}

type trainResult struct {
	Schema       string          `json:"schema"`
	Base         string          `json:"base"`
	Out          string          `json:"out"`
	Steps        int             `json:"steps"`
	FirstStep    int             `json:"steps_done_before,omitempty"` // by the run that this one resumed
	Early        bool            `json:"stopped_early,omitempty"`
	BestStep     *int            `json:"best_step,omitempty"` // the best evaluation's; what the adapter is of with --load-best-model-at-end
	BestMetric   *float64        `json:"best_metric,omitempty"`
	Tokens       int64           `json:"tokens"`
	Loss         float64         `json:"loss"` // of the last logged steps
	EvalBefore   *float64        `json:"eval_loss_before,omitempty"`
	EvalAfter    *float64        `json:"eval_loss_after,omitempty"`
	ScoresBefore *train.Scores   `json:"eval_scores_before,omitempty"`
	ScoresAfter  *train.Scores   `json:"eval_scores_after,omitempty"`
	Memory       train.Footprint `json:"memory"`
	AdapterBytes int64           `json:"adapter_bytes"`
	Seconds      float64         `json:"seconds"`

	loaded bool // the adapter is that of the best step
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
	if err := checkTrainOut(out, c.Bool("force"), c.Bool("resume")); err != nil {
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
	kept := &checkpoints{out: out, every: opts.SaveSteps, limit: c.Int("save-total-limit")}
	kept.print = sync.OnceValues(func() (*trainFingerprint, error) { return l.fingerprint(c, base) })
	var stage *atomicfile.Stage
	if (opts.SaveSteps > 0 || c.Bool("resume")) && !c.Bool("dry-run") { // nobody else may write checkpoints meanwhile
		if stage, err = atomicfile.NewDir(out, atomicfile.Options{Force: true}); err != nil {
			return err
		}
		defer stage.Abort()
	}
	if c.Bool("resume") {
		if opts.Resume, err = kept.resume(co); err != nil {
			return err
		}
		if opts.Resume == nil {
			co.note("no checkpoint in %s: training begins with the first step", out)
		}
	}
	if c.Bool("dry-run") {
		return showTrainPlan(co, l.model, l.source, opts, out)
	}
	job := &trainJob{model: l.model, from: l.from, source: l.source, opts: opts, out: out, force: c.Bool("force"), co: co, kept: kept, stage: stage, classes: l.classes, texts: reads.Task != data.LanguageModel}
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

// checkTrainFlags refuses flags that make no sense together, or without others.
func checkTrainFlags(c *cli.Context) error {
	if err := checkLoopFlags(c); err != nil {
		return err
	}
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
	FirstStep     int             `json:"steps_done,omitempty"` // before, where a run is resumed
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
		Schema: "graft.train/1", Out: out, DryRun: true, Steps: p.Steps, FirstStep: p.FirstStep, StepsPerEpoch: p.StepsPerEpoch, Warmup: p.Warmup,
		Memory: opts.Footprint(size.Trainable, size.Base),
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
	from    *startingPoint
	kept    *checkpoints      // nil where none are written
	stage   *atomicfile.Stage // of out, where it is claimed from the start; nil else
	texts   bool              // whole texts are learned
	classes []string          // that a head is trained to tell
}

// run trains and publishes the adapter's directory. An interruption publishes what was
// learned so far as checkpoint-N in it, and is an error.
func (j *trainJob) run(ctx context.Context) (*trainResult, error) {
	began := time.Now()
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
	}
	if j.kept != nil {
		events.Save = func(s train.Snapshot) error {
			err := j.kept.save(s, j.write)
			if err == nil {
				j.kept.rotate(s.State.BestGlobalStep)
			}
			return err
		}
	}
	result, err := train.Run(ctx, j.model, j.source, j.opts, events)
	b.end()
	if err != nil {
		return nil, j.left(ctx, err, result)
	}
	if err := j.publish(&result.State); err != nil {
		return nil, j.left(ctx, err, result)
	}
	j.co.noteLeft(j.out)
	return j.result(result, time.Since(began))
}

// publish makes the output appear, with the checkpoints that stay.
func (j *trainJob) publish(state *train.TrainerState) error {
	if j.stage == nil {
		return publishDir(j.out, j.force, func(dir string) error { return j.write(dir, *state) })
	}
	if err := checkTrainOut(j.out, j.force, true); err != nil {
		return err // something appeared meanwhile
	}
	err := j.kept.carry(j.stage.Path(), state.BestGlobalStep)
	if err == nil {
		j.kept.nameBest(state)
		err = j.write(j.stage.Path(), *state)
	}
	if err != nil {
		return finalName(err, j.stage.Path(), j.out)
	}
	return j.stage.Publish()
}

// left saves what an interrupted run has learned, and says what stays of one that failed.
func (j *trainJob) left(ctx context.Context, err error, result train.Result) error {
	if j.kept == nil {
		return err
	}
	if step := result.State.GlobalStep; ctx.Err() != nil && errors.Is(err, context.Canceled) && step > 0 {
		if err := j.kept.save(result.Snapshot, j.write); err != nil {
			return err
		}
		return &interruption{fmt.Sprintf("what was learned in %s is in %s, from where --resume goes on", countOf(step, "step"), j.kept.last())}
	}
	if last := j.kept.last(); last != "" {
		return &leftCheckpoint{err, last}
	}
	return err
}

// adapter returns the trained adapter as it is saved.
func (j *trainJob) adapter() (*adapter.Adapter, error) {
	trained, err := j.model.Export()
	if err != nil {
		return nil, err
	}
	return j.from.finished(trained)
}

// write writes the adapter into a directory, with the record of its training.
func (j *trainJob) write(dir string, state train.TrainerState) error {
	trained, err := j.adapter()
	if err != nil {
		return err
	}
	if j.classes != nil {
		if err := writeLabels(dir, j.classes); err != nil {
			return err
		}
	}
	unit := "token"
	if j.texts {
		unit = "text"
	}
	return writeTraining(dir, trained, state, "loss (nats per "+unit+")")
}

// readable leaves out pipes, such as a shell's <(…): they have no place on the disk that
// an output could take.
func readable(inputs []string) []string {
	return slices.DeleteFunc(inputs, func(path string) bool {
		info, err := os.Stat(path)
		return err == nil && info.Mode()&fs.ModeNamedPipe != 0
	})
}

func (j *trainJob) result(r train.Result, took time.Duration) (*trainResult, error) {
	size := j.model.Size()
	state := r.State
	res := &trainResult{
		Schema: "graft.train/1", Out: j.out, Steps: state.GlobalStep, FirstStep: r.Plan.FirstStep, Tokens: state.NumInputTokensSeen,
		Early: r.Early, BestStep: state.BestGlobalStep, BestMetric: state.BestMetric,
		Memory: j.opts.Footprint(size.Trainable, size.Base), Seconds: took.Seconds(),
	}
	trained, err := j.adapter()
	if err != nil {
		return nil, err
	}
	_, res.AdapterBytes = adapterShape(trained)
	for _, p := range state.LogHistory {
		switch {
		case !p.Eval:
			res.Loss = p.Loss
		case p.Step == 0:
			res.EvalBefore, res.ScoresBefore = &p.Loss, p.Scores
		case !j.opts.LoadBest || state.BestGlobalStep == nil || p.Step == *state.BestGlobalStep:
			res.EvalAfter, res.ScoresAfter = &p.Loss, p.Scores
		}
	}
	res.loaded = j.opts.LoadBest
	return res, nil
}

// stateFile is where Hugging Face's Trainer looks for its state.
const stateFile = "trainer_state.json"

// writeTraining writes an adapter with the record of its training.
func writeTraining(dir string, a *adapter.Adapter, state train.TrainerState, loss string) error {
	if err := peft.Write(dir, a); err != nil {
		return err
	}
	var metrics, stateText, curve bytes.Buffer
	lines := train.NewMetricsWriter(&metrics, false)
	for _, p := range state.LogHistory {
		if err := lines.Write(p); err != nil {
			return err
		}
	}
	if err := state.Write(&stateText); err != nil {
		return err
	}
	files := map[string][]byte{"metrics.jsonl": metrics.Bytes(), stateFile: stateText.Bytes()}
	if len(state.LogHistory) > 0 {
		if err := train.CurveOf(&curve, state.LogHistory, loss); err != nil {
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
	early := ""
	if r.Early {
		early = "stopped early after "
	}
	fmt.Fprintf(&b, "%s: %s%s, %s tokens in %.1f s, loss %.4f", r.Out, early, countOf(r.Steps, "step"), countText(r.Tokens), r.Seconds, r.Loss)
	if r.loaded && r.BestStep != nil {
		fmt.Fprintf(&b, "; the adapter is that of step %d", *r.BestStep)
	}
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

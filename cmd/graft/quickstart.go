package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/testdata"
	"github.com/seed-b982eded/graft/train"
	"github.com/seed-b982eded/graft/train/data"
	"github.com/seed-b982eded/graft/train/models"
	"github.com/seed-b982eded/graft/train/tokenizer"
)

//go:embed quickstart/train.jsonl
var quickstartTrain string

//go:embed quickstart/held-out.jsonl
var quickstartHeldOut string

const (
	quickstartPrompt = "Graft the forty-first."
	quickstartTokens = 45
	quickstartSteps  = 80

	// boundExact is how far base + adapter and merged may differ in float32: both sum
	// about 10⁴ rounded products on the way to a logit of about 10.
	boundExact = 1e-3
	// boundStored is the same for the file, whose weights are rounded to the base's 8
	// significant bits; the logits of this model move by a few hundredths from that.
	boundStored = 0.5
)

func quickstartCommand() *cli.Command {
	return &cli.Command{
		Name:      "quickstart",
		Usage:     "do the whole job on a small model that comes with graft",
		UsageText: "graft quickstart [--out DIR]",
		Description: "Takes a pretrained Llama of a million parameters, trains an adapter on a page of text,\n" +
			"merges it, and checks every step. Takes less than a minute.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "write to `DIR` (default: a fresh graft-quickstart-N here)"},
			&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "seed of everything random"},
			&cli.BoolFlag{Name: "force", Usage: "replace the output if it exists"},
		}, commonFlags()...),
		Action: quickstartAction,
	}
}

// quickstartReport is report.json: every number was computed in the run.
type quickstartReport struct {
	Schema  string `json:"schema"`
	Version string `json:"version"`
	Out     string `json:"out"`
	Seed    uint64 `json:"seed"`

	LossBefore   float64 `json:"held_out_loss_before"`
	LossAfter    float64 `json:"held_out_loss_after"`
	SampleBefore string  `json:"sample_before"`
	SampleAfter  string  `json:"sample_after"`

	Memory       train.Footprint `json:"memory"`
	AdapterBytes int64           `json:"adapter_bytes"`
	ModelBytes   int64           `json:"model_bytes"`

	MergedTensors    int     `json:"merged_tensors"`
	UntouchedTensors int     `json:"untouched_tensors"`
	HashesDiffer     int     `json:"untouched_hashes_that_differ"`
	ExactDifference  float64 `json:"largest_logit_difference_float32"`
	StoredDifference float64 `json:"largest_logit_difference_stored"`
	ExactBound       float64 `json:"bound_float32"`
	StoredBound      float64 `json:"bound_stored"`
	Seconds          float64 `json:"seconds"`
}

func quickstartAction(c *cli.Context) error {
	if err := noPaths(c); err != nil {
		return err
	}
	co := newConsole(c)
	out := freshName("graft-quickstart")
	if c.IsSet("out") {
		out = outPath(c)
	}
	if err := co.checkReport(out); err != nil {
		return err
	}
	var rep *quickstartReport
	err := publishDir(out, c.Bool("force"), func(dir string) (err error) {
		q := &quickstart{co: co, out: out, dir: dir, rep: &quickstartReport{
			Schema: "graft.quickstart/1", Version: readVersion().Version, Out: out, Seed: c.Uint64("seed"),
			ExactBound: boundExact, StoredBound: boundStored,
		}}
		rep = q.rep
		return q.run(c.Context)
	})
	if err != nil {
		return err
	}
	return co.emit(rep, func(w io.Writer) {
		fmt.Fprintf(w, "\nfiles     %s  (base, adapter, merged, report.json, loss.svg)\n", out)
		fmt.Fprintf(w, "\ntry next:\n  graft inspect %[1]s/adapter\n  graft generate --base %[1]s/merged --prompt %[2]q\n"+
			"  graft train --base %[1]s/base --target-modules q_proj,v_proj --data YOUR.jsonl --out my-adapter\n", out, "Rule of the ")
	})
}

// freshName returns the first of NAME-1, NAME-2, … that does not exist here.
func freshName(name string) string {
	for n := 1; ; n++ {
		path := fmt.Sprintf("%s-%d", name, n)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return path
		}
	}
}

// quickstart is one run, built in dir, a staging place for out.
type quickstart struct {
	co       *console
	out, dir string
	rep      *quickstartReport

	base *formats.Checkpoint
	tok  *tokenizer.Tokenizer
	held *data.Loader
}

// say prints a line of the story, unless the result is wanted as JSON.
func (q *quickstart) say(format string, args ...any) {
	if !q.co.json {
		fmt.Fprintf(q.co.out, format+"\n", args...)
	}
}

func (q *quickstart) run(ctx context.Context) error {
	began := time.Now()
	if err := q.openBase(); err != nil {
		return err
	}
	defer q.base.Close()
	if err := q.before(ctx); err != nil {
		return err
	}
	if err := q.train(ctx); err != nil {
		return err
	}
	if err := q.after(ctx); err != nil {
		return err
	}
	if err := q.merge(ctx); err != nil {
		return err
	}
	if err := q.verify(); err != nil {
		return err
	}
	q.rep.Seconds = time.Since(began).Seconds()
	return writeJSON(filepath.Join(q.dir, "report.json"), q.rep)
}

func (q *quickstart) path(name string) string { return filepath.Join(q.dir, name) }

// openBase unpacks the model and opens it like any other.
func (q *quickstart) openBase() error {
	err := os.CopyFS(q.path("base"), testdata.TinyLlama())
	if err != nil {
		return formats.Outputf(q.path("base"), err, "")
	}
	if q.base, err = open.Checkpoint(q.path("base")); err != nil {
		return err
	}
	q.tok, err = openTokenizer(q.base)
	return err
}

func (q *quickstart) before(ctx context.Context) error {
	m, err := models.Load(q.base)
	if err != nil {
		return err
	}
	if q.held, err = q.loader(ctx, m, quickstartHeldOut, false); err != nil {
		return err
	}
	q.say("model     a Llama of %s parameters, %s", countText(m.Size().Base), sizeText(q.base.Size()))
	if q.rep.LossBefore, err = q.loss(ctx, m); err != nil {
		return err
	}
	q.say("loss      %.4f on held-out text, before", q.rep.LossBefore)
	q.rep.SampleBefore, err = q.sample(ctx, m)
	q.say("sample    %s", q.rep.SampleBefore)
	return err
}

func (q *quickstart) loader(ctx context.Context, m models.Model, lines string, shuffle bool) (*data.Loader, error) {
	records, err := data.Read("quickstart", strings.NewReader(lines))
	if err != nil {
		return nil, err
	}
	enc, err := newEncoder(q.tok, m, 0)
	if err != nil {
		return nil, err
	}
	set, _, err := enc.encode(ctx, records)
	if err != nil {
		return nil, err
	}
	return data.NewLoader(set, data.LoaderOptions{Rows: 4, Pad: enc.pad(), Shuffle: shuffle, Seed: q.rep.Seed})
}

func (q *quickstart) loss(ctx context.Context, m models.Model) (float64, error) {
	loss, _, err := train.Evaluate(ctx, m, q.held, nil)
	return loss, err
}

func (q *quickstart) sample(ctx context.Context, m models.Model) (string, error) {
	var b strings.Builder
	b.WriteString(quickstartPrompt)
	opts := models.GenerateOptions{MaxTokens: quickstartTokens, Temperature: 0.5, TopK: 20, Seed: q.rep.Seed}
	_, _, err := continueText(ctx, m, q.tok, quickstartPrompt, opts, func(s string) error {
		b.WriteString(s)
		return nil
	})
	return strings.ReplaceAll(b.String(), "\n", " / "), err
}

func (q *quickstart) train(ctx context.Context) error {
	view, err := patch.NewModel(q.base)
	if err != nil {
		return err
	}
	cfg := &peft.Config{R: 8, Alpha: 16, InitWeights: patch.InitDefault, TaskType: taskType(view), BaseModel: filepath.Join(q.out, "base")}
	cfg.Selection.AllLinear = true
	fresh, err := newAdapter(ctx, q.co, view, cfg, q.rep.Seed)
	if err != nil {
		return err
	}
	m, err := models.Load(q.base)
	if err != nil {
		return err
	}
	if err := m.Train(fresh, models.TrainOptions{}); err != nil {
		return err
	}
	source, err := q.loader(ctx, m, quickstartTrain, true)
	if err != nil {
		return err
	}
	opts := train.DefaultOptions
	opts.LearningRate, opts.Schedule, opts.WarmupSteps, opts.MaxSteps, opts.BatchSize = 5e-3, train.Cosine, 5, quickstartSteps, 4
	opts.Eval, opts.EvalSteps = q.held, 20
	job := &trainJob{model: m, source: source, opts: opts, out: q.path("adapter"), co: q.co}
	res, err := job.run(ctx)
	if err != nil {
		return err
	}
	q.rep.Memory, q.rep.AdapterBytes, q.rep.ModelBytes = res.Memory, res.AdapterBytes, q.base.Size()
	q.say("trained   %s steps, %s tokens in %.1f s", countText(int64(res.Steps)), countText(res.Tokens), res.Seconds)
	curve, err := os.ReadFile(q.path("adapter/loss.svg"))
	if err == nil {
		err = os.WriteFile(q.path("loss.svg"), curve, 0o666)
	}
	if err != nil {
		return formats.Outputf(q.path("loss.svg"), err, "")
	}
	return nil
}

// withAdapter loads a model with the trained adapter, as it was written.
func (q *quickstart) withAdapter() (models.Model, error) {
	a, err := open.Adapter(q.path("adapter"))
	if err != nil {
		return nil, err
	}
	defer a.Close()
	m, err := models.Load(q.base)
	if err != nil {
		return nil, err
	}
	return m, m.Attach(a, 1)
}

func (q *quickstart) after(ctx context.Context) error {
	m, err := q.withAdapter()
	if err != nil {
		return err
	}
	if q.rep.LossAfter, err = q.loss(ctx, m); err != nil {
		return err
	}
	q.say("loss      %.4f on held-out text, after", q.rep.LossAfter)
	q.rep.SampleAfter, err = q.sample(ctx, m)
	q.say("sample    %s", q.rep.SampleAfter)
	mem := q.rep.Memory
	q.say("trainable %s of %s parameters: %.1f %%", countText(mem.Trainable), countText(mem.Total), 100*float64(mem.Trainable)/float64(mem.Total))
	q.say("optimizer %s in place of %s: %.1f times less", sizeText(mem.Bytes), sizeText(mem.FullBytes), mem.Times())
	q.say("adapter   %s for a model of %s", sizeText(q.rep.AdapterBytes), sizeText(q.rep.ModelBytes))
	if err == nil && !(q.rep.LossAfter < q.rep.LossBefore) {
		err = differsf("held-out loss did not fall: %.4f before, %.4f after", q.rep.LossBefore, q.rep.LossAfter)
	}
	return err
}

func differsf(format string, args ...any) error {
	return &formats.Error{Class: formats.ErrDiffers, Detail: fmt.Sprintf(format, args...)}
}

func (q *quickstart) merge(ctx context.Context) error {
	a, err := open.Adapter(q.path("adapter"))
	if err != nil {
		return err
	}
	defer a.Close()
	plan, err := patch.NewPlan(q.base, patch.Weighted{Adapter: a, Weight: 1})
	if err != nil {
		return err
	}
	observer := plan.Observer(false)
	opts := hf.WriteOptions{
		BlockOptions: publish.BlockOptions{Observe: observer.Observe},
		Check: func() error {
			results, err := observer.Results()
			if err != nil {
				return err
			}
			return patch.CheckLost(results)
		},
	}
	if err := hf.Write(ctx, plan.Merge(), q.path("merged"), opts); err != nil {
		return err
	}
	return q.checkTensors(plan)
}

// checkTensors compares base and merged file by hashes: what is no target must be the
// same.
func (q *quickstart) checkTensors(plan *patch.Plan) error {
	merged, err := open.Checkpoint(q.path("merged"))
	if err != nil {
		return err
	}
	defer merged.Close()
	target := map[string]bool{}
	for _, t := range plan.Targets() {
		target[t.Tensor.Name] = true
	}
	for t := range q.base.Tensors() {
		if target[t.Name] {
			q.rep.MergedTensors++
			continue
		}
		q.rep.UntouchedTensors++
		other, _ := merged.Tensor(t.Name)
		same, err := sameHash(t, other)
		if err != nil {
			return err
		}
		if !same {
			q.rep.HashesDiffer++
		}
	}
	q.say("merged    %d tensors changed; %d untouched, of which %d differ by SHA-256", q.rep.MergedTensors, q.rep.UntouchedTensors, q.rep.HashesDiffer)
	if q.rep.HashesDiffer > 0 {
		return differsf("%d tensors that no adapter touches differ after merging", q.rep.HashesDiffer)
	}
	return nil
}

// verify compares the logits of base + adapter with those of the merged model, in
// float32 and as stored.
func (q *quickstart) verify() error {
	beside, err := q.withAdapter()
	if err != nil {
		return err
	}
	a, err := open.Adapter(q.path("adapter"))
	if err != nil {
		return err
	}
	defer a.Close()
	wide, err := widened(q.base)
	if err != nil {
		return err
	}
	plan, err := patch.NewPlan(wide, patch.Weighted{Adapter: a, Weight: 1})
	if err != nil {
		return err
	}
	if q.rep.ExactDifference, err = q.difference(beside, plan.Merge()); err != nil {
		return err
	}
	stored, err := open.Checkpoint(q.path("merged"))
	if err != nil {
		return err
	}
	defer stored.Close()
	if q.rep.StoredDifference, err = q.difference(beside, stored); err != nil {
		return err
	}
	q.say("verified  base + adapter and merged: logits differ by at most %.1e in float32 (bound %.0e),", q.rep.ExactDifference, boundExact)
	q.say("          and %.2g with weights rounded to the base's BF16 (bound %g)", q.rep.StoredDifference, boundStored)
	if !(q.rep.ExactDifference <= boundExact) || !(q.rep.StoredDifference <= boundStored) {
		return differsf("logits of base + adapter and of the merged model differ by %g in float32 and %g as stored, more than %g and %g",
			q.rep.ExactDifference, q.rep.StoredDifference, boundExact, boundStored)
	}
	return nil
}

// difference returns the largest difference of logits on held-out text.
func (q *quickstart) difference(m models.Model, c *formats.Checkpoint) (float64, error) {
	other, err := models.Load(c)
	if err != nil {
		return 0, err
	}
	batch := q.held.At(0, 0).Batch
	x, err := m.Logits(batch)
	if err != nil {
		return 0, err
	}
	y, err := other.Logits(batch)
	if err != nil {
		return 0, err
	}
	var largest float64
	for i := range x {
		d := float64(x[i]) - float64(y[i])
		if d != d {
			return d, nil
		}
		largest = max(largest, d, -d)
	}
	return largest, nil
}

// widened returns a checkpoint with its weights as F32 in memory: it is for small models.
func widened(c *formats.Checkpoint) (*formats.Checkpoint, error) {
	var failed error
	out := c.MapTensors(func(t formats.Tensor) formats.Tensor {
		v, err := t.Float32s()
		if err != nil {
			failed = err
			return t
		}
		return formats.FromFloat32s(t.Name, t.Shape, v)
	})
	return out, failed
}

package models

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/formats/peft"
)

// taskRuns are runs of transformers and PEFT, made by testdata/gen/encoders.py.
var taskRuns = []struct{ model, run string }{
	{"gpt2", "lm"}, {"gpt2-odd", "lm"}, {"gpt2-score", "classes"},
	{"bert", "classes"}, {"bert-old", "multi-label"}, {"roberta", "regression"}, {"distilbert", "regression"},
	{"minilm", "pairs"}, {"minilm", "triples"}, {"minilm", "cosine"},
}

// taskPlan is a run.json.
type taskPlan struct {
	trainingPlan
	Task, Pooling string
	Texts         int
	Scale         float64
	Normalize     *bool
	Outputs       int
}

// taskRun is one of taskRuns, opened.
type taskRun struct {
	taskPlan
	base   *formats.Checkpoint
	init   *adapter.Adapter
	golden *formats.Checkpoint
}

func openRun(t testing.TB, model, run string) *taskRun {
	t.Helper()
	dir := filepath.Join("../../testdata/models", model)
	base, err := hf.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { base.Close() })
	r := &taskRun{base: base, init: readAdapter(t, dir, run, "init"), golden: golden(t, dir, run, "golden.safetensors")}
	text, err := os.ReadFile(filepath.Join(dir, "reference", run, "run.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r.taskPlan); err != nil {
		t.Fatal(err)
	}
	return r
}

// load makes the run's model of the base, or of a changed one, with its outputs.
func (r *taskRun) load(base *formats.Checkpoint) (m Adaptable, outputs func(b Batch) ([]float32, error), err error) {
	switch r.Task {
	case "lm":
		m, err := Load(base)
		if err != nil {
			return nil, nil, err
		}
		return m, m.Logits, nil
	case "contrastive", "cosine":
		cfg, err := ReadSentenceConfig(base)
		if err != nil {
			return nil, nil, err
		}
		if r.Pooling != "" {
			cfg.Pooling = Pooling(r.Pooling)
		}
		if r.Normalize != nil {
			cfg.Normalize = *r.Normalize
		}
		m, err := LoadEmbedder(base, EmbedderOptions{SentenceConfig: cfg, Loss: EmbeddingLoss(r.Task), Scale: r.Scale})
		if err != nil {
			return nil, nil, err
		}
		return m, m.Embed, nil
	}
	opts := ClassifierOptions{Outputs: r.Outputs}
	if r.Outputs > 0 {
		opts.Problem = MultiLabel
	}
	c, err := LoadClassifier(base, opts)
	if err != nil {
		return nil, nil, err
	}
	return c, c.Scores, nil
}

// batch returns batch i of the run.
func (r *taskRun) batch(t testing.TB, i int) Batch {
	t.Helper()
	part := func(name string) (ids []int32, shape []int64) {
		all, shape := goldenIDs(t, r.golden, name)
		n := len(all) / int(shape[0])
		return all[i*n : (i+1)*n], shape
	}
	ids, shape := part("ids")
	b := Batch{Rows: int(shape[1]), Cols: int(shape[2]), IDs: ids, Texts: r.Texts}
	lens, _ := part("lens")
	for _, n := range lens {
		b.Lens = append(b.Lens, int(n))
	}
	if _, ok := r.golden.Tensor("types"); ok {
		b.Types, _ = part("types")
	}
	if _, ok := r.golden.Tensor("labels"); ok {
		b.Labels, _ = part("labels")
	}
	if x, ok := r.golden.Tensor("targets"); ok {
		all := goldenFloats(t, r.golden, "targets")
		n := len(all) / int(x.Shape[0])
		b.Targets = all[i*n : (i+1)*n]
	}
	return b
}

const runBatches = 5

// compare returns the largest difference in units of the root mean square. It leaves out padding,
// where the reference has something else.
func (r *taskRun) compare(b Batch, got, want []float32) (worst float64) {
	width := len(want) / b.Rows
	var squares float64
	n := 0
	for row := range b.Rows {
		used := width
		if r.Task == "lm" {
			used = width / b.Cols * b.Lens[row]
		}
		for i := row * width; i < row*width+used; i++ {
			d := math.Abs(float64(got[i]) - float64(want[i]))
			if !(d <= worst) {
				worst = d
			}
			squares += float64(want[i]) * float64(want[i])
			n++
		}
	}
	return worst / math.Sqrt(squares/float64(n))
}

// outputBound is in units of the outputs' root mean square. The reference is made in float64,
// of which float32 is within 2e-6 here, and every option moves the outputs by ten times
// the bound or more.
const outputBound = 5e-6

func TestTasksMatchPyTorch(t *testing.T) {
	for _, c := range taskRuns {
		t.Run(c.model+" "+c.run, func(t *testing.T) {
			r := openRun(t, c.model, c.run)
			m, outputs, err := r.load(r.base)
			if err != nil {
				t.Fatal(err)
			}
			first := r.batch(t, 0)
			check := func(name string) {
				got, err := outputs(first)
				if err != nil {
					t.Fatal(err)
				}
				off := r.compare(first, got, goldenFloats(t, r.golden, name))
				t.Logf("%s is off by %.1e of the rms", name, off)
				if !(off <= outputBound) {
					t.Errorf("%s is off by %g of the rms", name, off)
				}
			}
			if r.Outputs == 0 {
				check("base")
			}
			if err := m.Train(r.init, TrainOptions{}); err != nil {
				t.Fatal(err)
			}
			check("adapter")
			r.train(t, m)
		})
	}
}

// train takes the run's steps and compares losses, gradients and what was learned.
func (r *taskRun) train(t *testing.T, m Adaptable) {
	t.Helper()
	optim := adamW{trainingPlan: r.trainingPlan}
	var worstLoss, worstGrad, worstParam float64
	for step, want := range r.Loss {
		b := r.batch(t, step%runBatches)
		for _, p := range m.Params() {
			clear(p.Grad)
		}
		count := b.Count()
		sum, n, err := m.LossGrad(b, 1/float32(count))
		if err != nil {
			t.Fatal(err)
		}
		if n != count {
			t.Fatalf("counted %d labels, want %d", n, count)
		}
		worstLoss = max(worstLoss, math.Abs(sum/float64(n)-want))
		if step == 0 {
			for _, p := range m.Params() {
				worstGrad = max(worstGrad, r.compareParam(t, "grad.", p, p.Grad))
			}
		}
		optim.update(m.Params())
	}
	for _, p := range m.Params() {
		worstParam = max(worstParam, r.compareParam(t, "trained.", p, p.Data))
	}
	t.Logf("largest differences: loss %.1e, gradient %.1e, parameter after %d steps %.1e", worstLoss, worstGrad, len(r.Loss), worstParam)
	if !(worstLoss <= 1e-4) {
		t.Errorf("losses are off by %g", worstLoss)
	}
}

// compareParam returns how far a parameter or its gradient is from the reference. The file
// has GPT-2's layers as in × out.
func (r *taskRun) compareParam(t *testing.T, what string, p Param, got []float32) float64 {
	t.Helper()
	x, ok := r.golden.Tensor(what + p.Name)
	if !ok {
		t.Fatalf("the reference trains no %s", p.Name)
	}
	if len(x.Shape) == 2 && int(x.Shape[0]) != p.Rows {
		got = transposed(got, p.Rows, p.Cols)
	}
	want := goldenFloats(t, r.golden, what+p.Name)
	if p.Rows == 1 {
		got, want = r.busy(t, p.Name, got), r.busy(t, p.Name, want)
		if len(want) == 0 {
			return 0
		}
	}
	d := frobenius(got, want)
	if !(d <= matrixBound) {
		t.Errorf("%s%s is off by %g", what, p.Name, d)
	}
	return d
}

// busy returns the elements of a vector whose gradient is not zero but for rounding. Those of
// a bias of keys are, as softmax takes it out again, and rounding alone moves them.
func (r *taskRun) busy(t *testing.T, name string, values []float32) (out []float32) {
	t.Helper()
	for i, g := range goldenFloats(t, r.golden, "grad."+name) {
		if math.Abs(float64(g)) > 1e-12 {
			out = append(out, values[i])
		}
	}
	return out
}

// An exported adapter is what a reader of PEFT's files finds in what was trained.
func TestExportOfTasks(t *testing.T) {
	for _, c := range taskRuns {
		t.Run(c.model+" "+c.run, func(t *testing.T) {
			r := openRun(t, c.model, c.run)
			m, outputs, err := r.load(r.base)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Train(r.init, TrainOptions{}); err != nil {
				t.Fatal(err)
			}
			b := r.batch(t, 0)
			if _, _, err := m.LossGrad(b, 1); err != nil {
				t.Fatal(err)
			}
			for _, p := range m.Params() {
				for i, g := range p.Grad {
					p.Data[i] -= 0.01 * g
				}
			}
			want, err := outputs(b)
			if err != nil {
				t.Fatal(err)
			}
			ad, err := m.Export()
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := peft.Write(dir, ad); err != nil {
				t.Fatal(err)
			}
			again, err := peft.Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if m, outputs, err = r.load(r.base); err != nil {
				t.Fatal(err)
			}
			if err := m.Attach(again, 1); err != nil {
				t.Fatal(err)
			}
			if got, err := outputs(b); err != nil || largestDifference(got, want) != 0 {
				t.Errorf("outputs differ by %g, %v", largestDifference(got, want), err)
			}
		})
	}
}

// Numbers of a BERT that was trained, computed by PyTorch and PEFT.
func TestTinyBERT(t *testing.T) {
	const dir = "../../testdata/tiny-bert"
	for _, name := range []string{"qv-r8", "all-r4"} {
		ckpt, err := hf.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer ckpt.Close()
		m, err := LoadEmbedder(ckpt, EmbedderOptions{SentenceConfig: SentenceConfig{Pooling: FirstPooling}})
		if err != nil {
			t.Fatal(err)
		}
		inputs, want := golden(t, dir, name, "inputs.safetensors"), golden(t, dir, name, "outputs.safetensors")
		ids, shape := goldenIDs(t, inputs, "input_ids")
		b := Batch{Rows: int(shape[0]), Cols: int(shape[1]), IDs: ids}
		b.Types, _ = goldenIDs(t, inputs, "token_type_ids")
		mask, _ := goldenIDs(t, inputs, "attention_mask")
		for r := range b.Rows {
			n := 0
			for _, on := range mask[r*b.Cols : (r+1)*b.Cols] {
				n += int(on)
			}
			b.Lens = append(b.Lens, n)
		}
		check := func(what string) {
			t.Helper()
			in, err := packTexts(b, m.Vocabulary(), m.MaxPositions(), m.spec.types)
			if err != nil {
				t.Fatal(err)
			}
			m.evaluation.NoGrad = true
			m.evaluation.Reset()
			h := m.hidden(&m.evaluation, in, dropout{})
			all := goldenFloats(t, want, what)
			var expected []float32
			for _, place := range in.places {
				expected = append(expected, all[place*h.Cols:(place+1)*h.Cols]...)
			}
			worst := largestDifference(h.Data, expected)
			t.Logf("%s %s: largest difference %.1e", name, what, worst)
			if !(worst <= 1e-5) {
				t.Errorf("%s %s is off by %g", name, what, worst)
			}
		}
		check("base_last_hidden_state")
		ad, err := peft.Read(filepath.Join(dir, "reference", name, "adapter"))
		if err != nil {
			t.Fatal(err)
		}
		defer ad.Close()
		if err := m.Attach(ad, 1); err != nil {
			t.Fatal(err)
		}
		check("adapter_last_hidden_state")
	}
}

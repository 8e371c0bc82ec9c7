package interop

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/train/models"
)

// taskCase is a model with a head, and the adapter that its training starts from.
type taskCase struct {
	model, run, class string
	outputs           int
	pooling           models.Pooling
}

var taskCases = []taskCase{
	{model: "gpt2", run: "lm", class: "GPT2LMHeadModel"},
	{model: "gpt2-odd", run: "lm", class: "GPT2LMHeadModel"},
	{model: "gpt2-score", run: "classes", class: "GPT2ForSequenceClassification"},
	{model: "bert", run: "classes", class: "BertForSequenceClassification"},
	{model: "bert-old", run: "multi-label", class: "BertForSequenceClassification", outputs: 4},
	{model: "roberta", run: "regression", class: "RobertaForSequenceClassification"},
	{model: "distilbert", run: "regression", class: "DistilBertForSequenceClassification"},
	{model: "minilm", run: "pairs", class: "BertModel", pooling: models.MeanPooling},
	{model: "minilm", run: "cosine", class: "BertModel", pooling: models.MaxPooling},
}

// TestTasksForPEFT has PEFT load what graft trained and compute the same outputs.
func TestTasksForPEFT(t *testing.T) {
	full(t)
	for _, c := range taskCases {
		t.Run(c.model+"/"+c.run, func(t *testing.T) {
			start, err := open.Adapter(fixture("models", c.model, "reference", c.run, "init"))
			check(t, err)
			defer start.Close()
			c.compare(t, start)
		})
	}
	// An adapter of graft's own, with a head that no checkpoint had.
	t.Run("a new head", func(t *testing.T) {
		base := fixture("tiny-bert")
		dir := filepath.Join(t.TempDir(), "fresh")
		graft(t, "init", "--quiet", "--base", base, "--target-modules", "query,value", "--rank", "3", "--init-lora-weights", "false", "--out", dir)
		fresh, err := open.Adapter(dir)
		check(t, err)
		defer fresh.Close()
		c := taskCase{model: "../tiny-bert", class: "BertForSequenceClassification", outputs: 3}
		m, err := models.LoadClassifier(openBase(t, c.model), models.ClassifierOptions{Outputs: 3, Problem: models.MultiLabel, Seed: 4})
		check(t, err)
		withHead, err := m.WithHead(fresh)
		check(t, err)
		cfg, err := peft.ParseConfig(fresh.Config, dir)
		check(t, err)
		cfg.Selection.ModulesToSave = m.HeadModules()
		cfg.TaskType = "SEQ_CLS"
		withHead.Config = cfg.Encode()
		c.compare(t, withHead)
	})
}

// TestTasksFromTheCommand has PEFT run adapters that graft train made of text, on a base
// whose head is new.
func TestTasksFromTheCommand(t *testing.T) {
	full(t)
	base := fixture("tiny-bert")
	dir := t.TempDir()
	texts := filepath.Join(dir, "d.jsonl")
	lines := `{"text":"the cat sat on the mat","label":"animal"}
{"text":"apple upon apple","text_pair":"and pear upon the quince","label":"fruit"}
{"text":"graft the scion to the stock","label":"tree"}
`
	check(t, os.WriteFile(texts, []byte(lines), 0o666))
	for _, target := range []string{"all-linear", "query,dense"} {
		t.Run(target, func(t *testing.T) {
			out := filepath.Join(dir, target)
			graft(t, "train", "--quiet", "--task", "sequence-classification", "--base", base, "--target-modules", target, "--rank", "3",
				"--data", texts, "--max-steps", "5", "--learning-rate", "1e-2", "--seed", "3", "--out", out)
			trained, err := open.Adapter(out)
			check(t, err)
			defer trained.Close()
			c := taskCase{model: "../tiny-bert", class: "BertForSequenceClassification", outputs: 3}
			m, err := models.LoadClassifier(openBase(t, c.model), models.ClassifierOptions{Outputs: models.HeadOutputs(trained), Seed: 99})
			check(t, err)
			check(t, m.Attach(trained, 1))
			b := models.Batch{Rows: 2, Cols: 5, IDs: []int32{4, 9, 5, 7, 31, 4, 5, 17, 0, 0}, Lens: []int{5, 3}, Types: []int32{0, 0, 1, 1, 1, 0, 1, 1, 0, 0}}
			want, err := m.Scores(b)
			check(t, err)
			c.checkPEFT(t, out, b, want, "--outputs", "3")
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// compare trains one step from an adapter, writes the result and has PEFT run it.
func (c taskCase) compare(t *testing.T, start *adapter.Adapter) {
	t.Helper()
	base := openBase(t, c.model)
	b := models.Batch{Rows: 2, Cols: 5, IDs: []int32{4, 9, 5, 7, 31, 4, 5, 17, 0, 0}, Lens: []int{5, 3}}
	if c.model == "bert" || c.outputs > 0 {
		b.Types = []int32{0, 0, 1, 1, 1, 0, 1, 1, 0, 0}
	}
	var m models.Adaptable
	var outputs func(models.Batch) ([]float32, error)
	args := []string{}
	switch {
	case c.run == "lm":
		x, err := models.Load(base)
		check(t, err)
		m, outputs, b.Labels = x, x.Logits, b.IDs
	case c.pooling != "":
		opts := models.EmbedderOptions{SentenceConfig: models.SentenceConfig{Pooling: c.pooling, Normalize: true}}
		x, err := models.LoadEmbedder(base, opts)
		check(t, err)
		m, outputs, b.Texts = x, x.Embed, 2
		args = append(args, "--pooling", string(c.pooling), "--normalize")
	default:
		opts := models.ClassifierOptions{Outputs: c.outputs, Seed: 4}
		if c.outputs > 0 {
			opts.Problem = models.MultiLabel
			args = append(args, "--outputs", strconv.Itoa(c.outputs))
		}
		x, err := models.LoadClassifier(base, opts)
		check(t, err)
		m, outputs = x, x.Scores
		if x.Problem() == models.SingleLabel {
			b.Labels = []int32{1, 2}
		} else {
			b.Targets = []float32{1, 0, 0, 1, 1, 0, 0, 1}[:2*x.Outputs()]
		}
	}
	check(t, m.Train(start, models.TrainOptions{}))
	_, _, err := m.LossGrad(b, 1)
	check(t, err)
	for _, p := range m.Params() {
		for i, g := range p.Grad {
			p.Data[i] -= 0.01 * g
		}
	}
	want, err := outputs(b)
	check(t, err)
	trained, err := m.Export()
	check(t, err)
	dir := t.TempDir()
	check(t, peft.Write(dir, trained))
	c.checkPEFT(t, dir, b, want, args...)
}

// checkPEFT has PEFT load an adapter and compute the outputs of a batch.
func (c taskCase) checkPEFT(t *testing.T, dir string, b models.Batch, want []float32, args ...string) {
	t.Helper()
	values := struct {
		IDs   [][]int32 `json:"ids"`
		Types [][]int32 `json:"types"`
		Want  []float32 `json:"want"`
	}{Want: want}
	for r, n := range b.Lens {
		row := append([]int32(nil), b.IDs[r*b.Cols:(r+1)*b.Cols]...)
		for i := n; i < b.Cols; i++ {
			row[i] = -1
		}
		values.IDs = append(values.IDs, row)
		if b.Types != nil {
			values.Types = append(values.Types, b.Types[r*b.Cols:(r+1)*b.Cols])
		}
	}
	text, err := json.Marshal(values)
	check(t, err)
	file := filepath.Join(t.TempDir(), "values.json")
	check(t, os.WriteFile(file, text, 0o666))
	args = append(args, "--base", fixture("models", c.model), "--adapter", dir, "--class", c.class, "--values", file)
	t.Log(python(t, genPython, nil, "check_tasks.py", args...))
}

func openBase(t *testing.T, model string) *formats.Checkpoint {
	t.Helper()
	base, err := open.Checkpoint(fixture("models", model))
	check(t, err)
	t.Cleanup(func() { base.Close() })
	return base
}

// TestTasksFreshSeed makes the encoders and GPT-2s again with another seed, and runs the
// golden tests on them.
func TestTasksFreshSeed(t *testing.T) {
	full(t)
	tree := t.TempDir()
	t.Log(python(t, genPython, nil, "encoders.py", "--seed", strconv.FormatUint(seed(t), 10), "--out", filepath.Join(tree, "testdata", "models")))
	golden(t, tree, "train/models", "^Test(TasksMatchPyTorch|ExportOfTasks)$", 2*11)
}

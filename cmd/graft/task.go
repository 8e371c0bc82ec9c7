package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/train"
	"github.com/seed-b982eded/graft/train/data"
	"github.com/seed-b982eded/graft/train/models"
)

// tasks are the values of --task.
var tasks = map[string]data.Task{
	"causal-lm": data.LanguageModel, "sequence-classification": data.Classification,
	"multi-label-classification": data.MultiLabel, "regression": data.Regression, "embedding": data.Embedding,
}

func parseTask(name string) (data.Task, error) {
	task, ok := tasks[name]
	if !ok {
		return 0, formats.Usagef("--task %s is not known (want one of %s)", formats.Quote(name), strings.Join(slices.Sorted(maps.Keys(tasks)), ", "))
	}
	return task, nil
}

// textTask is a task of whole texts on one base.
type textTask struct {
	task    data.Task
	name    string // of the task
	own     bool   // the base has a head for texts
	outputs int    // of a head that the base has not, 0 for its own
	seed    uint64
	scored  bool     // pairs have a similarity
	classes []string // names of classes in order
}

// newTextTask decides which head a base gets for records: that of an adapter, its own, or a
// new one for the classes that the records have.
func newTextTask(c *cli.Context, task data.Task, base *formats.Checkpoint, records []data.Record, adapters ...*adapter.Adapter) (*textTask, error) {
	t := &textTask{task: task, name: c.String("task"), seed: c.Uint64("seed")}
	if task == data.Embedding {
		t.scored = records[0].Scored
		for _, r := range records {
			if r.Scored != t.scored {
				return nil, formats.Rejectf(r.File, "", "%s: pairs with and without a score (want one kind, as in %s of %s)", r.Place(), records[0].Place(), formats.Quote(records[0].File))
			}
		}
		return t, nil
	}
	cfg, err := hf.ReadConfig(base)
	if err != nil {
		return nil, err
	}
	t.own = len(cfg.Architectures) > 0 && strings.HasSuffix(cfg.Architectures[0], "ForSequenceClassification")
	var known []string
	for _, a := range adapters {
		if n := models.HeadOutputs(a); n > 0 {
			t.outputs = n
			if known, err = readLabels(a.Path); err != nil {
				return nil, err
			}
		}
	}
	if t.outputs == 0 && t.own {
		if known, err = ownLabels(base); err != nil {
			return nil, err
		}
	}
	if task == data.Regression {
		if t.outputs == 0 && !t.own {
			t.outputs = 1
		}
		return t, nil
	}
	return t, t.nameClasses(records, known)
}

// nameClasses puts the classes of records and the outputs of a head together.
func (t *textTask) nameClasses(records []data.Record, known []string) error {
	names, count, err := classesIn(records, known, t.task == data.MultiLabel)
	if err != nil {
		return err
	}
	outputs := len(known)
	if t.outputs > 0 {
		outputs = t.outputs
	}
	if len(known) != outputs {
		known = nil
	}
	if outputs == 0 { // a new head
		if len(names) == 1 && t.task != data.MultiLabel {
			return formats.Rejectf(records[0].File, "", "the records have one class, %s (want at least 2)", formats.Quote(names[0]))
		}
		if count == 0 {
			return formats.Rejectf(records[0].File, "", "no record has a class")
		}
		if count < 2 && t.task != data.MultiLabel {
			return formats.Rejectf(records[0].File, "", "the records have classes up to number %d only (want at least 2 classes)", count-1)
		}
		t.outputs, outputs = count, count
	}
	generic := true
	for i, name := range known {
		generic = generic && name == fmt.Sprintf("LABEL_%d", i)
	}
	switch {
	case known != nil && (!generic || names == nil || slices.Contains(known, names[0])):
		t.classes = known
	case names == nil:
		for i := range outputs {
			t.classes = append(t.classes, fmt.Sprintf("LABEL_%d", i))
		}
	case len(names) == outputs:
		t.classes = names
	default:
		return formats.Rejectf(records[0].File, "", "the records have %d classes, and the head has %s", len(names), countOf(outputs, "output"))
	}
	return nil
}

// maxClasses bounds the head that a number in a file asks for.
const maxClasses = 1 << 16

// classesIn returns the names of classes, sorted, or nil where they are numbers, and how
// many classes there are. Names that are all numbers, as in files without types, become
// numbers, unless the model names its classes so. With several a record has a list of classes.
func classesIn(records []data.Record, known []string, several bool) (names []string, count int, err error) {
	names = data.ClassNames(records)
	numbers := true
	for _, name := range names {
		n, err := strconv.Atoi(strings.TrimSpace(name))
		numbers = numbers && err == nil && n >= 0 && !slices.Contains(known, name)
	}
	for i := range records {
		r := &records[i]
		labels := r.Labels
		if !several {
			labels = []data.Label{r.Label}
		}
		for j, l := range labels {
			if len(names) > 0 && numbers && l.Name != "" {
				n, _ := strconv.Atoi(strings.TrimSpace(l.Name))
				l = data.Label{Number: float64(n)}
			}
			if len(names) > 0 && !numbers && l.Name == "" {
				return nil, 0, formats.Rejectf(r.File, "", "%s: class %v is a number, where others have names", r.Place(), l.Number)
			}
			if l.Number >= maxClasses {
				return nil, 0, formats.Rejectf(r.File, "", "%s: class %v (want at most %d)", r.Place(), l.Number, maxClasses-1)
			}
			count = max(count, int(l.Number)+1)
			labels[j] = l
		}
		if !several {
			r.Label = labels[0]
		}
	}
	if len(names) == 0 || numbers {
		return nil, count, nil
	}
	return names, len(names), nil
}

// load builds the model of a base. ownHead takes the base's head, whatever an adapter has.
func (t *textTask) load(base *formats.Checkpoint, ownHead bool) (models.Adaptable, error) {
	if t.task == data.Embedding {
		cfg, err := models.ReadSentenceConfig(base)
		if err != nil {
			return nil, err
		}
		opts := models.EmbedderOptions{SentenceConfig: cfg, Loss: models.Contrast}
		if t.scored {
			opts.Loss = models.Cosine
		}
		return models.LoadEmbedder(base, opts)
	}
	want, wanted := models.SingleLabel, "outputs for "+string(models.SingleLabel)
	switch t.task {
	case data.MultiLabel:
		want, wanted = models.MultiLabel, "outputs for "+string(models.MultiLabel)
	case data.Regression:
		want, wanted = models.Regression, "1 output for regression"
	}
	var opts models.ClassifierOptions
	if t.outputs > 0 && !ownHead {
		opts = models.ClassifierOptions{Outputs: t.outputs, Problem: want, Seed: t.seed}
	}
	m, err := models.LoadClassifier(base, opts)
	if err != nil {
		return nil, err
	}
	if m.Problem() != want || want == models.Regression && m.Outputs() != 1 {
		return nil, formats.Rejectf(base.Path(), "", "the base's head has %s for %s (want %s)", countOf(m.Outputs(), "output"), m.Problem(), wanted).
			WithHint("problem_type in its config.json says what a head is for")
	}
	return m, nil
}

// ownLabels reads the names of the outputs that a base's own head has.
func ownLabels(base *formats.Checkpoint) ([]string, error) {
	text, err := base.ReadSideFile("config.json", formats.MaxConfigBytes)
	if err != nil {
		return nil, err
	}
	return parseLabels(base.Path()+"/config.json", text)
}

// labelsFile lies beside an adapter's own files, and names the classes of its head.
const labelsFile = "labels.json"

// labelNames are the members of a config.json that name classes.
type labelNames struct {
	Names map[string]string `json:"id2label"`
	IDs   map[string]int    `json:"label2id"`
	Count int               `json:"num_labels,omitempty"`
}

// readLabels reads the names that lie beside an adapter, nil where there are none.
func readLabels(dir string) ([]string, error) {
	path := filepath.Join(dir, labelsFile)
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil // an adapter that others trained, or one file
	}
	if info.Size() > formats.MaxConfigBytes {
		return nil, formats.Rejectf(path, "", "too large (want at most %d bytes)", formats.MaxConfigBytes)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &formats.Error{Class: formats.ErrInput, File: path, Err: formats.Cause(err)}
	}
	return parseLabels(path, text)
}

func parseLabels(path string, text []byte) ([]string, error) {
	var file labelNames
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, formats.Rejectf(path, "", "id2label: %v", err)
	}
	n := len(file.Names)
	if n == 0 { // as in transformers
		if n = file.Count; n <= 0 || n > len(text)<<10 {
			n = 2
		}
	}
	names := make([]string, n)
	for i := range names {
		name, ok := file.Names[strconv.Itoa(i)]
		if len(file.Names) == 0 {
			name, ok = fmt.Sprintf("LABEL_%d", i), true
		}
		if !ok {
			return nil, formats.Rejectf(path, "", "id2label has no name for output %d of %d", i, n)
		}
		names[i] = name
	}
	return names, nil
}

// writeLabels names the classes of a trained head.
func writeLabels(dir string, classes []string) error {
	file := labelNames{Names: map[string]string{}, IDs: map[string]int{}}
	for i, name := range classes {
		file.Names[strconv.Itoa(i)], file.IDs[name] = name, i
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, labelsFile)
	if err := os.WriteFile(path, append(text, '\n'), 0o666); err != nil {
		return formats.Outputf(path, err, "")
	}
	return nil
}

// taskFields says which fields records have; train and eval share it.
const taskFields = "Records have \"text\", \"prompt\" and \"completion\" or \"messages\" for causal-lm; \"text\",\n" +
	"perhaps \"text_pair\", and \"label\" for sequence-classification and regression, or \"labels\", a\n" +
	"list of classes, for multi-label-classification; \"anchor\", \"positive\" and perhaps \"negative\",\n" +
	"or \"sentence1\", \"sentence2\" and \"score\" for embedding."

// namedScore is a score that an evaluation gave, or nil.
type namedScore struct {
	name  string
	value *float64
}

// namedScores lists all scores, those too that there are not.
func namedScores(s *train.Scores) []namedScore {
	if s == nil {
		s = &train.Scores{}
	}
	return []namedScore{{"accuracy", s.Accuracy}, {"F1", s.F1}, {"micro-F1", s.MicroF1}, {"MSE", s.MSE}, {"Pearson", s.Pearson}, {"Spearman", s.Spearman}}
}

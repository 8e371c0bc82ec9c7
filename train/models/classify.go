package models

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/internal/strictjson"
	"github.com/seed-b982eded/graft/train/autodiff"
	"github.com/seed-b982eded/graft/train/score"
)

// Problem is what a [Classifier] learns, in transformers' words for problem_type.
type Problem string

// The problems.
const (
	// SingleLabel is one class for each text, which a [Batch] has in Labels; the loss is
	// the cross-entropy.
	SingleLabel Problem = "single_label_classification"
	// MultiLabel is any number of classes for each text, 0 or 1 for each in Targets; the
	// loss is the mean binary cross-entropy of a text's outputs.
	MultiLabel Problem = "multi_label_classification"
	// Regression is numbers for each text, in Targets; the loss is the mean squared error
	// of a text's outputs.
	Regression Problem = "regression"
)

// ClassifierOptions say which head a [Classifier] has and what it learns.
type ClassifierOptions struct {
	// Outputs is the number of outputs of a new head; 0 takes the checkpoint's own.
	Outputs int
	// Problem is what is learned. Without one it is the config's problem_type, and without
	// that regression for one output and single labels for more.
	Problem Problem
	// Seed chooses the numbers of a new head.
	Seed uint64
}

// Classifier gives scores or numbers for whole texts: the ForSequenceClassification
// classes of BERT, RoBERTa, DistilBERT and GPT-2.
type Classifier struct {
	*host
	trunk   trunk
	types   int // segments that the trunk knows
	head    *head
	problem Problem
	labels  []string
}

// head makes outputs of one row a text: outer(f(inner(x))), or outer(x) without an inner
// layer.
type head struct {
	headSpec
	inner, outer linear
	fresh        []string // paths of layers that are no part of the checkpoint
}

// headSpec says which layers a family's head has.
type headSpec struct {
	innerPath, outerPath string // innerPath is "" where there is no inner layer
	activation           autodiff.Activation
	bias                 bool // of the outer layer
	last                 bool // reads the last token of a text, not the first

	// saved are the names of the head in modules_to_save. An inner layer that is the base's
	// own is saved only where it is new, as savedIfNew.
	saved      []string
	savedIfNew string
}

var headSpecs = map[string]headSpec{
	"bert":       {innerPath: "bert.pooler.dense", outerPath: "classifier", activation: autodiff.Tanh, bias: true, saved: []string{"classifier"}, savedIfNew: "pooler"},
	"roberta":    {innerPath: "classifier.dense", outerPath: "classifier.out_proj", activation: autodiff.Tanh, bias: true, saved: []string{"classifier"}},
	"distilbert": {innerPath: "pre_classifier", outerPath: "classifier", activation: autodiff.ReLU, bias: true, saved: []string{"pre_classifier", "classifier"}},
	"gpt2":       {outerPath: "score", last: true, saved: []string{"score"}},
}

// LoadClassifier builds a classifier from a checkpoint of a body with any head or none,
// with all weights as float32 in memory. As [Load] it refuses what is not implemented
// before it reads any weight. The dropout that a config asks for in training is not
// applied, as the base does not learn.
func LoadClassifier(ckpt *formats.Checkpoint, opts ClassifierOptions) (*Classifier, error) {
	if opts.Outputs < 0 || opts.Outputs > maxOutputs {
		return nil, formats.Usagef("outputs of a classifier (got %d, want 1 to %d, or 0 for the checkpoint's own)", opts.Outputs, maxOutputs)
	}
	doc, err := readConfig(ckpt, "config.json")
	if err != nil {
		return nil, err
	}
	kind, _ := doc.Get("model_type").(string)
	spec, ok := headSpecs[kind]
	if !ok {
		known := strings.Join(slices.Sorted(maps.Keys(headSpecs)), ", ")
		return nil, formats.Rejectf(ckpt.Path(), "", "config.json: model_type %s cannot classify (known: %s)", formats.Quote(kind), known)
	}
	o := &options{file: ckpt.Path(), doc: doc, tensors: ckpt.Len()}
	m := &Classifier{head: &head{headSpec: spec}}
	var initRange float64
	if kind == "gpt2" {
		s := readGPT2(o, classesOf("GPT2", opts.Outputs == 0, doc))
		g := newGPT2(s)
		m.trunk, m.host, initRange = g, &g.host, s.initRange
	} else {
		e := o.encoder(encoderFamilies[kind], opts.Outputs == 0)
		m.trunk, m.host, m.types, initRange = e, &e.host, e.spec.types, e.spec.initRange
	}
	outputs := opts.Outputs
	if outputs == 0 {
		m.labels = o.labels()
		outputs = len(m.labels)
	}
	m.problem = o.problem(opts.Problem, outputs)
	if err := o.problems.Err(); err != nil {
		return nil, err
	}
	m.objective = m.loss
	w := findWeights(ckpt, m.prefix)
	m.trunk.find(w)
	trunkLeaves := w.leave
	w.leave = func(name string) bool {
		return trunkLeaves(name) || name == "lm_head.weight" || strings.HasPrefix(name, "score.")
	}
	m.head.find(m.host, w, m.trunk.width(), outputs, opts.Outputs > 0)
	if err := w.read(); err != nil {
		return nil, err
	}
	m.head.fill(opts.Seed, initRange)
	m.countBase()
	return m, nil
}

// maxOutputs bounds what is made from an option alone.
const maxOutputs = 1 << 20

// classesOf returns the architectures that a classifier can be made of: with the head of
// the checkpoint the family's own class for it, and else all that have the family's body.
func classesOf(family string, ownHead bool, doc *strictjson.Object) []any {
	classes := []any{family + "ForSequenceClassification", family + "Model"}
	if ownHead {
		return classes[:1]
	}
	list, _ := doc.Get("architectures").([]any)
	for _, a := range list {
		if name, ok := a.(string); ok && (strings.HasPrefix(name, family+"For") || name == family+"LMHeadModel") {
			classes = append(classes, a)
		}
	}
	return classes
}

// labels reads the names of a head's outputs: id2label, or as many numbers as num_labels
// says; transformers has two where a config has neither.
func (o *options) labels() []string {
	if names, ok := o.doc.Get("id2label").(*strictjson.Object); ok && len(names.Keys) > 0 {
		labels := make([]string, len(names.Keys))
		for i := range labels {
			name, ok := names.Get(fmt.Sprint(i)).(string)
			if !ok {
				o.reject("id2label", "has no name for output %d of %d", i, len(labels))
				break
			}
			labels[i] = name
		}
		return labels
	}
	labels := make([]string, min(o.size("num_labels", 2), maxOutputs))
	for i := range labels {
		labels[i] = fmt.Sprintf("LABEL_%d", i)
	}
	return labels
}

// problem decides what is learned.
func (o *options) problem(wanted Problem, outputs int) Problem {
	if wanted == "" {
		if v := o.doc.Get("problem_type"); v != nil {
			name, _ := v.(string)
			wanted = Problem(name)
		}
	}
	switch wanted {
	case SingleLabel, MultiLabel, Regression:
		return wanted
	case "":
		if outputs == 1 {
			return Regression
		}
		return SingleLabel
	}
	o.reject("problem_type", "%s is not implemented (want %s, %s or %s)", formats.Quote(string(wanted)), SingleLabel, MultiLabel, Regression)
	return wanted
}

// find looks up the head's layers. Of a new head the outer layer is made, and the inner
// one where the checkpoint has none that fits.
func (h *head) find(on *host, w *weights, width, outputs int, fresh bool) {
	layer := func(path string, l *linear, out, in int, bias, fresh bool) {
		if !fresh {
			on.findLinear(w, path, l, out, in, bias)
			return
		}
		h.fresh = append(h.fresh, path)
		l.weight = autodiff.Frozen(out, in, autodiff.NewBuffer(out*in))
		if bias {
			l.bias = autodiff.Frozen(1, out, autodiff.NewBuffer(out))
		}
		on.addLinear(path, l, out, in)
	}
	if h.innerPath != "" {
		t, there := w.tensor(h.innerPath + ".weight")
		_, biased := w.tensor(h.innerPath + ".bias")
		fits := there && biased && slices.Equal(t.Shape, []int64{int64(width), int64(width)})
		layer(h.innerPath, &h.inner, width, width, true, fresh && !fits)
	}
	layer(h.outerPath, &h.outer, outputs, width, h.bias, fresh)
}

// fill gives new layers weights from N(0, σ²) with σ = initializer_range, and biases of 0,
// as transformers does.
func (h *head) fill(seed uint64, sigma float64) {
	for i, path := range h.fresh {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		l := &h.outer
		if path == h.innerPath {
			l = &h.inner
		}
		for j := range l.weight.Data {
			l.weight.Data[j] = float32(sigma * rng.NormFloat64())
		}
	}
}

func (h *head) apply(t *autodiff.Tape, x *autodiff.Value, drop dropout) *autodiff.Value {
	if h.innerPath != "" {
		x = t.Activate(h.inner.apply(t, x, drop), h.activation)
	}
	return h.outer.apply(t, x, drop)
}

// Outputs returns the number of scores or numbers for a text.
func (m *Classifier) Outputs() int { return m.head.outer.weight.Rows }

// Problem returns what is learned.
func (m *Classifier) Problem() Problem { return m.problem }

// Labels returns the names of the outputs of a checkpoint's own head, nil for a new one.
func (m *Classifier) Labels() []string { return slices.Clone(m.labels) }

// Vocabulary returns the number of tokens that the model knows.
func (m *Classifier) Vocabulary() int { return m.trunk.Vocabulary() }

// MaxPositions returns the longest text that the model was made for.
func (m *Classifier) MaxPositions() int { return m.trunk.MaxPositions() }

// HeadModules returns the names that modules_to_save needs so that PEFT saves the head,
// and whatever the checkpoint lacked.
func (m *Classifier) HeadModules() []string {
	names := slices.Clone(m.head.saved)
	if m.head.savedIfNew != "" && m.savesWhole(m.head.innerPath) {
		names = append(names, m.head.savedIfNew)
	}
	return names
}

// WithHead returns an adapter that trains the head too: ad with its modules named as PEFT
// names them in a classifier, and with the head's present parameters, unless it has them.
// The config of ad must list [Classifier.HeadModules] in modules_to_save. Factors on the
// head itself are an [formats.ErrUnfit].
func (m *Classifier) WithHead(ad *adapter.Adapter) (*adapter.Adapter, error) {
	out := *ad
	out.Entries = nil
	has := map[string]bool{}
	for _, e := range ad.Entries {
		for _, path := range m.spellings(e.Module) {
			if m.byPath[path] != nil {
				e.Module = path
				break
			}
		}
		switch u := e.Update.(type) {
		case *adapter.Replace:
			has[e.Module+"."+u.Param] = true
		default:
			if m.byPath[e.Module] != nil && m.savesWhole(e.Module) {
				return nil, formats.Unfitf(ad.Path, "", "module %s is trained whole and cannot have factors", formats.Quote(e.Module))
			}
		}
		out.Entries = append(out.Entries, e)
	}
	for _, l := range m.linears {
		if !m.savesWhole(l.Path) {
			continue
		}
		for _, param := range []string{"weight", "bias"} {
			v := *m.slots[l.Path+"."+param]
			if v == nil || has[l.Path+"."+param] {
				continue
			}
			key := "base_model.model." + l.Path + "." + param
			t := formats.Tensor{Name: key, DType: formats.F32, Shape: []int64{int64(v.Rows), int64(v.Cols)}, Data: bytes.NewReader(nil)}
			if param == "bias" {
				t.Shape = t.Shape[1:]
			}
			out.Entries = append(out.Entries, adapter.Entry{
				Module: l.Path, Keys: []string{key}, Update: &adapter.Replace{Param: param, Value: inMemory(t, v.Data)},
			})
		}
	}
	return &out, nil
}

// savesWhole reports whether a linear layer is a part of the head that is saved whole.
func (m *Classifier) savesWhole(path string) bool {
	if path == m.head.innerPath && m.head.savedIfNew != "" {
		return slices.Contains(m.head.fresh, path)
	}
	return path == m.head.innerPath || path == m.head.outerPath
}

// HeadOutputs returns the number of outputs of the head that an adapter replaces, 0
// where it replaces none: what [ClassifierOptions.Outputs] must be to run it.
func HeadOutputs(ad *adapter.Adapter) int {
	for _, e := range ad.Entries {
		u, ok := e.Update.(*adapter.Replace)
		if !ok || u.Param != "weight" || len(u.Value.Shape) != 2 {
			continue
		}
		for _, spec := range headSpecs {
			if e.Module == spec.outerPath && u.Value.Shape[0] <= maxOutputs {
				return int(u.Value.Shape[0])
			}
		}
	}
	return 0
}

// Scores returns Rows × outputs: logits of classes, or the numbers themselves.
func (m *Classifier) Scores(b Batch) ([]float32, error) {
	in, err := packTexts(b, m.Vocabulary(), m.MaxPositions(), m.types)
	if err != nil || b.Rows == 0 {
		return nil, err
	}
	return slices.Clone(m.scores(m.forward(), in, dropout{}).Data), nil
}

func (m *Classifier) scores(t *autodiff.Tape, in packed, drop dropout) *autodiff.Value {
	in.rows = ends(in.seqs, m.head.last)
	return m.head.apply(t, m.trunk.hidden(t, in, drop), drop)
}

// ends returns the packed rows of the sequences' first tokens, or last ones.
func ends(seqs []autodiff.Seq, last bool) []int32 {
	rows, at := make([]int32, len(seqs)), 0
	for i, s := range seqs {
		rows[i] = int32(at)
		at += s.Queries
		if last {
			rows[i] = int32(at - 1)
		}
	}
	return rows
}

// Measure returns what [Classifier.Loss] returns, and what the model predicts.
func (m *Classifier) Measure(b Batch) (p Predictions, sum float64, labels int, err error) {
	y, sum, labels, err := m.loss(m.forward(), b, dropout{}, 1)
	switch {
	case y == nil:
	case m.problem == SingleLabel:
		p.addClasses(score.Best(y.Data, y.Cols), b.Labels)
	case m.problem == MultiLabel:
		p.addLabels(score.Above(y.Data, 0), b.Targets, y.Cols)
	case m.problem == Regression:
		p.addNumbers(y.Data, b.Targets)
	}
	return p, sum, labels, err
}

func (m *Classifier) loss(t *autodiff.Tape, b Batch, drop dropout, scale float32) (y *autodiff.Value, sum float64, counted int, err error) {
	in, err := packTexts(b, m.Vocabulary(), m.MaxPositions(), m.types)
	if err != nil {
		return nil, 0, 0, err
	}
	if err := m.checkLabels(b); err != nil || b.Rows == 0 {
		return nil, 0, 0, err
	}
	y = m.scores(t, in, drop)
	if m.problem == SingleLabel {
		sum, counted = t.CrossEntropy(y, b.Labels, scale)
		return y, sum, counted, nil
	}
	// The loss of a text is the mean over its outputs.
	share := float32(1 / float64(y.Cols))
	if m.problem == MultiLabel {
		sum = t.LogisticLoss(y, b.Targets, scale*share)
	} else {
		sum = t.SquaredError(y, b.Targets, scale*share)
	}
	return y, sum / float64(y.Cols), b.Rows, nil
}

// checkLabels checks what a batch is to be learned from.
func (m *Classifier) checkLabels(b Batch) error {
	n := m.Outputs()
	if m.problem == SingleLabel {
		if len(b.Labels) != b.Rows {
			return formats.Usagef("a batch of %d rows has %d classes", b.Rows, len(b.Labels))
		}
		for r, label := range b.Labels {
			if label != Ignored && (label < 0 || int(label) >= n) {
				return formats.Usagef("row %d of a batch: class %d of %d", r, label, n)
			}
		}
		return nil
	}
	if len(b.Targets) != b.Rows*n {
		return formats.Usagef("a batch of %d rows with %d outputs each has %d targets", b.Rows, n, len(b.Targets))
	}
	if b.Labels != nil {
		return formats.Usagef("a batch has labels, but %s learns from targets", m.problem)
	}
	for i, x := range b.Targets {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) || m.problem == MultiLabel && (x < 0 || x > 1) {
			return formats.Usagef("row %d of a batch: a target of %g", i/n, x)
		}
	}
	return nil
}

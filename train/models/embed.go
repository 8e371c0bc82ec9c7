package models

import (
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/autodiff"
	"github.com/seed-b982eded/graft/train/score"
)

// EmbeddingLoss is what an [Embedder] learns from.
type EmbeddingLoss string

// The losses, with the definitions of sentence-transformers.
const (
	// Contrast learns from pairs that belong together (Batch.Texts 2), with a text that is
	// unlike beside each (3) or more: the first text of an example must be more similar to
	// its second than to all other texts of the batch. It is the cross-entropy over
	// scale · cosine, MultipleNegativesRankingLoss (Henderson et al., "Efficient natural
	// language response suggestion", 2017). What it learns depends on how examples are
	// put into batches.
	Contrast EmbeddingLoss = "contrastive"
	// Cosine learns the similarities of pairs, Batch.Targets: the squared error of their
	// cosine, CosineSimilarityLoss.
	Cosine EmbeddingLoss = "cosine"
)

// EmbedderOptions say how tokens become the embedding of a text and what it learns from.
type EmbedderOptions struct {
	SentenceConfig
	Loss EmbeddingLoss // "" is Contrast
	// Scale multiplies cosines in Contrast: the inverse of a temperature. 0 is 20,
	// sentence-transformers' default.
	Scale float64
}

// Embedder gives a text's embedding: an encoder with pooling over its tokens, as
// sentence-transformers runs it. Module paths are those of the encoder alone, such as
// "encoder.layer.0.attention.self.query".
type Embedder struct {
	*encoder
	opts EmbedderOptions
}

// LoadEmbedder builds an embedder from a checkpoint of an encoder with any head or none,
// with all weights as float32 in memory. The options come from [ReadSentenceConfig] as a
// rule. As [Load] it refuses what is not implemented before it reads any weight.
func LoadEmbedder(ckpt *formats.Checkpoint, opts EmbedderOptions) (*Embedder, error) {
	if opts.Loss == "" {
		opts.Loss = Contrast
	}
	if opts.Scale == 0 {
		opts.Scale = 20
	}
	switch {
	case opts.Loss != Contrast && opts.Loss != Cosine:
		return nil, formats.Usagef("loss of embeddings (got %s, want %s or %s)", formats.Quote(string(opts.Loss)), Contrast, Cosine)
	case !(opts.Scale > 0) || math.IsInf(float64(float32(opts.Scale)), 0):
		return nil, formats.Usagef("scale of similarities (got %g, want more than 0)", opts.Scale)
	case opts.Pooling != MeanPooling && opts.Pooling != FirstPooling && opts.Pooling != MaxPooling:
		return nil, formats.Usagef("pooling (got %s, want %s, %s or %s)", formats.Quote(string(opts.Pooling)), MeanPooling, FirstPooling, MaxPooling)
	}
	doc, err := readConfig(ckpt, "config.json")
	if err != nil {
		return nil, err
	}
	kind, _ := doc.Get("model_type").(string)
	f, ok := encoderFamilies[kind]
	if !ok {
		known := strings.Join(slices.Sorted(maps.Keys(encoderFamilies)), ", ")
		return nil, formats.Rejectf(ckpt.Path(), "", "config.json: model_type %s cannot embed texts (known: %s)", formats.Quote(kind), known)
	}
	o := &options{file: ckpt.Path(), doc: doc, tensors: ckpt.Len()}
	m := &Embedder{encoder: o.encoder(f, false), opts: opts}
	if err := o.problems.Err(); err != nil {
		return nil, err
	}
	m.objective = m.loss
	w := findWeights(ckpt, m.prefix)
	m.find(w)
	if err := w.read(); err != nil {
		return nil, err
	}
	m.dropPrefix()
	m.countBase()
	return m, nil
}

// dropPrefix takes the body's prefix from all paths: the body is the whole model.
func (h *host) dropPrefix() {
	for i := range h.linears {
		h.linears[i].Path = strings.TrimPrefix(h.linears[i].Path, h.prefix)
	}
	for _, e := range h.tables {
		e.path = strings.TrimPrefix(e.path, h.prefix)
	}
	h.byPath = trimKeys(h.byPath, h.prefix)
	h.slots = trimKeys(h.slots, h.prefix)
}

func trimKeys[V any](m map[string]V, prefix string) map[string]V {
	out := make(map[string]V, len(m))
	for k, v := range m {
		out[strings.TrimPrefix(k, prefix)] = v
	}
	return out
}

// MaxPositions returns the longest text that the model takes.
func (m *Embedder) MaxPositions() int {
	if n := m.opts.MaxTokens; n > 0 {
		return min(n, m.encoder.MaxPositions())
	}
	return m.encoder.MaxPositions()
}

// Dim returns the elements of an embedding.
func (m *Embedder) Dim() int { return m.spec.hidden }

// Embed returns Rows × Dim.
func (m *Embedder) Embed(b Batch) ([]float32, error) {
	in, err := packTexts(b, m.Vocabulary(), m.MaxPositions(), m.spec.types)
	if err != nil || b.Rows == 0 {
		return nil, err
	}
	t := m.forward()
	y := m.embed(t, in, dropout{})
	if m.opts.Normalize {
		y = t.UnitRows(y, shortest)
	}
	return slices.Clone(y.Data), nil
}

// shortest is the least length that a vector is divided by.
const shortest = 1e-12

// embed returns the pooled rows, not normalised.
func (m *Embedder) embed(t *autodiff.Tape, in packed, drop dropout) *autodiff.Value {
	if m.opts.Pooling == FirstPooling {
		in.rows = ends(in.seqs, false)
		return m.hidden(t, in, drop)
	}
	h := m.hidden(t, in, drop)
	lens := make([]int, len(in.seqs))
	for i, s := range in.seqs {
		lens[i] = s.Queries
	}
	if m.opts.Pooling == MaxPooling {
		return t.MaxRows(h, lens)
	}
	return t.MeanRows(h, lens)
}

// Measure returns what [Embedder.Loss] returns, and what the model predicts: the cosine of
// each pair for [Cosine], and for [Contrast] which text of the batch is most similar to the
// first one of each example, counted over all others from 0. Right is the example's own.
func (m *Embedder) Measure(b Batch) (p Predictions, sum float64, labels int, err error) {
	y, sum, labels, err := m.loss(m.forward(), b, dropout{}, 1)
	switch {
	case y == nil:
	case m.opts.Loss == Cosine:
		p.addNumbers(y.Data, b.Targets)
	default:
		p.addClasses(score.Best(y.Data, y.Cols), span(0, y.Rows))
	}
	return p, sum, labels, err
}

func (m *Embedder) loss(t *autodiff.Tape, b Batch, drop dropout, scale float32) (scores *autodiff.Value, sum float64, counted int, err error) {
	in, err := packTexts(b, m.Vocabulary(), m.MaxPositions(), m.spec.types)
	if err != nil {
		return nil, 0, 0, err
	}
	if err := m.checkTexts(b); err != nil || b.Rows == 0 {
		return nil, 0, 0, err
	}
	// Both losses are of cosines, so the length of embeddings makes no difference.
	y := t.UnitRows(m.embed(t, in, drop), shortest)
	n := b.Rows / b.Texts
	first, others := t.Rows(y, span(0, n)), t.Rows(y, span(n, b.Rows))
	if m.opts.Loss == Cosine {
		scores = t.RowDots(first, others)
		return scores, t.SquaredError(scores, b.Targets, scale), n, nil
	}
	scores = t.Linear(first, others, nil)
	t.Scale(scores, float32(m.opts.Scale))
	sum, counted = t.CrossEntropy(scores, span(0, n), scale)
	return scores, sum, counted, nil
}

// span returns the numbers from … to−1.
func span(from, to int) []int32 {
	out := make([]int32, to-from)
	for i := range out {
		out[i] = int32(from + i)
	}
	return out
}

// checkTexts checks what a batch is to be learned from.
func (m *Embedder) checkTexts(b Batch) error {
	most := math.MaxInt
	if m.opts.Loss == Cosine {
		most = 2
	}
	if b.Texts < 2 || b.Texts > most || b.Rows%b.Texts != 0 {
		return formats.Usagef("a batch of %d rows with %d texts an example (want pairs)", b.Rows, b.Texts)
	}
	if b.Labels != nil {
		return formats.Usagef("a batch has labels, but embeddings have none")
	}
	if m.opts.Loss == Contrast {
		return nil
	}
	if len(b.Targets) != b.Rows/2 {
		return formats.Usagef("a batch of %d pairs has %d similarities", b.Rows/2, len(b.Targets))
	}
	for i, x := range b.Targets {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return formats.Usagef("pair %d of a batch: a similarity of %g", i, x)
		}
	}
	return nil
}

package train

import (
	"math"

	"github.com/seed-b982eded/graft/train/data"
	"github.com/seed-b982eded/graft/train/models"
)

// bigram is the smallest language model: a table whose row t holds the logits of
// what follows token t. Its best loss is the entropy of the pairs in the data.
type bigram struct {
	vocab int
	param models.Param
	// spoil, unless it is nil, replaces the loss of a batch.
	spoil func(b models.Batch, sum float64) float64
}

func newBigram(vocab int, table []float32) *bigram {
	if table == nil {
		table = make([]float32, vocab*vocab)
	}
	return &bigram{vocab: vocab, param: models.Param{
		Name: "table", Rows: vocab, Cols: vocab,
		Data: append([]float32(nil), table...), Grad: make([]float32, vocab*vocab),
	}}
}

func (m *bigram) Params() []models.Param { return []models.Param{m.param} }

func (m *bigram) Loss(b models.Batch) (float64, int, error) { return m.run(b, nil, 0) }

func (m *bigram) LossGrad(b models.Batch, scale float32) (float64, int, error) {
	return m.run(b, m.param.Grad, scale)
}

func (m *bigram) run(b models.Batch, grad []float32, scale float32) (sum float64, labels int, err error) {
	p := make([]float64, m.vocab)
	for t, label := range b.Labels {
		if label == models.Ignored {
			continue
		}
		at := int(b.IDs[t]) * m.vocab
		row := m.param.Data[at : at+m.vocab]
		var total float64
		for k, x := range row {
			p[k] = math.Exp(float64(x))
			total += p[k]
		}
		sum += math.Log(total) - float64(row[label])
		labels++
		if grad == nil {
			continue
		}
		for k := range p {
			g := p[k] / total
			if k == int(label) {
				g--
			}
			grad[at+k] += float32(g) * scale
		}
	}
	if m.spoil != nil {
		sum = m.spoil(b, sum)
	}
	return sum, labels, nil
}

// loaderOf returns a loader over token sequences, in their order unless a seed is
// given.
func loaderOf(rows int, seed *uint64, sequences ...data.Example) *data.Loader {
	opt := data.LoaderOptions{Rows: rows}
	if seed != nil {
		opt.Shuffle, opt.Seed = true, *seed
	}
	l, err := data.NewLoader(&data.Set{Examples: sequences}, opt)
	if err != nil {
		panic(err)
	}
	return l
}

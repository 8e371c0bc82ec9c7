package models

import (
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// Session is one sequence that grows, with the keys and values of its tokens kept. A model
// whose angles depend on the length computes them anew when the angles change: once for
// "longrope", and with every step beyond the original length for "dynamic".
type Session interface {
	// Step appends tokens, a whole prompt or one, and returns the scores of the token
	// after the last: the row that Logits would return for it, within float32's
	// rounding. The slice is overwritten by the next call. A sequence longer than
	// MaxPositions is an error and leaves the session as it was.
	Step(ids []int32) ([]float32, error)
	// Len returns the number of tokens so far.
	Len() int
}

// decoderSession is a session of a causal model.
type decoderSession struct {
	model *causal
	tape  autodiff.Tape
	ids   []int32
	cache cache
}

// NewSession begins a sequence. Adapters attached later affect the tokens after that
// only, so attach them first.
func (m *causal) NewSession() Session {
	s := &decoderSession{model: m}
	s.tape.NoGrad = true
	return s
}

// Len returns the number of tokens so far.
func (s *decoderSession) Len() int { return len(s.ids) }

// Step appends tokens and returns the scores of the next one.
func (s *decoderSession) Step(ids []int32) ([]float32, error) {
	m, past, all := s.model, len(s.ids), len(s.ids)+len(ids)
	if len(ids) == 0 {
		return nil, formats.Usagef("a step of a session needs a token")
	}
	if limit := m.trunk.MaxPositions(); all > limit {
		return nil, formats.Usagef("%d tokens, but the model has %d positions", all, limit)
	}
	for _, id := range ids {
		if err := checkToken(id, m.trunk.Vocabulary()); err != nil {
			return nil, formats.Usagef("%v", err)
		}
	}
	s.ids = append(s.ids, ids...)
	if past > 0 && slices.ContainsFunc(m.turning, func(t *turning) bool { return t.changes(past, all) }) {
		// What the layers made of the first tokens no longer holds either.
		ids, s.cache.tokens = s.ids, 0
	}
	s.tape.Reset()
	y := m.scores(&s.tape, packed{
		ids:   ids,
		seqs:  []autodiff.Seq{{Queries: len(ids), Keys: all}},
		rows:  []int32{int32(len(ids) - 1)},
		cache: &s.cache,
	}, dropout{})
	s.cache.tokens = all
	return y.Data, nil
}

// cache holds the turned keys and the values of a sequence, of a layer with a window those
// that the next token may see.
type cache struct {
	tokens int
	layers []struct{ keys, values rowBuffer }
}

// extend appends the rows of k and v to layer i and returns all rows that are kept.
func (c *cache) extend(i int, k, v *autodiff.Value, window int) (keys, values *autodiff.Value) {
	keep := c.tokens
	if window > 0 {
		keep = min(keep, window-1)
	}
	if i == len(c.layers) {
		c.layers = append(c.layers, struct{ keys, values rowBuffer }{})
	}
	l := &c.layers[i]
	return l.keys.extend(k, keep), l.values.extend(v, keep)
}

// rowBuffer is a queue of rows in one piece of memory.
type rowBuffer struct {
	data []float32
	end  int // elements before the end of the last row
}

// extend appends the rows of x to the last rows that are kept.
func (b *rowBuffer) extend(x *autodiff.Value, keep int) *autodiff.Value {
	kept := b.data[b.end-keep*x.Cols : b.end]
	n := len(kept) + len(x.Data)
	if b.end+len(x.Data) > len(b.data) {
		if 2*n > len(b.data) {
			b.data = autodiff.NewBuffer(2 * n)
		}
		b.end = copy(b.data, kept)
	}
	b.end += copy(b.data[b.end:], x.Data)
	return autodiff.Frozen(keep+x.Rows, x.Cols, b.data[b.end-n:b.end])
}

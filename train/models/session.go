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

// decoderSession is a session of a decoder.
type decoderSession struct {
	model *decoder
	tape  autodiff.Tape
	ids   []int32
	cache cache
}

// NewSession begins a sequence. Adapters attached later affect the tokens after that
// only, so attach them first.
func (m *decoder) NewSession() Session {
	s := &decoderSession{model: m, cache: cache{layers: make([]cacheLayer, len(m.spec.layers))}}
	s.tape.NoGrad = true
	return s
}

// Len returns the number of tokens so far.
func (s *decoderSession) Len() int { return s.cache.tokens }

// Step appends tokens and returns the scores of the next one.
func (s *decoderSession) Step(ids []int32) ([]float32, error) {
	m, past := s.model, s.cache.tokens
	if len(ids) == 0 {
		return nil, formats.Usagef("a step of a session needs a token")
	}
	if past+len(ids) > m.spec.maxPositions {
		return nil, formats.Usagef("%d tokens, but the model has %d positions", past+len(ids), m.spec.maxPositions)
	}
	for _, id := range ids {
		if err := checkToken(id, m.spec.vocabulary); err != nil {
			return nil, formats.Usagef("%v", err)
		}
	}
	s.ids = append(s.ids, ids...)
	if past > 0 && slices.ContainsFunc(m.turning, func(t *turning) bool { return t.changes(past, len(s.ids)) }) {
		// What the layers made of the first tokens no longer holds either.
		ids, s.cache.tokens = s.ids, 0
	}
	s.tape.Reset()
	p := m.pass(&s.tape, []autodiff.Seq{{Queries: len(ids), Keys: len(s.ids)}})
	p.cache = &s.cache
	h := m.hidden(p, ids)
	s.cache.tokens += len(ids)
	last := s.tape.Rows(h, []int32{int32(len(ids) - 1)})
	return m.scores(p, last).Data, nil
}

// cache holds the turned keys and the values of a sequence.
type cache struct {
	tokens int
	layers []cacheLayer
}

type cacheLayer struct{ keys, values []float32 }

// extend appends the rows of k and v to layer i and returns all rows.
func (c *cache) extend(i int, k, v *autodiff.Value) (keys, values *autodiff.Value) {
	l, n := &c.layers[i], c.tokens+k.Rows
	l.keys = appendRows(l.keys, c.tokens*k.Cols, k.Data)
	l.values = appendRows(l.values, c.tokens*v.Cols, v.Data)
	return autodiff.Frozen(n, k.Cols, l.keys[:n*k.Cols]), autodiff.Frozen(n, v.Cols, l.values[:n*v.Cols])
}

// appendRows writes rows after the first n elements of buf, which doubles when it is
// full.
func appendRows(buf []float32, n int, rows []float32) []float32 {
	if n+len(rows) > len(buf) {
		bigger := autodiff.NewBuffer(max(2*len(buf), n+len(rows)))
		copy(bigger, buf[:n])
		buf = bigger
	}
	copy(buf[n:], rows)
	return buf
}

package models

import (
	"fmt"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// encoder is the body of BERT and its relatives: post-norm blocks of attention that sees
// both ways (Devlin et al., "BERT", 2019).
type encoder struct {
	host
	spec encoderSpec

	tokens, positions, types table // types only where the model has segments
	embedded                 norm
	blocks                   []*encoderBlock
}

type encoderBlock struct {
	q, k, v, o, up, down       linear
	attentionOut, intermediate norm
}

// find looks up the body's weights. Other tensors of the checkpoint are those of heads and
// of the pooler, which a task may find besides.
func (m *encoder) find(w *weights) {
	s := m.spec
	layer := func(path string, l *linear, out, in int) { m.findLinear(w, path, l, out, in, true) }
	w.leave = s.leave
	at := s.body + "embeddings."
	m.findTable(w, at+"word_embeddings", &m.tokens, s.vocabulary, s.hidden, s.padding)
	m.findTable(w, at+"position_embeddings", &m.positions, s.positions, s.hidden, s.positionPadding)
	if s.types > 0 {
		m.findTable(w, at+"token_type_embeddings", &m.types, s.types, s.hidden, noPadding)
	}
	m.findNorm(w, at+"LayerNorm", &m.embedded, s.hidden)
	for i := range s.layers {
		b, at := new(encoderBlock), s.body+fmt.Sprintf(s.names.layer, i)
		m.blocks = append(m.blocks, b)
		layer(at+s.names.query, &b.q, s.hidden, s.hidden)
		layer(at+s.names.key, &b.k, s.hidden, s.hidden)
		layer(at+s.names.value, &b.v, s.hidden, s.hidden)
		layer(at+s.names.output, &b.o, s.hidden, s.hidden)
		m.findNorm(w, at+s.names.attentionNorm, &b.attentionOut, s.hidden)
		layer(at+s.names.up, &b.up, s.intermediate, s.hidden)
		layer(at+s.names.down, &b.down, s.hidden, s.intermediate)
		m.findNorm(w, at+s.names.outputNorm, &b.intermediate, s.hidden)
	}
}

// Vocabulary returns the number of tokens that the model knows.
func (m *encoder) Vocabulary() int { return m.spec.vocabulary }

// MaxPositions returns how many tokens have a position.
func (m *encoder) MaxPositions() int { return m.spec.positions - m.spec.firstPosition }

// width returns how many columns hidden has.
func (m *encoder) width() int { return m.spec.hidden }

// hidden returns the last block's output.
func (m *encoder) hidden(t *autodiff.Tape, in packed, drop dropout) *autodiff.Value {
	h := m.tokens.apply(t, in.ids)
	if m.spec.types > 0 {
		t.Add(h, m.types.apply(t, in.types))
	}
	t.Add(h, m.positions.apply(t, m.placesOf(in)))
	h = m.embedded.apply(t, h, m.spec.eps)
	for _, b := range m.blocks {
		h = t.Scope(h, func(h *autodiff.Value) *autodiff.Value { return m.block(t, b, h, in.seqs, drop) })
	}
	return in.wanted(t, h)
}

// block returns norm(y + mlp(y)) with y = norm(h + attention(h)).
func (m *encoder) block(t *autodiff.Tape, b *encoderBlock, h *autodiff.Value, seqs []autodiff.Seq, drop dropout) *autodiff.Value {
	heads := autodiff.Heads{Query: m.spec.heads, KeyValue: m.spec.heads, Dim: m.spec.hidden / m.spec.heads, Both: true}
	q, k, v := b.q.apply(t, h, drop), b.k.apply(t, h, drop), b.v.apply(t, h, drop)
	y := b.o.apply(t, t.Attention(q, k, v, heads, seqs), drop)
	t.Add(y, h)
	y = b.attentionOut.apply(t, y, m.spec.eps)
	z := b.down.apply(t, t.Activate(b.up.apply(t, y, drop), m.spec.activation), drop)
	t.Add(z, y)
	return b.intermediate.apply(t, z, m.spec.eps)
}

// placesOf returns the row of each token in the table of positions. RoBERTa begins behind
// its padding token's, and a padding token inside a text stays there and is not counted.
func (m *encoder) placesOf(in packed) []int32 {
	places, at := make([]int32, 0, len(in.ids)), 0
	for _, s := range in.seqs {
		next := int32(m.spec.firstPosition)
		for _, id := range in.ids[at : at+s.Queries] {
			if m.spec.firstPosition > 0 && id == m.spec.pad {
				places = append(places, m.spec.pad)
				continue
			}
			places = append(places, next)
			next++
		}
		at += s.Queries
	}
	return places
}

// packTexts checks a batch whose rows are whole texts and takes the padding out.
func packTexts(b Batch, vocabulary, maxPositions, types int) (packed, error) {
	in, err := b.pack(vocabulary, maxPositions)
	if err != nil {
		return in, err
	}
	if len(in.seqs) < b.Rows {
		for r, n := range b.Lens {
			if n == 0 {
				return in, formats.Usagef("row %d of a batch has no tokens", r)
			}
		}
		return in, formats.Usagef("a batch of %d rows has no tokens", b.Rows)
	}
	if b.Types != nil && len(b.Types) != len(b.IDs) {
		return in, formats.Usagef("a batch of %d×%d has %d token types", b.Rows, b.Cols, len(b.Types))
	}
	in.types = make([]int32, len(in.ids))
	for row, place := range in.places {
		if b.Types == nil || types < 2 { // one segment tells nothing apart
			break
		}
		if in.types[row] = b.Types[place]; in.types[row] < 0 || int(in.types[row]) >= types {
			return in, formats.Usagef("row %d of a batch, token %d: type %d, but the model has %d", place/b.Cols, place%b.Cols, in.types[row], types)
		}
	}
	return in, nil
}

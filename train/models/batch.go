package models

import (
	"fmt"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// Ignored is the label of a position without a loss.
const Ignored = autodiff.Ignored

// Batch is Rows sequences, padded on the right to Cols tokens.
type Batch struct {
	Rows, Cols int
	IDs        []int32 // Rows × Cols
	// Labels is Rows × Cols and shifted already: the label at position t is the token
	// that should follow position t, or [Ignored]. Logits does not look at it. For a
	// [Classifier] of classes it is the class of each row, or [Ignored].
	Labels []int32
	// Targets are what a [Classifier] regresses to, or 1 for each of a row's classes and 0
	// for the others, Rows × outputs; for an [Embedder] that learns similarities, that of
	// each pair. Others do not look at it.
	Targets []float32
	// Types are the segments that the tokens belong to, Rows × Cols, for encoders that tell
	// segments apart; nil is 0 for all.
	Types []int32
	// Texts is how many rows make one example of an [Embedder]: 2 for pairs, 3 with a text
	// that is unlike. All first texts come first, then all second ones; 0 means 1.
	Texts int
	// Lens are the tokens of each row before its padding; nil where there is none.
	Lens []int
	// Seed chooses the dropout masks of LossGrad. A loop that gives every batch of a run its
	// own seed, from its place in the run, can be resumed with the same masks.
	Seed uint64
}

// Count returns the number of labels: what a mean loss is a mean over. Batches without
// Labels have one for each example.
func (b Batch) Count() int {
	if b.Labels == nil {
		return b.Rows / max(b.Texts, 1)
	}
	n := 0
	for _, label := range b.Labels {
		if label != Ignored {
			n++
		}
	}
	return n
}

// packed is a batch without its padding: the rows' tokens one after another.
type packed struct {
	ids    []int32
	types  []int32 // of texts that have segments
	seqs   []autodiff.Seq
	places []int   // of each token in the batch
	rows   []int32 // the tokens, rising, whose output is wanted; nil for all
	cache  *cache  // of the sequence's tokens before these; nil but in a session
}

// wanted returns the rows of h, one a token, that are wanted.
func (p packed) wanted(t *autodiff.Tape, h *autodiff.Value) *autodiff.Value {
	if p.rows == nil || len(p.rows) == h.Rows {
		return h
	}
	return t.Rows(h, p.rows)
}

// attended returns the keys and values that tokens see in layer i, with those of a cache
// before their own, as far as the window reaches.
func (p packed) attended(i int, k, v *autodiff.Value, window int) (keys, values *autodiff.Value, seqs []autodiff.Seq) {
	if p.cache == nil {
		return k, v, p.seqs
	}
	keys, values = p.cache.extend(i, k, v, window)
	return keys, values, []autodiff.Seq{{Queries: k.Rows, Keys: keys.Rows}}
}

// pack checks a batch against the model's limits and takes the padding out.
func (b Batch) pack(vocabulary, maxPositions int) (packed, error) {
	var p packed
	if b.Rows < 0 || b.Cols < 0 || len(b.IDs) != b.Rows*b.Cols {
		return p, formats.Usagef("a batch of %d×%d has %d ids", b.Rows, b.Cols, len(b.IDs))
	}
	if b.Lens != nil && len(b.Lens) != b.Rows {
		return p, formats.Usagef("a batch of %d rows has %d lengths", b.Rows, len(b.Lens))
	}
	for r := range b.Rows {
		n := b.Cols
		if b.Lens != nil {
			n = b.Lens[r]
		}
		if n < 0 || n > b.Cols {
			return p, formats.Usagef("row %d of a batch: a length of %d in %d columns", r, n, b.Cols)
		}
		if n > maxPositions {
			return p, formats.Usagef("row %d of a batch: %d tokens, but the model has %d positions", r, n, maxPositions)
		}
		for t := range n {
			place := r*b.Cols + t
			if err := checkToken(b.IDs[place], vocabulary); err != nil {
				return p, formats.Usagef("row %d of a batch, token %d: %v", r, t, err)
			}
			p.ids = append(p.ids, b.IDs[place])
			p.places = append(p.places, place)
		}
		if n > 0 {
			p.seqs = append(p.seqs, autodiff.Seq{Queries: n, Keys: n})
		}
	}
	return p, nil
}

// labelled returns the packed rows that have a label, and their labels.
func (b Batch) labelled(p packed, vocabulary int) (rows, labels []int32, err error) {
	if len(b.Labels) != len(b.IDs) {
		return nil, nil, formats.Usagef("a batch of %d×%d has %d labels", b.Rows, b.Cols, len(b.Labels))
	}
	for row, place := range p.places {
		label := b.Labels[place]
		if label == Ignored {
			continue
		}
		if err := checkToken(label, vocabulary); err != nil {
			return nil, nil, formats.Usagef("row %d of a batch, label %d: %v", place/b.Cols, place%b.Cols, err)
		}
		rows, labels = append(rows, int32(row)), append(labels, label)
	}
	return rows, labels, nil
}

func checkToken(id int32, vocabulary int) error {
	if id < 0 || int(id) >= vocabulary {
		return fmt.Errorf("token %d is not in a vocabulary of %d", id, vocabulary)
	}
	return nil
}

package tokenizer

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"

	"github.com/seed-b982eded/graft/formats"
)

// unigram takes the tokens whose scores add up to most.
type unigram struct {
	pieces   []scored
	ids      map[string]int32 // where a token is listed twice, the last counts
	tokens   *trie
	unknown  int32 // -1 for none
	lowest   float64
	byteIDs  [256]int32
	fallback bool
}

// scored is a token with the logarithm of how likely it is.
type scored struct {
	token string
	score float64
}

// unknownPenalty is how much less likely than any token an unknown character is.
const unknownPenalty = 10

func readUnigram(s *section, pieces []scored) *unigram {
	m := &unigram{pieces: pieces, ids: make(map[string]int32, len(pieces)), unknown: -1, lowest: math.Inf(1)}
	if s.has("unk_id") {
		m.unknown = int32(s.natural("unk_id", maxTokenID))
		if s.err == nil && int(m.unknown) >= len(pieces) {
			s.fail("unk_id is %d (want one of %d tokens)", m.unknown, len(pieces))
		}
	}
	m.fallback = s.flag("byte_fallback", false)
	for i, p := range pieces {
		m.ids[p.token] = int32(i)
		m.lowest = min(m.lowest, p.score)
	}
	m.byteIDs = byteTokens(m.ids)
	m.tokens = newTrie(m.ids)
	return m
}

func (m *unigram) encoder() encoder { return &viterbi{unigram: m} }

func (m *unigram) id(token string) (int32, bool) {
	id, ok := m.ids[token]
	return id, ok
}

func (m *unigram) token(id int32) (string, bool) {
	if id < 0 || int(id) >= len(m.pieces) {
		return "", false
	}
	return m.pieces[id].token, true
}

func (m *unigram) size() int { return len(m.pieces) }
func (m *unigram) rows() int { return len(m.pieces) }

// viterbi encodes words, reusing its buffers. It belongs to one goroutine.
type viterbi struct {
	*unigram
	best  []ending
	parts []ending
}

// ending is the best way found to a place in the word: the last token, where it
// starts, and the sum of scores.
type ending struct {
	score     float64
	start, id int32
}

func (v *viterbi) appendIDs(ids []int32, word string) ([]int32, error) {
	v.best = v.best[:0]
	for range len(word) + 1 {
		v.best = append(v.best, ending{start: -1})
	}
	unknown := v.lowest - unknownPenalty
	for at := 0; at < len(word); {
		_, size := utf8.DecodeRuneInString(word[at:])
		before := v.best[at].score
		alone := false // whether the character is a token
		offer := func(n int, id int32, score float64) {
			end := &v.best[at+n]
			if sum := score + before; end.start < 0 || sum > end.score {
				*end = ending{sum, int32(at), id}
			}
		}
		v.tokens.prefixes(word[at:], func(n int, id int32) {
			offer(n, id, v.pieces[id].score)
			alone = alone || n == size
		})
		if !alone {
			if v.unknown < 0 && (v.best[at+size].start < 0 || unknown+before > v.best[at+size].score) {
				return nil, fmt.Errorf("character %s has no token, and there is no unk_id", formats.Quote(word[at:at+size]))
			}
			offer(size, v.unknown, unknown)
		}
		at += size
	}
	// Back from the end; a run of unknown tokens becomes one.
	v.parts = v.parts[:0]
	for end := int32(len(word)); end > 0; {
		b := v.best[end]
		last := len(v.parts) - 1
		if b.id == v.unknown && last >= 0 && v.parts[last].id == v.unknown {
			v.parts[last].start = b.start
		} else {
			v.parts = append(v.parts, b)
		}
		end = b.start
	}
	for i := len(v.parts) - 1; i >= 0; i-- {
		part, end := v.parts[i], int32(len(word))
		if i > 0 {
			end = v.parts[i-1].start
		}
		if part.id != v.unknown {
			ids = append(ids, part.id)
			continue
		}
		var err error
		if ids, err = v.appendUnknown(ids, word[part.start:end]); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// appendUnknown appends the ids of a run of unknown characters, which together may
// be a token after all.
func (v *viterbi) appendUnknown(ids []int32, run string) ([]int32, error) {
	if id, ok := v.ids[run]; ok {
		return append(ids, id), nil
	}
	if v.fallback {
		from := len(ids)
		for i := range len(run) {
			id := v.byteIDs[run[i]]
			if id < 0 {
				ids = ids[:from]
				break
			}
			ids = append(ids, id)
		}
		if len(ids) > from {
			return ids, nil
		}
	}
	if v.unknown < 0 {
		return nil, errors.New("a character has no token, and there is no unk_id")
	}
	return append(ids, v.unknown), nil
}

// byteTokens returns the ids of the tokens <0x00> to <0xFF>, -1 where there is none.
func byteTokens(ids map[string]int32) (out [256]int32) {
	for b := range out {
		id, ok := ids[fmt.Sprintf("<0x%02X>", b)]
		if !ok {
			id = -1
		}
		out[b] = id
	}
	return out
}

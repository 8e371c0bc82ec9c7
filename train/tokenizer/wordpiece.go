package tokenizer

import (
	"fmt"
	"unicode/utf8"

	"github.com/seed-b982eded/graft/formats"
)

// vocabulary is a one-to-one map of tokens and ids.
type vocabulary struct {
	ids    map[string]int32
	tokens map[int32]string
}

func (v *vocabulary) id(token string) (int32, bool) {
	id, ok := v.ids[token]
	return id, ok
}

func (v *vocabulary) token(id int32) (string, bool) {
	token, ok := v.tokens[id]
	return token, ok
}

func (v *vocabulary) size() int { return len(v.ids) }

func (v *vocabulary) rows() int {
	most := int32(-1)
	for id := range v.tokens {
		most = max(most, id)
	}
	return int(most) + 1
}

// lacksUnknown is the failure of a word that has no tokens.
func lacksUnknown(what, word, unknown string) error {
	return fmt.Errorf("%s %s has no token, and unk_token %s is not in the vocabulary", what, formats.Quote(word), formats.Quote(unknown))
}

// wordPiece takes the longest token again and again; a word that it cannot cover,
// or that is too long, becomes one unknown token.
type wordPiece struct {
	vocabulary
	starts, rests *trie // the tokens that begin a word, and those that go on with it
	unknown       string
	maxChars      int64
}

func readWordPiece(s *section, v vocabulary) *wordPiece {
	m := &wordPiece{vocabulary: v, unknown: s.text("unk_token")}
	prefix := s.text("continuing_subword_prefix")
	m.maxChars = s.natural("max_input_chars_per_word", 1<<62)
	if s.err == nil {
		m.starts, m.rests = newTrie(v.ids), newTrie(inner(v.ids, prefix))
	}
	return m
}

func (m *wordPiece) encoder() encoder { return m }

func (m *wordPiece) appendIDs(ids []int32, word string) ([]int32, error) {
	from := len(ids)
	if int64(len(word)) > m.maxChars && int64(utf8.RuneCountInString(word)) > m.maxChars {
		return m.appendUnknown(ids, word)
	}
	tokens := m.starts
	for rest := word; rest != ""; tokens = m.rests {
		n, id := tokens.longest(rest)
		if id < 0 {
			return m.appendUnknown(ids[:from], word)
		}
		ids = append(ids, id)
		rest = rest[n:]
	}
	return ids, nil
}

func (m *wordPiece) appendUnknown(ids []int32, word string) ([]int32, error) {
	id, ok := m.ids[m.unknown]
	if !ok {
		return nil, lacksUnknown("word", word, m.unknown)
	}
	return append(ids, id), nil
}

// wordLevel has a token for each word.
type wordLevel struct {
	vocabulary
	unknown string
}

func (m *wordLevel) encoder() encoder { return m }

func (m *wordLevel) appendIDs(ids []int32, word string) ([]int32, error) {
	id, ok := m.ids[word]
	if !ok {
		if id, ok = m.ids[m.unknown]; !ok {
			return nil, lacksUnknown("word", word, m.unknown)
		}
	}
	return append(ids, id), nil
}

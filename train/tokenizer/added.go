package tokenizer

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/seed-b982eded/graft/formats"
)

// addedVocabulary holds the tokens that are cut out of a text before the model
// sees it.
type addedVocabulary struct {
	verbatim   matcher // those looked for in the text as it is
	normalized matcher // those looked for in the normalized text
	ids        map[string]int32
	forms      map[int32]string // what the decoder gets
	special    map[string]bool  // the texts of special tokens
}

type addedToken struct {
	id                         int32
	singleWord, lstrip, rstrip bool
}

// maxAddedBytes bounds an added token's text, and with it the work per byte of
// text; real ones stay under 100.
const maxAddedBytes = formats.MaxNameBytes

func readAdded(v any, m model, normalize normalizer) (*addedVocabulary, error) {
	a := &addedVocabulary{ids: map[string]int32{}, forms: map[int32]string{}, special: map[string]bool{}}
	list, ok := v.([]any)
	if !ok && v != nil {
		return nil, wrongKind("added_tokens", "an array", v)
	}
	next := int32(m.size())
	for i, v := range list {
		s := newSection(fmt.Sprintf("added_tokens[%d]", i), v)
		tok := addedToken{
			id:         s.tokenID("id"),
			singleWord: s.boolean("single_word"),
			lstrip:     s.boolean("lstrip"),
			rstrip:     s.boolean("rstrip"),
		}
		content, normalized, special := s.text("content"), s.boolean("normalized"), s.boolean("special")
		if err := s.end(); err != nil {
			return nil, err
		}
		if content == "" {
			continue // as the library does
		}
		// The library does not go by the file's id: a token that the model has keeps
		// the model's, others are numbered on from the size of its vocabulary.
		want, known := m.id(content)
		if !known {
			want = next
			next++
		}
		if tok.id != want {
			return nil, fmt.Errorf("%s: token %s has id %d, but the tokenizers library gives it %d", s.path, formats.Quote(content), tok.id, want)
		}
		if _, twice := a.ids[content]; twice {
			return nil, fmt.Errorf("%s: token %s is listed twice", s.path, formats.Quote(content))
		}
		a.ids[content] = tok.id
		if special {
			a.special[content] = true
		}
		form, in := content, &a.verbatim
		if normalized {
			in = &a.normalized
			if normalize != nil {
				var err error
				if form, err = normalize.apply(content); err != nil {
					return nil, fmt.Errorf("%s: %w", s.path, err)
				}
			}
		}
		a.forms[tok.id] = form
		if err := in.add(form, tok); err != nil {
			return nil, fmt.Errorf("%s: token %s: %w", s.path, formats.Quote(content), err)
		}
	}
	return a, nil
}

// matcher finds added tokens: of those that start leftmost, the longest.
type matcher struct {
	tokens []addedToken
	root   [256]int32       // node after a first byte; 0 for none
	next   map[uint64]int32 // node<<8 | byte → node
	ends   map[int32]int32  // node → index in tokens
	nodes  int32
}

func (m *matcher) add(text string, tok addedToken) error {
	if text == "" {
		return errors.New("normalizes to nothing")
	}
	if len(text) > maxAddedBytes {
		return fmt.Errorf("takes %d bytes (want at most %d)", len(text), maxAddedBytes)
	}
	if m.next == nil {
		m.next, m.ends = map[uint64]int32{}, map[int32]int32{}
	}
	node := m.root[text[0]]
	if node == 0 {
		m.nodes++
		node = m.nodes
		m.root[text[0]] = node
	}
	for _, b := range []byte(text[1:]) {
		edge := uint64(node)<<8 | uint64(b)
		if node = m.next[edge]; node == 0 {
			m.nodes++
			node = m.nodes
			m.next[edge] = node
		}
	}
	if _, twice := m.ends[node]; twice {
		return errors.New("normalizes to the same text as another")
	}
	m.ends[node] = int32(len(m.tokens))
	m.tokens = append(m.tokens, tok)
	return nil
}

// longest returns the index of the longest token that starts at i, or -1.
func (m *matcher) longest(s string, i int) (tok int32, end int) {
	tok = -1
	node := m.root[s[i]]
	for node != 0 {
		i++
		if t, ok := m.ends[node]; ok {
			tok, end = t, i
		}
		if i == len(s) {
			break
		}
		node = m.next[uint64(node)<<8|uint64(s[i])]
	}
	return tok, end
}

// split reports the tokens in s and the text between them in order, each piece of
// text by its start and end.
func (m *matcher) split(s string, token func(id int32), text func(start, end int) error) error {
	done := 0
	spaceFrom, spaceTo := 0, -1 // the last run of white space walked by rstrip
	for i := 0; i < len(s) && len(m.tokens) > 0; {
		found, stop := m.longest(s, i)
		if found < 0 {
			i++
			continue
		}
		start := i
		i = stop // what is rejected below has still been consumed
		tok := m.tokens[found]
		if tok.singleWord && (endsInWord(s[:start]) || startsWithWord(s[stop:])) {
			continue
		}
		if tok.lstrip {
			for start > done {
				r, n := utf8.DecodeLastRuneInString(s[:start])
				if !unicode.IsSpace(r) {
					break
				}
				start -= n
			}
			// A token inside the white space that the one before it took.
			start = max(start, done)
		}
		if tok.rstrip {
			if stop < spaceFrom || stop > spaceTo {
				spaceFrom, spaceTo = stop, stop
				for spaceTo < len(s) {
					r, n := utf8.DecodeRuneInString(s[spaceTo:])
					if !unicode.IsSpace(r) {
						break
					}
					spaceTo += n
				}
			}
			stop = spaceTo
		}
		if done < start {
			if err := text(done, start); err != nil {
				return err
			}
		}
		token(tok.id)
		// This can step back, after a token inside the white space that the one
		// before it took; the library does the same.
		done = stop
	}
	if done < len(s) {
		return text(done, len(s))
	}
	return nil
}

func endsInWord(s string) bool {
	r, n := utf8.DecodeLastRuneInString(s)
	return n > 0 && isWord(r)
}

func startsWithWord(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return n > 0 && isWord(r)
}

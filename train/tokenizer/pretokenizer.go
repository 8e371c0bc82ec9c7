package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/seed-b982eded/graft/formats"
)

// preTokenizer appends the words of a piece of text to words; empty ones do not
// count. atStart says that the piece begins the whole text.
type preTokenizer func(words []string, s string, atStart bool) ([]string, error)

// readPreTokenizer returns nil where the file has none.
func readPreTokenizer(v any, normalizes bool) (preTokenizer, error) {
	if v == nil {
		return nil, nil
	}
	s, kind := newPart("pre_tokenizer", v)
	var t preTokenizer
	switch kind {
	case "ByteLevel":
		prefix, regex := s.boolean("add_prefix_space"), s.flag("use_regex", true)
		s.ignore("trim_offsets")
		t = func(words []string, s string, _ bool) ([]string, error) {
			return byteLevel(words, s, prefix, regex), nil
		}
	case "Split":
		t = splitter(s.pattern("pattern"), s.behaviour(), s.boolean("invert"))
	case "Digits":
		how := contiguous
		if s.boolean("individual_digits") {
			how = isolated
		}
		t = splitter(runesIn(isNumeric), how, false)
	case "Punctuation":
		how := isolated
		if s.has("behavior") {
			how = s.behaviour()
		}
		t = splitter(runesIn(isPunctuation), how, false)
	case "WhitespaceSplit":
		t = splitter(runesIn(unicode.IsSpace), removed, false)
	case "Whitespace":
		t = wordsAndSymbols
	case "Metaspace":
		m := readMetaspace(s)
		if m.scheme == "first" && normalizes {
			// The library goes by the place of a word's first character in the text
			// before normalizing, which is not kept here.
			s.fail("prepend_scheme \"first\" after a normalizer or another pre-tokenizer is not implemented")
		}
		t = m.split
	case "Sequence":
		return readPreSequence(s, normalizes)
	default:
		s.fail("not implemented")
	}
	return t, s.end()
}

func readPreSequence(s *section, normalizes bool) (preTokenizer, error) {
	var all []preTokenizer
	for i, v := range s.list("pretokenizers") {
		// After another part, too, places are no longer known.
		t, err := readPreTokenizer(v, normalizes || i > 0)
		if err != nil {
			return nil, err
		}
		if t != nil {
			all = append(all, t)
		}
	}
	return func(words []string, s string, atStart bool) (_ []string, err error) {
		stage := []string{s}
		for i, t := range all {
			var next []string
			for _, piece := range stage {
				if piece == "" {
					continue
				}
				if next, err = t(next, piece, atStart && i == 0); err != nil {
					return nil, err
				}
			}
			stage = next
		}
		return append(words, stage...), nil
	}, s.end()
}

// behaviour says what becomes of the matches of a Split.
type behaviour int

const (
	isolated behaviour = iota
	removed
	contiguous
	mergedWithPrevious
	mergedWithNext
)

var behaviours = map[string]behaviour{
	"Isolated": isolated, "Removed": removed, "Contiguous": contiguous,
	"MergedWithPrevious": mergedWithPrevious, "MergedWithNext": mergedWithNext,
}

func (s *section) behaviour() behaviour {
	name := s.text("behavior")
	b, ok := behaviours[name]
	if !ok {
		s.fail("behavior %s is not implemented", formats.Quote(name))
	}
	return b
}

// stretch is a part of a text that is a match or lies between matches.
type stretch struct {
	match
	hit bool
}

// splitter cuts at what find finds, or with invert at what it leaves.
func splitter(find finder, how behaviour, invert bool) preTokenizer {
	return func(words []string, s string, _ bool) ([]string, error) {
		found, err := find(s)
		if err != nil {
			return nil, err
		}
		parts := make([]stretch, 0, 2*len(found)+1)
		done := 0
		for _, m := range found {
			if m.start > done {
				parts = append(parts, stretch{match{done, m.start}, invert})
			}
			parts = append(parts, stretch{m, !invert})
			done = m.end
		}
		if done < len(s) {
			parts = append(parts, stretch{match{done, len(s)}, invert})
		}
		for _, p := range arrange(parts, how) {
			if !p.hit || how != removed {
				words = append(words, s[p.start:p.end])
			}
		}
		return words, nil
	}
}

// arrange joins stretches as the behaviour says. Of several matches in a row only
// the one beside other text joins it.
func arrange(parts []stretch, how behaviour) []stretch {
	if how == isolated || how == removed || len(parts) == 0 {
		return parts
	}
	if how == mergedWithNext {
		out := len(parts) // filled from the end
		after := false    // whether the part after is a match
		for i := len(parts) - 1; i >= 0; i-- {
			p := parts[i]
			if p.hit && !after && out < len(parts) {
				parts[out].start = p.start
			} else {
				out--
				parts[out] = p
			}
			after = p.hit
		}
		return parts[out:]
	}
	out := parts[:0]
	before := false // whether the part before is a match
	for _, p := range parts {
		join := p.hit && !before
		if how == contiguous {
			join = p.hit == before
		}
		if join && len(out) > 0 {
			out[len(out)-1].end = p.end
		} else {
			out = append(out, p)
		}
		before = p.hit
	}
	return out
}

// wordsAndSymbols is the Whitespace pre-tokenizer: \w+|[^\w\s]+, dropping the rest.
func wordsAndSymbols(words []string, s string, _ bool) ([]string, error) {
	const space, word, symbol = 0, 1, 2
	class, from := space, 0
	for i, r := range s {
		c := symbol
		switch {
		case isWord(r):
			c = word
		case unicode.IsSpace(r):
			c = space
		}
		if c != class {
			if class != space {
				words = append(words, s[from:i])
			}
			class, from = c, i
		}
	}
	if class != space {
		words = append(words, s[from:])
	}
	return words, nil
}

// metaspace stands for the spaces of SentencePiece, as pre-tokenizer and decoder.
type metaspace struct {
	mark   string
	scheme string // "always", "first", "never": when to put one in front
	cut    bool
}

func readMetaspace(s *section) metaspace {
	m := metaspace{mark: string(s.char("replacement")), scheme: "always"}
	if s.has("prepend_scheme") {
		m.scheme = s.text("prepend_scheme")
	}
	switch m.scheme {
	case "always", "first", "never":
	default:
		s.fail("prepend_scheme %s is not implemented", formats.Quote(m.scheme))
	}
	if !s.flag("add_prefix_space", true) && m.scheme != "never" {
		s.fail("add_prefix_space false contradicts prepend_scheme %s", formats.Quote(m.scheme))
	}
	m.cut = s.flag("split", true)
	s.ignore("str_rep")
	return m
}

func (m metaspace) split(words []string, s string, atStart bool) ([]string, error) {
	s = strings.ReplaceAll(s, " ", m.mark)
	if (m.scheme == "always" || m.scheme == "first" && atStart) && !strings.HasPrefix(s, m.mark) {
		s = m.mark + s
	}
	if !m.cut {
		return append(words, s), nil
	}
	return splitter(literal(m.mark), mergedWithNext, false)(words, s, false)
}

// runesIn finds single characters of a class.
func runesIn(class func(rune) bool) finder {
	return func(s string) ([]match, error) {
		var out []match
		for i, r := range s {
			if class(r) {
				out = append(out, match{i, i + utf8.RuneLen(r)})
			}
		}
		return out, nil
	}
}

package tokenizer

import (
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// word is a part of a passage, with its offset there.
type word struct {
	s  string
	at int
}

// preTokenizer appends the words of a part of a passage to words; empty ones do not
// count.
type preTokenizer func(words []word, w word, of *passage) ([]word, error)

// readPreTokenizer returns nil where the file has none. It reports whether the
// pre-tokenizer goes by places in the text before normalizing.
func readPreTokenizer(v any) (t preTokenizer, byPlace bool, err error) {
	if v == nil {
		return nil, false, nil
	}
	s, kind := newPart("pre_tokenizer", v)
	switch kind {
	case "ByteLevel":
		prefix, regex := s.boolean("add_prefix_space"), s.flag("use_regex", true)
		s.ignore("trim_offsets")
		t = func(words []word, w word, _ *passage) ([]word, error) {
			return byteLevel(words, w.s, prefix, regex), nil
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
	case "BertPreTokenizer":
		t = bertWords
	case "WhitespaceSplit":
		t = splitter(runesIn(unicode.IsSpace), removed, false)
	case "Whitespace":
		t = wordsAndSymbols
	case "CharDelimiterSplit":
		t = splitter(literal(string(s.char("delimiter"))), removed, false)
	case "UnicodeScripts":
		t = scriptRuns
	case "FixedLength":
		length := int64(5)
		if s.has("length") {
			length = s.natural("length", math.MaxInt32)
		}
		if length == 0 {
			s.fail("length is 0 (want at least 1)")
		}
		t = chunks(int(length))
	case "Metaspace":
		m := readMetaspace(s)
		byPlace = m.scheme == "first"
		t = m.split
	case "Sequence":
		return readPreSequence(s)
	default:
		s.fail("not implemented")
	}
	return t, byPlace, s.end()
}

func readPreSequence(s *section) (_ preTokenizer, byPlace bool, _ error) {
	var all []preTokenizer
	rewrites := "" // a part that changes text, so that places are lost
	for _, v := range s.list("pretokenizers") {
		var kind any
		if o, ok := v.(*strictjson.Object); ok {
			kind = o.Values["type"] // reading takes it out
		}
		t, inner, err := readPreTokenizer(v)
		if err != nil {
			return nil, false, err
		}
		if inner && rewrites != "" {
			s.fail("prepend_scheme \"first\" after %s is not implemented", rewrites)
		}
		byPlace = byPlace || inner
		if kind == "ByteLevel" || kind == "Metaspace" || kind == "Sequence" {
			rewrites = show(kind)
		}
		if t != nil {
			all = append(all, t)
		}
	}
	return func(words []word, w word, of *passage) (_ []word, err error) {
		stage := []word{w}
		for _, t := range all {
			var next []word
			for _, piece := range stage {
				if piece.s == "" {
					continue
				}
				if next, err = t(next, piece, of); err != nil {
					return nil, err
				}
			}
			stage = next
		}
		return append(words, stage...), nil
	}, byPlace, s.end()
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
	return func(words []word, w word, _ *passage) ([]word, error) {
		s := w.s
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
				words = append(words, word{s[p.start:p.end], w.at + p.start})
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
func wordsAndSymbols(words []word, w word, _ *passage) ([]word, error) {
	const space, letters, symbols = 0, 1, 2
	return classRuns(words, w, func(r rune) (int, bool) {
		switch {
		case isWord(r):
			return letters, true
		case unicode.IsSpace(r):
			return space, false
		}
		return symbols, true
	}), nil
}

// classRuns appends the runs of characters of one class, of which some are dropped.
func classRuns(words []word, w word, class func(r rune) (c int, keep bool)) []word {
	last, keep, from := -1, false, 0
	for i, r := range w.s {
		c, k := class(r)
		if c == last {
			continue
		}
		if keep {
			words = append(words, word{w.s[from:i], w.at + from})
		}
		last, keep, from = c, k, i
	}
	if keep {
		words = append(words, word{w.s[from:], w.at + from})
	}
	return words
}

// bertWords is the BertPreTokenizer: words between white space, punctuation alone.
func bertWords(words []word, w word, _ *passage) ([]word, error) {
	from := 0
	upTo := func(i int) {
		if from < i {
			words = append(words, word{w.s[from:i], w.at + from})
		}
	}
	for i, r := range w.s {
		switch {
		case unicode.IsSpace(r):
			upTo(i)
			from = i + utf8.RuneLen(r)
		case isPunctuation(r):
			upTo(i)
			from = i + utf8.RuneLen(r)
			words = append(words, word{w.s[i:from], w.at + i})
		}
	}
	upTo(len(w.s))
	return words, nil
}

// chunks is the FixedLength pre-tokenizer.
func chunks(length int) preTokenizer {
	return func(words []word, w word, _ *passage) ([]word, error) {
		from, n := 0, 0
		for i := range w.s {
			if n == length {
				words = append(words, word{w.s[from:i], w.at + from})
				from, n = i, 0
			}
			n++
		}
		return append(words, word{w.s[from:], w.at + from}), nil
	}
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

func (m metaspace) split(words []word, w word, of *passage) ([]word, error) {
	s := strings.ReplaceAll(w.s, " ", m.mark)
	if (m.scheme == "always" || m.scheme == "first" && of.slice(w.at, w.at+len(w.s)).origin == 0) && !strings.HasPrefix(s, m.mark) {
		s = m.mark + s
	}
	if !m.cut {
		return append(words, word{s: s}), nil
	}
	return splitter(literal(m.mark), mergedWithNext, false)(words, word{s: s}, of)
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

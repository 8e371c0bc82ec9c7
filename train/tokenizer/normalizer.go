package tokenizer

import (
	"errors"
	"strings"
	"unicode"
)

// normalizer rewrites a piece of text before it is split.
type normalizer func(p *passage) error

// readNormalizer returns nil where the file has none.
func readNormalizer(v any) (normalizer, error) {
	if v == nil {
		return nil, nil
	}
	s, kind := newPart("normalizer", v)
	var n normalizer
	switch kind {
	case "NFC", "NFD", "NFKC", "NFKD":
		n = normalForms[kind].normalize
	case "Lowercase":
		n = lowercase
	case "ByteLevel":
		n = byteLevelNormalizer
	case "Prepend":
		prefix := s.text("prepend")
		if prefix == "" {
			s.fail("an empty prepend is not implemented")
		}
		n = func(p *passage) error { return p.prepend(prefix) }
	case "Strip":
		n = strip(s.boolean("strip_left"), s.boolean("strip_right"))
	case "StripAccents":
		n = func(p *passage) error {
			return p.filter(func(r rune) bool { return !isCombining(r) }, nil)
		}
	case "Nmt":
		n = func(p *passage) error { return p.filter(nmtKeeps, nmtSpace) }
	case "BertNormalizer", "Bert":
		n = readBertNormalizer(s)
	case "Precompiled":
		n = readPrecompiled(s)
	case "Replace":
		find, content := s.pattern("pattern"), s.text("content")
		n = func(p *passage) error { return p.replace(find, content) }
	case "Sequence":
		var all []normalizer
		for _, v := range s.list("normalizers") {
			inner, err := readNormalizer(v)
			if err != nil {
				return nil, err
			}
			if inner != nil {
				all = append(all, inner)
			}
		}
		n = func(p *passage) error {
			for _, n := range all {
				if err := n(p); err != nil {
					return err
				}
			}
			return nil
		}
	default:
		s.fail("not implemented")
	}
	return n, s.end()
}

// apply normalizes a text whose places do not matter.
func (n normalizer) apply(s string) (string, error) {
	p := passage{s: s}
	err := n(&p)
	return p.s, err
}

// prepend puts prefix in front, but not of nothing.
func (p *passage) prepend(prefix string) error {
	if p.s == "" {
		return nil
	}
	return p.rewrite(func(e *edits) error {
		// The first character of the prefix replaces the text's, which then is new.
		change := 0
		for _, r := range prefix {
			e.put(r, change)
			change = 1
		}
		for i, r := range e.in {
			if i > 0 {
				e.keep(e.in[i:])
				break
			}
			e.put(r, 1)
		}
		return nil
	})
}

func (p *passage) replace(find finder, content string) error {
	found, err := find(p.s)
	if err != nil || len(found) == 0 {
		return err
	}
	if found[0].end == 0 && content != "" {
		// Text that comes from no place makes the library double what follows.
		return errors.New("a Replace whose pattern matches nothing, at the start of a text, is not implemented")
	}
	return p.rewrite(func(e *edits) error {
		done := 0
		for _, m := range found {
			e.keep(e.in[done:m.start])
			e.replace(m.end-m.start, content)
			done = m.end
		}
		e.keep(e.in[done:])
		return nil
	})
}

// filter keeps some characters, and changes those if change is not nil.
func (p *passage) filter(keep func(rune) bool, change func(rune) rune) error {
	if change == nil {
		change = func(r rune) rune { return r }
	}
	return p.rewrite(func(e *edits) error {
		e.filter(keep, change)
		return nil
	})
}

func strip(left, right bool) normalizer {
	return func(p *passage) error {
		s := p.s
		if left {
			s = strings.TrimLeftFunc(s, unicode.IsSpace)
		}
		start := len(p.s) - len(s)
		if right {
			s = strings.TrimRightFunc(s, unicode.IsSpace)
		}
		p.s = s
		if p.from != nil {
			p.from = p.from[start : start+len(s)]
		}
		return nil
	}
}

func lowercase(p *passage) error {
	same := true
	for _, r := range p.s {
		if r == 'İ' || lower(r) != r {
			same = false
			break
		}
	}
	if same {
		return nil
	}
	return p.rewrite(func(e *edits) error {
		for _, r := range e.in {
			if r == 'İ' {
				e.put('i', 0)
				e.put('\u0307', 1)
				continue
			}
			e.put(lower(r), 0)
		}
		return nil
	})
}

func byteLevelNormalizer(p *passage) error {
	return p.rewrite(func(e *edits) error {
		next := 0
		for i := range len(e.in) {
			change := 1
			if i == next {
				change = 0
				next += runeLen(e.in[i:])
			}
			e.put(byteChars[e.in[i]], change)
		}
		return nil
	})
}

// nmtKeeps and nmtSpace are SentencePiece's rules of NMT: which characters stay,
// and which become spaces.
func nmtKeeps(r rune) bool {
	switch {
	case 1 <= r && r <= 8, r == 0xB, 0xE <= r && r <= 0x1F, r == 0x7F, r == 0x8F, r == 0x9F:
		return false
	}
	return true
}

func nmtSpace(r rune) rune {
	switch {
	case r == '\t', r == '\n', r == '\f', r == '\r', r == 0x1680, 0x200B <= r && r <= 0x200F,
		r == 0x2028, r == 0x2029, r == 0x2581, r == 0xFEFF, r == 0xFFFD:
		return ' '
	}
	return r
}

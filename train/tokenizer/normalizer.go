package tokenizer

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// normalizer rewrites a piece of text before it is split.
type normalizer func(s string) (string, error)

// readNormalizer returns nil where the file has none.
func readNormalizer(v any) (normalizer, error) {
	if v == nil {
		return nil, nil
	}
	s, kind := newPart("normalizer", v)
	pure := func(f func(string) string) normalizer {
		return func(s string) (string, error) { return f(s), nil }
	}
	var n normalizer
	switch kind {
	case "NFC", "NFD", "NFKC", "NFKD":
		n = pure(normalForms[kind].apply)
	case "Lowercase":
		n = pure(lowercase)
	case "ByteLevel":
		n = pure(toByteChars)
	case "Prepend":
		prefix := s.text("prepend")
		n = pure(func(s string) string {
			if s == "" {
				return s
			}
			return prefix + s
		})
	case "Strip":
		left, right := s.boolean("strip_left"), s.boolean("strip_right")
		n = pure(func(s string) string {
			if left {
				s = strings.TrimLeftFunc(s, unicode.IsSpace)
			}
			if right {
				s = strings.TrimRightFunc(s, unicode.IsSpace)
			}
			return s
		})
	case "Replace":
		find, content := s.pattern("pattern"), s.text("content")
		n = func(s string) (string, error) { return replace(s, find, content) }
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
		n = func(s string) (_ string, err error) {
			for _, n := range all {
				if s, err = n(s); err != nil {
					return "", err
				}
			}
			return s, nil
		}
	default:
		s.fail("not implemented")
	}
	return n, s.end()
}

func replace(s string, find finder, content string) (string, error) {
	found, err := find(s)
	if err != nil || len(found) == 0 {
		return s, err
	}
	var b strings.Builder
	done := 0
	for _, m := range found {
		b.WriteString(s[done:m.start])
		b.WriteString(content)
		done = m.end
	}
	b.WriteString(s[done:])
	return b.String(), nil
}

func lowercase(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for _, r := range s {
		if r == 'İ' {
			b.WriteString("i\u0307")
			continue
		}
		b.WriteRune(lower(r))
	}
	return b.String()
}

// normalForm is a Unicode normal form with the tables of the library, which are
// older than those of x/text, and without the grapheme joiners that x/text puts
// into long runs of combining marks.
type normalForm struct {
	form    norm.Form // for the test whether there is anything to do
	compat  bool
	compose bool
}

var normalForms = map[string]normalForm{
	"NFC":  {norm.NFC, false, true},
	"NFD":  {norm.NFD, false, false},
	"NFKC": {norm.NFKC, true, true},
	"NFKD": {norm.NFKD, true, false},
}

type mark struct {
	r   rune
	ccc uint8
}

func (f normalForm) apply(s string) string {
	if f.form.IsNormalString(s) {
		return s
	}
	runes := make([]mark, 0, len(s))
	for i, r := range s {
		runes = f.decompose(runes, r, s[i:])
	}
	// Order each run of combining marks by class, stably.
	for i := 0; i < len(runes); i++ {
		from := i
		for i < len(runes) && runes[i].ccc > 0 {
			i++
		}
		slices.SortStableFunc(runes[from:i], func(a, b mark) int { return int(a.ccc) - int(b.ccc) })
	}
	if f.compose {
		runes = composed(runes)
	}
	var b strings.Builder
	b.Grow(len(s))
	for _, m := range runes {
		b.WriteRune(m.r)
	}
	return b.String()
}

// decompose appends the full decomposition of r, which text starts with.
func (f normalForm) decompose(out []mark, r rune, text string) []mark {
	if r < utf8.RuneSelf || inert.has(r) {
		return append(out, mark{r, 0})
	}
	full := norm.NFD
	if f.compat {
		full = norm.NFKD
	}
	p := full.PropertiesString(text)
	d := p.Decomposition()
	switch {
	case r >= 0xAC00 && r <= 0xD7A3: // Hangul syllables are computed, not listed
		d = full.AppendString(nil, string(r))
	case len(d) == 0:
		return append(out, mark{r, p.CCC()})
	}
	for _, r := range string(d) {
		out = append(out, mark{r, full.PropertiesString(string(r)).CCC()})
	}
	return out
}

// composed joins characters with the last starter before them, wherever none
// between them blocks it.
func composed(runes []mark) []mark {
	out := runes[:0]
	starter, last := -1, uint8(0)
	for _, m := range runes {
		adjacent := starter == len(out)-1
		if starter >= 0 && (adjacent || last < m.ccc) {
			if r, ok := composition(out[starter].r, m.r); ok {
				out[starter].r = r
				continue
			}
		}
		out = append(out, m)
		last = m.ccc
		if m.ccc == 0 {
			starter = len(out) - 1
		}
	}
	return out
}

func composition(a, b rune) (rune, bool) {
	if b < 0x300 || norm.NFC.PropertiesString(string(b)).BoundaryBefore() {
		return 0, false
	}
	joined := norm.NFC.String(string(a) + string(b))
	r, n := utf8.DecodeRuneInString(joined)
	return r, n == len(joined) && !inert.has(r)
}

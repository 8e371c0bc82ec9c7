package tokenizer

import (
	"slices"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

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

// mark is a character with its class of combining, and its change as
// [edits.put] has it.
type mark struct {
	r      rune
	change int32
	ccc    uint8
}

func (f normalForm) normalize(p *passage) error {
	if f.form.IsNormalString(p.s) {
		return nil
	}
	runes := make([]mark, 0, len(p.s))
	for i, r := range p.s {
		runes = f.decompose(runes, r, p.s[i:])
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
	return p.rewrite(func(e *edits) error {
		for _, m := range runes {
			e.put(m.r, int(m.change))
		}
		return nil
	})
}

// decompose appends the full decomposition of r, which text starts with.
func (f normalForm) decompose(out []mark, r rune, text string) []mark {
	if r < utf8.RuneSelf || inert.has(r) {
		return append(out, mark{r: r})
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
		return append(out, mark{r: r, ccc: p.CCC()})
	}
	change := int32(0)
	for _, r := range string(d) {
		out = append(out, mark{r, change, full.PropertiesString(string(r)).CCC()})
		change = 1
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
				out[starter].change += m.change - 1
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

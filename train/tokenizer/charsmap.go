package tokenizer

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/graphemes"
)

// charsmap is SentencePiece's compiled table of replacements: a trie of bytes as a
// double array in the layout of darts-clone, whose values are offsets of texts
// that a NUL ends.
type charsmap struct {
	units []uint32
	texts string
}

// readPrecompiled reads the Precompiled normalizer.
func readPrecompiled(s *section) normalizer {
	if !s.has("precompiled_charsmap") {
		s.fail("no precompiled_charsmap")
		return nil
	}
	c, err := parseCharsmap(s.text("precompiled_charsmap"))
	if err != nil {
		s.fail("precompiled_charsmap: %v", err)
		return nil
	}
	return c.normalize
}

func parseCharsmap(encoded string) (*charsmap, error) {
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, errors.New("not base64")
	}
	if len(data) < 4 {
		return nil, errors.New("too short")
	}
	size := binary.LittleEndian.Uint32(data)
	data = data[4:]
	if uint64(size) > uint64(len(data)) || size < 4 || size%4 != 0 {
		return nil, errors.New("its trie has another size than it says")
	}
	c := &charsmap{units: make([]uint32, size/4), texts: string(data[size:])}
	for i := range c.units {
		c.units[i] = binary.LittleEndian.Uint32(data[4*i:])
	}
	if !utf8.ValidString(c.texts) {
		return nil, errors.New("its texts are not UTF-8")
	}
	return c, nil
}

// shortest returns the replacement of the shortest key that s begins with.
func (c *charsmap) shortest(s string) (string, bool) {
	offset := func(unit uint32) uint32 { return unit >> 10 << (unit & (1 << 9) >> 6) }
	at := offset(c.units[0])
	for i := range len(s) {
		b := uint32(s[i])
		at ^= b
		if b == 0 || at >= uint32(len(c.units)) || c.units[at]&(1<<31|0xFF) != b {
			return "", false
		}
		unit := c.units[at]
		at ^= offset(unit)
		if unit>>8&1 == 0 {
			continue
		}
		if at >= uint32(len(c.units)) {
			return "", false
		}
		from := c.units[at] &^ (1 << 31)
		if from > uint32(len(c.texts)) {
			return "", false
		}
		text, _, _ := strings.Cut(c.texts[from:], "\x00")
		return text, utf8.ValidString(text)
	}
	return "", false
}

// normalize goes grapheme by grapheme. As in the library, a grapheme of under six
// bytes is replaced whole where the table has a key that it begins with, so that
// what follows the key is lost; others go character by character.
func (c *charsmap) normalize(p *passage) error {
	var puts []put
	changed := false
	replace := func(old, text string) {
		changed = true
		missing := utf8.RuneCountInString(old)
		for _, r := range text {
			change := 0
			if missing--; missing < 0 {
				change = 1
			}
			puts = append(puts, put{r, change})
		}
		if missing > 0 && len(puts) > 0 {
			puts[len(puts)-1].change -= missing
		}
	}
	for it := graphemes.FromString(p.s); it.Next(); {
		g := it.Value()
		if len(g) < 6 {
			if text, ok := c.shortest(g); ok {
				replace(g, text)
				continue
			}
		}
		for len(g) > 0 {
			r, n := utf8.DecodeRuneInString(g)
			if text, ok := c.shortest(g[:n]); ok {
				replace(g[:n], text)
			} else {
				puts = append(puts, put{r, 0})
			}
			g = g[n:]
		}
	}
	if !changed {
		return nil
	}
	return p.rewrite(func(e *edits) error {
		for _, x := range puts {
			e.put(x.r, x.change)
		}
		return nil
	})
}

// put is a call of [edits.put] that is kept, since it may change.
type put struct {
	r      rune
	change int
}

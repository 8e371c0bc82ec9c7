package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The byte-level alphabet of GPT-2 gives each byte a printable character: itself in
// Latin-1 if it is printable there, otherwise the next one from U+0100 on.
var (
	byteChars [256]rune
	charBytes = map[rune]byte{}
)

func init() {
	next := rune(0x100)
	for b := range byteChars {
		c := rune(b)
		if b <= ' ' || 0x7F <= b && b <= 0xA0 || b == 0xAD {
			c = next
			next++
		}
		byteChars[b] = c
		charBytes[c] = byte(b)
	}
}

func toByteChars(s string) string {
	var b strings.Builder
	b.Grow(len(s) + len(s)/4)
	for i := 0; i < len(s); i++ {
		b.WriteRune(byteChars[s[i]])
	}
	return b.String()
}

// byteLevel is the ByteLevel pre-tokenizer.
func byteLevel(words []word, s string, prefix, regex bool) []word {
	if prefix && !strings.HasPrefix(s, " ") {
		s = " " + s
	}
	if !regex {
		return append(words, word{s: toByteChars(s)})
	}
	// One string holds all words, so that there is one allocation and not many.
	all := toByteChars(s)
	from := 0
	for i := 0; i < len(s); {
		end := gpt2Word(s, i)
		n := 0
		for ; i < end; i++ {
			n += utf8.RuneLen(byteChars[s[i]])
		}
		words = append(words, word{s: all[from : from+n]})
		from += n
	}
	return words
}

const (
	spaceClass = iota
	letterClass
	numberClass
	otherClass
)

func gpt2Class(r rune) int {
	switch {
	case 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z':
		return letterClass
	case unicode.IsSpace(r):
		return spaceClass
	case isLetter(r):
		return letterClass
	case isNumber(r):
		return numberClass
	}
	return otherClass
}

// gpt2Word returns the end of the match at i of GPT-2's pattern,
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// which matches everywhere.
func gpt2Word(s string, i int) int {
	if s[i] == '\'' {
		for _, c := range [...]string{"s", "t", "re", "ve", "m", "ll", "d"} {
			if strings.HasPrefix(s[i+1:], c) {
				return i + 1 + len(c)
			}
		}
	}
	end := i
	if s[i] == ' ' {
		end++
	}
	if r, n := utf8.DecodeRuneInString(s[end:]); n > 0 {
		if class := gpt2Class(r); class != spaceClass {
			for end += n; end < len(s); end += n {
				if r, n = utf8.DecodeRuneInString(s[end:]); gpt2Class(r) != class {
					break
				}
			}
			return end
		}
	}
	// White space, but if text follows then not the last of it, unless it is alone.
	last := i
	for end = i; end < len(s); {
		r, n := utf8.DecodeRuneInString(s[end:])
		if !unicode.IsSpace(r) {
			if last > i {
				return last
			}
			return end
		}
		last = end
		end += n
	}
	return end
}

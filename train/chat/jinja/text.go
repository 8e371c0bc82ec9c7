package jinja

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// A Caser has state, so each call has one of its own.

func lower(s string) string {
	return cases.Lower(language.Und, cases.HandleFinalSigma(true)).String(s)
}

func upper(s string) string { return cases.Upper(language.Und).String(s) }

// titleRune is the title case of a first letter: "ǆ" has one of its own, "ß" becomes "Ss".
func titleRune(r rune) string {
	if t := unicode.ToTitle(r); t != r {
		return string(t)
	}
	out := []rune(upper(string(r)))
	return string(out[:1]) + lower(string(out[1:]))
}

// capitalize is Python's str.capitalize.
func capitalize(s string) string {
	for _, r := range s {
		rest := s[len(string(r)):]
		return titleRune(r) + lowerAfter(s[:len(s)-len(rest)], rest)
	}
	return s
}

// lowerAfter makes a text small that follows another: whether a sigma ends a word
// depends on what is before it.
func lowerAfter(before, s string) string {
	return strings.TrimPrefix(lower(before+s), lower(before))
}

// titleWords is the filter "title": words begin after spaces and opening brackets, and
// after hyphens.
func titleWords(s string) string {
	var b strings.Builder
	begin := true
	word := func(w string) {
		for _, r := range w {
			b.WriteString(upper(string(r)))
			b.WriteString(lower(w[len(string(r)):]))
			return
		}
	}
	from := 0
	for i, r := range s {
		sep := isSpace(r) || strings.ContainsRune("-({[<", r)
		if sep != begin {
			word(s[from:i])
			from, begin = i, sep
		}
	}
	word(s[from:])
	return b.String()
}

// titleLetters is Python's str.title: every letter that follows none begins a word.
func titleLetters(s string) string {
	var b strings.Builder
	inWord := false
	for _, r := range s {
		switch {
		case !isCased(r):
			b.WriteRune(r)
		case r == 'Σ' && inWord: // which small letter it becomes depends on what is around it
			fail("method \"title\" of a text with %q is not implemented", r)
		case inWord:
			b.WriteString(lower(string(r)))
		default:
			b.WriteString(titleRune(r))
		}
		inWord = isCased(r)
	}
	return b.String()
}

func isLowerRune(r rune) bool {
	return unicode.IsLower(r) || unicode.Is(unicode.Other_Lowercase, r)
}

func isUpperRune(r rune) bool {
	return unicode.IsUpper(r) || unicode.Is(unicode.Other_Uppercase, r)
}

func isCased(r rune) bool { return isLowerRune(r) || isUpperRune(r) || unicode.IsTitle(r) }

func isLower(s string) bool {
	return strings.ContainsFunc(s, isLowerRune) && !strings.ContainsFunc(s, func(r rune) bool { return isUpperRune(r) || unicode.IsTitle(r) })
}

func isUpper(s string) bool {
	return strings.ContainsFunc(s, isUpperRune) && !strings.ContainsFunc(s, func(r rune) bool { return isLowerRune(r) || unicode.IsTitle(r) })
}

// all tells whether a text has characters and all are of a class.
func all(s string, class func(rune) bool) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !class(r) })
}

// stripSet returns the class of characters that strip takes away.
func stripSet(fn string, chars any) func(rune) bool {
	if chars == nil {
		return isSpace
	}
	set := needString(fn, chars)
	return func(r rune) bool { return strings.ContainsRune(set, r) }
}

// splitLines is Python's str.splitlines.
func splitLines(s string, keep bool) []string {
	var out []string
	for s != "" {
		i := strings.IndexAny(s, "\n\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029")
		if i < 0 {
			return append(out, s)
		}
		end := i + 1
		switch {
		case strings.HasPrefix(s[i:], "\r\n"):
			end = i + 2
		case s[i] >= 0x80:
			for end < len(s) && s[end]&0xc0 == 0x80 {
				end++
			}
		}
		if keep {
			out = append(out, s[:end])
		} else {
			out = append(out, s[:i])
		}
		s = s[end:]
	}
	return out
}

// splitSpace cuts at white space, at most n times if n is not negative.
func splitSpace(s string, n int64) []string {
	var out []string
	for s = strings.TrimLeftFunc(s, isSpace); s != ""; s = strings.TrimLeftFunc(s, isSpace) {
		i := strings.IndexFunc(s, isSpace)
		if n >= 0 && int64(len(out)) >= n || i < 0 {
			return append(out, s)
		}
		out = append(out, s[:i])
		s = s[i:]
	}
	return out
}

// splitSpaceRight is the same from the end.
func splitSpaceRight(s string, n int64) []string {
	var out []string
	for s = strings.TrimRightFunc(s, isSpace); s != ""; s = strings.TrimRightFunc(s, isSpace) {
		i := strings.LastIndexFunc(s, isSpace)
		if n >= 0 && int64(len(out)) >= n || i < 0 {
			out = append(out, s)
			break
		}
		_, size := utf8.DecodeRuneInString(s[i:])
		out = append(out, s[i+size:])
		s = s[:i]
	}
	slices.Reverse(out)
	return out
}

package tokenizer

import (
	"sort"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The library takes its classes of characters from several places: Oniguruma and
// Rust's regex crate with Unicode 16, Rust's standard library and the crate for
// graphemes with 17, and crates and tables with about Unicode 9 for punctuation,
// marks, scripts and normal forms. Go has Unicode 15. The
// tables here are the differences, found by asking the library about every
// character; the tests compare all classes with its answers.

// ranges is a sorted list of pairs, first and last.
type ranges []rune

func (t ranges) has(r rune) bool {
	if len(t) == 0 || r < t[0] || r > t[len(t)-1] {
		return false
	}
	i := sort.Search(len(t)/2, func(i int) bool { return t[2*i+1] >= r })
	return t[2*i] <= r
}

// parseRanges reads hexadecimal "A B-C …".
func parseRanges(s string) ranges {
	var t ranges
	for _, part := range strings.Fields(s) {
		lo, hi, several := strings.Cut(part, "-")
		if !several {
			hi = lo
		}
		for _, hex := range []string{lo, hi} {
			n, err := strconv.ParseInt(hex, 16, 32)
			if err != nil {
				panic(err)
			}
			t = append(t, rune(n))
		}
	}
	return t
}

// newer lists, by class, what Unicode 15.1 and 16 added.
var newer = map[string]string{
	"Lu":         "1C89 A7CB-A7CC A7DA A7DC 10D50-10D65",
	"Ll":         "1C8A A7CD A7DB 10D70-10D85",
	"Lm":         "10D4E 10D6F 16D40-16D42 16D6B-16D6C",
	"Lo":         "105C0-105F3 10D4A-10D4D 10D4F 10EC2-10EC4 11380-11389 1138B 1138E 11390-113B5 113B7 113D1 113D3 11BC0-11BE0 13460-143FA 16100-1611D 16D43-16D6A 18CFF 1E5D0-1E5ED 1E5F0 2EBF0-2EE5D",
	"L":          "1C89-1C8A A7CB-A7CD A7DA-A7DC 105C0-105F3 10D4A-10D65 10D6F-10D85 10EC2-10EC4 11380-11389 1138B 1138E 11390-113B5 113B7 113D1 113D3 11BC0-11BE0 13460-143FA 16100-1611D 16D40-16D6C 18CFF 1E5D0-1E5ED 1E5F0 2EBF0-2EE5D",
	"M":          "897 10D69-10D6D 10EFC 113B8-113C0 113C2 113C5 113C7-113CA 113CC-113D0 113D2 113E1-113E2 11F5A 1611E-1612F 1E5EE-1E5EF",
	"N":          "10D40-10D49 116D0-116E3 11BF0-11BF9 16130-16139 16D70-16D79 1CCF0-1CCF9 1E5F1-1E5FA",
	"Nd":         "10D40-10D49 116D0-116E3 11BF0-11BF9 16130-16139 16D70-16D79 1CCF0-1CCF9 1E5F1-1E5FA",
	"P":          "1B4E-1B4F 1B7F 10D6E 113D4-113D5 113D7-113D8 11BE1 16D6D-16D6F 1E5FF",
	"S":          "2427-2429 2FFC-2FFF 31E4-31E5 31EF 10D8E-10D8F 1CC00-1CCEF 1CD00-1CEB3 1F8B2-1F8BB 1F8C0-1F8C1 1FA89 1FA8F 1FABE 1FAC6 1FADC 1FADF 1FAE9 1FBCB-1FBEF",
	"Lt":         "",
	"Z":          "",
	"Han":        "2EBF0-2EE5D",
	"Latin":      "A7CB-A7CD A7DA-A7DC",
	"Cyrillic":   "1C89-1C8A",
	"Arabic":     "897 10EC2-10EC4 10EFC",
	"Greek":      "",
	"Hiragana":   "",
	"Katakana":   "",
	"Hangul":     "",
	"Thai":       "",
	"Mc":         "113B8-113BA 113C2 113C5 113C7-113CA 113CC-113CD 113CF 1171E 1612A-1612C",
	"Me":         "",
	"Nl":         "",
	"No":         "",
	"Pc":         "",
	"Pd":         "10D6E",
	"Ps":         "",
	"Pe":         "",
	"Pi":         "",
	"Pf":         "",
	"Po":         "1B4E-1B4F 1B7F 113D4-113D5 113D7-113D8 11BE1 16D6D-16D6F 1E5FF",
	"Sm":         "10D8E-10D8F",
	"Sc":         "",
	"Sk":         "",
	"So":         "2427-2429 2FFC-2FFF 31E4-31E5 31EF 1CC00-1CCEF 1CD00-1CEB3 1F8B2-1F8BB 1F8C0-1F8C1 1FA89 1FA8F 1FABE 1FAC6 1FADC 1FADF 1FAE9 1FBCB-1FBEF",
	"Zs":         "",
	"Zl":         "",
	"Zp":         "",
	"Hebrew":     "",
	"Devanagari": "",
	"Bengali":    "",
	"Tamil":      "",
	"Telugu":     "",
	"Armenian":   "",
	"Georgian":   "",
	"Khmer":      "",
	"Lao":        "",
	"Myanmar":    "116D0-116E3",
	"Tibetan":    "",
	"Ethiopic":   "",
	"Bopomofo":   "",
}

var (
	newLetters = parseRanges(newer["L"])
	newMarks   = parseRanges(newer["M"])
	newDigits  = parseRanges(newer["Nd"])
	// newNumeric is what Unicode 17 added to the numbers.
	newNumeric = parseRanges("11DE0-11DE9 16FF4-16FF6")
	// latePunctuation is what the library does not know as such.
	latePunctuation = parseRanges("61D 9FD A76 C77 C84 1B7D-1B7E 2E43-2E4F 2E52-2E5D 10EAD 10F55-10F59 10F86-10F89 1144B-1144F 1145A-1145B 1145D 11660-1166C 116B9 1183B 11944-11946 119E2 11A3F-11A46 11A9A-11A9C 11A9E-11AA2 11B00-11B09 11C41-11C45 11C70-11C71 11EF7-11EF8 11F43-11F4F 11FFF 12FF1-12FF2 16E97-16E9A 16FE2 1E95E-1E95F")
	// lateCombining, lateNonspacing and lateControl are what the library does not know
	// as such: as marks, marks without a width, and characters that are not shown.
	lateCombining  = parseRanges("7FD 898-89F 8CA-8D3 9FE AFA-AFF B55 C04 C3C CF3 D00 D3B-D3C D81 EBA ECE 1715 180F 1ABF-1ACE 1CF7 1DF6-1DFA A82C A8FF 10D24-10D27 10EAB-10EAC 10EFD-10EFF 10F46-10F50 10F82-10F85 11070 11073-11074 110C2 11145-11146 111C9 111CE-111CF 11241 1133B 1145E 1182C-1183A 11930-11935 11937-11938 1193B-1193E 11940 11942-11943 119D1-119D7 119DA-119E0 119E4 11A01-11A0A 11A33-11A39 11A3B-11A3E 11A47 11A51-11A5B 11A8A-11A99 11D31-11D36 11D3A 11D3C-11D3D 11D3F-11D45 11D47 11D8A-11D8E 11D90-11D91 11D93-11D97 11EF3-11EF6 11F00-11F01 11F03 11F34-11F3A 11F3E-11F42 13440 13447-13455 16F4F 16F7F-16F87 16FE4 16FF0-16FF1 1CF00-1CF2D 1CF30-1CF46 1E08F 1E130-1E136 1E2AE 1E2EC-1E2EF 1E4EC-1E4EF")
	lateNonspacing = parseRanges("7FD 898-89F 8CA-8E1 9FE AFA-AFF B55 C04 C3C D00 D3B-D3C D81 EBA ECE 180F 1885-1886 1ABF-1ACE 1DF6-1DFB A82C A8C5 A8FF A9BD 10D24-10D27 10EAB-10EAC 10EFD-10EFF 10F46-10F50 10F82-10F85 11070 11073-11074 110C2 111C9 111CF 1123E 11241 1133B 11438-1143F 11442-11444 11446 1145E 1182F-11837 11839-1183A 1193B-1193C 1193E 11943 119D4-119D7 119DA-119DB 119E0 11A01-11A0A 11A33-11A38 11A3B-11A3E 11A47 11A51-11A56 11A59-11A5B 11A8A-11A96 11A98-11A99 11C30-11C36 11C38-11C3D 11C3F 11C92-11CA7 11CAA-11CB0 11CB2-11CB3 11CB5-11CB6 11D31-11D36 11D3A 11D3C-11D3D 11D3F-11D45 11D47 11D90-11D91 11D95 11D97 11EF3-11EF4 11F00-11F01 11F36-11F3A 11F40 11F42 13440 13447-13455 16F4F 16FE4 1CF00-1CF2D 1CF30-1CF46 1E000-1E006 1E008-1E018 1E01B-1E021 1E023-1E024 1E026-1E02A 1E08F 1E130-1E136 1E2AE 1E2EC-1E2EF 1E4EC-1E4EF 1E944-1E94A")
	lateControl    = parseRanges("890-891 8E2 110CD 13430-1343F")
	// inert is what the library's normal forms leave as it is and where it is.
	inert = parseRanges("7FD 898-89F 8CA-8D3 9FE C3C D3B-D3C EBA 1715 1ABF-1ACE 1DF6-1DFA 32FF A7F2-A7F4 A82C AB69 10781-10785 10787-107B0 107B2-107BA 10D24-10D27 10EAB-10EAC 10EFD-10EFF 10F46-10F50 10F82-10F85 11070 1133B 1145E 11839-1183A 11938 1193D-1193E 11943 119E0 11A34 11A47 11A99 11D42 11D44-11D45 11D97 11F41-11F42 16FF0-16FF1 1E030-1E06D 1E08F 1E130-1E136 1E2AE 1E2EC-1E2EF 1E4EC-1E4EF 1F16C 1FBF0-1FBF9")
)

// isLetter is Oniguruma's \p{L}.
func isLetter(r rune) bool { return unicode.Is(unicode.L, r) || newLetters.has(r) }

// isNumber is Oniguruma's \p{N}.
func isNumber(r rune) bool { return unicode.Is(unicode.N, r) || newDigits.has(r) }

// isNumeric is Rust's char::is_numeric.
func isNumeric(r rune) bool { return isNumber(r) || newNumeric.has(r) }

// isWord is \w of Rust's regex crate.
func isWord(r rune) bool {
	return isLetter(r) || newMarks.has(r) || newDigits.has(r) ||
		unicode.In(r, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
}

// isPunctuation is what the Punctuation pre-tokenizer goes by.
func isPunctuation(r rune) bool {
	switch {
	case r < utf8.RuneSelf:
		return unicode.In(r, unicode.P, unicode.S)
	case r == 0x166D || r == 0x111C9: // no longer punctuation
		return true
	}
	return unicode.Is(unicode.P, r) && !latePunctuation.has(r)
}

// isCombining is what StripAccents drops.
func isCombining(r rune) bool {
	return unicode.Is(unicode.M, r) && !lateCombining.has(r) || r == 0x1CF2 || r == 0x1CF3
}

// isNonspacing is what BERT strips as accents.
func isNonspacing(r rune) bool {
	return unicode.Is(unicode.Mn, r) && !lateNonspacing.has(r) || r == 0x1734
}

// isControl is what BERT drops as not shown.
func isControl(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co) && !lateControl.has(r)
}

// lower is Rust's char::to_lowercase for all characters that become one.
func lower(r rune) rune {
	switch {
	case r < 0x1C89:
	case r == 0x1C89 || r == 0xA7CC || r == 0xA7CE || r == 0xA7D2 || r == 0xA7D4 || r == 0xA7DA:
		return r + 1
	case r == 0xA7CB:
		return 0x264
	case r == 0xA7DC:
		return 0x19B
	case 0x10D50 <= r && r <= 0x10D65:
		return r + 0x20
	case 0x16EA0 <= r && r <= 0x16EB8:
		return r + 0x1B
	}
	return unicode.ToLower(r)
}

func runeLen(s string) int {
	_, n := utf8.DecodeRuneInString(s)
	return n
}

// validUTF8 replaces each ill-formed sequence by U+FFFD: as much as could begin a
// character counts as one, otherwise each byte. Python and Rust do the same, but
// strings.ToValidUTF8 takes a whole run as one, and []rune each byte.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			n = begunLen(s[i:])
		}
		b.WriteRune(r)
		i += n
	}
	return b.String()
}

// begunLen returns the length of the longest beginning of a character that the
// ill-formed s starts with, and 1 where it starts with none.
func begunLen(s string) int {
	n, lo, hi := 0, byte(0x80), byte(0xBF) // bytes that would follow; bounds of the first
	switch c := s[0]; {
	case 0xC2 <= c && c <= 0xDF:
		n = 1
	case 0xE0 <= c && c <= 0xEF:
		n = 2
		switch c {
		case 0xE0:
			lo = 0xA0
		case 0xED:
			hi = 0x9F
		}
	case 0xF0 <= c && c <= 0xF4:
		n = 3
		switch c {
		case 0xF0:
			lo = 0x90
		case 0xF4:
			hi = 0x8F
		}
	}
	i := 1
	for i <= n && i < len(s) && lo <= s[i] && s[i] <= hi {
		i++
		lo, hi = 0x80, 0xBF
	}
	return i
}

package jinja

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenText
	tokenPrintBegin // {{
	tokenPrintEnd
	tokenTagBegin // {%
	tokenTagEnd
	tokenName
	tokenString
	tokenNumber
	tokenOperator
)

type token struct {
	kind  tokenKind
	text  string // of a name, operator, text or string
	value any    // of a number
	line  int
}

func (t token) String() string {
	switch t.kind {
	case tokenEnd:
		return "the end of the template"
	case tokenPrintEnd:
		return "}}"
	case tokenTagEnd:
		return "%}"
	case tokenNumber:
		return fmt.Sprint(t.value)
	case tokenString:
		return "a string"
	}
	return strconv.Quote(t.text)
}

// syntaxError is how lexing and parsing fail; Parse recovers it.
type syntaxError struct {
	line int
	text string
}

func syntax(line int, format string, a ...any) {
	panic(syntaxError{line, fmt.Sprintf(format, a...)})
}

type lexer struct {
	src    string
	pos    int
	line   int
	tokens []token
	// lineStart: the text that comes next begins a line of the template.
	lineStart bool
}

// lex cuts a template into tokens and settles all white space. It follows the lexer of
// Jinja with trim_blocks and lstrip_blocks: the first newline after a tag or comment goes,
// and so do spaces before one at the beginning of a line, a sign in the tag overriding both.
func lex(src string) []token {
	src = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(src)
	src = strings.TrimSuffix(src, "\n")
	l := &lexer{src: src, line: 1, lineStart: true}
	for l.pos < len(l.src) {
		l.text()
	}
	l.add(tokenEnd, "")
	return l.tokens
}

func (l *lexer) add(kind tokenKind, text string) {
	l.tokens = append(l.tokens, token{kind: kind, text: text, line: l.line})
}

func (l *lexer) advance(n int) {
	l.line += strings.Count(l.src[l.pos:l.pos+n], "\n")
	l.pos += n
}

// text reads up to the next tag, print or comment, and that too.
func (l *lexer) text() {
	rest := l.src[l.pos:]
	at := 0
	for {
		i := strings.IndexByte(rest[at:], '{')
		if i < 0 || at+i+1 >= len(rest) {
			l.addText(rest)
			l.advance(len(rest))
			return
		}
		at += i
		if c := rest[at+1]; c == '%' || c == '{' || c == '#' {
			break
		}
		at++
	}
	kind, sign := rest[at+1], byte(0)
	open := 2
	if at+2 < len(rest) && (rest[at+2] == '-' || rest[at+2] == '+') {
		sign, open = rest[at+2], 3
	}
	text := rest[:at]
	switch {
	case sign == '-':
		text = strings.TrimRightFunc(text, isSpace)
	case sign != '+' && kind != '{':
		start := strings.LastIndexByte(text, '\n') + 1
		if (start > 0 || l.lineStart) && strings.Trim(text[start:], " \t") == "" {
			text = text[:start]
		}
	}
	l.addText(text)
	l.advance(at + open)
	l.lineStart = false
	switch kind {
	case '#':
		l.comment()
	case '{':
		l.add(tokenPrintBegin, "{{")
		l.code("}}", tokenPrintEnd)
	default:
		if l.raw() {
			return
		}
		l.add(tokenTagBegin, "{%")
		l.code("%}", tokenTagEnd)
	}
}

func (l *lexer) addText(s string) {
	if s != "" {
		l.add(tokenText, s)
	}
}

func (l *lexer) comment() {
	i := strings.Index(l.src[l.pos:], "#}")
	if i < 0 {
		syntax(l.line, "comment without an end")
	}
	sign := byte(0)
	if i > 0 {
		sign = l.src[l.pos+i-1]
	}
	l.advance(i + 2)
	l.afterTag(sign)
}

// afterTag takes the white space that goes with the end of a tag or comment.
func (l *lexer) afterTag(sign byte) {
	rest := l.src[l.pos:]
	n := 0
	switch {
	case sign == '-':
		n = len(rest) - len(strings.TrimLeftFunc(rest, isSpace))
	case sign != '+' && strings.HasPrefix(rest, "\n"):
		n = 1
	}
	l.advance(n)
	l.lineStart = l.pos > 0 && l.src[l.pos-1] == '\n'
}

// raw reads a raw block, if that is what the tag begins.
func (l *lexer) raw() bool {
	after, ok := strings.CutPrefix(strings.TrimLeftFunc(l.src[l.pos:], isSpace), "raw")
	if !ok {
		return false
	}
	after = strings.TrimLeftFunc(after, isSpace)
	trim := strings.HasPrefix(after, "-%}")
	after, ok = strings.CutPrefix(strings.TrimPrefix(after, "-"), "%}")
	if !ok {
		return false
	}
	if trim {
		after = strings.TrimLeftFunc(after, isSpace)
	}
	l.advance(len(l.src) - l.pos - len(after))
	for at := 0; ; at += 2 {
		i := strings.Index(after[at:], "{%")
		if i < 0 {
			syntax(l.line, "raw block without an end")
		}
		at += i
		tag, begin := after[at+2:], byte(0)
		if tag != "" && (tag[0] == '-' || tag[0] == '+') {
			begin, tag = tag[0], tag[1:]
		}
		tag, ok := strings.CutPrefix(strings.TrimLeftFunc(tag, isSpace), "endraw")
		if !ok {
			continue
		}
		tag, end := strings.TrimLeftFunc(tag, isSpace), byte(0)
		if tag != "" && (tag[0] == '-' || tag[0] == '+') {
			end, tag = tag[0], tag[1:]
		}
		if tag, ok = strings.CutPrefix(tag, "%}"); !ok {
			continue
		}
		text := after[:at]
		switch start := strings.LastIndexByte(text, '\n') + 1; {
		case begin == '-':
			text = strings.TrimRightFunc(text, isSpace)
		case begin != '+' && start > 0 && strings.Trim(text[start:], " \t") == "":
			text = text[:start]
		}
		l.addText(text)
		l.advance(len(after) - len(tag))
		l.afterTag(end)
		return true
	}
}

var operators = []string{"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";"}

var closing = map[string]string{"(": ")", "[": "]", "{": "}"}

// code reads the inside of a tag or print up to its end.
func (l *lexer) code(end string, kind tokenKind) {
	var open []string
	for {
		rest := l.src[l.pos:]
		if rest == "" {
			syntax(l.line, "unexpected end of the template (want %q)", end)
		}
		if len(open) == 0 {
			sign := byte(0)
			if rest[0] == '-' || rest[0] == '+' && end == "%}" {
				sign = rest[0]
			}
			if sign != 0 && strings.HasPrefix(rest[1:], end) || strings.HasPrefix(rest, end) {
				if !strings.HasPrefix(rest, end) {
					l.advance(1)
				} else {
					sign = 0
				}
				l.add(kind, end)
				l.advance(2)
				if end == "%}" || sign == '-' {
					l.afterTag(sign)
				} else {
					l.lineStart = false
				}
				return
			}
		}
		r, size := utf8.DecodeRuneInString(rest)
		switch {
		case isSpace(r):
			l.advance(size)
			continue
		case r == '\'' || r == '"':
			l.str(byte(r))
			continue
		case r >= '0' && r <= '9':
			l.number()
			continue
		case isNameStart(r):
			n := size
			for n < len(rest) {
				r, size := utf8.DecodeRuneInString(rest[n:])
				if !isNameStart(r) && !unicode.In(r, unicode.Nd, unicode.Mn, unicode.Mc) {
					break
				}
				n += size
			}
			l.add(tokenName, rest[:n])
			l.advance(n)
			continue
		}
		op := ""
		for _, o := range operators {
			if strings.HasPrefix(rest, o) {
				op = o
				break
			}
		}
		switch op {
		case "":
			syntax(l.line, "unexpected character %q", r)
		case "(", "[", "{":
			open = append(open, closing[op])
		case ")", "]", "}":
			if len(open) == 0 || open[len(open)-1] != op {
				syntax(l.line, "unexpected %q", op)
			}
			open = open[:len(open)-1]
		}
		l.add(tokenOperator, op)
		l.advance(len(op))
	}
}

func isNameStart(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.Is(unicode.Nl, r) }

// isSpace is Python's str.isspace, which counts four control characters that Go does
// not.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

func (l *lexer) number() {
	rest := l.src[l.pos:]
	digits := func(n int, set string) int {
		for n < len(rest) && (strings.IndexByte(set, rest[n]|0x20) >= 0 || rest[n] == '_' && n+1 < len(rest) && strings.IndexByte(set, rest[n+1]|0x20) >= 0) {
			n++
		}
		return n
	}
	const decimal = "0123456789"
	// ORing 0x20 into a digit leaves it as it is, and makes letters small.
	if len(rest) > 2 && rest[0] == '0' {
		set := map[byte]string{'x': "0123456789abcdef", 'o': "01234567", 'b': "01"}[rest[1]|0x20]
		if n := digits(2, set); set != "" && n > 2 {
			l.addNumber(rest[:n])
			return
		}
	}
	n := digits(0, decimal)
	afterDot := l.pos > 0 && l.src[l.pos-1] == '.'
	if !afterDot {
		m := n
		if m+1 < len(rest) && rest[m] == '.' && rest[m+1] >= '0' && rest[m+1] <= '9' {
			m = digits(m+1, decimal)
		}
		if m < len(rest) && rest[m]|0x20 == 'e' {
			k := m + 1
			if k < len(rest) && (rest[k] == '+' || rest[k] == '-') {
				k++
			}
			if e := digits(k, decimal); e > k {
				m = e
			}
		}
		if m > n {
			f, err := strconv.ParseFloat(strings.ReplaceAll(rest[:m], "_", ""), 64)
			if err != nil {
				syntax(l.line, "number %q is too large", rest[:m])
			}
			l.tokens = append(l.tokens, token{kind: tokenNumber, value: f, line: l.line})
			l.advance(m)
			return
		}
	}
	if rest[0] == '0' && strings.Trim(rest[:n], "0_") != "" {
		syntax(l.line, "number %q begins with 0", rest[:n])
	}
	l.addNumber(rest[:n])
}

func (l *lexer) addNumber(text string) {
	base, digits := 0, text
	if text[0] == '0' && len(text) > 1 && text[1] >= '0' && text[1] <= '9' {
		base, digits = 10, "0"
	}
	n, ok := new(big.Int).SetString(digits, base)
	if !ok || len(text) > 4000 {
		syntax(l.line, "bad number %.40q", text)
	}
	l.tokens = append(l.tokens, token{kind: tokenNumber, value: shrink(n), line: l.line})
	l.advance(len(text))
}

func shrink(n *big.Int) any {
	if n.IsInt64() {
		return n.Int64()
	}
	return n
}

// str reads a string literal with Python's escapes.
func (l *lexer) str(mark byte) {
	rest := l.src[l.pos:]
	line := l.line
	var b strings.Builder
	for i := 1; i < len(rest); {
		c := rest[i]
		switch {
		case c == mark:
			l.advance(i + 1)
			l.tokens = append(l.tokens, token{kind: tokenString, text: b.String(), line: line})
			return
		case c != '\\' || i+1 >= len(rest):
			b.WriteByte(c)
			i++
			continue
		}
		e := rest[i+1]
		i += 2
		hex := map[byte]int{'x': 2, 'u': 4, 'U': 8}[e]
		at := strings.IndexByte("ntr\\'\"abfv", e)
		switch {
		case at >= 0:
			b.WriteByte("\n\t\r\\'\"\a\b\f\v"[at])
		case e == '\n':
		case e >= '0' && e <= '7':
			n := rune(e - '0')
			for k := 0; k < 2 && i < len(rest) && rest[i] >= '0' && rest[i] <= '7'; k++ {
				n = n*8 + rune(rest[i]-'0')
				i++
			}
			b.WriteRune(n)
		case hex > 0:
			if i+hex > len(rest) {
				syntax(line, "cut escape in a string")
			}
			n, err := strconv.ParseUint(rest[i:i+hex], 16, 32)
			if err != nil || n > unicode.MaxRune {
				syntax(line, "bad escape in a string: %q", rest[i-2:i+hex])
			}
			if n >= 0xd800 && n < 0xe000 {
				syntax(line, "half of a surrogate pair in a string, which no UTF-8 text can hold: %q", rest[i-2:i+hex])
			}
			b.WriteRune(rune(n))
			i += hex
		case e == 'N':
			syntax(line, `escape "\N" is not implemented`)
		default:
			b.WriteByte('\\')
			b.WriteByte(e)
		}
	}
	syntax(line, "string without an end")
}

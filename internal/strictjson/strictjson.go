// Package strictjson reads JSON that came from somebody else, the way a format
// means it: valid UTF-8, no duplicate names at any level, a bounded depth, whole
// numbers told from others, and the order of an object's members kept.
// encoding/json is lenient in all of these, and each leniency has let one tool
// read a file differently from another.
//
// A [Parser] walks the text without building it, for headers of up to 100 MB;
// [Parse] builds small documents whole. Both take memory in proportion to the
// text that they have already checked, and neither recurses deeper than its limit.
package strictjson

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Parser reads one document from the front. Its methods consume a value of their
// kind, or fail and say where. After a failure it must not be used.
type Parser struct {
	data  []byte
	pos   int
	depth int
	limit int
}

// NewParser returns a parser of data, refusing invalid UTF-8 at once and nesting
// deeper than maxDepth when it comes to it.
func NewParser(data []byte, maxDepth int) (*Parser, error) {
	if !utf8.Valid(data) {
		off := 0
		for off < len(data) {
			r, n := utf8.DecodeRune(data[off:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			off += n
		}
		return nil, fmt.Errorf("invalid UTF-8 at byte %d", off)
	}
	return &Parser{data: data, limit: maxDepth}, nil
}

// Pos returns the offset of the next unread byte.
func (p *Parser) Pos() int { return p.pos }

func (p *Parser) errorf(format string, args ...any) error {
	return fmt.Errorf("%s at byte %d", fmt.Sprintf(format, args...), p.pos)
}

func (p *Parser) space() {
	for p.pos < len(p.data) {
		switch p.data[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// Peek returns the first byte of the next value, or 0 at the end.
func (p *Parser) Peek() byte {
	p.space()
	if p.pos == len(p.data) {
		return 0
	}
	return p.data[p.pos]
}

func (p *Parser) expect(c byte) error {
	if got := p.Peek(); got != c {
		return p.unexpected(fmt.Sprintf("%q", c))
	}
	p.pos++
	return nil
}

func (p *Parser) unexpected(want string) error {
	if p.pos >= len(p.data) {
		return p.errorf("unexpected end (want %s)", want)
	}
	r, _ := utf8.DecodeRune(p.data[p.pos:])
	return p.errorf("unexpected %q (want %s)", r, want)
}

// Object reads an object, calling member once for each name with the parser before
// the value, which member must consume. A name that comes twice is an error.
func (p *Parser) Object(member func(name string) error) error {
	if err := p.open('{'); err != nil {
		return err
	}
	defer func() { p.depth-- }()
	if p.Peek() == '}' {
		p.pos++
		return nil
	}
	seen := map[string]struct{}{}
	for {
		name, err := p.String()
		if err != nil {
			return err
		}
		if _, dup := seen[name]; dup {
			return p.errorf("duplicate name %s", quote(name))
		}
		seen[name] = struct{}{}
		if err := p.expect(':'); err != nil {
			return err
		}
		if err := member(name); err != nil {
			return err
		}
		if done, err := p.next('}'); done || err != nil {
			return err
		}
	}
}

// Array reads an array, calling element for each element with its index; element
// must consume the value.
func (p *Parser) Array(element func(i int) error) error {
	if err := p.open('['); err != nil {
		return err
	}
	defer func() { p.depth-- }()
	if p.Peek() == ']' {
		p.pos++
		return nil
	}
	for i := 0; ; i++ {
		if err := element(i); err != nil {
			return err
		}
		if done, err := p.next(']'); done || err != nil {
			return err
		}
	}
}

func (p *Parser) open(c byte) error {
	if err := p.expect(c); err != nil {
		return err
	}
	if p.depth++; p.depth > p.limit {
		return p.errorf("nested deeper than %d", p.limit)
	}
	return nil
}

// next consumes a comma or the closing byte, and reports whether it closed.
func (p *Parser) next(end byte) (done bool, err error) {
	switch p.Peek() {
	case ',':
		p.pos++
		return false, nil
	case end:
		p.pos++
		return true, nil
	}
	return false, p.unexpected(fmt.Sprintf("',' or %q", end))
}

// String reads a string. Lone surrogates are refused: they have no UTF-8 form.
func (p *Parser) String() (string, error) {
	if p.Peek() != '"' {
		return "", p.unexpected("a string")
	}
	start := p.pos + 1
	for i := start; i < len(p.data); i++ {
		switch c := p.data[i]; {
		case c == '"':
			p.pos = i + 1
			return string(p.data[start:i]), nil
		case c == '\\':
			return p.escaped(start, i)
		case c < 0x20:
			p.pos = i
			return "", p.errorf("control character in a string")
		}
	}
	p.pos = len(p.data)
	return "", p.errorf("string without an end")
}

// escaped finishes a string whose first escape is at i.
func (p *Parser) escaped(start, i int) (string, error) {
	out := append([]byte(nil), p.data[start:i]...)
	for i < len(p.data) {
		c := p.data[i]
		switch {
		case c == '"':
			p.pos = i + 1
			return string(out), nil
		case c < 0x20:
			p.pos = i
			return "", p.errorf("control character in a string")
		case c != '\\':
			out = append(out, c)
			i++
			continue
		}
		p.pos = i
		if i+1 >= len(p.data) {
			break
		}
		i += 2
		switch e := p.data[i-1]; e {
		case '"', '\\', '/':
			out = append(out, e)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, ok := p.hex4(i)
			i += 4
			if ok && utf16.IsSurrogate(r) {
				var low rune
				if ok = i+1 < len(p.data) && p.data[i] == '\\' && p.data[i+1] == 'u'; ok {
					low, ok = p.hex4(i + 2)
					r = utf16.DecodeRune(r, low)
					ok = ok && r != utf8.RuneError
					i += 6
				}
			}
			if !ok {
				return "", p.errorf("bad \\u escape")
			}
			out = utf8.AppendRune(out, r)
		default:
			return "", p.errorf("bad escape %q", `\`+string(rune(e)))
		}
	}
	p.pos = len(p.data)
	return "", p.errorf("string without an end")
}

func (p *Parser) hex4(i int) (rune, bool) {
	if i+4 > len(p.data) {
		return 0, false
	}
	var r rune
	for _, c := range p.data[i : i+4] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// Natural reads a whole number from 0 to 2⁶³−1 written plainly: no sign, fraction,
// exponent or leading zero.
func (p *Parser) Natural() (int64, error) {
	c := p.Peek()
	if c < '0' || c > '9' {
		return 0, p.unexpected("a whole number")
	}
	lit, err := p.number()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(lit, 10, 64)
	if err != nil {
		return 0, p.errorf("%s is not a whole number below 2^63", quote(lit))
	}
	return n, nil
}

// number reads a number of any form and returns its text.
func (p *Parser) number() (string, error) {
	start := p.pos
	at := func() byte {
		if p.pos < len(p.data) {
			return p.data[p.pos]
		}
		return 0
	}
	digits := func() bool {
		from := p.pos
		for c := at(); c >= '0' && c <= '9'; c = at() {
			p.pos++
		}
		return p.pos > from
	}
	if at() == '-' {
		p.pos++
	}
	lead := at()
	from := p.pos
	if !digits() || lead == '0' && p.pos > from+1 {
		return "", p.errorf("bad number")
	}
	if at() == '.' {
		p.pos++
		if !digits() {
			return "", p.errorf("bad number")
		}
	}
	if c := at(); c == 'e' || c == 'E' {
		p.pos++
		if c := at(); c == '+' || c == '-' {
			p.pos++
		}
		if !digits() {
			return "", p.errorf("bad number")
		}
	}
	return string(p.data[start:p.pos]), nil
}

func (p *Parser) literal(word string) error {
	if len(p.data)-p.pos < len(word) || string(p.data[p.pos:p.pos+len(word)]) != word {
		return p.unexpected("a value")
	}
	p.pos += len(word)
	return nil
}

// Null consumes null if it comes next, and reports whether it did.
func (p *Parser) Null() bool {
	return p.Peek() == 'n' && p.literal("null") == nil
}

// End fails unless only white space is left.
func (p *Parser) End() error {
	if p.Peek() != 0 || p.pos != len(p.data) {
		return p.unexpected("the end")
	}
	return nil
}

// quote is for names and numbers of any length.
func quote(s string) string {
	if len(s) > 200 {
		return strconv.QuoteToASCII(s[:200]) + "…"
	}
	return strconv.QuoteToASCII(s)
}

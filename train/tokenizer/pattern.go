package tokenizer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dlclark/regexp2"

	"github.com/seed-b982eded/graft/formats"
)

// match is where a pattern was found, in bytes.
type match struct{ start, end int }

// finder returns the matches of a pattern in a text, in order and apart.
type finder func(s string) ([]match, error)

// pattern reads a member {"String": …} or {"Regex": …}.
func (s *section) pattern(name string) finder {
	p := s.section(name)
	if p.has("Regex") {
		source := p.text("Regex")
		s.take(p.end())
		if s.err != nil {
			return nil
		}
		find, err := compile(source)
		if err != nil {
			s.fail("%s %s: %v", name, formats.Quote(source), err)
		}
		return find
	}
	text := p.text("String")
	s.take(p.end())
	if text == "" {
		s.fail("an empty %s is not implemented", name)
	}
	return literal(text)
}

func literal(text string) finder {
	return func(s string) ([]match, error) {
		var out []match
		for from := 0; ; {
			i := strings.Index(s[from:], text)
			if i < 0 {
				return out, nil
			}
			out = append(out, match{from + i, from + i + len(text)})
			from += i + len(text)
		}
	}
}

// matchTimeout stops a pattern that backtracks without end. Tests shorten it.
var matchTimeout = 10 * time.Second

// compile makes a finder of a pattern of Oniguruma, as the library has it.
func compile(source string) (finder, error) {
	translated, err := translate(source)
	if err != nil {
		return nil, err
	}
	re, err := regexp2.Compile(translated, regexp2.None)
	if err != nil {
		return nil, errors.New("not a regular expression")
	}
	re.MatchTimeout = matchTimeout
	return func(s string) ([]match, error) {
		if s == "" {
			return nil, nil // not even an empty match, in the library
		}
		var out []match
		runes := []rune(s)
		at, offset := 0, 0 // the same place, in runes and in bytes
		move := func(to int) int {
			for ; at < to; at++ {
				offset += utf8.RuneLen(runes[at])
			}
			return offset
		}
		m, err := re.FindRunesMatch(runes)
		for ; m != nil && err == nil; m, err = re.FindNextMatch(m) {
			found := match{start: move(m.Index)}
			found.end = move(m.Index + m.Length)
			// Oniguruma's iterator finds nothing empty where the last match ended.
			if m.Length > 0 || len(out) == 0 || out[len(out)-1].end < found.start {
				out = append(out, found)
			}
		}
		if err != nil {
			// The cause is not passed on: it quotes the whole text.
			return nil, fmt.Errorf("pattern %s ran longer than %v on %d bytes", formats.Quote(source), matchTimeout, len(s))
		}
		return out, nil
	}, nil
}

// translator rewrites a pattern from Oniguruma's syntax to regexp2's, which is
// .NET's. They agree in much but differ in possessive repeats, in what (?i)
// matches, in the characters of classes and elsewhere; so it passes on only what
// it knows to mean the same, and refuses the rest.
type translator struct {
	in  []rune
	pos int
	out []byte
	// lastFolded is the letter before, where that stands under (?i).
	lastFolded rune
}

const maxDepth = 50

func translate(source string) (string, error) {
	t := &translator{in: []rune(source)}
	if source == "" {
		return "", errors.New("an empty pattern is not implemented")
	}
	fold := t.skip("(?i)")
	if err := t.alternatives(0, fold); err != nil {
		return "", err
	}
	if t.pos < len(t.in) {
		return "", t.errorf("unmatched )")
	}
	return string(t.out), nil
}

func (t *translator) errorf(format string, args ...any) error {
	return fmt.Errorf("%s at character %d is not implemented", fmt.Sprintf(format, args...), t.pos)
}

func (t *translator) peek() rune {
	if t.pos < len(t.in) {
		return t.in[t.pos]
	}
	return -1
}

// skip consumes text if it comes next.
func (t *translator) skip(text string) bool {
	r := []rune(text)
	if len(t.in)-t.pos < len(r) || string(t.in[t.pos:t.pos+len(r)]) != text {
		return false
	}
	t.pos += len(r)
	return true
}

func (t *translator) write(s string) { t.out = append(t.out, s...) }

// alternatives translates up to the end or an unmatched ).
func (t *translator) alternatives(depth int, fold bool) error {
	if depth > maxDepth {
		return t.errorf("nesting deeper than %d", maxDepth)
	}
	begins := true // an alternative
	for {
		if begins && depth == 0 && !fold {
			t.guardRun()
		}
		from, repeatable, folded := len(t.out), true, false
		before := t.lastFolded
		begins = false
		switch c := t.peek(); c {
		case -1, ')':
			return nil
		case '|':
			t.pos++
			t.write("|")
			t.lastFolded = 0
			begins = true
			continue
		case '(':
			var err error
			if repeatable, err = t.group(depth, fold); err != nil {
				return err
			}
			// What is before the group and what begins it might fold together: be
			// wary and go by either.
			if err := t.repeat(from, repeatable); err != nil {
				return err
			}
			continue
		case '[':
			t.lastFolded = 0
			t.pos++
			class, err := t.class(1, fold)
			if err != nil {
				return err
			}
			t.write("[" + class + "]")
		case '.':
			t.pos++
			t.write(".")
			t.lastFolded = 0
		case '$':
			t.pos++
			t.write("(?m:$)")
			t.lastFolded = 0
			repeatable = false
		case '^':
			t.pos++
			// The start of any line, but not of an empty one that ends the text.
			t.write(`(?:(?m:^)(?!\z)|\A)`)
			t.lastFolded = 0
			repeatable = false
		case '*', '+', '?', '{':
			return t.errorf("%q", c)
		case '\\':
			t.lastFolded = 0
			if anchor := string(t.in[t.pos:min(t.pos+2, len(t.in))]); anchor == `\A` || anchor == `\z` {
				t.pos += 2
				t.write(anchor)
				repeatable = false
				break
			}
			lit, class, err := t.escape(fold)
			if err != nil {
				return err
			}
			if class != "" {
				t.write(class)
			} else {
				t.write(quoted(lit))
			}
		default:
			t.pos++
			if !fold || !unicode.IsLetter(c) {
				if fold && c >= utf8.RuneSelf {
					return t.errorf("%q under (?i)", c)
				}
				t.write(quoted(c))
				t.lastFolded = 0
				break
			}
			folded = true
			class, err := t.folded(c)
			if err != nil {
				return err
			}
			t.lastFolded = unicode.ToLower(c)
			// Letters that one character can stand for, such as ß.
			switch string([]rune{before, t.lastFolded}) {
			case "ss", "ff", "fi", "fl", "st":
				return t.errorf("%c%c under (?i)", before, c)
			}
			t.write("[" + class + "]")
		}
		if folded && strings.ContainsRune("*+?{", t.peek()) {
			return t.errorf("a repeated letter under (?i)")
		}
		if err := t.repeat(from, repeatable); err != nil {
			return err
		}
	}
}

// guardRun keeps an alternative such as " +x" from being tried at every character
// of a run, which takes time by the square of its length: what matches from inside
// a run also matches from the character before. A search that begins in a run,
// behind the last match, has nothing before.
func (t *translator) guardRun() {
	if t.pos+1 >= len(t.in) || t.in[t.pos+1] != '+' || strings.ContainsRune(`\^$.[|()?*+{`, t.in[t.pos]) {
		return
	}
	if t.pos+2 < len(t.in) && strings.ContainsRune("+?*{", t.in[t.pos+2]) {
		return
	}
	t.write("(?:(?<!" + quoted(t.in[t.pos]) + `)|\G)`)
}

// folded returns the members of a class for an ASCII letter in either case, which
// in Unicode s and k have three of.
func (t *translator) folded(c rune) (string, error) {
	if c >= utf8.RuneSelf {
		return "", t.errorf("%q under (?i)", c)
	}
	all := string(c)
	for r := unicode.SimpleFold(c); r != c; r = unicode.SimpleFold(r) {
		all += string(r)
	}
	return all, nil
}

// group translates a group, and reports whether it may be repeated.
func (t *translator) group(depth int, fold bool) (bool, error) {
	open, repeatable := "(?:", true
	switch {
	case t.skip("(?:"):
	case t.skip("(?i:"):
		fold = true
	case t.skip("(?-i:"):
		fold = false
	case t.skip("(?>"):
		open = "(?>"
	case t.skip("(?="):
		open, repeatable = "(?=", false
	case t.skip("(?!"):
		open, repeatable = "(?!", false
	case t.skip("(?"):
		t.pos -= 2
		return false, t.errorf("group %s", formats.Quote(string(t.in[t.pos:min(t.pos+4, len(t.in))])))
	default:
		t.pos++ // a group that captures: nothing here can refer to it
	}
	t.write(open)
	if err := t.alternatives(depth+1, fold); err != nil {
		return false, err
	}
	if t.peek() != ')' {
		return false, t.errorf("a group without an end")
	}
	t.pos++
	t.write(")")
	return repeatable, nil
}

// repeat translates the repeat, if any, of what has been written from on.
func (t *translator) repeat(from int, repeatable bool) error {
	wrap := func(open, after string) {
		atom := string(t.out[from:])
		t.out = append(t.out[:from], open+atom+after...)
	}
	c := t.peek()
	switch c {
	case '*', '+', '?':
		t.pos++
		switch {
		case t.skip("+"): // possessive
			wrap("(?>", string(c)+")")
		case t.skip("?"):
			t.write(string(c) + "?")
		default:
			t.write(string(c))
		}
	case '{':
		bounds, err := t.bounds()
		if err != nil {
			return err
		}
		t.write(bounds)
		if t.skip("+") { // here it is not possessive
			wrap("(?:", ")+")
		}
	default:
		return nil
	}
	if !repeatable {
		return t.errorf("a repeated assertion")
	}
	if strings.ContainsRune("*+?{", t.peek()) {
		return t.errorf("a repeated repeat")
	}
	return nil
}

const maxRepeat = 1000

// bounds reads {n}, {n,}, {,m} or {n,m}.
func (t *translator) bounds() (string, error) {
	end := t.pos
	for end < len(t.in) && t.in[end] != '}' {
		end++
	}
	if end == len(t.in) {
		return "", t.errorf("'{'")
	}
	low, high, several := strings.Cut(string(t.in[t.pos+1:end]), ",")
	if several && low == "" && high != "" {
		low = "0"
	}
	if !several {
		high = low
	}
	n, err := strconv.ParseUint(low, 10, 16)
	m := uint64(maxRepeat)
	if err == nil && high != "" {
		m, err = strconv.ParseUint(high, 10, 16)
	}
	if err != nil || m < n || m > maxRepeat {
		return "", t.errorf("repeat %s", formats.Quote(string(t.in[t.pos:end+1])))
	}
	t.pos = end + 1
	if several && high == "" {
		return fmt.Sprintf("{%d,}", n), nil
	}
	return fmt.Sprintf("{%d,%d}", n, m), nil
}

// escape reads what follows a backslash: a character, or else a class.
func (t *translator) escape(fold bool) (lit rune, class string, err error) {
	start := t.pos
	t.pos++
	c := t.peek()
	t.pos++
	switch c {
	case 'r':
		return '\r', "", nil
	case 'n':
		return '\n', "", nil
	case 't':
		return '\t', "", nil
	case 'f':
		return '\f', "", nil
	case 'v':
		return '\v', "", nil
	case 's', 'S':
		return 0, `\` + string(c), nil
	case 'd':
		return 0, members("Nd", false), nil
	case 'D':
		return 0, members("Nd", true), nil
	case 'p', 'P':
		name, ok := t.braced()
		_, known := newer[name]
		if !ok || !known || fold {
			break
		}
		return 0, members(name, c == 'P'), nil
	case 'x', 'u':
		digits, ok := "", false
		if n := map[rune]int{'x': 2, 'u': 4}[c]; c == 'x' && t.peek() == '{' {
			digits, ok = t.braced()
		} else if t.pos+n <= len(t.in) {
			digits, ok = string(t.in[t.pos:t.pos+n]), true
			t.pos += n
		}
		n, err := strconv.ParseUint(digits, 16, 32)
		// Bytes above 7F are not characters in Oniguruma.
		if !ok || err != nil || !utf8.ValidRune(rune(n)) || c == 'x' && len(digits) == 2 && n > 0x7F || fold && unicode.IsLetter(rune(n)) {
			break
		}
		return rune(n), "", nil
	default:
		if ' ' < c && c < utf8.RuneSelf && c != '<' && c != '>' && (unicode.IsPunct(c) || unicode.IsSymbol(c)) {
			return c, "", nil
		}
	}
	end := min(t.pos, len(t.in))
	t.pos = start
	return 0, "", t.errorf("escape %s", formats.Quote(string(t.in[start:end])))
}

func (t *translator) braced() (string, bool) {
	if t.peek() != '{' {
		return "", false
	}
	for end := t.pos; end < len(t.in); end++ {
		if t.in[end] == '}' {
			name := string(t.in[t.pos+1 : end])
			t.pos = end + 1
			return name, true
		}
	}
	return "", false
}

// members returns a class for a property, with what Go's tables lack.
func members(property string, negated bool) string {
	not, in := "", `\p{`+property+`}`
	if negated {
		not = "^"
	}
	set := parseRanges(newer[property])
	for i := 0; i < len(set); i += 2 {
		in += string(set[i]) + "-" + string(set[i+1])
	}
	return "[" + not + in + "]"
}

// class translates a character class, whose [ has been read, to the inside of one.
func (t *translator) class(depth int, fold bool) (string, error) {
	if depth > maxDepth {
		return "", t.errorf("nesting deeper than %d", maxDepth)
	}
	var b strings.Builder
	if t.skip("^") {
		b.WriteByte('^')
	}
	if t.peek() == ']' {
		return "", t.errorf("']' first in a class")
	}
	for items := 0; ; items++ {
		lit, err := rune(-1), error(nil) // the character that a range may start at
		switch c := t.peek(); {
		case c == -1:
			return "", t.errorf("a class without an end")
		case c == ']':
			t.pos++
			return b.String(), nil
		case c == '&' && t.pos+1 < len(t.in) && t.in[t.pos+1] == '&':
			return "", t.errorf("&& in a class")
		case c == '[':
			if t.skip("[:") || t.skip("[^") {
				t.pos -= 2
				return "", t.errorf("%s in a class", string(t.in[t.pos:t.pos+2]))
			}
			t.pos++
			inner, err := t.class(depth+1, fold) // adds to this one
			if err != nil {
				return "", err
			}
			b.WriteString(inner)
		case c == '\\':
			var class string
			if lit, class, err = t.escape(fold); err != nil {
				return "", err
			}
			if class != "" {
				inside := strings.TrimSuffix(strings.TrimPrefix(class, "["), "]")
				if strings.HasPrefix(inside, "^") {
					return "", t.errorf("a negated property in a class")
				}
				b.WriteString(inside)
				lit = -1
			}
		case c == '-' && items > 0 && t.pos+1 < len(t.in) && t.in[t.pos+1] != ']':
			return "", t.errorf("'-' inside a class")
		default:
			t.pos++
			lit = c
		}
		isRange := t.peek() == '-' && t.pos+1 < len(t.in) && t.in[t.pos+1] != ']'
		switch {
		case lit < 0 && isRange:
			return "", t.errorf("'-' after a class")
		case lit < 0:
		case isRange:
			t.pos++
			last := t.peek()
			if last == '\\' {
				var class string
				if last, class, err = t.escape(fold); err != nil {
					return "", err
				} else if class != "" {
					return "", t.errorf("a range to a class")
				}
			} else {
				t.pos++
			}
			if last == '[' || last < lit || fold {
				return "", t.errorf("a range to %q", last)
			}
			b.WriteString(quoted(lit) + "-" + quoted(last))
		case fold && (unicode.IsLetter(lit) || lit >= utf8.RuneSelf):
			all, err := t.folded(lit)
			if err != nil {
				return "", err
			}
			if items == 0 && t.peek() == ']' {
				return "", t.errorf("a class of one letter under (?i)")
			}
			b.WriteString(all)
		default:
			b.WriteString(quoted(lit))
		}
	}
}

// quoted returns a pattern for one character, in a class or outside.
func quoted(c rune) string {
	if ' ' <= c && c < utf8.RuneSelf && c != '_' && !unicode.IsLetter(c) && !unicode.IsDigit(c) && c != 0x7F {
		return `\` + string(c)
	}
	return string(c)
}

package jinja

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// percent is Python's printf-like formatting.
func (r *run) percent(format string, v any) any {
	items := []any{v}
	if t, ok := v.(Tuple); ok {
		items = t
	}
	dict, isDict := v.(*Dict)
	used, byName := 0, false
	var b strings.Builder
	take := func() any {
		if used == len(items) {
			fail("not enough arguments for the format")
		}
		used++
		return items[used-1]
	}
	rest := format
	for {
		i := strings.IndexByte(rest, '%')
		if i < 0 {
			break
		}
		b.WriteString(rest[:i])
		rest = rest[i+1:]
		key := ""
		named := strings.HasPrefix(rest, "(")
		if named {
			end := strings.IndexByte(rest, ')')
			if end < 0 || !isDict {
				fail("a format with names takes a dict")
			}
			key, rest, byName = rest[1:end], rest[end+1:], true
		}
		n := strings.IndexFunc(rest, func(c rune) bool { return !strings.ContainsRune("#0- +.123456789", c) })
		if n < 0 {
			fail("incomplete format")
		}
		spec, verb := rest[:n], rest[n]
		rest = rest[n+1:]
		if verb == '%' && spec == "" && !named {
			b.WriteByte('%')
			continue
		}
		if strings.IndexByte("sdirxXofFeEgGc", verb) < 0 || strings.Contains(spec, "#") {
			fail("format %q is not implemented", "%"+spec+string(rune(verb)))
		}
		var x any
		if named {
			var ok bool
			if x, ok = dict.Get(key); !ok {
				fail("the format's key %s is missing", quoteName(key))
			}
		} else {
			x = take()
		}
		s := r.formatOne(spec, verb, x)
		r.charge(len(s))
		b.WriteString(s)
	}
	b.WriteString(rest)
	r.charge(len(format))
	indexed := false // Python does not count what may be looked up by name
	switch v.(type) {
	case *Dict, List, undefined, span, namespace:
		indexed = true
	}
	if !byName && used < len(items) && !indexed {
		fail("not all arguments were used by the format")
	}
	return b.String()
}

// formatOne formats with Go's verb of the same meaning. Widths are bounded, and so is
// what comes out.
func (r *run) formatOne(spec string, verb byte, v any) string {
	width, precision, _ := strings.Cut(strings.TrimLeft(spec, "0- +"), ".")
	for _, part := range []string{width, precision} {
		if n, err := strconv.Atoi(part); part != "" && (err != nil || n > 1000 || n < 0) {
			fail("format with a width of %q is not implemented", part)
		}
	}
	switch verb {
	case 's', 'r':
		s := r.str(v)
		if verb == 'r' {
			var b strings.Builder
			r.repr(&b, v, 0)
			s = b.String()
		}
		return fmt.Sprintf("%"+zeroless(spec)+"s", s)
	case 'c':
		s, ok := v.(string)
		if i, isInt := integer(v); isInt && i >= 0 && i < 0x110000 && (i < 0xd800 || i >= 0xe000) {
			s, ok = string(rune(i)), true
		}
		if !ok || runes(s) != 1 {
			fail("%%c takes a character")
		}
		return fmt.Sprintf("%"+zeroless(spec)+"s", s)
	case 'd', 'i':
		if f, ok := v.(float64); ok {
			v = truncate(f, nil)
		}
		verb = 'd'
		fallthrough
	case 'x', 'X', 'o':
		if strings.Contains(spec, ".") {
			fail("format of an integer with a precision is not implemented")
		}
		if n, ok := v.(*big.Int); ok {
			return fmt.Sprintf("%"+spec+string(verb), n)
		}
		n, ok := integer(v)
		if !ok {
			fail("%%%c takes a number (got a %s)", verb, typeName(v))
		}
		return fmt.Sprintf("%"+spec+string(verb), n)
	}
	f, ok := number(v)
	if !ok {
		fail("%%%c takes a number (got a %s)", verb, typeName(v))
	}
	if (verb == 'g' || verb == 'G') && !strings.Contains(spec, ".") {
		spec += ".6" // Go's default is the shortest form
	}
	if s := formatFloat(f); strings.HasSuffix(s, "inf") || s == "nan" {
		fail("formatting %s is not implemented", s)
	}
	return fmt.Sprintf("%"+spec+string(verb), f)
}

// zeroless takes away flags that mean nothing for a string, where Go would pad with
// zeros.
func zeroless(spec string) string {
	flags := spec[:len(spec)-len(strings.TrimLeft(spec, "0- +"))]
	rest := spec[len(flags):]
	if strings.Contains(flags, "-") {
		return "-" + rest
	}
	return rest
}

// braces is Python's str.format with plain fields: {}, {0} and {name}.
func (r *run) braces(format string, a args) any {
	var b strings.Builder
	next, byPlace := 0, false
	for i := 0; i < len(format); i++ {
		c := format[i]
		if c != '{' && c != '}' {
			b.WriteByte(c)
			continue
		}
		if i+1 < len(format) && format[i+1] == c {
			b.WriteByte(c)
			i++
			continue
		}
		end := strings.IndexByte(format[i:], '}')
		if c == '}' || end < 0 {
			fail("single %q in a format", c)
		}
		field := format[i+1 : i+end]
		i += end
		var v any
		n, err := strconv.Atoi(field)
		switch {
		case field == "" || err == nil:
			if field == "" && byPlace || field != "" && next > 0 {
				fail("a format has {} or {0}, and not both")
			}
			if byPlace = field != ""; !byPlace {
				n = next
				next++
			}
			if n < 0 || n >= len(a.pos) {
				fail("the format's argument %d is missing", n)
			}
			v = a.pos[n]
		case strings.ContainsAny(field, ".[:!{"):
			fail("format field %s is not implemented", quoteName("{"+field+"}"))
		default:
			var ok bool
			if v, ok = a.kw[field]; !ok {
				fail("the format's argument %s is missing", quoteName(field))
			}
		}
		s := r.str(v)
		r.charge(len(s))
		b.WriteString(s)
	}
	r.charge(len(format))
	return b.String()
}

// strftime is Python's in the C locale, for a time without a zone.
func strftime(t time.Time, format string) string {
	layouts := map[byte]string{
		'Y': "2006", 'm': "01", 'd': "02", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'y': "06", 'b': "Jan", 'h': "Jan", 'B': "January",
		'a': "Mon", 'A': "Monday", 'p': "PM", 'j': "002", 'e': "_2", 'F': "2006-01-02", 'T': "15:04:05", 'D': "01/02/06", 'R': "15:04",
		'c': "Mon Jan _2 15:04:05 2006", 'x': "01/02/06", 'X': "15:04:05",
	}
	plain := map[byte]int{
		'd': t.Day(), 'm': int(t.Month()), 'H': t.Hour(), 'I': (t.Hour()+11)%12 + 1, 'M': t.Minute(), 'S': t.Second(), 'j': t.YearDay(), 'y': t.Year() % 100,
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		i++
		if i == len(format) {
			fail("strftime_now: the format ends in %%")
		}
		c := format[i]
		switch layout, ok := layouts[c]; {
		case ok:
			b.WriteString(t.Format(layout))
		case c == '%':
			b.WriteByte('%')
		case c == 'n':
			b.WriteByte('\n')
		case c == 't':
			b.WriteByte('\t')
		case c == 'u':
			b.WriteString(strconv.Itoa((int(t.Weekday())+6)%7 + 1))
		case c == 'w':
			b.WriteString(strconv.Itoa(int(t.Weekday())))
		case c == 'z' || c == 'Z':
		case c == '-' && i+1 < len(format):
			i++
			n, ok := plain[format[i]]
			if !ok {
				fail("strftime_now: %q is not implemented", format[i-2:i+1])
			}
			b.WriteString(strconv.Itoa(n))
		default:
			fail("strftime_now: %q is not implemented", "%"+string(rune(c)))
		}
	}
	return b.String()
}

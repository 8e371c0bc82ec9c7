package jinja

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
)

// str is Python's str of a value, as it is printed.
func (r *run) str(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case undefined:
		return ""
	case markup:
		return string(v)
	}
	var b strings.Builder
	r.repr(&b, v, 0)
	return b.String()
}

// repr writes Python's repr.
func (r *run) repr(b *strings.Builder, v any, depth int) {
	if depth > maxDepth {
		fail("a value is nested deeper than %d", maxDepth)
	}
	r.charge(8)
	sequence := func(open string, items []any, end string) {
		b.WriteString(open)
		for i, x := range items {
			if i > 0 {
				b.WriteString(", ")
			}
			r.repr(b, x, depth+1)
		}
		b.WriteString(end)
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		if v {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case *big.Int:
		b.WriteString(v.String())
	case float64:
		b.WriteString(formatFloat(v))
	case string:
		r.charge(len(v))
		quote(b, v)
	case undefined:
		b.WriteString("Undefined")
	case List:
		sequence("[", v, "]")
	case Tuple:
		end := ")"
		if len(v) == 1 {
			end = ",)"
		}
		sequence("(", v, end)
	case view:
		sequence(v.name+"([", v.items, "])")
	case span:
		b.WriteString("range(" + strconv.FormatInt(v.start, 10) + ", " + strconv.FormatInt(v.stop, 10))
		if v.step != 1 {
			b.WriteString(", " + strconv.FormatInt(v.step, 10))
		}
		b.WriteString(")")
	case *Dict:
		b.WriteString("{")
		for i, k := range v.keys {
			if i > 0 {
				b.WriteString(", ")
			}
			r.repr(b, k, depth+1)
			b.WriteString(": ")
			x, _ := v.Get(k)
			r.repr(b, x, depth+1)
		}
		b.WriteString("}")
	default:
		fail("printing a %s is not implemented", typeName(v))
	}
}

// formatFloat is Python's repr of a float: the shortest digits that give it again, with
// an exponent below 10⁻⁴ and from 10¹⁶ on.
func formatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// quote writes Python's repr of a string.
func quote(b *strings.Builder, s string) {
	mark := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		mark = '"'
	}
	const hex = "0123456789abcdef"
	escaped := func(r rune, letter byte, digits int) {
		b.WriteByte('\\')
		b.WriteByte(letter)
		for d := digits - 1; d >= 0; d-- {
			b.WriteByte(hex[r>>(4*d)&15])
		}
	}
	b.WriteRune(mark)
	for _, r := range s {
		switch {
		case r == mark || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			escaped(r, 'x', 2)
		case r < 0x10000:
			escaped(r, 'u', 4)
		default:
			escaped(r, 'U', 8)
		}
	}
	b.WriteRune(mark)
}

// equal is Python's ==.
func (r *run) equal(a, b any, depth int) bool {
	if depth > maxDepth {
		fail("a value is nested deeper than %d", maxDepth)
	}
	r.charge(1)
	if x, ok := a.(*big.Int); ok {
		y, ok := b.(*big.Int)
		return ok && x.Cmp(y) == 0
	}
	if x, ok := integer(a); ok {
		if y, ok := integer(b); ok {
			return x == y
		}
	}
	if x, ok := number(a); ok {
		y, ok := number(b)
		return ok && x == y
	}
	switch a := a.(type) {
	case nil:
		return b == nil
	case string:
		b, ok := b.(string)
		r.charge(len(a))
		return ok && a == b
	case undefined:
		_, ok := b.(undefined)
		return ok
	case List:
		b, ok := b.(List)
		return ok && r.equalAll(a, b, depth)
	case Tuple:
		b, ok := b.(Tuple)
		return ok && r.equalAll(a, b, depth)
	case span:
		b, ok := b.(span)
		return ok && r.equalAll(r.list(a), r.list(b), depth)
	case *Dict:
		b, ok := b.(*Dict)
		if !ok || len(a.keys) != len(b.keys) {
			return false
		}
		for _, k := range a.keys {
			x, _ := a.Get(k)
			if y, ok := b.Get(k); !ok || !r.equal(x, y, depth+1) {
				return false
			}
		}
		return true
	case *generator:
		return any(a) == b
	case *loop:
		return any(a) == b
	case *callable:
		return any(a) == b
	case namespace:
		b, ok := b.(namespace)
		return ok && a.Dict == b.Dict
	}
	fail("comparing a %s is not implemented", typeName(a))
	return false
}

func (r *run) equalAll(a, b []any, depth int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !r.equal(a[i], b[i], depth+1) {
			return false
		}
	}
	return true
}

// order compares two values as Python orders them; a NaN, which has no order, is refused.
func (r *run) order(a, b any, depth int) int {
	if depth > maxDepth {
		fail("a value is nested deeper than %d", maxDepth)
	}
	r.charge(1)
	if x, ok := integer(a); ok {
		if y, ok := integer(b); ok {
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		}
	}
	if x, ok := number(a); ok {
		if y, ok := number(b); ok {
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			case x == y:
				return 0
			}
			fail("ordering nan is not implemented")
		}
	}
	if x, ok := a.(string); ok {
		if y, ok := b.(string); ok {
			return strings.Compare(x, y) // UTF-8 sorts as its code points do
		}
	}
	x, isX := sequence(a)
	y, isY := sequence(b)
	if !isX || !isY || typeName(a) != typeName(b) {
		fail("'<' not supported between %s and %s", typeName(a), typeName(b))
	}
	for i := range min(len(x), len(y)) {
		if !r.equal(x[i], y[i], depth+1) {
			return r.order(x[i], y[i], depth+1)
		}
	}
	return len(x) - len(y)
}

// sequence returns the elements of a list or tuple.
func sequence(v any) ([]any, bool) {
	switch v := v.(type) {
	case List:
		return v, true
	case Tuple:
		return v, true
	}
	return nil, false
}

// length is Python's len.
func (r *run) length(v any) int {
	switch v := v.(type) {
	case undefined:
		return 0
	case string:
		return runes(v)
	case List:
		return len(v)
	case Tuple:
		return len(v)
	case *Dict:
		return len(v.keys)
	case view:
		return len(v.items)
	case span:
		return int(v.len())
	case *loop:
		return v.total(r)
	}
	fail("object of type %s has no len()", typeName(v))
	return 0
}

// iterate returns a function that gives the elements of a value one by one.
func (r *run) iterate(v any) func() (any, bool) {
	var items []any
	switch v := v.(type) {
	case undefined:
	case List:
		items = v
	case Tuple:
		items = v
	case *Dict:
		items = v.keys
	case view:
		items = v.items
	case string:
		rest := v
		return func() (any, bool) {
			for _, c := range rest {
				r.charge(1)
				s := string(c)
				rest = rest[len(s):]
				return s, true
			}
			return nil, false
		}
	case span:
		at, n := v.start, v.len()
		return func() (any, bool) {
			r.charge(1)
			if n == 0 {
				return nil, false
			}
			n--
			x := at
			at += v.step
			return x, true
		}
	case *generator:
		return v.next
	default:
		fail("%s is not iterable", typeName(v))
	}
	return func() (any, bool) {
		r.charge(1)
		if len(items) == 0 {
			return nil, false
		}
		x := items[0]
		items = items[1:]
		return x, true
	}
}

// list returns the elements of a value.
func (r *run) list(v any) []any {
	switch v := v.(type) {
	case List:
		return v
	case Tuple:
		return v
	}
	next := r.iterate(v)
	out := []any{}
	for x, ok := next(); ok; x, ok = next() {
		r.charge(itemCost)
		out = append(out, x)
	}
	return out
}

// contains is Python's in.
func (r *run) contains(item, in any) bool {
	switch in := in.(type) {
	case string:
		s, ok := item.(string)
		if !ok {
			fail("'in <string>' requires string as left operand, not %s", typeName(item))
		}
		r.charge(len(in))
		return strings.Contains(in, s)
	case *Dict:
		if _, ok := item.(undefined); ok {
			return false
		}
		_, ok := in.Get(item)
		return ok
	case markup:
		fail("searching in safe text is not implemented")
	}
	next := r.iterate(in)
	for x, ok := next(); ok; x, ok = next() {
		if r.equal(x, item, 0) {
			return true
		}
	}
	return false
}

func runes(s string) int { return strings.Count(s, "") - 1 }

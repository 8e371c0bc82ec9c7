package strictjson

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// AppendIndented appends v as Python's json.dumps(v, indent=2) writes it: members in
// their order, non-ASCII characters as \u escapes, empty containers as {} and [].
// v is made of nil, bool, string, [Number], int64, float64, []any, []string and
// *Object; anything else panics.
func AppendIndented(out []byte, v any) []byte { return appendValue(out, v, "\n") }

func appendValue(out []byte, v any, newline string) []byte {
	inner := newline + "  "
	switch v := v.(type) {
	case nil:
		return append(out, "null"...)
	case bool:
		return strconv.AppendBool(out, v)
	case string:
		return appendASCII(out, v)
	case Number:
		return append(out, v...)
	case int64:
		return strconv.AppendInt(out, v, 10)
	case float64:
		return append(out, PythonFloat(v)...)
	case []string:
		list := make([]any, len(v))
		for i, s := range v {
			list[i] = s
		}
		return appendValue(out, list, newline)
	case []any:
		if len(v) == 0 {
			return append(out, "[]"...)
		}
		for i, x := range v {
			out = append(out, "[,"[min(i, 1)])
			out = appendValue(append(out, inner...), x, inner)
		}
		return append(append(out, newline...), ']')
	case *Object:
		if len(v.Keys) == 0 {
			return append(out, "{}"...)
		}
		for i, k := range v.Keys {
			out = append(out, "{,"[min(i, 1)])
			out = append(appendASCII(append(out, inner...), k), ": "...)
			out = appendValue(out, v.Values[k], inner)
		}
		return append(append(out, newline...), '}')
	}
	panic(fmt.Sprintf("strictjson: cannot write a %T", v))
}

func appendASCII(out []byte, s string) []byte {
	out = append(out, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			out = append(out, '\\', byte(r))
		case r == '\n':
			out = append(out, `\n`...)
		case r == '\r':
			out = append(out, `\r`...)
		case r == '\t':
			out = append(out, `\t`...)
		case r == '\b':
			out = append(out, `\b`...)
		case r == '\f':
			out = append(out, `\f`...)
		case r >= 0x10000:
			hi, lo := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		case r < 0x20 || r > 0x7e:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, byte(r))
		}
	}
	return append(out, '"')
}

// PythonFloat returns a finite float64 as Python's repr writes it: the shortest
// digits that read back the same, with ".0" on whole numbers and an exponent from
// 1e16 up and below 1e-4.
func PythonFloat(f float64) string {
	s := strconv.FormatFloat(f, 'e', -1, 64)
	mantissa, exponent, _ := strings.Cut(s, "e")
	e, _ := strconv.Atoi(exponent)
	if f != 0 && (e < -4 || e >= 16) {
		return fmt.Sprintf("%se%+03d", mantissa, e)
	}
	s = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// Set gives a member a value, adding it at the end if it is new.
func (o *Object) Set(name string, v any) {
	if o.Values == nil {
		o.Values = map[string]any{}
	}
	if !slices.Contains(o.Keys, name) {
		o.Keys = append(o.Keys, name)
	}
	o.Values[name] = v
}

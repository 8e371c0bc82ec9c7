package jinja

import (
	"slices"
	"strings"
	"unicode"
)

type method func(r *run, v any, a args) any

// methods are those that are implemented, by type.
var methods map[string]map[string]method

// changing are methods that the immutable sandbox refuses.
var changing = map[string][]string{
	"list": {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"},
	"dict": {"clear", "pop", "popitem", "setdefault", "update"},
}

// unimplemented are methods and attributes that Python has and this package does not: a
// name that is not known at all is undefined.
var unimplemented = map[string][]string{
	"str":       {"casefold", "center", "encode", "expandtabs", "format_map", "isascii", "isidentifier", "isprintable", "istitle", "maketrans", "swapcase", "translate"},
	"dict":      {"fromkeys"},
	"int":       {"as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "from_bytes", "imag", "numerator", "real", "to_bytes"},
	"bool":      {"as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "from_bytes", "imag", "numerator", "real", "to_bytes"},
	"float":     {"as_integer_ratio", "conjugate", "fromhex", "hex", "imag", "is_integer", "real"},
	"range":     {"count", "index", "start", "step", "stop"},
	"generator": {"close", "gi_code", "gi_frame", "gi_running", "gi_yieldfrom", "send", "throw"},
	"function":  {"arguments", "caller", "catch_kwargs", "catch_varargs", "explicit_caller", "name"},
	"dict view": {"isdisjoint", "mapping"},
	"Markup":    {},
}

func init() {
	methods = map[string]map[string]method{
		"str": stringMethods(),
		"dict": {
			"keys":   func(r *run, v any, a args) any { a.bind("keys"); return view{"dict_keys", v.(*Dict).keys} },
			"values": func(r *run, v any, a args) any { a.bind("values"); return view{"dict_values", v.(*Dict).list()} },
			"items": func(r *run, v any, a args) any {
				a.bind("items")
				r.charge(itemCost * len(v.(*Dict).keys))
				return view{"dict_items", v.(*Dict).items()}
			},
			"get": func(r *run, v any, a args) any {
				p := a.bind("get", "key", "default?")
				if x, ok := v.(*Dict).Get(p[0]); ok {
					return x
				}
				return given(p[1], nil)
			},
			"copy": func(r *run, v any, a args) any { a.bind("copy"); return v },
		},
		"list":  {"count": countItem, "index": indexItem, "copy": func(r *run, v any, a args) any { a.bind("copy"); return v }},
		"tuple": {"count": countItem, "index": indexItem},
	}
}

func countItem(r *run, v any, a args) any {
	x, n := a.bind("count", "value")[0], int64(0)
	for _, y := range r.list(v) {
		if r.equal(x, y, 0) {
			n++
		}
	}
	return n
}

func indexItem(r *run, v any, a args) any {
	x := a.bind("index", "value")[0]
	for i, y := range r.list(v) {
		if r.equal(x, y, 0) {
			return int64(i)
		}
	}
	fail("the value is not in the %s", typeName(v))
	return nil
}

func stringMethods() map[string]method {
	m := map[string]method{}
	// simple is a method without arguments, in time proportional to the text.
	simple := func(id string, f func(s string) any) {
		m[id] = func(r *run, v any, a args) any {
			a.bind(id)
			r.charge(4 * len(v.(string)))
			return f(v.(string))
		}
	}
	simple("upper", func(s string) any { return upper(s) })
	simple("lower", func(s string) any { return lower(s) })
	simple("capitalize", func(s string) any { return capitalize(s) })
	simple("title", func(s string) any { return titleLetters(s) })
	simple("isalpha", func(s string) any { return all(s, unicode.IsLetter) })
	simple("isspace", func(s string) any { return all(s, isSpace) })
	simple("islower", func(s string) any { return isLower(s) })
	simple("isupper", func(s string) any { return isUpper(s) })
	simple("isdecimal", func(s string) any { return all(s, unicode.IsDigit) })
	// What counts as a digit or number beyond decimal digits is a table of Unicode that
	// Go does not have.
	numeral := func(id string, more func(rune) bool) {
		simple(id, func(s string) any {
			return all(s, func(r rune) bool {
				if r >= 0x80 && (unicode.In(r, unicode.No, unicode.Nl) || unicode.Is(unicode.Han, r) && id == "isnumeric") {
					fail("method %q of %q is not implemented", id, r)
				}
				return unicode.IsDigit(r) || more(r)
			})
		})
	}
	never := func(rune) bool { return false }
	numeral("isdigit", never)
	numeral("isnumeric", never)
	numeral("isalnum", unicode.IsLetter)
	strip := func(id string, f func(string, func(rune) bool) string) {
		m[id] = func(r *run, v any, a args) any {
			chars := given(a.bind(id, "chars?")[0], nil)
			r.charge(len(v.(string)))
			return f(v.(string), stripSet(id, chars))
		}
	}
	strip("strip", strings.TrimFunc)
	strip("lstrip", strings.TrimLeftFunc)
	strip("rstrip", strings.TrimRightFunc)
	m["split"], m["rsplit"] = splitMethod("split", false), splitMethod("rsplit", true)
	m["startswith"] = affixMethod("startswith", strings.HasPrefix)
	m["endswith"] = affixMethod("endswith", strings.HasSuffix)
	m["replace"] = func(r *run, v any, a args) any {
		p := a.bind("replace", "old", "new", "count?")
		return r.replace(v.(string), needString("replace", p[0]), needString("replace", p[1]), needInt("replace", given(p[2], int64(-1))))
	}
	m["join"] = func(r *run, v any, a args) any {
		var parts []string
		size := 0
		for _, x := range r.list(a.bind("join", "iterable")[0]) {
			s := needString("join", x)
			size += len(s) + len(v.(string))
			r.charge(len(s) + len(v.(string)) + itemCost)
			parts = append(parts, s)
		}
		return strings.Join(parts, v.(string))
	}
	m["find"], m["index"] = findMethod("find", strings.Index), findMethod("index", strings.Index)
	m["rfind"], m["rindex"] = findMethod("rfind", strings.LastIndex), findMethod("rindex", strings.LastIndex)
	m["count"] = func(r *run, v any, a args) any {
		r.charge(len(v.(string)))
		return int64(strings.Count(v.(string), needString("count", r.withoutRange("count", a))))
	}
	part := func(id string, index func(string, string) int, whole int) {
		m[id] = func(r *run, v any, a args) any {
			s, sep := v.(string), needString(id, a.bind(id, "sep")[0])
			if sep == "" {
				fail("method %q: empty separator", id)
			}
			r.charge(len(s))
			if i := index(s, sep); i >= 0 {
				return Tuple{s[:i], sep, s[i+len(sep):]}
			}
			out := Tuple{"", "", ""}
			out[whole] = s
			return out
		}
	}
	part("partition", strings.Index, 0)
	part("rpartition", strings.LastIndex, 2)
	m["splitlines"] = func(r *run, v any, a args) any {
		keep := truth(given(a.bind("splitlines", "keepends?")[0], false))
		return r.strings(splitLines(v.(string), keep))
	}
	cut := func(id string, f func(string, string) string) {
		m[id] = func(r *run, v any, a args) any { return f(v.(string), needString(id, a.bind(id, "affix")[0])) }
	}
	cut("removeprefix", strings.TrimPrefix)
	cut("removesuffix", strings.TrimSuffix)
	pad := func(id string, left func(n int64) int64) {
		m[id] = func(r *run, v any, a args) any {
			p := a.bind(id, "width", "fillchar?")
			fill := needString(id, given(p[1], " "))
			if runes(fill) != 1 {
				fail("method %q fills with one character", id)
			}
			n := max(needInt(id, p[0])-int64(runes(v.(string))), 0)
			before := left(n)
			return r.repeat(fill, before).(string) + v.(string) + r.repeat(fill, n-before).(string)
		}
	}
	pad("ljust", func(int64) int64 { return 0 })
	pad("rjust", func(n int64) int64 { return n })
	m["zfill"] = func(r *run, v any, a args) any {
		s := v.(string)
		n := max(needInt("zfill", a.bind("zfill", "width")[0])-int64(runes(s)), 0)
		sign := ""
		if s != "" && (s[0] == '-' || s[0] == '+') {
			sign, s = s[:1], s[1:]
		}
		return sign + r.repeat("0", n).(string) + s
	}
	m["format"] = func(r *run, v any, a args) any { return r.braces(v.(string), a) }
	return m
}

func (r *run) strings(parts []string) List {
	r.charge(itemCost * len(parts))
	out := make(List, len(parts))
	for i, p := range parts {
		out[i] = p
	}
	return out
}

func splitMethod(id string, right bool) method {
	return func(r *run, v any, a args) any {
		p := a.bind(id, "sep?", "maxsplit?")
		s, n := v.(string), needInt(id, given(p[1], int64(-1)))
		r.charge(len(s))
		sep := given(p[0], nil)
		if sep == nil {
			if right {
				return r.strings(splitSpaceRight(s, n))
			}
			return r.strings(splitSpace(s, n))
		}
		by := needString(id, sep)
		if by == "" {
			fail("method %q: empty separator", id)
		}
		parts := strings.Split(s, by)
		if n >= 0 && int64(len(parts)) > n+1 {
			keep := len(parts) - int(n) // that stay one
			if right {
				parts = append([]string{strings.Join(parts[:keep], by)}, parts[keep:]...)
			} else {
				parts = append(parts[:n:n], strings.Join(parts[n:], by))
			}
		}
		return r.strings(parts)
	}
}

func affixMethod(id string, has func(string, string) bool) method {
	return func(r *run, v any, a args) any {
		affixes := []any{r.withoutRange(id, a)}
		if t, ok := affixes[0].(Tuple); ok {
			affixes = t
		}
		return slices.ContainsFunc(affixes, func(x any) bool { return has(v.(string), needString(id, x)) })
	}
}

func findMethod(id string, index func(string, string) int) method {
	return func(r *run, v any, a args) any {
		s, sub := v.(string), needString(id, r.withoutRange(id, a))
		r.charge(len(s))
		i := index(s, sub)
		if i < 0 {
			if strings.HasSuffix(id, "index") {
				fail("substring not found")
			}
			return int64(-1)
		}
		return int64(runes(s[:i]))
	}
}

// withoutRange returns the only argument of a method that takes a start and an end too.
func (r *run) withoutRange(id string, a args) any {
	if len(a.pos) > 1 || len(a.kw) > 0 {
		fail("method %q with a range is not implemented", id)
	}
	return a.bind(id, "sub")[0]
}

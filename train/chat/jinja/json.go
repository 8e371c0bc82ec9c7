package jinja

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/seed-b982eded/graft/internal/strictjson"
)

// FromJSON makes values of what [strictjson.Parse] gives, and of the maps and slices of
// encoding/json, whose members are taken in order of name.
func FromJSON(v any) (any, error) {
	switch v := v.(type) {
	case nil, bool, string, int64, float64:
		return v, nil
	case strictjson.Number:
		return parseNumber(string(v))
	case []any:
		out := make(List, len(v))
		for i, x := range v {
			var err error
			if out[i], err = FromJSON(x); err != nil {
				return nil, err
			}
		}
		return out, nil
	case *strictjson.Object:
		d := NewDict()
		for _, k := range v.Keys {
			x, err := FromJSON(v.Values[k])
			if err != nil {
				return nil, err
			}
			d.Set(k, x)
		}
		return d, nil
	}
	return nil, fmt.Errorf("a %T is no JSON value", v)
}

// parseNumber reads a number as Python's json does: without a fraction and an exponent
// it is an integer of any size.
func parseNumber(text string) (any, error) {
	if !strings.ContainsAny(text, ".eE") {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, nil
		}
		n, ok := new(big.Int).SetString(text, 10)
		if !ok || len(text) > 4000 {
			return nil, fmt.Errorf("bad number %.40q", text)
		}
		return n, nil
	}
	f, ok := parseFloat(text)
	if !ok {
		return nil, fmt.Errorf("bad number %.40q", text)
	}
	return f, nil
}

// tojsonFilter is transformers' filter, which is Python's json.dumps and not Jinja's:
// nothing is escaped for HTML, and characters stay what they are.
func tojsonFilter(r *run, v any, a args) any {
	p := a.bind("tojson", "ensure_ascii?", "indent?", "separators?", "sort_keys?")
	w := jsonWriter{r: r, ascii: truth(given(p[0], false)), sort: truth(given(p[3], false)), comma: ", ", colon: ": "}
	if indent := given(p[1], nil); indent != nil {
		w.spread, w.comma = true, ","
		var ok bool
		if w.indent, ok = indent.(string); !ok {
			w.indent = r.repeat(" ", needInt("tojson", indent)).(string)
		}
	}
	if seps := given(p[2], nil); seps != nil {
		pair := r.list(seps)
		if len(pair) != 2 {
			fail("filter \"tojson\" takes two separators (got %d)", len(pair))
		}
		w.comma, w.colon = needString("tojson", pair[0]), needString("tojson", pair[1])
	}
	w.value(v, 0)
	return w.b.String()
}

type jsonWriter struct {
	r                    *run
	b                    strings.Builder
	ascii, sort, spread  bool
	indent, comma, colon string
}

func (w *jsonWriter) write(s string) {
	w.r.charge(len(s) + 1)
	w.b.WriteString(s)
}

func (w *jsonWriter) newline(depth int) {
	if w.spread {
		w.write("\n")
		for range depth {
			w.write(w.indent)
		}
	}
}

func (w *jsonWriter) value(v any, depth int) {
	if depth > maxDepth {
		fail("a value is nested deeper than %d", maxDepth)
	}
	if items, ok := sequence(v); ok {
		w.write("[")
		for i, x := range items {
			if i > 0 {
				w.write(w.comma)
			}
			w.newline(depth + 1)
			w.value(x, depth+1)
		}
		if len(items) > 0 {
			w.newline(depth)
		}
		w.write("]")
		return
	}
	switch v := v.(type) {
	case *Dict:
		items := v.items()
		if w.sort {
			items = w.r.sorted(items, func(x any) any { return x.(Tuple)[0] }, false)
		}
		w.write("{")
		for i, x := range items {
			if i > 0 {
				w.write(w.comma)
			}
			w.newline(depth + 1)
			w.str(jsonKey(x.(Tuple)[0]))
			w.write(w.colon)
			w.value(x.(Tuple)[1], depth+1)
		}
		if len(items) > 0 {
			w.newline(depth)
		}
		w.write("}")
	case string:
		w.str(v)
	case nil, bool, int64, *big.Int, float64:
		w.write(jsonScalar(v))
	default:
		fail("a %s cannot be written as JSON", typeName(v))
	}
}

func jsonScalar(v any) string {
	switch v := v.(type) {
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case *big.Int:
		return v.String()
	case float64:
		switch s := formatFloat(v); s {
		case "nan":
			return "NaN"
		case "inf":
			return "Infinity"
		case "-inf":
			return "-Infinity"
		default:
			return s
		}
	}
	return "null"
}

func jsonKey(k any) string {
	switch k := k.(type) {
	case string:
		return k
	case Tuple:
		fail("a key of JSON is no tuple")
	}
	return jsonScalar(k)
}

func (w *jsonWriter) str(s string) {
	w.write(`"`)
	from := 0
	put := func(i, size int, escape string) {
		w.write(s[from:i] + escape)
		from = i + size
	}
	for i, r := range s {
		switch {
		case r == '"' || r == '\\':
			put(i, 1, `\`+string(r))
		case r == '\n':
			put(i, 1, `\n`)
		case r == '\r':
			put(i, 1, `\r`)
		case r == '\t':
			put(i, 1, `\t`)
		case r == '\f':
			put(i, 1, `\f`)
		case r == '\b':
			put(i, 1, `\b`)
		case r >= 0x10000 && w.ascii:
			r -= 0x10000
			put(i, 4, fmt.Sprintf(`\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff))
		case r < 0x20 || r >= 0x7f && w.ascii && r != 0x7f:
			put(i, len(string(r)), fmt.Sprintf(`\u%04x`, r))
		}
	}
	w.write(s[from:] + `"`)
}

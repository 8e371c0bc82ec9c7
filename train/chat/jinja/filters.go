package jinja

import (
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// filters are those that are implemented. A parameter list is as in bind.
var filters map[string]func(r *run, v any, a args) any

// Init breaks the circle of filters that apply filters.
func init() {
	filters = map[string]func(r *run, v any, a args) any{
		"abs": absFilter, "batch": batchFilter, "capitalize": onText("capitalize", capitalize), "count": lengthFilter, "d": defaultFilter,
		"default": defaultFilter, "dictsort": dictsortFilter, "first": firstFilter, "float": floatFilter, "format": formatFilter,
		"indent": indentFilter, "int": intFilter, "items": itemsFilter, "join": joinFilter, "last": lastFilter, "length": lengthFilter,
		"list": listFilter, "lower": onText("lower", lower), "map": mapFilter, "max": extremeFilter("max", 1), "min": extremeFilter("min", -1),
		"reject": selectFilter("reject", false, false), "rejectattr": selectFilter("rejectattr", true, false), "replace": replaceFilter,
		"reverse": reverseFilter, "round": roundFilter, "safe": safeFilter, "select": selectFilter("select", false, true),
		"selectattr": selectFilter("selectattr", true, true), "sort": sortFilter, "string": stringFilter, "sum": sumFilter,
		"title": onText("title", titleWords), "tojson": tojsonFilter, "trim": trimFilter, "unique": uniqueFilter, "upper": onText("upper", upper),
	}
}

// refusedFilters are those of Jinja that are not implemented.
var refusedFilters = []string{
	"attr", "center", "e", "escape", "filesizeformat", "forceescape", "groupby", "pprint", "random", "slice", "striptags", "truncate",
	"urlencode", "urlize", "wordcount", "wordwrap", "xmlattr",
}

func checkFilter(line int, id string) {
	switch {
	case filters[id] != nil:
	case slices.Contains(refusedFilters, id):
		syntax(line, "filter %q is not implemented", id)
	default:
		syntax(line, "there is no filter %s", quoteName(id))
	}
}

func (r *run) filter(id string, v any, a args) any {
	f := filters[id]
	if f == nil {
		if slices.Contains(refusedFilters, id) {
			fail("filter %q is not implemented", id)
		}
		fail("there is no filter %s", quoteName(id))
	}
	if _, ok := v.(markup); ok {
		fail("filter %q after safe is not implemented", id)
	}
	r.charge(1)
	return f(r, v, a)
}

// onText makes a filter of a function on what is printed of a value.
func onText(id string, f func(string) string) func(*run, any, args) any {
	return func(r *run, v any, a args) any {
		a.bind(id)
		s := r.str(v)
		r.charge(4 * len(s))
		return f(s)
	}
}

func stringFilter(r *run, v any, a args) any {
	a.bind("string")
	return r.str(v)
}

func safeFilter(r *run, v any, a args) any {
	a.bind("safe")
	return markup(r.str(v))
}

func lengthFilter(r *run, v any, a args) any {
	a.bind("length")
	return int64(r.length(v))
}

func listFilter(r *run, v any, a args) any {
	a.bind("list")
	return List(r.list(v))
}

func defaultFilter(r *run, v any, a args) any {
	p := a.bind("default", "default_value?", "boolean?")
	_, missing := v.(undefined)
	if missing || truth(given(p[1], false)) && !truth(v) {
		return given(p[0], "")
	}
	return v
}

func trimFilter(r *run, v any, a args) any {
	chars := given(a.bind("trim", "chars?")[0], nil)
	s := r.str(v)
	r.charge(len(s))
	return strings.TrimFunc(s, stripSet("trim", chars))
}

func replaceFilter(r *run, v any, a args) any {
	p := a.bind("replace", "old", "new", "count?")
	n := int64(-1)
	if c := given(p[2], nil); c != nil {
		n = needInt("replace", c)
	}
	return r.replace(r.str(v), r.str(p[0]), r.str(p[1]), n)
}

// replace is Python's str.replace.
func (r *run) replace(s, old, new string, n int64) string {
	count := strings.Count(s, old)
	if n >= 0 && n < int64(count) {
		count = int(n)
	}
	r.charge(len(s) + count)
	if len(new) > 0 && count > maxWork/len(new) {
		r.charge(maxWork + 1)
	}
	r.charge(count * len(new))
	return strings.Replace(s, old, new, count)
}

func joinFilter(r *run, v any, a args) any {
	p := a.bind("join", "d?", "attribute?")
	sep := r.str(given(p[0], ""))
	attr := r.getter(given(p[1], nil), nil)
	var b strings.Builder
	next := r.iterate(v)
	first := true
	for x, ok := next(); ok; x, ok = next() {
		if !first {
			b.WriteString(sep)
		}
		first = false
		s := r.str(attr(x))
		r.charge(len(s) + len(sep) + 1)
		b.WriteString(s)
	}
	return b.String()
}

func firstFilter(r *run, v any, a args) any {
	a.bind("first")
	if x, ok := r.iterate(v)(); ok {
		return x
	}
	return undefined{why: "there is no first element"}
}

func lastFilter(r *run, v any, a args) any {
	a.bind("last")
	if _, ok := v.(*generator); ok {
		fail("a generator has no last element: make a list of it first")
	}
	items := r.list(v)
	if len(items) == 0 {
		return undefined{why: "there is no last element"}
	}
	return items[len(items)-1]
}

func reverseFilter(r *run, v any, a args) any {
	a.bind("reverse")
	items := slices.Clone(r.list(v))
	slices.Reverse(items)
	if isString(v) {
		var b strings.Builder
		for _, c := range items {
			b.WriteString(c.(string))
		}
		return b.String()
	}
	if _, ok := v.(*generator); ok {
		return List(items)
	}
	return r.generate(List(items))
}

// generate gives the elements of a value once.
func (r *run) generate(v any) *generator { return &generator{r.iterate(v)} }

// lazily is iterate that looks at the value when the first element is asked for, as a
// Python generator does. With orEmpty a value that is false has no elements.
func (r *run) lazily(v any, orEmpty bool) func() (any, bool) {
	var next func() (any, bool)
	return func() (any, bool) {
		if next == nil {
			if orEmpty && !truth(v) {
				return nil, false
			}
			next = r.iterate(v)
		}
		return next()
	}
}

func itemsFilter(r *run, v any, a args) any {
	a.bind("items")
	switch v := v.(type) {
	case undefined:
		return r.generate(List{})
	case *Dict:
		return r.generate(List(v.items()))
	}
	fail("filter \"items\" takes a dict (got a %s)", typeName(v))
	return nil
}

func absFilter(r *run, v any, a args) any {
	a.bind("abs")
	if f, ok := v.(float64); ok {
		return math.Abs(f)
	}
	if i, ok := integer(v); ok && i >= 0 {
		return i
	}
	return r.unary("-", v)
}

func intFilter(r *run, v any, a args) any {
	p := a.bind("int", "default?", "base?")
	base := needInt("int", given(p[1], int64(10)))
	switch x := v.(type) {
	case bool:
		return toInt(x)
	case int64, *big.Int:
		return x
	case undefined:
		fail("%s", x.why)
	case float64:
		return truncate(x, given(p[0], int64(0)))
	case string:
		text := strings.TrimFunc(x, isSpace)
		if n, ok := parseInt(text, int(base)); ok {
			return n
		}
		if f, ok := parseFloat(text); ok {
			return truncate(f, given(p[0], int64(0)))
		}
	}
	return given(p[0], int64(0))
}

func truncate(f float64, missing any) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return missing
	}
	n, _ := big.NewFloat(f).Int(nil)
	return shrink(n)
}

// parseInt is Python's int of a string; underscores may stand between digits.
func parseInt(text string, base int) (any, bool) {
	sign := ""
	if text != "" && (text[0] == '-' || text[0] == '+') {
		sign, text = text[:1], text[1:]
	}
	if base == 0 || base < 2 || base > 36 {
		fail("numbers of base %d are not implemented", base)
	}
	if prefix := map[int]string{2: "0b", 8: "0o", 16: "0x"}[base]; prefix != "" && len(text) > 2 && strings.EqualFold(text[:2], prefix) {
		text = strings.TrimPrefix(text[2:], "_")
	}
	if text == "" || len(text) > 4000 || !isASCII(text) || badUnderscores(text) || strings.ContainsAny(text, "+-") {
		return nil, false
	}
	n, ok := new(big.Int).SetString(sign+strings.ReplaceAll(text, "_", ""), base)
	if !ok {
		return nil, false
	}
	return shrink(n), true
}

func badUnderscores(s string) bool {
	return strings.HasPrefix(s, "_") || strings.HasSuffix(s, "_") || strings.Contains(s, "__")
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// parseFloat is Python's float of a string.
func parseFloat(text string) (float64, bool) {
	if badUnderscores(text) || strings.ContainsAny(text, "xXpP") {
		return 0, false
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
	if e, ok := err.(*strconv.NumError); ok && e.Err == strconv.ErrRange {
		err = nil // Python has infinity too
	}
	return f, err == nil
}

func floatFilter(r *run, v any, a args) any {
	p := a.bind("float", "default?")
	if s, ok := v.(string); ok {
		if f, ok := parseFloat(strings.TrimFunc(s, isSpace)); ok {
			return f
		}
	} else if f, ok := number(v); ok {
		return f
	} else if u, ok := v.(undefined); ok {
		fail("%s", u.why)
	}
	return given(p[0], 0.0)
}

func roundFilter(r *run, v any, a args) any {
	p := a.bind("round", "precision?", "method?")
	digits := needInt("round", given(p[0], int64(0)))
	if digits < 0 || digits > 300 {
		fail("rounding to %d digits is not implemented", digits)
	}
	method := given(p[1], "common")
	if i, ok := integer(v); ok && method == "common" {
		return i
	}
	f, ok := number(v)
	if !ok {
		fail("filter \"round\" takes a number (got a %s)", typeName(v))
	}
	scale := math.Pow(10, float64(digits))
	switch method {
	case "common":
		f, _ = strconv.ParseFloat(strconv.FormatFloat(f, 'f', int(digits), 64), 64)
		return f
	case "ceil":
		return math.Ceil(f*scale) / scale
	case "floor":
		return math.Floor(f*scale) / scale
	}
	fail("filter \"round\" has no such method")
	return nil
}

func sumFilter(r *run, v any, a args) any {
	p := a.bind("sum", "attribute?", "start?")
	attr := r.getter(given(p[0], nil), nil)
	sum := given(p[1], int64(0))
	next := r.iterate(v)
	for x, ok := next(); ok; x, ok = next() {
		sum = r.binary("+", sum, attr(x))
	}
	return sum
}

func batchFilter(r *run, v any, a args) any {
	p := a.bind("batch", "linecount", "fill_with?")
	n := needInt("batch", p[0])
	if n < 1 {
		fail("filter \"batch\" takes a size of 1 or more (got %d)", n)
	}
	fill := given(p[1], nil)
	var out List
	items := r.list(v)
	for len(items) > 0 {
		row := slices.Clone(items[:min(n, int64(len(items)))])
		items = items[len(row):]
		for fill != nil && int64(len(row)) < n {
			r.charge(itemCost)
			row = append(row, fill)
		}
		r.charge(itemCost * len(row))
		out = append(out, List(row))
	}
	return r.generate(out)
}

func indentFilter(r *run, v any, a args) any {
	p := a.bind("indent", "width?", "first?", "blank?")
	indent, ok := given(p[0], int64(4)).(string)
	if !ok {
		indent = r.repeat(" ", needInt("indent", given(p[0], int64(4)))).(string)
	}
	blank := truth(given(p[2], false))
	lines := splitLines(needString("indent", v)+"\n", false)
	var b strings.Builder
	for i, line := range lines {
		r.charge(len(line) + len(indent) + 1)
		if i > 0 {
			b.WriteByte('\n')
		}
		if i > 0 && (line != "" || blank) || i == 0 && truth(given(p[1], false)) {
			b.WriteString(indent)
		}
		b.WriteString(line)
	}
	return b.String()
}

func formatFilter(r *run, v any, a args) any {
	if len(a.kw) > 0 {
		if len(a.pos) > 0 {
			fail("filter \"format\" takes arguments by place or by name")
		}
		d := NewDict()
		for _, n := range a.names {
			d.Set(n, a.kw[n])
		}
		return r.percent(r.str(v), d)
	}
	return r.percent(r.str(v), Tuple(a.pos))
}

// getter returns what makes of an element its attribute, as filters name it: parts
// with dots between, of which numbers are indices; nil gives the element.
func (r *run) getter(attribute, missing any) func(any) any {
	var parts []any
	switch id := attribute.(type) {
	case nil:
		return func(x any) any { return x }
	case string:
		if strings.Contains(id, ",") {
			fail("several attributes in one are not implemented")
		}
		for part := range strings.SplitSeq(id, ".") {
			if n, err := strconv.ParseInt(part, 10, 32); err == nil && n >= 0 && part[0] != '+' {
				parts = append(parts, n)
			} else {
				parts = append(parts, part)
			}
		}
	case int64:
		parts = []any{id}
	default:
		fail("an attribute is named by a string or number (got a %s)", typeName(id))
	}
	return func(x any) any {
		for _, p := range parts {
			r.charge(1)
			x = r.item(x, p)
			if _, ok := x.(undefined); ok && missing != nil {
				x = missing
			}
		}
		return x
	}
}

func mapFilter(r *run, v any, a args) any {
	var f func(any) any
	switch {
	case len(a.pos) > 0:
		id := needString("map", a.pos[0])
		rest := args{pos: a.pos[1:], names: a.names, kw: a.kw}
		if filters[id] == nil {
			r.filter(id, v, rest) // fails
		}
		f = func(x any) any { return r.filter(id, x, rest) }
	default:
		attribute, ok := a.kw["attribute"]
		if !ok {
			fail("filter \"map\" needs the name of a filter, or an attribute")
		}
		missing := given(a.bind("map", "attribute", "default?")[1], nil)
		f = r.getter(attribute, missing)
	}
	next := r.lazily(v, true)
	return &generator{func() (any, bool) {
		x, ok := next()
		if !ok {
			return nil, false
		}
		return f(x), true
	}}
}

// selectFilter makes the four filters that keep elements by a test.
func selectFilter(id string, byAttr, keep bool) func(*run, any, args) any {
	return func(r *run, v any, a args) any {
		attr := func(x any) any { return x }
		pos := a.pos
		if byAttr {
			if len(pos) == 0 {
				fail("filter %q needs an attribute", id)
			}
			attr, pos = r.getter(pos[0], nil), pos[1:]
		}
		f := truth
		if len(pos) > 0 {
			test := needString(id, pos[0])
			rest := args{pos: pos[1:], names: a.names, kw: a.kw}
			if tests[test] == nil {
				fail("there is no test %s", quoteName(test))
			}
			f = func(x any) bool { return r.test(test, x, rest) }
		}
		next := r.lazily(v, true)
		return &generator{func() (any, bool) {
			for {
				x, ok := next()
				if !ok || f(attr(x)) == keep {
					return x, ok
				}
			}
		}}
	}
}

// foldCase is what sorting and comparing without case look at.
func (r *run) foldCase(sensitive any) func(any) any {
	if truth(sensitive) {
		return func(x any) any { return x }
	}
	return func(x any) any {
		if s, ok := x.(string); ok {
			r.charge(len(s))
			return lower(s)
		}
		return x
	}
}

func sortFilter(r *run, v any, a args) any {
	p := a.bind("sort", "reverse?", "case_sensitive?", "attribute?")
	attr, fold := r.getter(given(p[2], nil), nil), r.foldCase(given(p[1], false))
	return List(r.sorted(r.list(v), func(x any) any { return fold(attr(x)) }, truth(given(p[0], false))))
}

// sorted sorts by a key and keeps the order of equal ones, also backwards.
func (r *run) sorted(items []any, key func(any) any, reverse bool) []any {
	type keyed struct{ key, x any }
	list := make([]keyed, len(items))
	r.charge(2 * itemCost * len(items))
	for i, x := range items {
		list[i] = keyed{key(x), x}
	}
	if len(list) == 1 {
		return slices.Clone(items)
	}
	slices.SortStableFunc(list, func(a, b keyed) int {
		for _, v := range []any{a.key, b.key} {
			if u, ok := v.(undefined); ok {
				fail("%s", u.why)
			}
		}
		c := r.order(a.key, b.key, 0)
		if reverse {
			return -c
		}
		return c
	})
	out := make([]any, len(list))
	for i, k := range list {
		out[i] = k.x
	}
	return out
}

func dictsortFilter(r *run, v any, a args) any {
	p := a.bind("dictsort", "case_sensitive?", "by?", "reverse?")
	d, ok := v.(*Dict)
	if !ok {
		fail("filter \"dictsort\" takes a dict (got a %s)", typeName(v))
	}
	at := 0
	switch given(p[1], "key") {
	case "key":
	case "value":
		at = 1
	default:
		fail("filter \"dictsort\" sorts by key or value")
	}
	fold := r.foldCase(given(p[0], false))
	return List(r.sorted(d.items(), func(x any) any { return fold(x.(Tuple)[at]) }, truth(given(p[2], false))))
}

func uniqueFilter(r *run, v any, a args) any {
	p := a.bind("unique", "case_sensitive?", "attribute?")
	attr, fold := r.getter(given(p[1], nil), nil), r.foldCase(given(p[0], false))
	seen := map[any]bool{}
	next := r.lazily(v, false)
	return &generator{func() (any, bool) {
		for {
			x, ok := next()
			if !ok {
				return nil, false
			}
			key := hashKey(fold(attr(x)), 0)
			if !seen[key] {
				r.charge(4 * itemCost)
				seen[key] = true
				return x, true
			}
		}
	}}
}

// extremeFilter makes min and max.
func extremeFilter(id string, sign int) func(*run, any, args) any {
	return func(r *run, v any, a args) any {
		p := a.bind(id, "case_sensitive?", "attribute?")
		attr, fold := r.getter(given(p[1], nil), nil), r.foldCase(given(p[0], false))
		var best any = undefined{why: "there is no element"}
		var bestKey any
		next := r.iterate(v)
		first := true
		for x, ok := next(); ok; x, ok = next() {
			key := fold(attr(x))
			if first || sign*r.order(key, bestKey, 0) > 0 {
				best, bestKey, first = x, key, false
			}
		}
		return best
	}
}

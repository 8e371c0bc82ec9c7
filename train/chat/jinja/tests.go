package jinja

import (
	"math/big"
	"slices"
)

// tests are those that are implemented, by their names and signs.
var tests map[string]func(r *run, v any, a args) bool

func init() {
	kind := func(f func(v any) bool) func(*run, any, args) bool {
		return func(_ *run, v any, a args) bool {
			a.bind("a test")
			return f(v)
		}
	}
	comparison := func(op string) func(*run, any, args) bool {
		return func(r *run, v any, a args) bool { return r.compare(op, v, a.bind("a test", "other")[0]) }
	}
	remainder := func(r *run, v any, by any) bool { return !truth(r.binary("%", v, by)) }
	tests = map[string]func(r *run, v any, a args) bool{
		"boolean": kind(func(v any) bool { _, ok := v.(bool); return ok }),
		"callable": kind(func(v any) bool {
			switch v.(type) {
			case *callable, undefined:
				return true
			}
			return false
		}),
		"defined":   kind(func(v any) bool { _, ok := v.(undefined); return !ok }),
		"undefined": kind(func(v any) bool { _, ok := v.(undefined); return ok }),
		"escaped":   kind(func(v any) bool { _, ok := v.(markup); return ok }),
		"false":     kind(func(v any) bool { return v == any(false) }),
		"true":      kind(func(v any) bool { return v == any(true) }),
		"float":     kind(func(v any) bool { _, ok := v.(float64); return ok }),
		"integer":   kind(isInteger),
		"number":    kind(func(v any) bool { _, ok := number(v); return ok }),
		"mapping":   kind(func(v any) bool { _, ok := v.(*Dict); return ok }),
		"none":      kind(func(v any) bool { return v == nil }),
		"string": kind(func(v any) bool {
			switch v.(type) {
			case string, markup:
				return true
			}
			return false
		}),
		"iterable": kind(func(v any) bool {
			switch v.(type) {
			case string, markup, List, Tuple, *Dict, view, span, *generator, *loop, undefined:
				return true
			}
			return false
		}),
		"sequence": kind(func(v any) bool {
			switch v.(type) {
			case string, markup, List, Tuple, *Dict, span, undefined:
				return true
			}
			return false
		}),
		"lower": func(r *run, v any, a args) bool { a.bind("lower"); return isLower(r.str(v)) },
		"upper": func(r *run, v any, a args) bool { a.bind("upper"); return isUpper(r.str(v)) },
		"even":  func(r *run, v any, a args) bool { a.bind("even"); return remainder(r, v, int64(2)) },
		"odd": func(r *run, v any, a args) bool {
			a.bind("odd")
			return r.equal(r.binary("%", v, int64(2)), int64(1), 0)
		},
		"divisibleby": func(r *run, v any, a args) bool { return remainder(r, v, a.bind("divisibleby", "num")[0]) },
		"sameas":      func(r *run, v any, a args) bool { return same(r, v, a.bind("sameas", "other")[0]) },
		"in":          func(r *run, v any, a args) bool { return r.contains(v, a.bind("in", "seq")[0]) },
		"filter":      known(func(id string) bool { return filters[id] != nil || slices.Contains(refusedFilters, id) }),
		"test":        known(func(id string) bool { return tests[id] != nil }),
	}
	for op, names := range map[string][]string{
		"==": {"eq", "equalto"}, "!=": {"ne"}, "<": {"lt", "lessthan"}, "<=": {"le"}, ">": {"gt", "greaterthan"}, ">=": {"ge"},
	} {
		for _, id := range append(names, op) {
			tests[id] = comparison(op)
		}
	}
}

func checkTest(line int, id string) {
	if tests[id] == nil {
		syntax(line, "there is no test %s", quoteName(id))
	}
}

func (r *run) test(id string, v any, a args) bool {
	r.charge(1)
	return tests[id](r, v, a)
}

func isInteger(v any) bool {
	switch v.(type) {
	case int64, *big.Int:
		return true
	}
	return false
}

func known(f func(string) bool) func(*run, any, args) bool {
	return func(_ *run, v any, a args) bool {
		a.bind("a test")
		s, ok := v.(string)
		return ok && f(s)
	}
}

// same is Python's is, for values of which it is certain.
func same(r *run, a, b any) bool {
	for _, v := range []any{a, b} {
		switch v.(type) {
		case nil, bool, undefined:
			return typeName(a) == typeName(b) && r.equal(a, b, 0)
		}
	}
	x, xOK := a.(int64)
	y, yOK := b.(int64)
	if xOK && yOK && (x != y || x >= -5 && x <= 256) {
		return x == y
	}
	if typeName(a) != typeName(b) {
		return false
	}
	fail("test \"sameas\" of two values of type %s is not implemented", typeName(a))
	return false
}

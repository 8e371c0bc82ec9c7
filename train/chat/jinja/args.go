package jinja

import (
	"slices"
	"strings"
)

// absent stands for an optional argument that was not given.
type absent struct{}

// bind gives the arguments of a call of fn by the order of its parameters; a question
// mark ends those that may be left out. More arguments, or unknown ones, fail.
func (a *args) bind(fn string, params ...string) []any {
	if len(a.pos) > len(params) {
		fail("%s takes no more than %d arguments (got %d)", fn, len(params), len(a.pos))
	}
	out := make([]any, len(params))
	used := 0
	for i, p := range params {
		id := strings.TrimSuffix(p, "?")
		v, named := a.kw[id]
		if named {
			used++
		}
		switch {
		case i < len(a.pos):
			if named {
				fail("%s: argument %s is given twice", fn, id)
			}
			out[i] = a.pos[i]
		case named:
			out[i] = v
		case id == p:
			fail("%s: argument %s is missing", fn, id)
		default:
			out[i] = absent{}
		}
	}
	if used < len(a.kw) {
		for id := range a.kw {
			if !slices.Contains(params, id) && !slices.Contains(params, id+"?") {
				fail("%s has no argument %s", fn, quoteName(id))
			}
		}
	}
	return out
}

// given returns an optional argument's value, or another if it was left out.
func given(v, missing any) any {
	if _, ok := v.(absent); ok {
		return missing
	}
	return v
}

func needString(fn string, v any) string {
	s, ok := v.(string)
	if !ok {
		fail("%s takes a string (got a %s)", fn, typeName(v))
	}
	return s
}

func needInt(fn string, v any) int64 {
	i, ok := integer(v)
	if !ok {
		fail("%s takes an integer (got a %s)", fn, typeName(v))
	}
	return i
}

package jinja

import (
	"fmt"
	"math"
	"math/big"
	"strings"
)

// List is a Python list, and Tuple a tuple. Neither is changed once made.
type (
	List  []any
	Tuple []any
)

// Dict is a Python dict: it keeps the order in which its keys came.
type Dict struct {
	keys   []any
	values map[any]any // by what hashKey makes of a key
}

// NewDict returns an empty dict.
func NewDict() *Dict { return &Dict{values: map[any]any{}} }

// Set gives a key a value; the key must be nil, a bool, a number, a string or a tuple
// of those.
func (d *Dict) Set(key, value any) { d.put(hashKey(key, 0), key, value) }

func (d *Dict) put(hash, key, value any) {
	if _, ok := d.values[hash]; !ok {
		d.keys = append(d.keys, key)
	}
	d.values[hash] = value
}

// Get returns the value of a key.
func (d *Dict) Get(key any) (any, bool) {
	v, ok := d.values[hashKey(key, 0)]
	return v, ok
}

// Keys returns the keys in order. The caller must not change them.
func (d *Dict) Keys() []any { return d.keys }

// Without returns a dict that lacks a key.
func (d *Dict) Without(key string) *Dict {
	out := NewDict()
	for _, k := range d.keys {
		if k != key {
			v, _ := d.Get(k)
			out.Set(k, v)
		}
	}
	return out
}

func (d *Dict) items() []any {
	out := make([]any, len(d.keys))
	for i, k := range d.keys {
		v, _ := d.Get(k)
		out[i] = Tuple{k, v}
	}
	return out
}

func (d *Dict) list() []any {
	out := make([]any, len(d.keys))
	for i, k := range d.keys {
		out[i], _ = d.Get(k)
	}
	return out
}

// undefined is what a name, key or attribute that is not there gives. It prints as
// nothing, is false and has no elements; all else with it fails with why.
type undefined struct {
	why    string
	unsafe bool // an attribute that the sandbox hides
}

// namespace is the one value with attributes that a template can set.
type namespace struct{ *Dict }

// generator is what lazy filters give: its elements can be had once.
type generator struct{ next func() (any, bool) }

// view is what a dict's keys, values and items give.
type view struct {
	name  string
	items []any
}

// span is Python's range.
type span struct{ start, stop, step int64 }

func (s span) len() int64 {
	if s.step > 0 && s.start < s.stop {
		return (s.stop-s.start-1)/s.step + 1
	}
	if s.step < 0 && s.start > s.stop {
		return (s.start-s.stop-1)/-s.step + 1
	}
	return 0
}

// markup is text that "safe" has marked. Python would escape what is joined to it, so
// it can be printed and nothing else.
type markup string

// callable is a function of the environment, a bound method or a macro.
type callable struct {
	name string
	call func(r *run, a args) any
}

// args are the arguments of a call.
type args struct {
	pos   []any
	names []string // of the keyword arguments, in order
	kw    map[string]any
}

// failure is how evaluation fails; Render recovers it and adds the line.
type failure struct{ text string }

func fail(format string, a ...any) {
	panic(failure{fmt.Sprintf(format, a...)})
}

// maxDepth bounds nested values, expressions and calls, well within Go's stack.
const maxDepth = 200

// hashKey maps a key to a Go value that is equal where Python's keys are: 1, 1.0 and
// True are one key.
func hashKey(key any, depth int) any {
	switch k := key.(type) {
	case nil, string, int64:
		return k
	case bool:
		return toInt(k)
	case float64:
		if i := int64(k); float64(i) == k && math.Abs(k) < 1<<62 {
			return i
		}
		return k
	case *big.Int:
		return [1]string{"int " + k.String()}
	case Tuple:
		if depth > maxDepth {
			fail("a key is nested deeper than %d", maxDepth)
		}
		var b strings.Builder
		for _, x := range k {
			h := hashKey(x, depth+1)
			fmt.Fprintf(&b, "%T %q ", h, fmt.Sprint(h))
		}
		return [1]string{b.String()}
	}
	fail("unhashable type: %s", typeName(key))
	return nil
}

func toInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// typeName is Python's name of a value's type, for messages.
func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "None"
	case bool:
		return "bool"
	case int64, *big.Int:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case List:
		return "list"
	case Tuple:
		return "tuple"
	case *Dict:
		return "dict"
	case undefined:
		return "undefined"
	case namespace:
		return "Namespace"
	case *generator:
		return "generator"
	case view:
		return "dict view"
	case span:
		return "range"
	case markup:
		return "Markup"
	case *loop:
		return "loop"
	}
	return "function"
}

func truth(v any) bool {
	switch v := v.(type) {
	case nil, undefined:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case markup:
		return v != ""
	case List:
		return len(v) > 0
	case Tuple:
		return len(v) > 0
	case *Dict:
		return len(v.keys) > 0
	case view:
		return len(v.items) > 0
	case span:
		return v.len() > 0
	}
	return true
}

// integer returns a value that Python counts among the integers; bool is one.
func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case bool:
		return toInt(v), true
	}
	return 0, false
}

// number returns a value as a float.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		return f, true
	}
	i, ok := integer(v)
	return float64(i), ok
}

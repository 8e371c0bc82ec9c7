package strictjson

import (
	"fmt"
	"math"
	"strconv"
)

// Object is a JSON object with its members in the order of the text. Values are
// nil, bool, string, [Number], []any and *Object.
type Object struct {
	Keys   []string
	Values map[string]any
}

// Number is a number as it was written.
type Number string

// Get returns the member's value, or nil when it is missing or null.
func (o *Object) Get(name string) any { return o.Values[name] }

// Float returns the number as a float64. Numbers that overflow are an error.
func (n Number) Float() (float64, error) {
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil || math.IsInf(f, 0) {
		return 0, fmt.Errorf("number %s is out of range", quote(string(n)))
	}
	return f, nil
}

// Int returns the number where it is whole and written without a fraction or
// exponent.
func (n Number) Int() (int64, error) {
	i, err := strconv.ParseInt(string(n), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("number %s is not a whole number", quote(string(n)))
	}
	return i, nil
}

// Parse reads a document whole.
func Parse(data []byte, maxDepth int) (any, error) {
	p, err := NewParser(data, maxDepth)
	if err != nil {
		return nil, err
	}
	v, err := p.Value()
	if err != nil {
		return nil, err
	}
	return v, p.End()
}

// ParseObject reads a document that must be an object.
func ParseObject(data []byte, maxDepth int) (*Object, error) {
	v, err := Parse(data, maxDepth)
	if err != nil {
		return nil, err
	}
	o, ok := v.(*Object)
	if !ok {
		return nil, fmt.Errorf("must be an object (got %s)", KindOf(v))
	}
	return o, nil
}

// Value reads the next value whole.
func (p *Parser) Value() (any, error) {
	switch c := p.Peek(); {
	case c == '{':
		o := &Object{Values: map[string]any{}}
		err := p.Object(func(name string) error {
			v, err := p.Value()
			o.Keys = append(o.Keys, name)
			o.Values[name] = v
			return err
		})
		return o, err
	case c == '[':
		list := []any{}
		err := p.Array(func(int) error {
			v, err := p.Value()
			list = append(list, v)
			return err
		})
		return list, err
	case c == '"':
		return p.String()
	case c == '-' || '0' <= c && c <= '9':
		lit, err := p.number()
		return Number(lit), err
	case c == 't':
		return true, p.literal("true")
	case c == 'f':
		return false, p.literal("false")
	case c == 'n':
		return nil, p.literal("null")
	}
	return nil, p.unexpected("a value")
}

// KindOf names a value's JSON kind, for messages.
func KindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "true or false"
	case string:
		return "a string"
	case Number:
		return "a number"
	case []any:
		return "an array"
	case *Object:
		return "an object"
	}
	return fmt.Sprintf("%T", v)
}

package diff

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// Key is a member of a JSON text that is not the same in both.
type Key struct {
	File string          `json:"file"`
	Key  string          `json:"key"`         // with the members that it lies in, split by dots
	A    json.RawMessage `json:"a,omitempty"` // absent where the text has none
	B    json.RawMessage `json:"b,omitempty"`
}

// Configs compares two JSON objects member by member, objects in them too. Numbers are
// compared by value, and lists of modules in adapter_config.json as the sets that they
// are: PEFT saves them in any order. Texts that are no JSON objects are
// [formats.ErrInput]; a and b name them in messages, and name stands in the result.
func Configs(name, a string, textA []byte, b string, textB []byte) ([]Key, error) {
	if bytes.Equal(textA, textB) {
		return []Key{}, nil
	}
	x, err := strictjson.ParseObject(textA, formats.MaxJSONDepth)
	if err != nil {
		return nil, formats.Rejectf(a, "", "%v", err)
	}
	y, err := strictjson.ParseObject(textB, formats.MaxJSONDepth)
	if err != nil {
		return nil, formats.Rejectf(b, "", "%v", err)
	}
	return members([]Key{}, name, "", x, y), nil
}

// members adds what differs between two objects, in A's order and then B's.
func members(out []Key, file, in string, x, y *strictjson.Object) []Key {
	for _, k := range x.Keys {
		v := x.Values[k]
		w, ok := y.Values[k]
		if !ok {
			if v != nil { // a null says no more than nothing
				out = append(out, Key{File: file, Key: in + k, A: jsonText(v)})
			}
			continue
		}
		inX, okX := v.(*strictjson.Object)
		inY, okY := w.(*strictjson.Object)
		switch {
		case okX && okY:
			out = members(out, file, in+k+".", inX, inY)
		case !alike(k, v, w):
			out = append(out, Key{File: file, Key: in + k, A: jsonText(v), B: jsonText(w)})
		}
	}
	for _, k := range y.Keys {
		if _, ok := x.Values[k]; !ok && y.Values[k] != nil {
			out = append(out, Key{File: file, Key: in + k, B: jsonText(y.Values[k])})
		}
	}
	return out
}

// sets are members whose lists have no order.
var sets = []string{"target_modules", "exclude_modules", "modules_to_save"}

// alike reports whether two values mean the same.
func alike(key string, v, w any) bool {
	x, okX := v.(strictjson.Number)
	y, okY := w.(strictjson.Number)
	if okX && okY {
		a, errA := x.Float()
		b, errB := y.Float()
		return x == y || errA == nil && errB == nil && a == b && !isInt(x, y)
	}
	a, okA := v.([]any)
	b, okB := w.([]any)
	if okA && okB {
		if slices.Contains(sets, key) {
			a, b = sorted(a), sorted(b)
		}
		return slices.EqualFunc(a, b, func(v, w any) bool { return alike("", v, w) })
	}
	return bytes.Equal(jsonText(v), jsonText(w))
}

// isInt reports whether both are whole numbers, which float64 need not tell apart.
func isInt(x, y strictjson.Number) bool {
	_, errX := x.Int()
	_, errY := y.Int()
	return errX == nil && errY == nil
}

func sorted(list []any) []any {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b any) int { return bytes.Compare(jsonText(a), jsonText(b)) })
	return list
}

// jsonText writes a value without white space.
func jsonText(v any) json.RawMessage {
	var b bytes.Buffer
	if err := json.Compact(&b, strictjson.AppendIndented(nil, v)); err != nil {
		panic("diff: " + err.Error()) // it comes from a parser
	}
	return b.Bytes()
}

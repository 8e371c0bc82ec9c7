package strictjson

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// FuzzParse holds the parser against encoding/json: what is accepted here means the same
// there, what is refused here and valid there is refused for one of four reasons, and
// what is written reads back the same.
func FuzzParse(f *testing.F) {
	for _, c := range accepted {
		if len(c.text) < 1000 {
			f.Add([]byte(c.text))
		}
	}
	for _, c := range refused {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Parse(data, 16)
		if err != nil {
			if json.Valid(data) && !stricter(err) {
				t.Fatalf("encoding/json takes %q, got %v", data, err)
			}
			return
		}
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil {
			t.Fatalf("%q: encoding/json says %v", data, err)
		}
		if got := plain(v); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %#v, encoding/json %#v", data, got, want)
		}
		text := AppendIndented(nil, v)
		again, err := Parse(text, 16)
		if err != nil {
			t.Fatalf("%q was written as %q: %v", data, text, err)
		}
		if !reflect.DeepEqual(again, v) {
			t.Fatalf("%q was written as %q and reads differently", data, text)
		}
	})
}

func stricter(err error) bool {
	for _, reason := range []string{"invalid UTF-8", `bad \u escape`, "duplicate name", "nested deeper"} {
		if strings.Contains(err.Error(), reason) {
			return true
		}
	}
	return false
}

// plain turns a value into what encoding/json gives with UseNumber.
func plain(v any) any {
	switch v := v.(type) {
	case Number:
		return json.Number(v)
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = plain(x)
		}
		return out
	case *Object:
		out := map[string]any{}
		for k, x := range v.Values {
			out[k] = plain(x)
		}
		return out
	}
	return v
}

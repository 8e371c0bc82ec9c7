package diff_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch/diff"
)

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

func TestConfigs(t *testing.T) {
	for _, c := range []struct{ name, a, b, want string }{
		{"the same text", `{`, `{`, `[]`}, // not even read
		{"white space and order", `{"a":1,"b":[1,2]}`, "{\n\"b\": [1, 2], \"a\": 1}", `[]`},
		{"numbers by value", `{"a":1e-05,"b":1.0,"c":[0.50]}`, `{"a":0.00001,"b":1,"c":[0.5]}`, `[]`},
		{"large whole numbers", `{"a":9007199254740993}`, `{"a":9007199254740992}`, `[{"file":"f","key":"a","a":9007199254740993,"b":9007199254740992}]`},
		{"a number out of range", `{"a":1e999}`, `{"a":2e999}`, `[{"file":"f","key":"a","a":1e999,"b":2e999}]`},
		{"values and kinds", `{"a":1,"b":"1","c":null,"d":true}`, `{"a":"1","b":"2","c":false,"d":true}`,
			`[{"file":"f","key":"a","a":1,"b":"1"},{"file":"f","key":"b","a":"1","b":"2"},{"file":"f","key":"c","a":null,"b":false}]`},
		{"members on one side", `{"a":1,"x":null}`, `{"a":1,"y":{"z":[]}}`, `[{"file":"f","key":"y","b":{"z":[]}}]`},
		{"objects in objects", `{"r":{"f":2,"t":"x"}}`, `{"r":{"f":4,"t":"x"}}`, `[{"file":"f","key":"r.f","a":2,"b":4}]`},
		{"lists have an order", `{"l":[1,2]}`, `{"l":[2,1]}`, `[{"file":"f","key":"l","a":[1,2],"b":[2,1]}]`},
		{"sets of modules have none", `{"target_modules":["q","v"]}`, `{"target_modules":["v","q"]}`, `[]`},
		{"sets that differ", `{"target_modules":["q","v"]}`, `{"target_modules":"q"}`, `[{"file":"f","key":"target_modules","a":["q","v"],"b":"q"}]`},
	} {
		keys, err := diff.Configs("f", "a", []byte(c.a), "b", []byte(c.b))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		text, err := json.Marshal(keys)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c.want, string(text)); d != "" {
			t.Errorf("%s (- want, + got):\n%s", c.name, d)
		}
	}
	for _, bad := range []string{``, `[]`, `{"a":1,"a":2}`, "{\"a\":\"\xff\"}", `{"a":NaN}`} {
		for _, texts := range [][2]string{{bad, "{}"}, {"{}", bad}} {
			if _, err := diff.Configs("f", "a", []byte(texts[0]), "b", []byte(texts[1])); !errors.Is(err, formats.ErrInput) {
				t.Errorf("%q: %v", texts, err)
			}
		}
	}
}

func TestSideFiles(t *testing.T) {
	file := func(name, text string) formats.SideFile {
		return formats.SideFile{Name: name, Size: int64(len(text)), Data: bytes.NewReader([]byte(text))}
	}
	long := string(make([]byte, 3<<20))
	a := []formats.SideFile{file("same", long), file("size", "1"), file("last", long+"1"), file("a", ""), file("model.safetensors.index.json", "1")}
	b := []formats.SideFile{file("last", long+"2"), file("b", ""), file("same", long), file("size", "12"), file("model.safetensors.index.json", "2")}
	got, err := diff.SideFiles(t.Context(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]diff.File{{"size", diff.Differs}, {"last", diff.Differs}, {"a", diff.OnlyA}, {"b", diff.OnlyB}}, got); d != "" {
		t.Errorf("(- want, + got):\n%s", d)
	}
	a[0].Data = broken{}
	if _, err := diff.SideFiles(t.Context(), a, b); !errors.Is(err, formats.ErrInput) || err.Error() != `reading "same": the disk is gone` {
		t.Errorf("a disk that fails: %v", err)
	}
}

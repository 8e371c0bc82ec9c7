package strictjson

import (
	"strings"
	"testing"
)

// accepted are texts that Parse must take, with how they are written again.
var accepted = []struct{ text, again string }{
	{`{}`, `{}`},
	{`[]`, `[]`},
	{" \t\r\n{ \"a\" :\n[ 1 , 2 ] } \n", "{\n  \"a\": [\n    1,\n    2\n  ]\n}"},
	{`null`, `null`},
	{`true`, `true`},
	{`false`, `false`},
	{`""`, `""`},
	{`0`, `0`},
	{`-0`, `-0`},
	{`-0.0e-0`, `-0.0e-0`},
	{`12345678901234567890123`, `12345678901234567890123`},
	{`1e999`, `1e999`},
	{`1.50`, `1.50`},
	{`1E+05`, `1E+05`},
	{`"\"\\\/\b\f\n\r\t"`, `"\"\\/\b\f\n\r\t"`},
	{`"\u00e9\u00E9é"`, `"\u00e9\u00e9\u00e9"`},
	{`"\ud83d\ude00😀"`, `"\ud83d\ude00\ud83d\ude00"`},
	{`"\u0000\u007f"`, `"\u0000\u007f"`},
	{"\"\u007f\u0085\u2028\ufeff\"", `"\u007f\u0085\u2028\ufeff"`},
	{`{"":{"":""}}`, "{\n  \"\": {\n    \"\": \"\"\n  }\n}"},
	{`{"b":1,"a":2,"B":3}`, "{\n  \"b\": 1,\n  \"a\": 2,\n  \"B\": 3\n}"},
	{`[{"a":1},{"a":1}]`, "[\n  {\n    \"a\": 1\n  },\n  {\n    \"a\": 1\n  }\n]"},
	{`{"a":null}`, "{\n  \"a\": null\n}"},
	{`"` + strings.Repeat("x", 100_000) + `"`, `"` + strings.Repeat("x", 100_000) + `"`},
	{`[[[[1]]]]`, "[\n  [\n    [\n      [\n        1\n      ]\n    ]\n  ]\n]"},
}

func TestParseAccepts(t *testing.T) {
	for _, c := range accepted {
		v, err := Parse([]byte(c.text), 4)
		if err != nil {
			t.Errorf("%.60q: %v", c.text, err)
			continue
		}
		if got := string(AppendIndented(nil, v)); got != c.again {
			t.Errorf("%.60q: got %.80q, want %.80q", c.text, got, c.again)
		}
	}
}

// refused are texts that Parse must not take, with a part of the reason.
var refused = []struct{ text, want string }{
	// the end comes early, or something follows it
	{``, "unexpected end (want a value) at byte 0"},
	{"  \n", "unexpected end"},
	{`{`, "unexpected end (want a string)"},
	{`[`, "unexpected end (want a value)"},
	{`[1`, "unexpected end"},
	{`{"a"`, "unexpected end (want ':')"},
	{`{"a":`, "unexpected end"},
	{`{"a":1`, "unexpected end"},
	{`"abc`, "string without an end"},
	{`"abc\`, "string without an end"},
	{`"abc\"`, "string without an end"},
	{`{} {}`, `unexpected '{' (want the end) at byte 3`},
	{`1 2`, "want the end"},
	{`{}x`, "want the end"},
	{"{}\x00", "want the end"},
	{"null\x00", "want the end"},
	{`nullx`, "want the end"},

	// two of one name, at every level and however it is written
	{`{"a":1,"a":1}`, `duplicate name "a"`},
	{`{"a":1,"b":2,"\u0061":3}`, `duplicate name "a"`},
	{`{"x":{"a":1,"a":2}}`, `duplicate name "a"`},
	{`[[{"a":{},"a":{}}]]`, `duplicate name "a"`},
	{`{"":1,"":2}`, `duplicate name ""`},
	{`{"é":1,"\u00e9":2}`, `duplicate name "\u00e9"`},
	{`{"\ud83d\ude00":1,"😀":2}`, `duplicate name`},

	// bytes that are no UTF-8, and code points that have none
	{"\xef\xbb\xbf{}", "unexpected"},
	{"\xff", "invalid UTF-8 at byte 0"},
	{"{\"a\":\"ok\",\"\xc3\x28\":1}", "invalid UTF-8 at byte 11"},
	{"\"\xed\xa0\x80\"", "invalid UTF-8 at byte 1"}, // a surrogate in UTF-8
	{"\"\xc0\xaf\"", "invalid UTF-8 at byte 1"},     // an overlong slash
	{"\"\xf4\x90\x80\x80\"", "invalid UTF-8 at byte 1"},
	{`"\ud800"`, `bad \u escape`},
	{`"\udc00"`, `bad \u escape`},
	{`"\ud800x"`, `bad \u escape`},
	{`"\ud800\n"`, `bad \u escape`},
	{`"\ud800\ud800"`, `bad \u escape`},
	{`"\udc00\ud800"`, `bad \u escape`},
	{`"\ud800\u0041"`, `bad \u escape`},
	{`"\ud83d\u"`, `bad \u escape`},
	{`"\ud83d\`, `bad \u escape`},
	{`"\u12"`, `bad \u escape`},
	{`"\u12g4"`, `bad \u escape`},
	{`"\u`, `bad \u escape`},
	{`"\x41"`, `bad escape "\\x"`},
	{`"\'"`, `bad escape "\\'"`},
	{`"\U0001f600"`, `bad escape "\\U"`},
	{"\"a\nb\"", "control character"},
	{"\"a\x00b\"", "control character"},
	{"\"\\n\x1f\"", "control character"},

	// numbers in forms of other languages
	{`NaN`, "want a value"},
	{`nan`, "want a value"},
	{`Infinity`, "want a value"},
	{`-Infinity`, "bad number"},
	{`+1`, "want a value"},
	{`-`, "bad number"},
	{`--1`, "bad number"},
	{`01`, "bad number"},
	{`-01`, "bad number"},
	{`00`, "bad number"},
	{`.5`, "want a value"},
	{`1.`, "bad number"},
	{`1.e5`, "bad number"},
	{`1e`, "bad number"},
	{`1e+`, "bad number"},
	{`0x10`, "want the end"},
	{`1_000`, "want the end"},
	{`1,5`, "want the end"},

	// words, commas, quotes, comments
	{`True`, "want a value"},
	{`tru`, "want a value"},
	{`trux`, "want a value"},
	{`nul`, "want a value"},
	{`[1,]`, "want a value"},
	{`[,1]`, "want a value"},
	{`[1 2]`, "want ',' or ']'"},
	{`[1}`, "want ',' or ']'"},
	{`{"a":1,}`, "want a string"},
	{`{,}`, "want a string"},
	{`{"a":1]`, "want ',' or '}'"},
	{`{"a" 1}`, "want ':'"},
	{`{a:1}`, "want a string"},
	{`{1:1}`, "want a string"},
	{`{'a':1}`, "want a string"},
	{`// c`, "want a value"},
	{`[1/* c */]`, "want ',' or ']'"},
	{"[1\v]", "want ',' or ']'"},
	{"[1\u00a0]", "want ',' or ']'"},

	{`[[[[[]]]]]`, "nested deeper than 4"},
	{`{"a":{"a":{"a":{"a":{}}}}}`, "nested deeper than 4"},
	{`[{"a":[{"a":[]}]}]`, "nested deeper than 4"},
}

func TestParseRefuses(t *testing.T) {
	for _, c := range refused {
		v, err := Parse([]byte(c.text), 4)
		if err == nil {
			t.Errorf("%q: got %s, want an error with %q", c.text, AppendIndented(nil, v), c.want)
			continue
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %q, want it to say %q", c.text, err, c.want)
		}
	}
}

// TestParseDeep gives nesting that would end a recursive parser by its stack, which a
// Go program cannot survive.
func TestParseDeep(t *testing.T) {
	const depth = 5_000_000
	for _, text := range []string{
		strings.Repeat("[", depth),
		strings.Repeat(`{"a":`, depth),
		`{"x":1,"y":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + "}",
	} {
		if _, err := Parse([]byte(text), 64); err == nil || !strings.Contains(err.Error(), "nested deeper than 64") {
			t.Errorf("%.10s…: got %v", text, err)
		}
	}
	// Siblings are not depth.
	wide := "[" + strings.Repeat("[],", 100_000) + "[]]"
	if _, err := Parse([]byte(wide), 2); err != nil {
		t.Errorf("wide: %v", err)
	}
}

func TestNatural(t *testing.T) {
	for _, c := range []struct {
		text string
		want int64
	}{{"0", 0}, {"7", 7}, {"  42", 42}, {"9223372036854775807", 1<<63 - 1}} {
		p, err := NewParser([]byte(c.text), 1)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Natural(); got != c.want || err != nil || p.End() != nil {
			t.Errorf("%q: got %d, %v; want %d", c.text, got, err, c.want)
		}
	}
	for _, text := range []string{
		"", "-1", "-0", "+1", "1.0", "1.5", "1e3", "1E0", "01", "00", `"0"`, "null", "true", "[1]",
		"9223372036854775808", "18446744073709551616", "99999999999999999999999999", "0.0", "1.", "NaN",
	} {
		p, err := NewParser([]byte(text), 1)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Natural(); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}

func TestNumberReadings(t *testing.T) {
	for _, c := range []struct {
		text      Number
		int       int64
		isInt, ok bool
		float     float64
	}{
		{"12", 12, true, true, 12},
		{"-3", -3, true, true, -3},
		{"1.0", 0, false, true, 1},
		{"1e3", 0, false, true, 1000},
		{"1e999", 0, false, false, 0},
		{"-1e999", 0, false, false, 0},
		{"1e-999", 0, false, true, 0},
		{"9223372036854775808", 0, false, true, 1 << 63},
	} {
		if i, err := c.text.Int(); (err == nil) != c.isInt || i != c.int {
			t.Errorf("%s as a whole number: got %d, %v", c.text, i, err)
		}
		if f, err := c.text.Float(); (err == nil) != c.ok || f != c.float {
			t.Errorf("%s as a float: got %v, %v", c.text, f, err)
		}
	}
}

func TestParseObject(t *testing.T) {
	for text, kind := range map[string]string{`[]`: "an array", `1`: "a number", `"a"`: "a string", `null`: "null", `true`: "true or false"} {
		if _, err := ParseObject([]byte(text), 4); err == nil || !strings.Contains(err.Error(), "got "+kind) {
			t.Errorf("%s: got %v, want it to name %s", text, err, kind)
		}
	}
	o, err := ParseObject([]byte(`{"z":1,"a":null}`), 4)
	if err != nil {
		t.Fatal(err)
	}
	o.Set("m", int64(2))
	o.Set("z", "new")
	const want = "{\n  \"z\": \"new\",\n  \"a\": null,\n  \"m\": 2\n}"
	if got := string(AppendIndented(nil, o)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if o.Get("a") != nil || o.Get("nothing") != nil {
		t.Error("null and missing members must read as nil")
	}
}

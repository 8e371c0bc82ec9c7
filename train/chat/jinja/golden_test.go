package jinja

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-b982eded/graft/internal/strictjson"
)

var now = time.Date(2025, 2, 3, 4, 5, 6, 0, time.UTC)

func variables(t testing.TB, text []byte) map[string]any {
	t.Helper()
	parsed, err := strictjson.Parse(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	v, err := FromJSON(parsed)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	for _, k := range v.(*Dict).Keys() {
		out[k.(string)], _ = v.(*Dict).Get(k)
	}
	return out
}

func render(t testing.TB, source string, vars map[string]any) (string, error) {
	t.Helper()
	tmpl, err := Parse(source)
	if err != nil {
		return "", err
	}
	text, _, err := tmpl.Render(t.Context(), vars, now)
	return text, err
}

// TestConstructs renders one template for each thing that Jinja can do, and compares with
// Jinja under transformers' settings. What is not implemented must be refused, and what
// Jinja refuses too.
func TestConstructs(t *testing.T) {
	text, err := os.ReadFile("../../../testdata/chat/constructs.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Source    string
		Variables json.RawMessage
		Text      *string
		Error     string
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	same, refused, missing := 0, 0, 0
	for _, c := range cases {
		got, err := render(t, c.Source, variables(t, c.Variables))
		switch {
		case err != nil && c.Text == nil:
			refused++
		case err != nil && (strings.Contains(err.Error(), "not implemented") || slices.Contains(stricter, c.Source)):
			missing++
		case err != nil:
			t.Errorf("%s\n got error %v\nwant %q", c.Source, err, *c.Text)
		case c.Text == nil:
			t.Errorf("%s\n got %q\nwant %s", c.Source, got, c.Error)
		case got != *c.Text:
			t.Errorf("%s\n got %q\nwant %q", c.Source, got, *c.Text)
		default:
			same++
		}
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Line < 1 || (c.Error == "TemplateError") != e.Raised) {
			t.Errorf("%s: error %#v (want %s)", c.Source, err, c.Error)
		}
	}
	t.Logf("%d as Jinja renders, %d refused as Jinja does, %d not implemented", same, refused, missing)
	if same < 180 {
		t.Error("too few are rendered")
	}
}

// stricter are templates that Jinja renders and this package refuses by intent.
var stricter = []string{
	"{{ d[[1]] }}", // a list is no key; Jinja gives an undefined value
	"{% raw %}",    // no end
}

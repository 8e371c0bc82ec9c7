package interop

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/seed-b982eded/graft/internal/strictjson"
	"github.com/seed-b982eded/graft/train/chat/jinja"
)

type chatJob struct {
	Source    string          `json:"source"`
	Variables json.RawMessage `json:"variables"`
}

const chatVariables = `{"n": 3, "neg": -7, "f": 2.5, "s": "Hello, Wörld 👋", "e": "", "none": null, "yes": true,
 "xs": [3, 1, 2, 1], "words": ["b", "A", "ab", ""], "mixed": [1, "a", null, 2.0, true, [1], {"k": 1}],
 "d": {"b": 2, "a": [1, "x"], "C": null}, "ms": [{"role": "user", "content": " hi "}, {"role": "assistant", "content": "a\nb", "n": 2}, {"role": "tool"}]}`

// TestTemplatesLikeJinja compares random templates with Jinja itself: what is rendered must
// be the same, and what Jinja refuses must be refused. What is not implemented may be refused
// too, if it says so.
func TestTemplatesLikeJinja(t *testing.T) {
	light(t)
	g := &templates{rand.New(rand.NewPCG(seed(t), 1))}
	var jobs []chatJob
	for range 3000 {
		jobs = append(jobs, chatJob{g.template(), json.RawMessage(chatVariables)})
	}
	request, err := json.Marshal(jobs)
	if err != nil {
		t.Fatal(err)
	}
	var answers []*string
	if err := json.Unmarshal([]byte(python(t, interopPython, request, "check_chat.py")), &answers); err != nil {
		t.Fatal(err)
	}
	doc, err := strictjson.ParseObject([]byte(chatVariables), 64)
	if err != nil {
		t.Fatal(err)
	}
	variables := map[string]any{}
	for _, k := range doc.Keys {
		if variables[k], err = jinja.FromJSON(doc.Values[k]); err != nil {
			t.Fatal(err)
		}
	}
	same, refused, missing := 0, 0, 0
	for i, job := range jobs {
		var text string
		p, err := jinja.Parse(job.Source)
		if err == nil {
			text, _, err = p.Render(t.Context(), variables, time.Time{})
		}
		want := answers[i]
		switch {
		case err != nil && want == nil:
			refused++
		case err != nil && strings.Contains(err.Error(), "not implemented"):
			missing++
		case err != nil:
			t.Errorf("%s\n got error %v\nwant %q", job.Source, err, *want)
		case want == nil:
			t.Errorf("%s\n got %q, and Jinja refuses it", job.Source, text)
		case strings.Contains(*want, " object at 0x"):
			// the address of a generator
		case text != *want:
			t.Errorf("%s\n got %q\nwant %q", job.Source, text, *want)
		default:
			same++
		}
	}
	t.Logf("%d the same, %d refused by both, %d not implemented", same, refused, missing)
	if same < 1000 || missing > 300 {
		t.Error("too few are compared")
	}
}

// templates makes random ones, most of which mean something.
type templates struct{ *rand.Rand }

func (g *templates) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g *templates) template() string {
	switch g.IntN(8) {
	case 0:
		return g.pick("", " ", "\n", "x\n  ") + "{%" + g.pick("", "-", "+") + " if " + g.expr(2) + g.pick("", " ", "\n") + g.pick("", "-", "+") + "%}" + g.pick("", "\n", " a \n ") +
			"{{" + g.pick("", "-") + " " + g.expr(1) + " " + g.pick("", "-") + "}}" + g.pick("", "\n", "  ") + "{%" + g.pick("", "-") + " else %}\n b {# c " + g.pick("", "-") + "#}\n{% endif " + g.pick("", "-", "+") + "%}\n z"
	case 1:
		return "{% for x in " + g.list(1) + g.pick("", " if x", " if loop is defined") + " %}{{ x }}{{ loop." + g.pick("index", "last", "first", "length", "revindex", "previtem", "nextitem") + " }}{% if " + g.expr(1) + " %}{% " +
			g.pick("break", "continue") + " %}{% endif %};{% else %}none{% endfor %}"
	case 2:
		return "{% set ns = namespace(v=" + g.expr(1) + ") %}{% for x in " + g.list(1) + " %}{% set ns.v = " + g.expr(1) + " %}{% set n = x %}{% endfor %}{{ ns.v }}{{ n }}"
	case 3:
		return "{% macro m(a, b=" + g.expr(1) + ") %}{{ a }}-{{ b }}{% endmacro %}{{ m(" + g.expr(1) + g.pick("", ", 1", ", b=2", ", c=3") + ") }}{% set y %}[{{ " + g.expr(1) + " }}]{% endset %}{{ y | length }}"
	}
	return "{{ " + g.expr(3) + " }}"
}

func (g *templates) atom() string {
	return g.pick("n", "neg", "f", "s", "e", "none", "yes", "xs", "words", "mixed", "d", "ms", "missing", "0", "1", "-2", "1.5", "'a'", "'x y'", "''", "[1, 2]", "('a',)", "{'k': 1}",
		"true", "d.a", "d['b']", "ms[0].content", "ms[-1]['role']", "ms[1].n", "xs[1]", "xs[-1:]", "s[1:4]", "s[::-1]", "words[0]", "d.items() | list")
}

func (g *templates) list(depth int) string {
	return g.pick("xs", "words", "mixed", "ms", "d", "s", "range(n)", "missing", "d.values()", "xs[::-1]", "(1, 'a')", g.expr(depth))
}

func (g *templates) expr(depth int) string {
	if depth == 0 {
		return g.atom()
	}
	e := func() string { return g.expr(g.IntN(depth)) }
	switch g.IntN(13) {
	case 0, 1:
		return e() + " " + g.pick("+", "-", "*", "/", "//", "%", "~", "~", "**") + " " + e()
	case 2:
		return "(" + e() + " " + g.pick("==", "!=", "<", "<=", ">", ">=", "in", "not in") + " " + e() + ")"
	case 3:
		return "(" + e() + " " + g.pick("and", "or") + " " + g.pick("", "not ") + e() + ")"
	case 4:
		return "(" + e() + " if " + e() + g.pick("", " else "+e()) + ")"
	case 5, 6, 7:
		return "(" + e() + ") | " + g.filter()
	case 8:
		return "(" + e() + ") is " + g.pick("", "not ") + g.pick("defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "mapping", "sequence", "iterable", "true", "odd", "even",
			"divisibleby 3", "eq 1", "in [1, 'a']", "lower", "upper", "sameas none", "callable")
	case 9, 10:
		return "(" + e() + ")." + g.method()
	case 11:
		return "(" + e() + ")[" + g.pick("0", "-1", "1:", ":2", "::-1", "'a'", "'role'", "n", "-3:n") + "]"
	}
	return fmt.Sprintf("[%s, %s]", e(), e())
}

func (g *templates) filter() string {
	return g.pick("length", "upper", "lower", "trim", "title", "capitalize", "list", "string", "int", "float", "first", "last", "join", "join(', ')", "tojson", "tojson(indent=2)", "tojson(sort_keys=true)",
		"default('z')", "default('z', true)", "d", "abs", "reverse | list", "sort", "sort(reverse=true)", "unique | list", "map('string') | list", "map('upper') | join('-')", "map(attribute='role') | list",
		"select | list", "select('string') | list", "reject('none') | list", "selectattr('role', 'equalto', 'user') | list", "selectattr('n', 'defined') | list", "rejectattr('content') | list",
		"dictsort", "items | list", "replace('a', 'b')", "indent", "indent(2, true)", "round", "round(1)", "sum", "min", "max", "batch(2) | list", "count", "trim('a')", "format(1)")
}

func (g *templates) method() string {
	return g.pick("strip()", "lstrip('a')", "rstrip()", "split()", "split(',')", "split(' ', 1)", "rsplit(' ', 1)", "upper()", "lower()", "title()", "capitalize()", "startswith('a')", "endswith(('b', 'x'))",
		"replace('l', 'L')", "find('l')", "count('l')", "join(['x', 'y'])", "isdigit()", "isalpha()", "isupper()", "islower()", "isspace()", "isalnum()", "splitlines()", "partition(',')", "keys() | list", "values() | list",
		"items() | list", "get('a')", "get('q', 5)", "index('a')", "zfill(4)", "ljust(3) ~ '|'", "a", "role", "content", "removeprefix('H')", "format(1, 2)", "missing", "append(1)", "pop()", "__class__")
}

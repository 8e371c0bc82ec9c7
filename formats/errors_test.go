package formats

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestQuote(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", `""`},
		{"model.weight", `"model.weight"`},
		{"../x", `"../x"`},
		{"a\nb\x1b[31m\x00\u202e", `"a\nb\x1b[31m\x00\u202e"`},
		{"\xff\xfe", `"\xff\xfe"`},
		{`"\`, `"\"\\"`},
		{strings.Repeat("x", 200), `"` + strings.Repeat("x", 200) + `"`},
		{strings.Repeat("x", 201), `"` + strings.Repeat("x", 200) + `"…`},
		{strings.Repeat("x", 199) + "é", `"` + strings.Repeat("x", 199) + `"…`}, // never half a letter
		{strings.Repeat("x", 198) + "éé", `"` + strings.Repeat("x", 198) + `é"…`},
	} {
		if got := Quote(c.in); got != c.want {
			t.Errorf("%.30q: got %s, want %s", c.in, got, c.want)
		}
	}
	// Whatever comes in, one line comes out that a terminal takes as it is.
	for _, in := range []string{strings.Repeat("\x1b", 1000), strings.Repeat("\x80", 1000), strings.Repeat("語\u0085\u200b\ufeff", 100)} {
		got := Quote(in)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%.20q: got %q", in, got)
		}
	}
}

func TestErrorText(t *testing.T) {
	for _, c := range []struct {
		err  *Error
		want string
	}{
		{Rejectf("a b", "t", "bad (got %d, want %d)", 1, 2), `reading "a b": tensor "t": bad (got 1, want 2)`},
		{Rejectf("f", "", "bad"), `reading "f": bad`},
		{Rejectf("", "t\n", "bad"), `tensor "t\n": bad`},
		{Unfitf("f", "t", "no"), `reading "f": tensor "t": no`},
		{Outputf("f", io.ErrShortWrite, ""), `writing "f": short write`},
		{Outputf("f", io.ErrShortWrite, "step"), `writing "f": step: short write`},
		{Usagef("say %s", "what"), `say what`},
		{&Error{Class: ErrInput, File: "f", Err: io.ErrUnexpectedEOF}, `reading "f": unexpected EOF`},
		{&Error{Class: ErrInput, Op: "checking", File: "f", Detail: "x"}, `checking "f": x`},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	err := fmt.Errorf("wrapped: %w", Outputf("f", io.ErrShortWrite, "").WithHint("free %d bytes", 5))
	var e *Error
	if !errors.Is(err, ErrOutput) || !errors.Is(err, io.ErrShortWrite) || errors.Is(err, ErrInput) || !errors.As(err, &e) || e.Hint != "free 5 bytes" {
		t.Errorf("class, cause or hint is lost: %#v", err)
	}
}

func TestProblems(t *testing.T) {
	var p Problems
	p.Add(nil)
	if p.Err() != nil {
		t.Errorf("got %v, want nil", p.Err())
	}
	one := Rejectf("f", "", "one")
	p.Add(one)
	if p.Err() != error(one) {
		t.Errorf("a single problem must come as it is, got %v", p.Err())
	}
	for i := 2; i <= MaxProblems; i++ {
		p.Add(Unfitf("f", "", "problem %d", i))
	}
	if lines := strings.Split(p.Err().Error(), "\n"); len(lines) != MaxProblems || lines[19] != `reading "f": problem 20` {
		t.Errorf("got %d lines, the last %q", len(lines), lines[len(lines)-1])
	}
	for i := range 5 {
		p.Add(fmt.Errorf("more %d", i))
	}
	lines := strings.Split(p.Err().Error(), "\n")
	if len(lines) != MaxProblems+1 || lines[0] != `reading "f": one` || lines[20] != "and 5 more" {
		t.Errorf("got %q", lines)
	}
	if !errors.Is(p.Err(), ErrInput) || !errors.Is(p.Err(), ErrUnfit) || errors.Is(p.Err(), ErrOutput) {
		t.Error("the list must have the classes of its problems")
	}
}

func TestNearest(t *testing.T) {
	names := []string{
		"model.embed_tokens", "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj", "model.layers.1.self_attn.q_proj",
		"model.layers.1.mlp.up_proj", "lm_head",
	}
	for _, c := range []struct {
		name string
		n    int
		want []string
	}{
		{"model.layers.1.self_attn.q_prj", 1, []string{"model.layers.1.self_attn.q_proj"}},
		{"layers.0.self_attn.k_proj", 1, []string{"model.layers.0.self_attn.k_proj"}},
		{"lm_haed", 1, []string{"lm_head"}},
		{"zzz", 3, nil},
		{"model.layers.0.self_attn.q_proj", 0, nil},
		{"", 3, nil},
	} {
		if got := Nearest(c.name, names, c.n); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.name, got, c.want)
		}
	}
	if got := Nearest("model.layers.7.self_attn.q_proj", names, 3); len(got) != 3 || !strings.HasSuffix(got[0], "q_proj") || !strings.HasSuffix(got[1], "q_proj") {
		t.Errorf("got %q, want the two q_proj first", got)
	}
	if got := Nearest("x", nil, 3); got != nil {
		t.Errorf("got %q of nothing", got)
	}
}

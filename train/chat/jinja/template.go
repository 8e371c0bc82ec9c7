package jinja

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

const (
	// maxSource bounds a template; the longest in use have 30 KB.
	maxSource = 1 << 20
	// maxWork bounds one rendering: about a unit for each step and byte. A chat of a
	// megabyte takes ten million.
	maxWork = 64 << 20
	// itemCost is what an element of a list counts, as memory.
	itemCost = 16
	// maxRange is the longest range that the sandbox allows.
	maxRange = 100_000
)

// Template is a parsed template.
type Template struct {
	body []stmt
	// Generation tells whether the template marks what the model says.
	Generation bool
}

// Error is why a template cannot be parsed or rendered.
type Error struct {
	Line int // of the template, from 1
	Text string
	// Raised is set where the template itself refused its input by raise_exception.
	Raised bool
}

func (e *Error) Error() string {
	if e.Raised {
		return fmt.Sprintf("refused by the template: %s", e.Text)
	}
	return fmt.Sprintf("line %d of the template: %s", e.Line, e.Text)
}

// Parse reads a template; an error is an [*Error].
func Parse(source string) (t *Template, err error) {
	if len(source) > maxSource {
		return nil, &Error{1, fmt.Sprintf("template of %d bytes (want at most %d)", len(source), maxSource), false}
	}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case syntaxError:
			t, err = nil, &Error{p.line, p.text, false}
		default:
			panic(p)
		}
	}()
	p := &parser{tokens: lex(source)}
	t = &Template{body: p.body()}
	t.Generation = p.generation
	return t, nil
}

// Span is a range of bytes of a rendered text.
type Span struct{ From, To int }

// Render gives the text that the template makes of some variables, with the spans of its
// generation blocks in order. The time is what strftime_now gives. Beside an [*Error], the
// error may be that of ctx.
func (t *Template) Render(ctx context.Context, variables map[string]any, now time.Time) (text string, spans []Span, err error) {
	r := &run{ctx: ctx, now: now, line: 1}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case failure:
			text, spans, err = "", nil, &Error{r.line, p.text, false}
		case raised:
			text, spans, err = "", nil, &Error{r.line, string(p), true}
		case cancelled:
			text, spans, err = "", nil, p.err
		default:
			panic(p)
		}
	}()
	globals := &scope{vars: maps.Clone(variables)}
	if globals.vars == nil {
		globals.vars = map[string]any{}
	}
	for name, f := range functions {
		if _, ok := globals.vars[name]; !ok {
			globals.vars[name] = &callable{name, f}
		}
	}
	r.stmts(t.body, &scope{vars: map[string]any{}, outer: globals})
	return r.out.String(), r.spans, nil
}

type (
	raised    string
	cancelled struct{ err error }
)

// IsRaised tells whether an error is the template's own refusal of its input.
func IsRaised(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Raised
}

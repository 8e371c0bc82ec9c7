package chat

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/chat/jinja"
)

// Chat is a conversation, as values that [jinja.FromJSON] makes.
type Chat struct {
	// Messages are dicts with a role, and mostly a content.
	Messages jinja.List
	// Tools and Documents are lists of dicts, nil where there are none.
	Tools, Documents jinja.List
	// Variables are more names for the template, such as enable_thinking.
	Variables map[string]any
}

// Options says how a chat is rendered.
type Options struct {
	// Template is the name of one of several. If it is empty, the one that transformers
	// takes is: "tool_use" for a chat with tools, where there is one, else "default".
	Template string
	// AddGenerationPrompt ends the text where the assistant's next turn begins.
	AddGenerationPrompt bool
	// Now is what strftime_now tells a template. The zero time makes a template that asks
	// fail, as the result would change from day to day.
	Now time.Time
}

// Span is a range of bytes of a text.
type Span = jinja.Span

// Turns says what is learned of a chat.
type Turns int

const (
	AssistantTurns Turns = iota // what the assistant says, in all turns
	LastTurn                    // the last message
	AllTurns                    // all tokens
)

// check returns the messages as transformers gives them to a template: without members
// that are null, and with what the assistant thinks under both names that are in use.
func (c Chat) check() (jinja.List, error) {
	if len(c.Messages) == 0 {
		return nil, fmt.Errorf("a chat without messages")
	}
	out := make(jinja.List, len(c.Messages))
	for i, m := range c.Messages {
		d, ok := m.(*jinja.Dict)
		if !ok {
			return nil, fmt.Errorf("message %d is no object", i+1)
		}
		clean := jinja.NewDict()
		var thought any
		for _, k := range []string{"reasoning", "thinking", "reasoning_content"} {
			if v, _ := d.Get(k); v != nil {
				thought = v
			}
		}
		if thought != nil {
			clean.Set("thinking", thought)
		}
		for _, k := range d.Keys() {
			if v, _ := d.Get(k); v != nil {
				clean.Set(k, v)
			}
		}
		if thought != nil {
			clean.Set("reasoning_content", thought)
		}
		if role, _ := clean.Get("role"); !isText(role) {
			return nil, fmt.Errorf("message %d has no role that is a string", i+1)
		}
		out[i] = clean
	}
	return out, nil
}

func isText(v any) bool {
	s, ok := v.(string)
	return ok && s != ""
}

func (t *Templates) choose(c Chat, opt Options) (*jinja.Template, error) {
	name := opt.Template
	if name == "" {
		name = "default"
		if t.named["tool_use"] != nil && c.Tools != nil {
			name = "tool_use"
		}
	}
	if p := t.named[name]; p != nil {
		return p, nil
	}
	return nil, formats.Usagef("there is no chat template %s (there are %s)", formats.Quote(name), strings.Join(t.Names(), ", "))
}

// Render gives the text of a chat. An error says what is wrong with the chat, or what the
// template had to say about it.
func (t *Templates) Render(ctx context.Context, c Chat, opt Options) (string, error) {
	messages, err := c.check()
	if err != nil {
		return "", err
	}
	p, err := t.choose(c, opt)
	if err != nil {
		return "", err
	}
	text, _, err := t.render(ctx, p, c, messages, opt)
	return text, err
}

func (t *Templates) render(ctx context.Context, p *jinja.Template, c Chat, messages jinja.List, opt Options) (string, []Span, error) {
	vars := maps.Clone(t.special)
	maps.Copy(vars, c.Variables)
	vars["messages"], vars["add_generation_prompt"] = messages, opt.AddGenerationPrompt
	vars["tools"], vars["documents"] = nil, nil
	if c.Tools != nil {
		vars["tools"] = c.Tools
	}
	if c.Documents != nil {
		vars["documents"] = c.Documents
	}
	return p.Render(ctx, vars, opt.Now)
}

// Train gives the text of a whole chat and the spans of it that are learned, in order and
// apart from one another. What the assistant says is what the template's generation blocks
// hold. Without such blocks, a turn of the assistant is what it adds to the text before it
// with a generation prompt.
func (t *Templates) Train(ctx context.Context, c Chat, turns Turns, opt Options) (string, []Span, error) {
	messages, err := c.check()
	if err != nil {
		return "", nil, err
	}
	p, err := t.choose(c, opt)
	if err != nil {
		return "", nil, err
	}
	opt.AddGenerationPrompt = false
	text, spans, err := t.render(ctx, p, c, messages, opt)
	if err != nil {
		return "", nil, err
	}
	switch {
	case turns == AllTurns:
		return text, []Span{{From: 0, To: len(text)}}, nil
	case turns == AssistantTurns && p.Generation:
		return text, spans, nil
	}
	first := 0
	if turns == LastTurn {
		first = len(messages) - 1
	}
	spans, err = t.differences(ctx, p, c, messages, first, text, opt)
	return text, spans, err
}

// differences finds the assistant's turns from a message on by rendering what is before
// them and what ends with them.
func (t *Templates) differences(ctx context.Context, p *jinja.Template, c Chat, messages jinja.List, first int, text string, opt Options) ([]Span, error) {
	prompt := opt
	prompt.AddGenerationPrompt = true
	var spans []Span
	for i := first; i < len(messages); i++ {
		if role, _ := messages[i].(*jinja.Dict).Get("role"); role != "assistant" {
			continue
		}
		before, _, err := t.render(ctx, p, c, messages[:i], prompt)
		if err != nil {
			return nil, fmt.Errorf("rendering what is before message %d: %w", i+1, err)
		}
		after := text
		if i < len(messages)-1 {
			if after, _, err = t.render(ctx, p, c, messages[:i+1], opt); err != nil {
				return nil, fmt.Errorf("rendering up to message %d: %w", i+1, err)
			}
		}
		switch {
		case !strings.HasPrefix(after, before):
			return nil, unlike("the text before message %d with a generation prompt does not begin the text with it", i+1)
		case !strings.HasPrefix(text, after):
			return nil, unlike("the template writes message %d differently when more messages follow", i+1)
		}
		spans = append(spans, Span{From: len(before), To: len(after)})
	}
	return spans, nil
}

func unlike(format string, message int) error {
	return &unlikeError{fmt.Sprintf("what the assistant says cannot be told from the rest: "+format, message)}
}

// unlikeError has a hint for who chose the template.
type unlikeError struct{ text string }

func (e *unlikeError) Error() string { return e.text }

// Hint says what can be done about an error of [Templates.Train], or nothing.
func Hint(err error) string {
	if _, ok := err.(*unlikeError); ok {
		return "mark the assistant's words in the template with {% generation %} … {% endgeneration %}, or learn from the last turn or from all"
	}
	return ""
}

// Completion gives the text of a prompt and its completion, and the byte at which the
// completion begins.
func (t *Templates) Completion(ctx context.Context, c Chat, completion jinja.List, opt Options) (text string, at int, err error) {
	opt.AddGenerationPrompt = true
	before, err := t.Render(ctx, c, opt)
	if err != nil {
		return "", 0, fmt.Errorf("rendering the prompt: %w", err)
	}
	c.Messages = append(c.Messages[:len(c.Messages):len(c.Messages)], completion...)
	opt.AddGenerationPrompt = false
	if text, err = t.Render(ctx, c, opt); err != nil {
		return "", 0, err
	}
	if !strings.HasPrefix(text, before) {
		return "", 0, &unlikeError{"the text of the prompt with a generation prompt does not begin the text with the completion"}
	}
	return text, len(before), nil
}

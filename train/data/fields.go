package data

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
	"github.com/seed-b982eded/graft/train/chat/jinja"
)

// fault is what is wrong with one line, and how to mend it where that is known.
type fault struct{ what, hint string }

func faultf(format string, args ...any) *fault { return &fault{what: fmt.Sprintf(format, args...)} }

func (f *fault) withHint(hint string) *fault {
	f.hint = hint
	return f
}

// field is one value of a record, whatever file it comes from, as JSON.
type field struct {
	name string
	raw  json.RawMessage
}

const (
	shapeHint     = `a line is {"text": "…"} or {"prompt": "…", "completion": "…"}, or a chat, {"messages": […]}`
	labelsHint    = `a record has "text", perhaps "text_pair", and "labels": a list of classes`
	classHint     = `a record has "text", perhaps "text_pair", and "label"`
	embeddingHint = `a record has "anchor", "positive" and perhaps "negative", or "sentence1", "sentence2" and "score"`
)

// fieldNames are the fields of each task.
var fieldNames = map[Task][]string{
	LanguageModel:  {"text", "prompt", "completion", "messages", "tools", "documents", "chat_template_kwargs"},
	Classification: {"text", "text_pair", "label"},
	MultiLabel:     {"text", "text_pair", "labels", "label"},
	Regression:     {"text", "text_pair", "label"},
	Embedding:      {"anchor", "positive", "negative", "sentence1", "sentence2", "score"},
}

// parseRecord makes a record of fields. Those that opt ignores are passed over whatever
// they hold. Other unknown fields are accepted only while they hold null, false or
// nothing: a weight, a role or a system prompt that is dropped without a word changes
// what is learned.
func parseRecord(fields []field, opt ReadOptions) (Record, *fault) {
	var rec Record
	values := map[string]json.RawMessage{}
	for _, f := range fields {
		name, known := opt.meaning(f.name)
		if !known {
			if slices.Contains(opt.Ignore, f.name) || isEmptyValue(f.raw) {
				continue
			}
			return Record{}, unknownField(f.name, opt.Task)
		}
		if _, twice := values[name]; twice {
			return Record{}, faultf("field %s is given twice", formats.Quote(f.name))
		}
		values[name] = f.raw
		if fault := rec.set(name, f.raw, opt.Task); fault != nil {
			return Record{}, fault
		}
	}
	has := func(name string) bool { return values[name] != nil }
	switch opt.Task {
	case MultiLabel:
		if has("labels") == has("label") {
			return rec, faultf(`one of "labels" and "label" is needed`).withHint(labelsHint)
		}
		return rec, textFault(has, labelsHint)
	case Classification, Regression:
		return rec, classFault(has)
	case Embedding:
		return rec, rec.pairs(has)
	}
	return rec, rec.languageFault(has)
}

// sentencePlaces are the places of texts in Record.Sentences.
var sentencePlaces = map[string]int{"anchor": 0, "sentence1": 0, "positive": 1, "sentence2": 1, "negative": 2}

// set reads the value of a known field.
func (r *Record) set(name string, raw json.RawMessage, task Task) *fault {
	switch name {
	case "text":
		return readString(raw, name, &r.Text)
	case "text_pair":
		return readString(raw, name, &r.TextPair)
	case "prompt", "completion":
		if jsonKind(raw) == "array" {
			return r.setMessages(name, raw)
		}
		if name == "prompt" {
			return readString(raw, name, &r.Prompt)
		}
		return readString(raw, name, &r.Completion)
	case "messages", "tools", "documents", "chat_template_kwargs":
		return r.setMessages(name, raw)
	case "label", "labels", "score":
		if task == MultiLabel {
			return r.setLabels(name, raw)
		}
		var f *fault
		r.Label, f = readLabel(name, raw, task == Classification)
		return f
	}
	var s string
	f := readString(raw, name, &s)
	at := sentencePlaces[name]
	for len(r.Sentences) <= at {
		r.Sentences = append(r.Sentences, "")
	}
	r.Sentences[at] = s
	return f
}

// setMessages reads a part of a chat.
func (r *Record) setMessages(name string, raw json.RawMessage) *fault {
	want := "array"
	if name == "chat_template_kwargs" {
		want = "object"
	}
	if kind := jsonKind(raw); kind == "null" && (name == "tools" || name == "documents" || want == "object") {
		return nil
	} else if kind != want {
		return faultf("field %q: got %s, want an %s", name, kind, want)
	}
	parsed, err := strictjson.Parse(raw, formats.MaxJSONDepth)
	if err != nil {
		return faultf("field %q: %v", name, err)
	}
	if r.Chat == nil {
		r.Chat = &Chat{}
	}
	if o, ok := parsed.(*strictjson.Object); ok {
		r.Chat.Variables = map[string]any{}
		for _, k := range o.Keys {
			if r.Chat.Variables[k], err = jinja.FromJSON(o.Values[k]); err != nil {
				return faultf("field %q: %v", name, err)
			}
		}
		return nil
	}
	v, err := jinja.FromJSON(parsed)
	if err != nil {
		return faultf("field %q: %v", name, err)
	}
	list := v.(jinja.List)
	isMessage := name != "tools" && name != "documents"
	if isMessage && len(list) == 0 {
		return faultf("field %q has no messages", name)
	}
	for i, x := range list {
		d, ok := x.(*jinja.Dict)
		if !ok {
			return faultf("field %q: element %d is no object", name, i+1)
		}
		if role, _ := d.Get("role"); isMessage {
			if s, ok := role.(string); !ok || s == "" {
				f := faultf("field %q: message %d has no role", name, i+1)
				if _, from := d.Get("from"); from {
					f.hint = `messages are {"role": "…", "content": "…"}; "from" and "value" are not read`
				}
				return f
			}
		}
	}
	switch name {
	case "messages", "prompt":
		r.Chat.Messages = list
	case "completion":
		r.Chat.Reply = list
	case "tools":
		r.Chat.Tools = list
	case "documents":
		r.Chat.Documents = list
	}
	return nil
}

// setLabels reads a list of classes, or one.
func (r *Record) setLabels(name string, raw json.RawMessage) *fault {
	elements := []json.RawMessage{raw}
	if jsonKind(raw) == "array" {
		if err := json.Unmarshal(raw, &elements); err != nil {
			return faultf("field %q: %v", name, err)
		}
	}
	r.Labels = make([]Label, len(elements))
	for i, e := range elements {
		var f *fault
		if r.Labels[i], f = readLabel(name, e, true); f != nil {
			return f
		}
	}
	return nil
}

// readLabel reads the name or number of a class, or a number. A number may be written as a
// string, as files without types have it.
func readLabel(name string, raw json.RawMessage, class bool) (l Label, f *fault) {
	var text string
	switch kind := jsonKind(raw); kind {
	case "string":
		if f := readString(raw, name, &text); f != nil {
			return l, f
		}
	case "number":
		text = string(raw)
	default:
		f := faultf("field %q: got %s, want a number%s", name, kind, map[bool]string{true: " or a string"}[class])
		if kind == "array" && class {
			f.hint = "the task for texts with several classes is multi-label classification"
		}
		return l, f
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	whole := err == nil && n == math.Trunc(n) && n >= 0 && n <= 1<<31
	switch {
	case class && jsonKind(raw) == "string":
		return Label{Name: text, Number: -1}, nil
	case class && !whole:
		return l, faultf("field %q: class %s (want a whole number from 0 on, or a name)", name, formats.Quote(text))
	case err != nil || math.IsInf(n, 0) || math.IsNaN(n):
		return l, faultf("field %q: %s is no finite number", name, formats.Quote(text))
	}
	return Label{Number: n}, nil
}

// languageFault checks that the fields make exactly one of the forms.
func (r *Record) languageFault(has func(string) bool) *fault {
	text, prompt, completion, messages := has("text"), has("prompt"), has("completion"), has("messages")
	switch {
	case messages && (text || prompt || completion):
		return faultf(`"messages" beside "text", "prompt" or "completion"`).withHint(shapeHint)
	case text && (prompt || completion):
		return faultf(`both "text" and "prompt" or "completion"`).withHint(shapeHint)
	case prompt && !completion:
		return faultf(`"prompt" without "completion"`).withHint(shapeHint)
	case completion && !prompt:
		return faultf(`"completion" without "prompt"`).withHint(shapeHint)
	case !text && !prompt && !messages:
		return faultf(`neither "text" nor "prompt" and "completion"`).withHint(shapeHint)
	}
	if r.Chat == nil {
		return nil
	}
	switch {
	case text || prompt && r.Chat.Messages == nil && r.Chat.Reply == nil:
		return faultf("tools, documents and template variables belong to a chat").withHint(shapeHint)
	case prompt && (r.Chat.Messages == nil || r.Chat.Reply == nil):
		return faultf(`one of "prompt" and "completion" is a string and the other a list of messages`)
	case prompt && r.Completion+r.Prompt != "":
		return faultf(`both a string and messages`)
	}
	return nil
}

func classFault(has func(string) bool) *fault {
	if f := textFault(has, classHint); f != nil || has("label") {
		return f
	}
	return faultf(`no "label"`).withHint(classHint)
}

func textFault(has func(string) bool, hint string) *fault {
	if has("text") {
		return nil
	}
	return faultf(`no "text"`).withHint(hint)
}

// pairs checks which form of an embedding record it is.
func (r *Record) pairs(has func(string) bool) *fault {
	group := func(names ...string) (some, all bool) {
		all = true
		for _, n := range names {
			some, all = some || has(n), all && has(n)
		}
		return some, all
	}
	someTriple, _ := group("anchor", "positive", "negative")
	_, pair := group("anchor", "positive")
	someScored, scored := group("sentence1", "sentence2", "score")
	if someTriple == someScored || someTriple && !pair || someScored && !scored {
		return faultf("neither anchor and positive, nor two sentences and a score").withHint(embeddingHint)
	}
	r.Scored = scored
	return nil
}

func unknownField(name string, task Task) *fault {
	f := faultf("unknown field %s", formats.Quote(name))
	switch {
	case name == "conversations" && task == LanguageModel:
		f.hint = `chats are read from "messages", with "role" and "content" in each`
	case task == Embedding:
		f.hint = embeddingHint
	case task == MultiLabel:
		f.hint = labelsHint
	case task != LanguageModel:
		f.hint = classHint
	default:
		f.hint = shapeHint
	}
	return f
}

// readString decodes a JSON string that must not be empty into dst.
func readString(raw json.RawMessage, name string, dst *string) *fault {
	if kind := jsonKind(raw); kind != "string" {
		return faultf("field %q: got %s, want a string", name, kind)
	}
	if hasLoneSurrogate(raw) {
		return faultf("field %q: half of a surrogate pair, which no UTF-8 text can hold", name)
	}
	if err := json.Unmarshal(raw, dst); err != nil {
		return faultf("field %q: %v", name, err)
	}
	if *dst != "" {
		return nil
	}
	f := faultf("field %q is empty", name)
	if name == "prompt" {
		f.hint = `a completion without a prompt is {"text": "…"}`
	}
	return f
}

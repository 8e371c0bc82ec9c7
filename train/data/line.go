package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/seed-b982eded/graft/formats"
)

// fault is what is wrong with one line, and how to mend it where that is known.
type fault struct{ what, hint string }

func faultf(format string, args ...any) *fault { return &fault{what: fmt.Sprintf(format, args...)} }

func (f *fault) withHint(hint string) *fault {
	f.hint = hint
	return f
}

const shapeHint = `a line is {"text": "…"} or {"prompt": "…", "completion": "…"}`

// parseLine reads one object. Fields named in ignore are passed over whatever they
// hold. Other unknown fields are accepted only while they hold null, false or
// nothing: a weight, a role or a system prompt that is dropped without a word
// changes what is learned.
func parseLine(line []byte, ignore []string) (Record, *fault) {
	if !utf8.Valid(line) {
		return Record{}, faultf("invalid UTF-8 at byte %d", invalidAt(line)+1)
	}
	var whole json.RawMessage
	if err := json.Unmarshal(line, &whole); err != nil {
		return Record{}, syntaxFault(err, line)
	}
	if kind := jsonKind(whole); kind != "object" {
		f := faultf("got %s, want an object", kind).withHint(shapeHint)
		if kind == "array" {
			f.hint = "this is JSON, not JSON Lines: write each element on a line of its own, for instance with jq -c '.[]'"
		}
		return Record{}, f
	}

	var rec Record
	seen := map[string]bool{}
	dec := json.NewDecoder(bytes.NewReader(whole))
	if _, err := dec.Token(); err != nil {
		return Record{}, faultf("not JSON: %v", err)
	}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return Record{}, faultf("not JSON: %v", err)
		}
		name, _ := tok.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return Record{}, faultf("not JSON: %v", err)
		}
		if seen[name] {
			return Record{}, faultf("field %s is given twice", formats.Quote(name))
		}
		seen[name] = true

		var field *string
		switch name {
		case "text":
			field = &rec.Text
		case "prompt":
			field = &rec.Prompt
		case "completion":
			field = &rec.Completion
		default:
			if slices.Contains(ignore, name) || isEmptyValue(raw) {
				delete(seen, name) // no part of the shape
				continue
			}
			return Record{}, unknownField(name)
		}
		if f := readString(raw, name, field); f != nil {
			return Record{}, f
		}
	}
	return rec, shapeFault(seen)
}

// shapeFault checks that the fields make exactly one of the two forms.
func shapeFault(seen map[string]bool) *fault {
	text, prompt, completion := seen["text"], seen["prompt"], seen["completion"]
	switch {
	case text && (prompt || completion):
		return faultf(`both "text" and "prompt" or "completion"`).withHint(shapeHint)
	case prompt && !completion:
		return faultf(`"prompt" without "completion"`).withHint(shapeHint)
	case completion && !prompt:
		return faultf(`"completion" without "prompt"`).withHint(shapeHint)
	case !text && !prompt:
		return faultf(`neither "text" nor "prompt" and "completion"`).withHint(shapeHint)
	}
	return nil
}

func unknownField(name string) *fault {
	f := faultf("unknown field %s", formats.Quote(name)).withHint(shapeHint)
	if name == "messages" || name == "conversations" {
		f.hint = "chats are not read: render each with the model's chat template into prompt and completion"
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

// syntaxFault words a JSON error for a reader who sees the line and not a stream.
func syntaxFault(err error, line []byte) *fault {
	var syn *json.SyntaxError
	if !errors.As(err, &syn) {
		return faultf("not JSON: %v", err)
	}
	f := faultf("not JSON at byte %d: %v", syn.Offset, err)
	if t := bytes.TrimSpace(line); len(t) == 1 && (t[0] == '{' || t[0] == '[') {
		f.hint = "this is JSON spread over lines, and JSON Lines has one object a line: use jq -c"
	}
	return f
}

// jsonKind names the kind of a valid JSON value by its first byte.
func jsonKind(raw []byte) string {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

// isEmptyValue reports whether a valid JSON value says nothing; a string of spaces
// counts as empty.
func isEmptyValue(raw []byte) bool {
	switch string(bytes.Join(bytes.Fields(raw), nil)) {
	case "null", "false", `""`, "[]", "{}":
		return true
	}
	return false
}

// hasLoneSurrogate reports whether a valid JSON string escapes half of a UTF-16
// pair, which encoding/json would replace with U+FFFD without a word.
func hasLoneSurrogate(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++ // the escaped character; a valid string never ends in a backslash
		if i >= len(raw) || raw[i] != 'u' {
			continue
		}
		unit := hex4(raw, i+1)
		i += 4
		if unit < 0xD800 || unit > 0xDFFF {
			continue
		}
		if unit > 0xDBFF || i+2 >= len(raw) || raw[i+1] != '\\' || raw[i+2] != 'u' {
			return true
		}
		if low := hex4(raw, i+3); low < 0xDC00 || low > 0xDFFF {
			return true
		}
		i += 6
	}
	return false
}

// hex4 reads four hexadecimal digits, or gives −1.
func hex4(b []byte, at int) int {
	if at+4 > len(b) {
		return -1
	}
	n := 0
	for _, c := range b[at : at+4] {
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | int(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			n = n<<4 | int(c|0x20-'a'+10)
		default:
			return -1
		}
	}
	return n
}

// invalidAt returns the offset of the first byte that is no UTF-8.
func invalidAt(b []byte) int {
	at := 0
	for at < len(b) {
		r, n := utf8.DecodeRune(b[at:])
		if r == utf8.RuneError && n == 1 {
			return at
		}
		at += n
	}
	return at
}

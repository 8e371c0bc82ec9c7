package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

// parseLine reads one object.
func parseLine(line []byte, opt ReadOptions) (Record, *fault) {
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

	fields, f := objectFields(whole)
	if f != nil {
		return Record{}, f
	}
	return parseRecord(fields, opt)
}

// objectFields takes a valid JSON object apart.
func objectFields(object []byte) (fields []field, f *fault) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if _, err := dec.Token(); err != nil {
		return nil, faultf("not JSON: %v", err)
	}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, faultf("not JSON: %v", err)
		}
		name, _ := tok.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, faultf("not JSON: %v", err)
		}
		fields = append(fields, field{name, raw})
	}
	return fields, nil
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

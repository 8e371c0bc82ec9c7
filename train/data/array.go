package data

import (
	"bytes"
	"encoding/json"
	"io"
	"unicode/utf8"

	"github.com/seed-b982eded/graft/formats"
)

// maxArrayBytes bounds a file that is one JSON array: unlike one of lines, it is in memory
// as a whole.
const maxArrayBytes = 2 << 30

// readArray reads a JSON array of objects. Faults name the line where an element begins.
func readArray(name string, r io.Reader, opt ReadOptions) ([]Record, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxArrayBytes+1))
	if err != nil {
		return nil, ioError(name, err)
	}
	if len(text) > maxArrayBytes {
		return nil, formats.Rejectf(name, "", "a JSON array of more than %d bytes", int64(maxArrayBytes)).WithHint("use JSON Lines: jq -c '.[]'")
	}
	text = bytes.TrimPrefix(text, utf8BOM)
	if !utf8.Valid(text) {
		at := invalidAt(text)
		return nil, formats.Rejectf(name, "", "line %d: invalid UTF-8", 1+bytes.Count(text[:at], []byte("\n")))
	}
	found := reading{name: name}
	dec := json.NewDecoder(bytes.NewReader(text))
	line, counted := 1, 0
	lineAt := func(at int) int {
		line += bytes.Count(text[counted:at], []byte("\n"))
		counted = at
		return line
	}
	broken := func(err error) ([]Record, error) {
		at := len(text)
		if syntax, ok := err.(*json.SyntaxError); ok {
			at = min(int(syntax.Offset), at)
		}
		return nil, formats.Rejectf(name, "", "line %d: not JSON: %v", lineAt(max(at, counted)), err)
	}
	if _, err := dec.Token(); err != nil {
		return broken(err)
	}
	for dec.More() {
		at := int(dec.InputOffset())
		at += len(text[at:]) - len(bytes.TrimLeft(text[at:], " \t\r\n,"))
		number := lineAt(at)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return broken(err)
		}
		if kind := jsonKind(raw); kind != "object" {
			found.take(number, Record{}, faultf("got %s, want an object", kind).withHint(shapeHint))
			continue
		}
		fields, f := objectFields(raw)
		var rec Record
		if f == nil {
			rec, f = parseRecord(fields, opt)
		}
		found.take(number, rec, f)
	}
	if _, err := dec.Token(); err != nil {
		return broken(err)
	}
	if rest := text[dec.InputOffset():]; len(bytes.TrimSpace(rest)) > 0 {
		return nil, formats.Rejectf(name, "", "line %d: something follows the array", lineAt(len(text)-len(bytes.TrimLeft(rest, " \t\r\n"))))
	}
	return found.result()
}

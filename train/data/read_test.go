package data

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/seed-b982eded/graft/formats"
)

// Each case is a whole file and the exact error, without the file's name.
var badFiles = []struct{ name, text, want, hint string }{
	{"cut-object", `{"text": "a"`, `line 1: not JSON at byte 12: unexpected end of JSON input`, ``},
	{"bare-word", `hello`, `line 1: not JSON at byte 1: invalid character 'h' looking for beginning of value`, ``},
	{"two-objects", `{"text":"a"} {"text":"b"}`, `line 1: not JSON at byte 14: invalid character '{' after top-level value`, ``},
	{"trailing-comma", `{"text":"a",}`, `line 1: not JSON at byte 13: invalid character '}' looking for beginning of object key string`, ``},
	{"raw-control", "{\"text\":\"a\tb\"}", `line 1: not JSON at byte 11: invalid character '\t' in string literal`, ``},
	{"spread", "{\n\"text\": \"a\"\n}", `line 1: not JSON at byte 1: unexpected end of JSON input
reading "data.jsonl": line 2: not JSON at byte 7: invalid character ':' after top-level value
reading "data.jsonl": line 3: not JSON at byte 1: invalid character '}' looking for beginning of value`,
		`this is JSON spread over lines, and JSON Lines has one object a line: use jq -c`},
	{"array", `[{"text":"a"}]`, `line 1: got array, want an object`,
		`this is JSON, not JSON Lines: write each element on a line of its own, for instance with jq -c '.[]'`},
	{"string", `"a"`, `line 1: got string, want an object`, shapeHint},
	{"number", `-1`, `line 1: got number, want an object`, shapeHint},
	{"null", `null`, `line 1: got null, want an object`, shapeHint},
	{"bool", `true`, `line 1: got boolean, want an object`, shapeHint},
	{"empty-object", `{}`, `line 1: neither "text" nor "prompt" and "completion"`, shapeHint},
	{"empty-text", `{"text":""}`, `line 1: field "text" is empty`, ``},
	{"empty-completion", `{"prompt":"a","completion":""}`, `line 1: field "completion" is empty`, ``},
	{"empty-prompt", `{"prompt":"","completion":"a"}`, `line 1: field "prompt" is empty`, `a completion without a prompt is {"text": "…"}`},
	{"null-text", `{"text":null}`, `line 1: field "text": got null, want a string`, ``},
	{"number-text", `{"text":5}`, `line 1: field "text": got number, want a string`, ``},
	{"list-prompt", `{"prompt":["a"],"completion":"b"}`, `line 1: field "prompt": element 1 is no object`, ``},
	{"object-completion", `{"prompt":"a","completion":{}}`, `line 1: field "completion": got object, want a string`, ``},
	{"both", `{"text":"a","prompt":"b","completion":"c"}`, `line 1: both "text" and "prompt" or "completion"`, shapeHint},
	{"text-completion", `{"text":"a","completion":"c"}`, `line 1: both "text" and "prompt" or "completion"`, shapeHint},
	{"prompt-only", `{"prompt":"a"}`, `line 1: "prompt" without "completion"`, shapeHint},
	{"completion-only", `{"completion":"a"}`, `line 1: "completion" without "prompt"`, shapeHint},
	{"case", `{"Text":"a"}`, `line 1: unknown field "Text"`, shapeHint},
	{"unknown", `{"text":"a","weight":0.5}`, `line 1: unknown field "weight"`, shapeHint},
	{"messages-text", `{"messages":[{"role":"user","content":"a"}],"text":"a"}`, `line 1: "messages" beside "text", "prompt" or "completion"`, shapeHint},
	{"messages-empty", `{"messages":[]}`, `line 1: field "messages" has no messages`, ``},
	{"messages-string", `{"messages":"a"}`, `line 1: field "messages": got string, want an array`, ``},
	{"messages-element", `{"messages":[1]}`, `line 1: field "messages": element 1 is no object`, ``},
	{"messages-role", `{"messages":[{"role":"user"},{"content":"a"}]}`, `line 1: field "messages": message 2 has no role`, ``},
	{"messages-sharegpt", `{"messages":[{"from":"human","value":"a"}]}`, `line 1: field "messages": message 1 has no role`,
		`messages are {"role": "…", "content": "…"}; "from" and "value" are not read`},
	{"messages-twice-inside", `{"messages":[{"role":"a","role":"b"}]}`, `line 1: field "messages": duplicate name "role" at byte 19`, ``},
	{"half-chat", `{"prompt":[{"role":"user"}],"completion":"a"}`, `line 1: one of "prompt" and "completion" is a string and the other a list of messages`, ``},
	{"tools-only", `{"text":"a","tools":[{}]}`, `line 1: tools, documents and template variables belong to a chat`, shapeHint},
	{"conversations", `{"conversations":[{"from":"human"}]}`, `line 1: unknown field "conversations"`, `chats are read from "messages", with "role" and "content" in each`},
	{"control-name", `{"a\u001b[31m":1}`, `line 1: unknown field "a\x1b[31m"`, shapeHint},
	{"twice", `{"text":"a","text":"b"}`, `line 1: field "text" is given twice`, ``},
	{"utf8", "{\"text\":\"a\xff\"}", `line 1: invalid UTF-8 at byte 11`, ``},
	{"utf8-cut", "{\"text\":\"\xe2\x82", `line 1: invalid UTF-8 at byte 10`, ``},
	{"surrogate-high", `{"text":"a\ud83d"}`, `line 1: field "text": half of a surrogate pair, which no UTF-8 text can hold`, ``},
	{"surrogate-low", `{"text":"\uDE00a"}`, `line 1: field "text": half of a surrogate pair, which no UTF-8 text can hold`, ``},
	{"surrogate-two-high", `{"text":"\ud83d\ud83d"}`, `line 1: field "text": half of a surrogate pair, which no UTF-8 text can hold`, ``},
	{"bom-inside", "{\"text\":\"a\"}\n\ufeff{\"text\":\"b\"}", `line 2: not JSON at byte 1: invalid character 'ï' looking for beginning of value`, ``},
	{"line-numbers", "\n \t\r\n{\"text\":\"a\"}\n\n5\n", `line 5: got number, want an object`, shapeHint},
	{"empty-file", ``, `no examples`, shapeHint},
	{"blank-file", "\n \n", `no examples`, shapeHint},
	{"only-bom", "\ufeff", `no examples`, shapeHint},
	{"utf16", "\xff\xfe{\x00", `UTF-16 text, want UTF-8`, `convert it, for instance with iconv -f UTF-16 -t UTF-8`},
	{"gzip", "\x1f\x8b\x08\x00", `compressed, want JSON Lines`, `unpack it first`},
	{"zstd", "\x28\xb5\x2f\xfd", `compressed, want JSON Lines`, `unpack it first`},
	{"parquet", "PAR1\x15", `Parquet, want JSON Lines`, `export it as JSON Lines first`},
}

func TestBadFiles(t *testing.T) {
	for _, c := range badFiles {
		t.Run(c.name, func(t *testing.T) {
			records, err := Read("data.jsonl", strings.NewReader(c.text))
			want := `reading "data.jsonl": ` + c.want
			if err == nil || err.Error() != want {
				t.Fatalf("got %d records and\n%v\nwant\n%s", len(records), err, want)
			}
			if !errors.Is(err, formats.ErrInput) {
				t.Errorf("class of %v", err)
			}
			var first *formats.Error
			if !errors.As(err, &first) || first.Hint != c.hint {
				t.Errorf("hint (got %q, want %q)", first.Hint, c.hint)
			}
		})
	}
}

func TestPlainTextIsRefused(t *testing.T) {
	for name, text := range map[string]string{"notes.txt": "Once upon a time", "NOTES.TXT": "\ufeff\n  [1] Once"} {
		_, err := Read(name, strings.NewReader(text))
		want := `reading "` + name + `": plain text, want JSON Lines`
		var e *formats.Error
		if !errors.As(err, &e) || e.Error() != want || !strings.Contains(e.Hint, "jq -cR") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	// The content counts, not the name.
	if _, err := Read("data.txt", strings.NewReader(` {"text":"a"}`)); err != nil {
		t.Error(err)
	}
}

func TestAllFaultsAreCollected(t *testing.T) {
	var text strings.Builder
	for range 30 {
		text.WriteString("{\"text\":\"good\"}\n5\n")
	}
	_, err := Read("d", strings.NewReader(text.String()))
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 21 || lines[0] != `reading "d": line 2: got number, want an object` ||
		lines[19] != `reading "d": line 40: got number, want an object` || lines[20] != "and 10 more" {
		t.Errorf("got\n%v", err)
	}
}

func TestGoodLines(t *testing.T) {
	text := "\ufeff{\"text\":\"Zürich \\u00e9 \\ud83d\\uDE00 😀 \\\\ud83d\"}\r\n" +
		"\n" +
		"  {\"completion\": \" Paris\", \"prompt\": \"Capital of France?\", \"id\": null, \"tags\": [ ], \"flag\": false}\n" +
		"{\"text\":\"last, without a newline\", \"meta\": {\"a\": 1}, \"meta\": 2}"
	got, err := Read("d", strings.NewReader(text), "meta")
	want := []Record{
		{Origin: Origin{File: "d", Line: 1}, Text: "Zürich é 😀 😀 \\ud83d"},
		{Origin: Origin{File: "d", Line: 3}, Prompt: "Capital of France?", Completion: " Paris"},
		{Origin: Origin{File: "d", Line: 4}, Text: "last, without a newline"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if s := got[1].Origin.String(); s != "d:3" || got[1].IsText() || !got[0].IsText() {
		t.Errorf("origin %s, forms %v %v", s, got[0].IsText(), got[1].IsText())
	}
}

// Lines longer than the reader's buffer come in pieces.
func TestReadLine(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", []string{""}},
		{"a\nb", []string{"a", "b"}},
		{"a\n", []string{"a", ""}},
		{long[:50] + "\n" + long[:49] + "\nb\n", []string{long[:50], long[:49], "b", ""}},
		{long[:51] + "\nb", []string{"TOO LONG", "b"}},
		{long + "\n" + long, []string{"TOO LONG", "TOO LONG"}},
		{long[:15] + "\n" + long[:16] + "\n" + long[:17], []string{long[:15], long[:16], long[:17]}},
	} {
		in := bufio.NewReaderSize(strings.NewReader(c.text), 16)
		var got []string
		for {
			line, tooLong, err := readLine(in, 50)
			if tooLong {
				line = []byte("TOO LONG")
			}
			got = append(got, string(line))
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
}

func TestLongLineIsRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 64 MB")
	}
	line := io.MultiReader(
		strings.NewReader(`{"text":"`),
		io.LimitReader(endless('x'), formats.MaxLineBytes),
		strings.NewReader("\"}\n{\"text\":\"a\"}\n5\n"),
	)
	_, err := Read("d", line)
	want := `reading "d": line 1: line too long (want at most 67108864 bytes)
reading "d": line 3: got number, want an object`
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "d.jsonl")
	if err := os.WriteFile(path, []byte(`{"text":"a"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadFile(path); err != nil || len(got) != 1 || got[0].File != path {
		t.Errorf("got %v, %v", got, err)
	}
	for name, want := range map[string]string{"absent": "no such file or directory", ".": "is a directory"} {
		path := filepath.Join(dir, name)
		_, err := ReadFile(path)
		full := "reading " + formats.Quote(path) + ": " + want
		if !errors.Is(err, formats.ErrInput) || err.Error() != full {
			t.Errorf("got %v, want %s", err, full)
		}
	}
	broken := io.MultiReader(strings.NewReader("{\"text\":\"a\"}\n"), iotest.ErrReader(errors.New("cable cut")))
	if _, err := Read("d", broken); !errors.Is(err, formats.ErrInput) || err.Error() != `reading "d": cable cut` {
		t.Errorf("got %v", err)
	}
}

// FuzzRead checks that whatever is accepted says the same when written again, and
// that whatever is refused names the file.
func FuzzRead(f *testing.F) {
	for _, c := range badFiles {
		f.Add([]byte(c.text))
	}
	f.Add([]byte("\ufeff{\"text\":\"\\ud83d\\uDE00\"}\r\n\n{\"prompt\":\"a\",\"completion\":\"b\",\"x\":[]}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		records, err := Read("d.jsonl", bytes.NewReader(text))
		if err != nil {
			if !errors.Is(err, formats.ErrInput) || !strings.HasPrefix(err.Error(), `reading "d.jsonl": `) {
				t.Fatalf("error %v", err)
			}
			return
		}
		var again bytes.Buffer
		for _, r := range records {
			if r.Chat != nil {
				return // a chat is more than strings, and cannot be written again here
			}
			fields := map[string]string{"text": r.Text}
			if !r.IsText() {
				fields = map[string]string{"prompt": r.Prompt, "completion": r.Completion}
			}
			line, err := json.Marshal(fields)
			if err != nil {
				t.Fatal(err)
			}
			again.Write(append(line, '\n'))
		}
		second, err := Read("d.jsonl", &again)
		if err != nil || len(second) != len(records) {
			t.Fatalf("written again: %d records for %d, %v", len(second), len(records), err)
		}
		for i := range records {
			second[i].Line = records[i].Line
			if !reflect.DeepEqual(second[i], records[i]) {
				t.Fatalf("record %d: got %+v, want %+v", i, second[i], records[i])
			}
		}
	})
}

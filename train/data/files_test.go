package data

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/chat/jinja"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// outcome says in one line what reading a file comes to.
func outcome(path string, opt ReadOptions) string {
	records, err := ReadFiles([]string{path}, opt)
	if err != nil {
		return strings.ReplaceAll(err.Error(), "reading "+formats.Quote(path)+": ", "")
	}
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintf(&b, "%d:", r.Line)
		for _, s := range append([]string{r.Text, r.TextPair, r.Prompt, r.Completion}, r.Sentences...) {
			if s != "" {
				fmt.Fprintf(&b, "%q ", s)
			}
		}
		if r.Label != (Label{}) {
			fmt.Fprint(&b, r.Label, " ")
		}
		if r.Chat != nil {
			fmt.Fprintf(&b, "chat of %d+%d ", len(r.Chat.Messages), len(r.Chat.Reply))
		}
	}
	return strings.TrimSpace(b.String())
}

func TestReadFiles(t *testing.T) {
	class, value, pairs := ReadOptions{Task: Classification}, ReadOptions{Task: Regression}, ReadOptions{Task: Embedding}
	columns := ReadOptions{Columns: map[string]string{"text": "body"}, Ignore: []string{"id"}}
	for _, c := range []struct {
		file, text string
		opt        ReadOptions
		want       string
	}{
		{"a.csv", "text\na\n\"b\n\"\"c\"\"\"\nd\n", ReadOptions{}, `2:"a" 3:"b\n\"c\"" 5:"d"`},
		{"a.csv", "\ufeffprompt,completion\r\na,b\r\n", ReadOptions{}, `2:"a" "b"`},
		{"a.tsv", "text\tid\na,b\t\n", ReadOptions{}, `2:"a,b"`},
		{"a.csv", "body,id\na,7\n", columns, `2:"a"`},
		{"a.csv", "text,id\na,7\nb,\n", ReadOptions{}, `line 2: unknown field "id"`},
		{"a.csv", "text,id\na\nb,,\n", ReadOptions{}, "line 2: 1 cells, want 2 as in the header\nline 3: 3 cells, want 2 as in the header"},
		{"a.csv", "text\n\"a\nb\nc", ReadOptions{}, `line 4: extraneous or missing " in quoted-field`},
		{"a.csv", "text\na\"b\nc\"", ReadOptions{}, `line 2: bare " in non-quoted-field`},
		{"a.csv", "", ReadOptions{}, "no header"},
		{"a.csv", "text\n", ReadOptions{}, "no examples"},
		{"a.csv", "a,a\n", ReadOptions{}, `column "a" is there twice`},
		{"a.csv", "Once upon a time\n", ReadOptions{}, `no column of the header "Once upon a time" is known (want some of text, prompt, completion, messages, tools, documents, chat_template_kwargs)`},
		{"a.csv", "text\n\xff\n", ReadOptions{}, `line 2: column "text": invalid UTF-8`},
		{"a.csv", "messages,tools\n\"[{\"\"role\"\":\"\"user\"\",\"\"content\"\":\"\"a\"\"}]\",\n", ReadOptions{}, `2:chat of 1+0`},
		{"a.csv", "text,label\na,1\nb,good\nc,1.5\n", class, `2:"a" {1 -1} 3:"b" {good -1} 4:"c" {1.5 -1}`},
		{"a.csv", "text,label\na,1\nb,-2.5e1\n", value, `2:"a" {1} 3:"b" {-25}`},
		{"a.csv", "text,label\na,\nb,x\nc,inf\n", value, "line 2: no \"label\"\nline 3: field \"label\": \"x\" is no finite number\nline 4: field \"label\": \"inf\" is no finite number"},
		{"a.jsonl", `{"text":"a","label":2,"text_pair":"b"}`, class, `1:"a" "b" {2}`},
		{"a.jsonl", `{"text":"a","label":2.5}` + "\n" + `{"text":"a","label":-1}` + "\n" + `{"text":"a","label":true}`, class,
			"line 1: field \"label\": class \"2.5\" (want a whole number from 0 on, or a name)\nline 2: field \"label\": class \"-1\" (want a whole number from 0 on, or a name)\nline 3: field \"label\": got boolean, want a number or a string"},
		{"a.jsonl", `{"text":"a","prompt":"b","label":1}`, class, `line 1: unknown field "prompt"`},
		{"a.jsonl", `{"positive":"b","anchor":"a"}` + "\n" + `{"anchor":"a","positive":"b","negative":"c"}`, pairs, `1:"a" "b" 2:"a" "b" "c"`},
		{"a.jsonl", `{"sentence1":"a","sentence2":"b","score":0.5}`, pairs, `1:"a" "b" {0.5}`},
		{"a.jsonl", `{"sentence1":"a","positive":"b"}` + "\n" + `{"sentence1":"a","sentence2":"b"}` + "\n" + `{"anchor":"a"}`, pairs,
			strings.TrimSpace(strings.Repeat("line X: neither anchor and positive, nor two sentences and a score\n", 3))},
		{"a.json", "\n[\n {\"text\": \"a\"},\n\n {\"text\":\n \"b\"} , {\"text\": \"c\"}]\n", ReadOptions{}, `3:"a" 5:"b" 6:"c"`},
		{"a.json", "[{\"text\": \"a\"},\n 5,\n {\"x\": 1}]", ReadOptions{}, "line 2: got number, want an object\nline 3: unknown field \"x\""},
		{"a.json", "[{\"text\": \"a\"},\n {\"text\" \"b\"}]", ReadOptions{}, "line 2: not JSON: invalid character '\"' after object key"},
		{"a.json", "[{\"text\": \"a\"}\n", ReadOptions{}, "line 2: not JSON: EOF"},
		{"a.json", "[{\"text\": \"a\"}]\n[]", ReadOptions{}, "line 2: something follows the array"},
		{"a.json", "[{\"text\": \"a\"},\n{\"text\": \"\xff\"}]", ReadOptions{}, "line 2: invalid UTF-8"},
		{"a.json", "[]", ReadOptions{}, "no examples"},
		{"a.jsonl", `{"prompt":[{"role":"user","content":"a"}],"completion":[{"role":"assistant","content":"b"}],"chat_template_kwargs":{"k":1}}`, ReadOptions{}, `1:chat of 1+1`},
	} {
		got := outcome(write(t, c.file, c.text), c.opt)
		want := strings.NewReplacer("{1 -1}", "{1 -1}").Replace(c.want)
		if strings.Contains(want, "line X") {
			for i := range 3 {
				want = strings.Replace(want, "line X", fmt.Sprint("line ", i+1), 1)
			}
		}
		want = strings.NewReplacer("{2}", "{ 2}", "{1}", "{ 1}", "{-25}", "{ -25}", "{0.5}", "{ 0.5}").Replace(want)
		if got != want {
			t.Errorf("%s %q:\n got %s\nwant %s", c.file, c.text, got, want)
		}
	}
}

func TestCompressedFilesAndPatterns(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		var b bytes.Buffer
		if strings.HasSuffix(name, ".gz") {
			z := gzip.NewWriter(&b)
			z.Write([]byte(text))
			z.Close()
		} else {
			b.WriteString(text)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("b.jsonl.gz", `{"text":"b"}`)
	put("a.csv.gz", "text\na\n")
	put("c[1].jsonl", `{"text":"c"}`)
	records, err := ReadFiles([]string{filepath.Join(dir, "c[1].jsonl"), filepath.Join(dir, "*.gz")}, ReadOptions{})
	var got []string
	for _, r := range records {
		got = append(got, r.Text)
	}
	if err != nil || strings.Join(got, "") != "cab" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := ReadFiles([]string{filepath.Join(dir, "*.parquet")}, ReadOptions{}); !errors.Is(err, formats.ErrInput) {
		t.Errorf("no match: %v", err)
	}
	for _, columns := range []map[string]string{{"txt": "a"}, {"prompt": "a", "completion": "a"}, {"text": ""}} {
		if _, err := ReadFiles(nil, ReadOptions{Columns: columns}); !errors.Is(err, formats.ErrUsage) {
			t.Errorf("%v: %v", columns, err)
		}
	}
	damaged := write(t, "d.jsonl.gz", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x00")
	if _, err := ReadFiles([]string{damaged}, ReadOptions{}); !errors.Is(err, formats.ErrInput) {
		t.Errorf("damaged gzip: %v", err)
	}
}

func TestReadParquet(t *testing.T) {
	path := func(name string) string { return filepath.Join(fixtures, name+".parquet") }
	records, err := ReadFiles([]string{path("chats-zstd")}, ReadOptions{Ignore: []string{"tags"}})
	if err != nil || len(records) != 3 || records[1].Line != 2 {
		t.Fatalf("got %v, %v", records, err)
	}
	last := records[0].Chat.Messages[1].(*jinja.Dict)
	if text, _ := last.Get("content"); text != "Grüezi 👋" {
		t.Errorf("got %q", text)
	}
	if got := outcome(path("chats-zstd"), ReadOptions{}); got != `row 3: unknown field "tags"` {
		t.Errorf("got %s", got)
	}
	opt := ReadOptions{Task: Classification, Ignore: []string{"weight", "good"}}
	records, err = ReadFiles([]string{path("classes")}, opt)
	if err != nil || len(records) != 150 || records[149].Label.Number != 4 || records[148].TextPair != "pair" || records[147].Text != "text number 0" {
		t.Errorf("got %d, %v", len(records), err)
	}
	opt.Columns = map[string]string{"text": "when"}
	if got := outcome(path("dates"), opt); !strings.HasPrefix(got, `column "when" has the type TIMESTAMP(`) {
		t.Errorf("got %s", got)
	}
	opt.Columns = map[string]string{"text": "a", "label": "b"}
	if got := outcome(path("dates"), opt); !strings.HasPrefix(got, `no column of "text, when" is known`) {
		t.Errorf("got %s", got)
	}
}

// TestDamagedParquet changes every byte of small files, and cuts them: whatever comes of
// it, it is records or a rejection, and soon.
func TestDamagedParquet(t *testing.T) {
	for _, name := range []string{"chats-zstd", "chats-snappy", "chats-gzip", "chats-lz4", "classes-plain"} {
		whole, err := os.ReadFile(filepath.Join(fixtures, name+".parquet"))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		try := func(what string, text []byte) {
			path := filepath.Join(dir, "d.parquet")
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := ReadFiles([]string{path}, ReadOptions{Ignore: []string{"tags"}}); err != nil && !errors.Is(err, formats.ErrInput) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
		step := 11
		if testing.Short() {
			step = 31
		}
		for i := 4; i < len(whole); i += step {
			for _, b := range []byte{0, 0x7f, 0xff, whole[i] ^ 1, whole[i] + 2} {
				text := bytes.Clone(whole)
				text[i] = b
				try(fmt.Sprintf("byte %d is %#x", i, b), text)
			}
			if i%16 == 0 {
				try(fmt.Sprint("cut at ", i), whole[:i])
			}
		}
	}
}

func TestLabels(t *testing.T) {
	records := []Record{{Text: "a", Label: Label{Name: "y"}}, {Text: "b", Label: Label{Name: "x"}}, {Text: "c", Label: Label{Name: "y"}}}
	if got := ClassNames(records); !reflect.DeepEqual(got, []string{"x", "y"}) {
		t.Errorf("got %q", got)
	}
}

package tokenizer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

func TestTokenID(t *testing.T) {
	tok := openFile(t, "tiny-llama.json")
	if id, ok := tok.TokenID("<|endoftext|>"); id != 0 || !ok {
		t.Errorf("<|endoftext|> is %d, %v", id, ok)
	}
	if id, ok := tok.TokenID("no such token"); ok {
		t.Errorf("an unknown token is %d", id)
	}
}

// TestInvalidUTF8 has its answers from Python's bytes.decode("utf-8", "replace").
func TestInvalidUTF8(t *testing.T) {
	tok := openFile(t, "tiny-llama.json")
	for in, want := range map[string]string{
		"a\xffb":                 "a\ufffdb",
		"\xe4\xbd":               "\ufffd",
		"\xe4\xbdx":              "\ufffdx",
		"\xf0\x9f\x99\xe4a":      "\ufffd\ufffda",
		"\xc0\x80":               "\ufffd\ufffd",
		"\xed\xa0\x80":           "\ufffd\ufffd\ufffd",
		"\xf4\x90\x80\x80":       "\ufffd\ufffd\ufffd\ufffd",
		"\xe0\x80\xf0\x80":       "\ufffd\ufffd\ufffd\ufffd",
		"\x80\xbf":               "\ufffd\ufffd",
		"\xf1\x80\x80\xf1":       "\ufffd\ufffd",
		"ok \xe2\x82\xac \u00e9": "ok € é",
	} {
		got, err := tok.Encode(in, false)
		if err != nil {
			t.Fatal(err)
		}
		if text := tok.Decode(got, false); text != want {
			t.Errorf("%q is read as %q, want %q", in, text, want)
		}
	}
}

// TestEncodeTyped has its answers from XLNet's template, which gives the last token
// another type.
func TestEncodeTyped(t *testing.T) {
	tok := openFile(t, "xlnet.json")
	ids, types, err := tok.EncodeTyped("a", true)
	if err != nil || len(ids) != 3 || !slices.Equal(types, []int32{0, 0, 2}) {
		t.Errorf("%d, %d, %v", ids, types, err)
	}
	if plain, err := tok.Encode("a", true); err != nil || !slices.Equal(plain, ids) {
		t.Errorf("Encode gives %d, %v; EncodeTyped %d", plain, err, ids)
	}
}

// TestReplaceOfNothing is where the library would double the text.
func TestReplaceOfNothing(t *testing.T) {
	tok, err := Open("f", []byte(file("normalizer", `{"type": "Replace", "pattern": {"Regex": "^"}, "content": "b"}`)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Encode("a", false); err == nil || !strings.Contains(err.Error(), "matches nothing") {
		t.Errorf("got %v", err)
	}
}

func TestUnknownTokenMissing(t *testing.T) {
	tok, err := Open("f", []byte(file("model", `{"vocab": {"a": 0}, "merges": [], "unk_token": "<unk>"}`)))
	if err != nil {
		t.Fatal(err)
	}
	const want = `reading "f": encoding a text: character "b" has no token, and unk_token "<unk>" is not in the vocabulary`
	if _, err := tok.Encode("ab", false); err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestCatastrophicPattern(t *testing.T) {
	shorten(t)
	find, err := compile(`(?:a|aa)+[bc]`)
	if err != nil {
		t.Fatal(err)
	}
	_, err = find(strings.Repeat("a", 60))
	if err == nil || strings.Contains(err.Error(), "aaaaaa") || !strings.Contains(err.Error(), "longer than 200ms on 60 bytes") {
		t.Errorf("got %v", err)
	}
}

func shorten(t testing.TB) {
	before := matchTimeout
	matchTimeout = 200 * time.Millisecond
	t.Cleanup(func() { matchTimeout = before })
}

// TestStreamHoldsBack looks at what is returned when.
func TestStreamHoldsBack(t *testing.T) {
	for name, text := range map[string]string{"gpt2.json": "a 👩 b", "llama2.json": "a 👩 b"} {
		tok := openFile(t, name)
		ids, err := tok.Encode(text, false)
		if err != nil {
			t.Fatal(err)
		}
		s := tok.Stream(true)
		var got []string
		for _, id := range ids {
			if part := s.Next(id); part != "" {
				got = append(got, part)
			}
		}
		if end := s.Flush(); end != "" {
			t.Errorf("%s: %q was held back to the end", name, end)
		}
		if len(got) < 3 || strings.Join(got, "") != text {
			t.Errorf("%s: %q", name, got)
		}
		for _, part := range got {
			if strings.ContainsRune(part, utf8.RuneError) {
				t.Errorf("%s: part of a character in %q", name, got)
			}
		}
		again := ""
		for _, id := range ids {
			again += s.Next(id)
		}
		if again += s.Flush(); again != text {
			t.Errorf("%s: after Flush %q", name, again)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	tok := openFile(t, "llama3.json")
	var texts []string
	readJSON(t, "texts.json", &texts)
	var want [][]int32
	for _, s := range texts {
		ids, err := openFile(t, "llama3.json").Encode(s, true)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, ids)
		if len(want) == 60 {
			break
		}
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range want {
				if got, err := tok.Encode(texts[i], true); err != nil || !slices.Equal(got, want[i]) {
					t.Errorf("%q: %d, %v; want %d", texts[i], got, err, want[i])
				}
			}
		})
	}
	wg.Wait()
}

// TestLongInput would take hours if any step were quadratic.
func TestLongInput(t *testing.T) {
	if testing.Short() {
		t.Skip("slow, and of one goroutine")
	}
	for _, name := range []string{"gpt2.json", "llama3.json", "cl100k.json", "llama2.json", "metaspace-first.json", "added.json", "nfkc.json", "bert-uncased.json", "clip.json", "t5.json", "unigram-bytes.json", "seamless.json", "scripts.json", "fixed.json"} {
		tok := openFile(t, name)
		for _, unit := range []string{"a", " ", "\n", "<", "1", "é", "\u0301", "你", "👩", "\x00", "\xff", "<s>", "\n\n[T4]", "'s", " a"} {
			size := 100_000
			if unit == "a" {
				size = 1 << 20
			}
			start := time.Now()
			if _, err := tok.Encode(strings.Repeat(unit, size/len(unit)), true); err != nil {
				t.Errorf("%s, %q: %v", name, unit, err)
			}
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("%s, %q: %v", name, unit, d)
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	for _, name := range []string{"gpt2.json", "llama2.json", "deepseek.json", "added.json", "bytes.json", "bert-uncased.json", "roberta.json", "xlnet.json", "unigram-bytes.json", "wordlevel.json", "ctc.json"} {
		data, err := os.ReadFile(filepath.Join(goldenDir, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(file("pre_tokenizer", `{"type": "Split", "pattern": {"Regex": "(?i:[sdmt]|ll)|\\p{L}++|[^\\s[.,]]{1,3}+|\\s+$"}, "behavior": "MergedWithNext", "invert": true}`)))
	f.Add([]byte(file("decoder", `{"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": "a", "start": 9, "stop": 9}]}`)))
	shorten(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := Open("f", data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r\x1b") {
				t.Errorf("more than a line: %q", err)
			}
			return
		}
		ids, err := tok.Encode("It's a test\u0301 of 12 <s>\n\n  things 👩 \xff", true)
		if err == nil {
			s, all := tok.Stream(false), ""
			for _, id := range append(ids, 0, 1, 2, 3) {
				all += s.Next(id)
			}
			_ = all + s.Flush()
			if got, types, err := tok.EncodePair("It's", "a test", true); err == nil && len(got) != len(types) {
				t.Errorf("%d ids, %d type ids", len(got), len(types))
			}
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	var texts []string
	readJSON(f, "texts.json", &texts)
	for _, s := range texts {
		f.Add(s)
	}
	var all []*Tokenizer
	for _, name := range []string{"tiny-llama.json", "gpt2.json", "llama3.json", "gpt4o.json", "cl100k.json", "deepseek.json", "falcon.json"} {
		all = append(all, openFile(f, name))
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return
		}
		for i, tok := range all {
			ids, err := tok.Encode(text, false)
			if err != nil {
				t.Fatal(err)
			}
			if got := tok.Decode(ids, false); got != text {
				t.Errorf("%d: %q became %q", i, text, got)
			}
			s, streamed := tok.Stream(false), ""
			for _, id := range ids {
				streamed += s.Next(id)
			}
			if streamed += s.Flush(); streamed != text {
				t.Errorf("%d: %q streamed as %q", i, text, streamed)
			}
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	var texts []string
	readJSON(b, "texts.json", &texts)
	prose := strings.Repeat("The ferry leaves at 7:45 and it doesn't wait, so we'll be on the pier by half past seven.\n  She's packed bread, naïveté and привет.\n", 2000)
	for _, name := range []string{"tiny-llama", "gpt2", "llama3", "deepseek", "llama2", "gemma", "bert-uncased", "roberta", "clip", "t5", "xlnet"} {
		tok := openFile(b, name+".json")
		for what, text := range map[string]string{"prose": prose, "one-character": strings.Repeat("a", 1<<20)} {
			b.Run(name+"/"+what, func(b *testing.B) {
				b.SetBytes(int64(len(text)))
				for b.Loop() {
					if _, err := tok.Encode(text, true); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func Example() {
	data, err := os.ReadFile("../../testdata/tokenizer/tiny-llama.json")
	if err != nil {
		fmt.Println(err)
		return
	}
	tok, err := Open("tiny-llama.json", data)
	if err != nil {
		fmt.Println(err)
		return
	}
	ids, err := tok.Encode("Once upon a time<|endoftext|>", true)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(ids)
	fmt.Printf("%q\n", tok.Decode(ids, true))
	// Output:
	// [81 112 334 440 261 746 0]
	// "Once upon a time"
}

package tokenizer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// The golden files are what Hugging Face's library answers; testdata/gen/tokenizer.py
// makes them.
const goldenDir = "../../testdata/tokenizer"

type golden struct {
	Size             int
	Panicked         []int // texts on which the library itself fails
	More             []string
	IDs              [][]int32
	Special          [][]int32
	Decoded          []*string
	Skipped          []*string
	Sequences        [][]int32
	SequencesDecoded []*string `json:"sequences_decoded"`
	SequencesSkipped []*string `json:"sequences_skipped"`
}

func readJSON(t testing.TB, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(goldenDir, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func openFile(t testing.TB, name string) *Tokenizer {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(goldenDir, name))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := Open(name, data)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestGolden(t *testing.T) {
	names, err := filepath.Glob(filepath.Join(goldenDir, "*.json"))
	if err != nil || len(names) < 20 {
		t.Fatalf("%d tokenizers, %v", len(names), err)
	}
	var common []string
	readJSON(t, "texts.json", &common)
	for _, name := range names {
		name = strings.TrimSuffix(filepath.Base(name), ".json")
		if name == "texts" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			var g golden
			readJSON(t, name+".golden", &g)
			tok := openFile(t, name+".json")
			if tok.VocabSize() != g.Size {
				t.Errorf("VocabSize %d, want %d", tok.VocabSize(), g.Size)
			}
			var texts []string
			for i, s := range common {
				if !slices.Contains(g.Panicked, i) {
					texts = append(texts, s)
				}
			}
			texts = append(texts, g.More...)
			if len(texts) != len(g.IDs) || len(texts) < 100 {
				t.Fatalf("%d texts, %d answers", len(texts), len(g.IDs))
			}
			for i, s := range texts {
				got, err := tok.Encode(s, false)
				if err != nil || !slices.Equal(got, g.IDs[i]) {
					t.Errorf("Encode(%q, false)\n got %d, %v\nwant %d", s, got, err, g.IDs[i])
				}
				special := g.IDs[i]
				if i < len(g.Special) && g.Special[i] != nil {
					special = g.Special[i]
				}
				got, err = tok.Encode(s, true)
				if err != nil || i < len(g.Special) && !slices.Equal(got, special) {
					t.Errorf("Encode(%q, true)\n got %d, %v\nwant %d", s, got, err, special)
				}
				checkDecode(t, tok, got, or(g.Decoded[i], &s), or(g.Skipped[i], g.Decoded[i], &s))
			}
			for i, ids := range g.Sequences {
				checkDecode(t, tok, ids, *g.SequencesDecoded[i], or(g.SequencesSkipped[i], g.SequencesDecoded[i]))
			}
		})
	}
}

// or returns the first that is there.
func or(all ...*string) string {
	for _, s := range all {
		if s != nil {
			return *s
		}
	}
	return ""
}

func checkDecode(t *testing.T, tok *Tokenizer, ids []int32, all, skipped string) {
	t.Helper()
	for _, skip := range []bool{false, true} {
		want := all
		if skip {
			want = skipped
		}
		if got := tok.Decode(ids, skip); got != want {
			t.Errorf("Decode(%d, %v)\n got %q\nwant %q", ids, skip, got, want)
		}
		s, streamed := tok.Stream(skip), ""
		for _, id := range ids {
			streamed += s.Next(id)
		}
		if streamed += s.Flush(); streamed != want {
			t.Errorf("Stream of %d, %v\n got %q\nwant %q", ids, skip, streamed, want)
		}
	}
}

func TestPatterns(t *testing.T) {
	var all []struct {
		Pattern, Behavior string
		Invert            bool
		Cases             map[string][]string
	}
	readJSON(t, "patterns.golden", &all)
	n := 0
	for _, p := range all {
		find, err := compile(p.Pattern)
		if err != nil {
			t.Errorf("%s: %v", p.Pattern, err)
			continue
		}
		split := splitter(find, behaviours[p.Behavior], p.Invert)
		for s, want := range p.Cases {
			words, err := split(nil, s, false)
			got := slices.DeleteFunc(words, func(w string) bool { return w == "" })
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s, %s, %v: %q\n got %q, %v\nwant %q", p.Pattern, p.Behavior, p.Invert, s, got, err, want)
			}
			n++
		}
	}
	if n < 300 {
		t.Errorf("only %d cases", n)
	}
}

// TestUnicode asks about every character. If it fails after an update of Go or
// x/text, their Unicode has grown beyond what unicode.go corrects.
func TestUnicode(t *testing.T) {
	var g struct {
		Classes, Forms map[string]string
		Strings        []string
		Normalized     map[string][]string
	}
	readJSON(t, "unicode.golden", &g)
	everything := func(f func(h hash.Hash, r rune)) string {
		h := sha256.New()
		for r := rune(0); r <= unicode.MaxRune; r++ {
			if utf8.ValidRune(r) {
				f(h, r)
			}
		}
		return hex.EncodeToString(h.Sum(nil))
	}
	classes := map[string]func(rune) bool{
		"space": unicode.IsSpace, "punctuation": isPunctuation, "word": isWord, "numeric": isNumeric,
	}
	var all strings.Builder
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if utf8.ValidRune(r) {
			all.WriteRune(r)
		}
	}
	for name := range newer {
		in, with, without := make([]bool, unicode.MaxRune+1), 0, 0
		for _, p := range []string{`\p{` + name + `}+`, `\P{` + name + `}+`} {
			find, err := compile(p)
			if err != nil {
				t.Fatal(err)
			}
			found, err := find(all.String())
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range found {
				for _, r := range all.String()[m.start:m.end] {
					if p[1] == 'p' {
						in[r] = true
						with++
					} else if without++; in[r] {
						t.Errorf("%U is in %s and in its complement", r, name)
					}
				}
			}
		}
		if n := utf8.RuneCountInString(all.String()); with+without != n {
			t.Errorf("%s and its complement have %d characters (want %d)", name, with+without, n)
		}
		classes[name] = func(r rune) bool { return in[r] }
	}
	classes["letter"], classes["number"] = isLetter, isNumber
	g.Classes["letter"], g.Classes["number"] = g.Classes["L"], g.Classes["N"]
	for name, in := range classes {
		got := everything(func(h hash.Hash, r rune) {
			if in(r) {
				fmt.Fprintf(h, "%X\n", r)
			}
		})
		if got != g.Classes[name] {
			t.Errorf("class %s has other members than the library's", name)
		}
	}
	forms := map[string]func(string) string{"Lowercase": lowercase}
	for name, form := range normalForms {
		forms[name] = form.apply
	}
	for name, form := range forms {
		got := everything(func(h hash.Hash, r rune) { fmt.Fprintf(h, "%X %s\n", r, form(string(r))) })
		if got != g.Forms[name] {
			t.Errorf("%s makes something else of a character than the library", name)
		}
		for i, s := range g.Strings {
			if got, want := form(s), g.Normalized[name][i]; got != want {
				t.Errorf("%s of %+q\n got %+q\nwant %+q", name, s, got, want)
			}
		}
	}
}

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

	"github.com/seed-b982eded/graft/internal/strictjson"
)

// The golden files are what Hugging Face's library answers; testdata/gen/tokenizer.py
// makes them.
const goldenDir = "../../testdata/tokenizer"

type golden struct {
	Size             int
	Pairs            []pairGolden
	Corpus           string
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

// pairGolden is two texts, with the ids and type ids that have special tokens, and
// with those that have none.
type pairGolden struct {
	first, second                        string
	ids, typeIDs, plainIDs, plainTypeIDs []int32
}

func (p *pairGolden) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&p.first, &p.second, &p.ids, &p.typeIDs, &p.plainIDs, &p.plainTypeIDs})
}

// corpusLine is a text, or one that is repeated.
type corpusLine string

func (c *corpusLine) UnmarshalJSON(data []byte) error {
	var unit string
	times := 1
	var err error
	if data[0] == '[' {
		err = json.Unmarshal(data, &[]any{&unit, &times})
	} else {
		err = json.Unmarshal(data, &unit)
	}
	*c = corpusLine(strings.Repeat(unit, times))
	return err
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
	if testing.Short() {
		t.Skip("slow, and of one goroutine")
	}
	names, err := filepath.Glob(filepath.Join(goldenDir, "*.json"))
	if err != nil || len(names) < 20 {
		t.Fatalf("%d tokenizers, %v", len(names), err)
	}
	var common []string
	readJSON(t, "texts.json", &common)
	var corpus []corpusLine
	readJSON(t, "corpus.json", &corpus)
	for _, name := range names {
		name = strings.TrimSuffix(filepath.Base(name), ".json")
		if name == "texts" || name == "corpus" {
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
			for _, p := range g.Pairs {
				checkPair(t, tok, p)
			}
			checkCorpus(t, tok, corpus, g.Corpus)
			for i, ids := range g.Sequences {
				checkDecode(t, tok, ids, *g.SequencesDecoded[i], or(g.SequencesSkipped[i], g.SequencesDecoded[i]))
			}
		})
	}
}

func checkPair(t *testing.T, tok *Tokenizer, p pairGolden) {
	t.Helper()
	for _, special := range []bool{true, false} {
		wantIDs, wantTypes := p.ids, p.typeIDs
		if !special {
			wantIDs, wantTypes = p.plainIDs, p.plainTypeIDs
		}
		ids, types, err := tok.EncodePair(p.first, p.second, special)
		if err != nil || !slices.Equal(ids, wantIDs) || !slices.Equal(types, wantTypes) {
			t.Errorf("EncodePair(%q, %q, %v)\n got %d\n     %d, %v\nwant %d\n     %d", p.first, p.second, special, ids, types, err, wantIDs, wantTypes)
		}
	}
}

// checkCorpus compares with the library by digests: of each line's ids, and of what
// they decode to. Dashes stand where the library panics or has no ids.
func checkCorpus(t *testing.T, tok *Tokenizer, corpus []corpusLine, want string) {
	t.Helper()
	if len(want) != 8*len(corpus) || len(corpus) < 900 {
		t.Fatalf("%d lines, %d digests", len(corpus), len(want)/8)
	}
	digest := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return hex.EncodeToString(sum[:2])
	}
	wrong, compared := 0, 0
	for i, line := range corpus {
		want := want[8*i : 8*i+8]
		ids, err := tok.Encode(string(line), true)
		if want[:4] == "----" {
			continue
		}
		compared++
		got := "none"
		if err == nil {
			got = digest(strings.Trim(fmt.Sprint(ids), "[]"))
			if want[4:] != "----" {
				got += digest(tok.Decode(ids, false))
			} else {
				got += "----"
			}
		}
		if got == want {
			continue
		}
		if wrong++; wrong <= 5 {
			t.Errorf("line %d of the corpus, %.60q: %v; digests %s, want %s\n%.300s\n%.300q", i, string(line), err, got, want, fmt.Sprint(ids), tok.Decode(ids, false))
		}
	}
	if wrong > 0 || compared < 500 {
		t.Errorf("%d of %d lines of the corpus differ", wrong, compared)
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
	if testing.Short() {
		t.Skip("slow, and of one goroutine")
	}
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
			words, err := split(nil, word{s: s}, &passage{s: s})
			got := texts(words)
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

// texts returns the words that are not empty.
func texts(words []word) []string {
	var out []string
	for _, w := range words {
		if w.s != "" {
			out = append(out, w.s)
		}
	}
	return out
}

// TestUnicode asks about every character. If it fails after an update of Go or
// x/text, their Unicode has grown beyond what unicode.go corrects.
func TestUnicode(t *testing.T) {
	if testing.Short() {
		t.Skip("slow, and of one goroutine")
	}
	var g struct {
		Classes, Forms map[string]string
		Extended       string
		Scripts        []string
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
	forms := map[string]normalizer{"Lowercase": lowercase}
	for name, options := range map[string]string{
		"Nmt": `{"type": "Nmt"}`, "StripAccents": `{"type": "StripAccents"}`,
		"Bert clean_text":           bertOptions("clean_text"),
		"Bert handle_chinese_chars": bertOptions("handle_chinese_chars"),
		"Bert strip_accents":        bertOptions("strip_accents"),
		"Bert lowercase":            bertOptions("lowercase"),
	} {
		v, err := strictjson.Parse([]byte(options), 3)
		if err != nil {
			t.Fatal(err)
		}
		if forms[name], err = readNormalizer(v); err != nil {
			t.Fatal(err)
		}
	}
	if len(g.Forms) != len(forms)+len(normalForms)+1 {
		t.Errorf("%d forms (want %d)", len(forms)+len(normalForms)+1, len(g.Forms))
	}
	forms["graphemes"] = charsmapOfA(t).normalize
	got := everything(func(h hash.Hash, r rune) {
		out, _ := forms["graphemes"].apply("a" + string(r) + "a")
		fmt.Fprintf(h, "%X %s\n", r, out)
	})
	if got != g.Extended {
		t.Error("graphemes are others than the library's")
	}
	checkScripts(t, g.Scripts)
	for name, form := range normalForms {
		forms[name] = form.normalize
	}
	for name, n := range forms {
		form := func(s string) string {
			out, err := n.apply(s)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
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

func bertOptions(on string) string {
	out := `{"type": "BertNormalizer"`
	for _, o := range []string{"clean_text", "handle_chinese_chars", "strip_accents", "lowercase"} {
		out += fmt.Sprintf(`, %q: %v`, o, o == on)
	}
	return out + "}"
}

// charsmapOfA returns a table that makes x of a.
func charsmapOfA(t *testing.T) *charsmap {
	c := &charsmap{units: make([]uint32, 256), texts: "x\x00"}
	c.units[0] = 1 << 10                // children at 1 xor byte
	c.units[1^'a'] = 'a' | 1<<8 | 1<<10 // ends a key, whose value is beside it
	c.units[1^'a'^1] = 1 << 31          // the text at 0
	if text, ok := c.shortest("ab"); !ok || text != "x" {
		t.Fatalf("a becomes %q, %v", text, ok)
	}
	return c
}

// checkScripts cuts all characters, in four orders, where scripts change.
func checkScripts(t *testing.T, want []string) {
	var all []rune
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if utf8.ValidRune(r) {
			all = append(all, r)
		}
	}
	for i, step := range []int{1, 7919, 104729, 500009} {
		h := sha256.New()
		const block = 1 << 12
		for from := 0; from < len(all); from += block {
			var b strings.Builder
			for j := from; j < min(from+block, len(all)); j++ {
				b.WriteRune(all[j*step%len(all)])
			}
			words, err := scriptRuns(nil, word{s: b.String()}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range words {
				start := from + utf8.RuneCountInString(b.String()[:w.at])
				fmt.Fprintf(h, "%d %d\n", start, start+utf8.RuneCountInString(w.s))
			}
		}
		if hex.EncodeToString(h.Sum(nil)) != want[i] {
			t.Errorf("scripts in steps of %d change in other places than in the library", step)
		}
	}
}

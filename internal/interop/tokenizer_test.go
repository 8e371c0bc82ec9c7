package interop

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/train/data"
	"github.com/seed-b982eded/graft/train/tokenizer"
)

// tokenizerJob is what check_tokenizer.py reads, tokenizerAnswer what it prints.
type tokenizerJob struct {
	File  string      `json:"file"`
	Texts []string    `json:"texts"`
	Pairs [][2]string `json:"pairs"`
	IDs   [][]int32   `json:"ids"`
}

type tokenizerAnswer struct {
	Plain, Special   [][]int32
	Pairs            [][][]int32 // ids and type ids
	Decoded, Skipped []*string
}

// TestTokenizers compares with the real library: on quickstart's texts, and for every
// kind of pipeline on random texts and ids.
func TestTokenizers(t *testing.T) {
	light(t)
	n := seed(t)
	rng := rand.New(rand.NewPCG(n, 0))
	var corpus []string
	if err := json.Unmarshal([]byte(python(t, interopPython, nil, "check_tokenizer.py", "--corpus", fmt.Sprint(n))), &corpus); err != nil {
		t.Fatal(err)
	}
	jobs := []tokenizerJob{{File: fixture("tiny-llama", "tokenizer.json"), Texts: quickstartTexts(t), Pairs: [][2]string{}, IDs: [][]int32{}}}
	files, err := filepath.Glob(fixture("tokenizer", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, fixture("tiny-llama", "tokenizer.json")) {
		if name := filepath.Base(file); name == "texts.json" || name == "corpus.json" {
			continue
		}
		job := randomJob(t, rng, file)
		for range 300 {
			job.Texts = append(job.Texts, corpus[rng.IntN(len(corpus))])
		}
		for range 50 {
			job.Pairs = append(job.Pairs, [2]string{job.Texts[rng.IntN(len(job.Texts))], job.Texts[rng.IntN(len(job.Texts))]})
		}
		jobs = append(jobs, job)
	}
	if len(jobs) < 40 {
		t.Fatalf("only %d tokenizers", len(jobs))
	}
	request, err := json.Marshal(jobs)
	if err != nil {
		t.Fatal(err)
	}
	var answers []tokenizerAnswer
	if err := json.Unmarshal([]byte(python(t, interopPython, request, "check_tokenizer.py")), &answers); err != nil {
		t.Fatal(err)
	}
	if len(answers) != len(jobs) {
		t.Fatalf("%d answers to %d jobs", len(answers), len(jobs))
	}
	for i, job := range jobs {
		name := strings.TrimSuffix(filepath.Base(job.File), ".json")
		if i == 0 {
			name = "quickstart"
		}
		t.Run(name, func(t *testing.T) { compareTokens(t, job, answers[i]) })
	}
}

func compareTokens(t *testing.T, job tokenizerJob, want tokenizerAnswer) {
	tok := openTokenizer(t, job.File)
	var compared, panicked int
	for i, s := range job.Texts {
		for _, special := range []bool{false, true} {
			ids := want.Plain[i]
			if special {
				ids = want.Special[i]
			}
			if ids == nil {
				panicked++
				continue
			}
			got, err := tok.Encode(s, special)
			if err != nil || !slices.Equal(got, ids) {
				t.Errorf("Encode(%q, %v)\n got %d, %v\nwant %d", s, special, got, err, ids)
			}
			compared++
		}
	}
	for i, pair := range job.Pairs {
		if want.Pairs[i] == nil {
			panicked++
			continue
		}
		ids, types, err := tok.EncodePair(pair[0], pair[1], true)
		if err != nil || !slices.Equal(ids, want.Pairs[i][0]) || !slices.Equal(types, want.Pairs[i][1]) {
			t.Errorf("EncodePair(%q, %q, true)\n got %d\n     %d, %v\nwant %d\n     %d", pair[0], pair[1], ids, types, err, want.Pairs[i][0], want.Pairs[i][1])
		}
		compared++
	}
	for i, ids := range job.IDs {
		for _, skip := range []bool{false, true} {
			text := want.Decoded[i]
			if skip {
				text = want.Skipped[i]
			}
			if text == nil {
				panicked++
				continue
			}
			if got := tok.Decode(ids, skip); got != *text {
				t.Errorf("Decode(%d, %v)\n got %q\nwant %q", ids, skip, got, *text)
			}
			compared++
		}
	}
	t.Logf("%d answers compared; the library itself panics at %d", compared, panicked)
	if compared < 9*panicked {
		t.Error("too few to compare")
	}
}

func openTokenizer(t *testing.T, file string) *tokenizer.Tokenizer {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Open(file, text)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func quickstartTexts(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "cmd", "graft", "quickstart", "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		records, err := data.Read(file, f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			texts = append(texts, r.Text, r.Prompt, r.Completion)
		}
	}
	texts = slices.DeleteFunc(texts, func(s string) bool { return s == "" })
	if len(texts) < 20 {
		t.Fatalf("quickstart has %d texts", len(texts))
	}
	return texts
}

// randomJob makes texts of characters of all kinds, words, white space and the
// tokenizer's own added tokens, and lists of ids of which a few are out of range.
func randomJob(t *testing.T, rng *rand.Rand, file string) tokenizerJob {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Added []struct{ Content string } `json:"added_tokens"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	pick := func(from ...string) string { return from[rng.IntN(len(from))] }
	letters := func(n int, from, to rune) string {
		var b strings.Builder
		for range 1 + rng.IntN(n) {
			r := from + rune(rng.IntN(int(to-from)))
			if r >= 0xd800 && r < 0xe000 {
				r = 0xfffd
			}
			b.WriteRune(r)
		}
		return b.String()
	}
	piece := func() string {
		switch rng.IntN(14) {
		case 0, 1:
			return letters(7, 'a', 'z'+1)
		case 2:
			return letters(3, 'A', 'Z'+1) + letters(4, 'a', 'z'+1)
		case 3:
			return fmt.Sprint(rng.IntN(100_000))
		case 4, 5:
			return pick(" ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u00a0", "\u3000", "\u2028")
		case 6:
			return pick("'s", "'LL", "'t ", "don't", "I'M", "'ſ", "’s")
		case 7:
			return letters(4, '!', '0')
		case 8:
			return pick(" the", " of", "and", "ing", "the the ")
		case 9:
			return letters(3, 0xa1, 0x530)
		case 10:
			return letters(3, 0x300, 0x370) // combining
		case 11:
			return letters(3, 0x3040, 0xd7a4)
		case 12:
			return letters(2, 0x1f300, 0x1f700)
		}
		if len(doc.Added) > 0 && rng.IntN(2) == 0 {
			return doc.Added[rng.IntN(len(doc.Added))].Content
		}
		return letters(2, 1, 0x30000)
	}
	job := tokenizerJob{File: file}
	for range 300 {
		var b strings.Builder
		for range 1 + rng.IntN(12) {
			b.WriteString(piece())
		}
		job.Texts = append(job.Texts, b.String())
	}
	size := openTokenizer(t, file).VocabSize()
	for range 100 {
		ids := make([]int32, 1+rng.IntN(14))
		for i := range ids {
			ids[i] = int32(rng.IntN(size + 3))
		}
		job.IDs = append(job.IDs, ids)
	}
	return job
}

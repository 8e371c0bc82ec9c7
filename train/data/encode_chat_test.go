package data

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/train/chat"
	"github.com/seed-b982eded/graft/train/models"
)

// words is a tokenizer with a token a word, to which the space before it belongs; the
// words of a special token are one. Its ids are those of the words that it has met.
type words struct{ ids map[string]int32 }

func (w *words) Encode(text string, addSpecial bool) ([]int32, error) {
	var out []int32
	add := func(word string) {
		id, ok := w.ids[word]
		if !ok {
			id = int32(len(w.ids)) + 100
			w.ids[word] = id
		}
		out = append(out, id)
	}
	if addSpecial {
		out = append(out, 1)
	}
	for _, word := range strings.SplitAfter(text, " ") {
		if word != "" {
			add(word)
		}
	}
	if addSpecial {
		out = append(out, 2)
	}
	return out, nil
}

func (w *words) text(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		for word, n := range w.ids {
			if n == id {
				b.WriteString(word)
			}
		}
	}
	return b.String()
}

const conversation = `{"messages":[{"role":"user","content":"a b"},{"role":"assistant","content":"c d"},{"role":"user","content":"e"},{"role":"assistant","content":"f"}]}`

func TestEncodeChat(t *testing.T) {
	const (
		marked  = `{% for m in messages %}{{ m.role[0] ~ ': ' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content ~ ' ; ' }}{% endgeneration %}{% else %}{{ m.content ~ ' . ' }}{% endif %}{% endfor %}{% if add_generation_prompt %}a: {% endif %}`
		plain   = `{% for m in messages %}{{ m.role[0] ~ ': ' ~ m.content ~ ' ; ' }}{% endfor %}{% if add_generation_prompt %}a: {% endif %}`
		forgets = `{% for m in messages %}{{ m.role[0] ~ ': ' ~ ('' if m.role == 'assistant' and not loop.last else m.content) ~ ' ; ' }}{% endfor %}{% if add_generation_prompt %}a: {% endif %}`
		crosses = `{% for m in messages %}{{ m.role[0] ~ ':' }}{% generation %}{{ m.content ~ ';' }}{% endgeneration %}{{ '! ' }}{% endfor %}`
		reply   = `{"prompt":[{"role":"user","content":"a b"}],"completion":[{"role":"assistant","content":"c"}]}`
	)
	for _, c := range []struct {
		name, template, line string
		turns                chat.Turns
		length               int
		want                 string // the tokens that are learned, per example, or the fault
	}{
		{"marked", marked, conversation, chat.AssistantTurns, 99, "c d ; |f ; "},
		{"by difference", plain, conversation, chat.AssistantTurns, 99, "c d ; |f ; "},
		{"last", plain, conversation, chat.LastTurn, 99, "f ; "},
		{"last where earlier turns change", forgets, conversation, chat.LastTurn, 99, "f ; "},
		{"all", plain, conversation, chat.AllTurns, 99, "a b ; a: c d ; u: e ; a: f ; "}, // not the first
		{"cut", marked, conversation, chat.AssistantTurns, 6, "c "},
		{"cut between", marked, conversation, chat.AssistantTurns, 9, "c d ; "},
		{"a token across the edge is learned", crosses, conversation, chat.AssistantTurns, 99, "b;! a:c d;! u:e;! a:f;! "},
		{"reply", plain, reply, chat.AssistantTurns, 99, "c ; "},
		{"turns that change", forgets, conversation, chat.AssistantTurns, 99,
			`reading "d": line 1: what the assistant says cannot be told from the rest: the template writes message 2 differently when more messages follow`},
		{"refused by the template", `{{ raise_exception('no ' ~ messages[0].role) }}`, conversation, chat.AssistantTurns, 99,
			`reading "d": line 1: refused by the template: no user`},
		{"none of the assistant", marked, `{"messages":[{"role":"user","content":"a"}]}`, chat.AssistantTurns, 99,
			`reading "d": no example has a token to learn (of 1 records)`},
	} {
		templates, err := chat.Parse(c.template, nil)
		if err != nil {
			t.Fatal(err)
		}
		records, err := Read("d", strings.NewReader(c.line))
		if err != nil {
			t.Fatal(err)
		}
		tok := &words{map[string]int32{}}
		got := ""
		set, stats, err := Encode(t.Context(), records, tok, EncodeOptions{MaxLength: c.length, BOS: bos, EOS: eos, Templates: templates, Turns: c.turns})
		if err != nil {
			got = err.Error()
		} else {
			ex := set.Examples[0]
			var parts []string
			for _, r := range ex.learned() {
				parts = append(parts, tok.text(ex.IDs[r.From:r.To]))
			}
			got = strings.Join(parts, "|")
			batch := newLoader(t, set, LoaderOptions{Rows: 1}).At(0, 0)
			labels := slices.DeleteFunc(slices.Clone(batch.Labels), func(id int32) bool { return id == models.Ignored })
			if tok.text(labels) != strings.Join(parts, "") || int64(len(labels)) != stats.Labels {
				t.Errorf("%s: labels %q of %d", c.name, tok.text(labels), stats.Labels)
			}
		}
		if got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
	records, _ := Read("d", strings.NewReader(conversation))
	if _, _, err := Encode(t.Context(), records, letters{}, EncodeOptions{MaxLength: 9}); err == nil || !strings.Contains(err.Error(), "line 1: a chat, where the model has no chat template") {
		t.Errorf("no template: %v", err)
	}
}

func TestEncodeLabelled(t *testing.T) {
	tok := &words{map[string]int32{"a ": 10, "b ": 11, "c": 12, "d": 13}}
	opt := EncodeOptions{MaxLength: 4, Task: Classification, Classes: []string{"no", "yes"}}
	records := []Record{
		{Origin: Origin{File: "d", Line: 1}, Text: "a c", Label: Label{Name: "yes", Number: -1}},
		{Origin: Origin{File: "d", Line: 2}, Text: "a b c", Label: Label{Number: 0}},
	}
	set, stats, err := Encode(t.Context(), records, tok, opt)
	if err != nil || stats.Truncated != 1 || stats.LostTokens != 1 || stats.Tokens != 8 {
		t.Fatalf("got %+v, %v", stats, err)
	}
	b := newLoader(t, set, LoaderOptions{Rows: 2}).At(0, 0)
	if !slices.Equal(b.IDs, ids(1, 10, 12, 2, 1, 10, 11, 2)) || !slices.Equal(b.Labels, ids(1, 0)) || b.Targets != nil || b.Types != nil {
		t.Errorf("got %+v", b)
	}
	records[0].Label.Name, records[1].Label.Number = "maybe", 2
	_, _, err = Encode(t.Context(), records, tok, opt)
	want := "reading \"d\": line 1: class \"maybe\" is none of the model's 2\nreading \"d\": line 2: class 2 (want 0 to 1)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	records = []Record{{Origin: Origin{File: "d", Line: 3}, Text: "c", TextPair: "d"}}
	if _, _, err := Encode(t.Context(), records, tok, EncodeOptions{MaxLength: 9, Task: Regression}); err == nil || err.Error() != `reading "d": line 3: two texts, where the tokenizer takes one` {
		t.Errorf("got %v", err)
	}
	set, stats, err = Encode(t.Context(), records, pairs{tok}, EncodeOptions{MaxLength: 9, Task: Regression})
	if err != nil || !slices.Equal(set.Examples[0].IDs, ids(1, 12, 2, 13, 2)) || !slices.Equal(set.Examples[0].Types, ids(0, 0, 0, 1, 1)) {
		t.Errorf("got %+v, %v", set, err)
	}
	records[0].TextPair, records[0].IsRow = "a b d", true
	cut, stats, err := Encode(t.Context(), records, pairs{tok}, EncodeOptions{MaxLength: 6, Task: Regression})
	if err != nil || stats.Truncated != 1 || stats.LostTokens != 1 || !slices.Equal(cut.Examples[0].IDs, ids(1, 12, 2, 10, 11, 2)) {
		t.Errorf("got %+v, %+v, %v", cut, stats, err)
	}
	if _, _, err := Encode(t.Context(), records, tok, EncodeOptions{MaxLength: 9, Task: Regression}); err == nil || err.Error() != `reading "d": row 3: two texts, where the tokenizer takes one` {
		t.Errorf("got %v", err)
	}
	set.Examples = append(set.Examples, Example{IDs: ids(1, 2, 3, 4, 5, 6), Target: -2.5})
	b = newLoader(t, set, LoaderOptions{Rows: 2}).At(0, 0)
	if !slices.Equal(b.Targets, []float32{0, -2.5}) || b.Labels != nil || !slices.Equal(b.Types, ids(0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0)) || b.Count() != 2 {
		t.Errorf("got %+v", b)
	}
}

type pairs struct{ *words }

func (p pairs) EncodePairWithin(a, b string, limit int) (ids, types []int32, lost int, err error) {
	first, _ := p.Encode(a, true)
	second, _ := p.Encode(b, false)
	lost = max(0, len(first)+len(second)+1-limit)
	second = second[:len(second)-lost]
	types = make([]int32, len(first)+len(second)+1)
	for i := len(first); i < len(types); i++ {
		types[i] = 1
	}
	return append(append(first, second...), 2), types, lost, nil
}

func TestEncodeSentences(t *testing.T) {
	tok := &words{map[string]int32{"a ": 10, "b ": 11, "c": 12, "d": 13}}
	records := []Record{
		{Origin: Origin{File: "d", Line: 1}, Sentences: []string{"a c", "d", "c"}},
		{Origin: Origin{File: "d", Line: 2}, Sentences: []string{"b d", "c", "a d"}},
	}
	set, _, err := Encode(t.Context(), records, tok, EncodeOptions{MaxLength: 9, Task: Embedding})
	if err != nil {
		t.Fatal(err)
	}
	b := newLoader(t, set, LoaderOptions{Rows: 2}).At(0, 0)
	want := ids(1, 10, 12, 2, 1, 11, 13, 2, 1, 13, 2, 0, 1, 12, 2, 0, 1, 12, 2, 0, 1, 10, 13, 2)
	if b.Rows != 6 || b.Texts != 3 || b.Labels != nil || len(b.Targets) != 2 || b.Count() != 2 || !slices.Equal(b.IDs, want) || fmt.Sprint(b.Lens) != "[4 4 3 3 3 4]" || b.Origins[4].Line != 1 {
		t.Errorf("got %+v", b)
	}
	set.Examples[1].More = set.Examples[1].More[:1]
	if _, err := NewLoader(set, LoaderOptions{Rows: 2}); err == nil || err.Error() != `reading "d": line 2: 2 sentences, where d:1 has 3` {
		t.Errorf("got %v", err)
	}
}

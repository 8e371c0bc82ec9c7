package chat

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/seed-b982eded/graft/internal/strictjson"
	"github.com/seed-b982eded/graft/train/chat/jinja"
)

const fixtures = "../../testdata/chat"

var (
	now     = time.Date(2025, 2, 3, 4, 5, 6, 0, time.UTC)
	special = map[string]string{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
)

func list(t testing.TB, v any) jinja.List {
	t.Helper()
	out, err := jinja.FromJSON(v)
	if err != nil {
		t.Fatal(err)
	}
	l, _ := out.(jinja.List)
	return l
}

func conversations(t testing.TB) map[string]Chat {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(fixtures, "conversations.json"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := strictjson.Parse(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Chat{}
	for _, x := range doc.([]any) {
		o := x.(*strictjson.Object)
		c := Chat{Messages: list(t, o.Get("messages")), Tools: list(t, o.Get("tools")), Documents: list(t, o.Get("documents")), Variables: map[string]any{}}
		if v, ok := o.Get("variables").(*strictjson.Object); ok {
			for _, k := range v.Keys {
				c.Variables[k], _ = jinja.FromJSON(v.Values[k])
			}
		}
		out[o.Get("name").(string)] = c
	}
	return out
}

func template(t testing.TB, name string) *Templates {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(fixtures, "templates", name+".jinja"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(string(text), special)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return p
}

// TestRenderedLikeTransformers compares with what transformers renders: texts, spans of
// generation blocks, and refusals by the template itself.
func TestRenderedLikeTransformers(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(fixtures, "rendered.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Template, Conversation, Error, Message string
		Prompt                                 bool
		Text                                   *string
		Spans                                  [][2]int
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	chats := conversations(t)
	same, spans := 0, 0
	for _, c := range cases {
		id := c.Template + "/" + c.Conversation
		p := template(t, c.Template)
		got, err := p.Render(t.Context(), chats[c.Conversation], Options{AddGenerationPrompt: c.Prompt, Now: now})
		if c.Text == nil {
			if err == nil || c.Error == "TemplateError" && !strings.HasSuffix(err.Error(), "refused by the template: "+c.Message) {
				t.Errorf("%s: got %q, %v\nwant %s %s", id, got, err, c.Error, c.Message)
			}
			continue
		}
		if err != nil || got != *c.Text {
			t.Errorf("%s, prompt %v: %v\n got %q\nwant %q", id, c.Prompt, err, got, *c.Text)
			continue
		}
		same++
		if c.Spans == nil || c.Prompt {
			continue
		}
		whole, marked, err := p.Train(t.Context(), chats[c.Conversation], AssistantTurns, Options{Now: now})
		var found [][2]int
		for _, s := range marked {
			found = append(found, [2]int{utf8.RuneCountInString(whole[:s.From]), utf8.RuneCountInString(whole[:s.To])})
		}
		if err != nil || !reflect.DeepEqual(found, c.Spans) {
			t.Errorf("%s: spans %v, %v (want %v)", id, found, err, c.Spans)
		}
		spans++
	}
	if same < 180 || spans < 12 {
		t.Errorf("only %d texts and %d spans were compared", same, spans)
	}
}

package chat

import (
	"errors"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/chat/jinja"
)

// model is a checkpoint of side files alone.
func model(t *testing.T, files map[string]string) *formats.Checkpoint {
	t.Helper()
	var side []formats.SideFile
	for name, text := range files {
		side = append(side, formats.SideFile{Name: name, Size: int64(len(text)), Data: strings.NewReader(text)})
	}
	c, err := formats.NewCheckpoint("m", formats.Layout(0), nil, side)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOpen(t *testing.T) {
	hi := jinja.NewDict()
	hi.Set("role", "user")
	plain := Chat{Messages: jinja.List{hi}}
	tools := Chat{Messages: jinja.List{hi}, Tools: jinja.List{jinja.NewDict()}}
	const named = `{"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]}`
	for _, c := range []struct {
		name  string
		files map[string]string
		chat  Chat
		opt   Options
		want  string // the text, or the error
	}{
		{"in the config", map[string]string{configFile: `{"chat_template": "{{ bos_token }}{{ eos_token }}{{ pad_token }}|", "bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": null}`,
			specialFile: `{"bos_token": "other", "pad_token": "<p>"}`}, plain, Options{}, "<s></s><p>|"},
		{"a file goes before the config", map[string]string{configFile: named, templateFile: "f"}, tools, Options{}, "f"},
		{"named", map[string]string{configFile: named}, plain, Options{}, "d"},
		{"named for tools", map[string]string{configFile: named}, tools, Options{}, "t"},
		{"chosen", map[string]string{configFile: named}, tools, Options{Template: "default"}, "d"},
		{"files", map[string]string{templateFile: "f", moreFiles + "tool_use.jinja": "more"}, tools, Options{}, "more"},
		{"not there", map[string]string{configFile: named}, plain, Options{Template: "rag"}, `there is no chat template "rag" (there are default, tool_use)`},
		{"none", map[string]string{configFile: `{}`}, plain, Options{}, `reading "m": the model has no chat template: neither chat_template.jinja nor chat_template in tokenizer_config.json`},
		{"not implemented", map[string]string{templateFile: "\n{{ messages | groupby('role') }}"}, plain, Options{}, `reading "m/chat_template.jinja": chat template "default": line 2 of the template: filter "groupby" is not implemented`},
		{"number", map[string]string{configFile: `{"chat_template": 1}`}, plain, Options{}, `reading "m/tokenizer_config.json": chat_template is a number (want a string or an array)`},
		{"twice", map[string]string{configFile: `{"chat_template": [{"name": "a", "template": ""}, {"name": "a", "template": ""}]}`}, plain, Options{},
			`reading "m/tokenizer_config.json": chat_template: element 2 (want a name of its own and a template, both strings)`},
		{"damaged", map[string]string{configFile: `{`}, plain, Options{}, `reading "m/tokenizer_config.json": unexpected end (want a string) at byte 1`},
		{"token", map[string]string{configFile: `{"bos_token": 1, "chat_template": ""}`}, plain, Options{}, `reading "m/tokenizer_config.json": bos_token is a number (want a string)`},
	} {
		var got string
		p, err := Open(model(t, c.files))
		if err == nil {
			got, err = p.Render(t.Context(), c.chat, c.opt)
		} else if !errors.Is(err, formats.ErrInput) {
			t.Errorf("%s: class of %v", c.name, err)
		}
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
}

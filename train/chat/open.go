package chat

import (
	"maps"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
	"github.com/seed-b982eded/graft/train/chat/jinja"
)

const (
	configFile   = "tokenizer_config.json"
	specialFile  = "special_tokens_map.json"
	templateFile = "chat_template.jinja"
	moreFiles    = "additional_chat_templates/"
	// maxTemplates bounds the named templates of a model; two or three are usual.
	maxTemplates = 64
)

// MaxTemplateBytes bounds a template; the longest in use have 30 KB.
const MaxTemplateBytes = 1 << 20

// specialTokens are the tokens that a template knows by name.
var specialTokens = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// Templates are the chat templates of a model.
type Templates struct {
	model   string // its path, for messages
	named   map[string]*jinja.Template
	special map[string]any
}

// Open reads the templates of a model. One without any is a [formats.ErrInput], as is a
// template that does not parse or has a construct which is not implemented.
func Open(model *formats.Checkpoint) (*Templates, error) {
	t, config, err := openSpecial(model)
	if err != nil {
		return nil, err
	}
	sources, err := templateFiles(model)
	if err != nil {
		return nil, err
	}
	if len(sources) == 0 && config != nil {
		if sources, err = configTemplates(model.Path()+"/"+configFile, config.Get("chat_template")); err != nil {
			return nil, err
		}
	}
	if len(sources) == 0 {
		return nil, formats.Rejectf(model.Path(), "", "the model has no chat template: neither %s nor chat_template in %s", templateFile, configFile).
			WithHint("a base model has none; render the chats yourself into \"prompt\" and \"completion\"")
	}
	var found formats.Problems
	for _, s := range sources {
		parsed, err := jinja.Parse(s.text)
		if err != nil {
			found.Add(formats.Rejectf(s.file, "", "chat template %s: %v", formats.Quote(s.name), err))
			continue
		}
		t.named[s.name] = parsed
	}
	if err := found.Err(); err != nil {
		return nil, err
	}
	return t, nil
}

// OpenSource returns a template that is no file of the model, with the model's special
// tokens; file is what messages call it.
func OpenSource(model *formats.Checkpoint, file, source string) (*Templates, error) {
	t, _, err := openSpecial(model)
	if err != nil {
		return nil, err
	}
	parsed, err := jinja.Parse(source)
	if err != nil {
		return nil, formats.Rejectf(file, "", "chat template: %v", err)
	}
	t.named["default"] = parsed
	return t, nil
}

// openSpecial reads the special tokens of a model, and gives its [configFile], nil where it
// has none.
func openSpecial(model *formats.Checkpoint) (t *Templates, config *strictjson.Object, err error) {
	t = &Templates{model: model.Path(), named: map[string]*jinja.Template{}, special: map[string]any{}}
	for _, name := range []string{configFile, specialFile} {
		doc, err := readObject(model, name)
		if err != nil {
			return nil, nil, err
		}
		if doc == nil {
			continue
		}
		if name == configFile {
			config = doc
		}
		if err := t.readSpecial(name, doc); err != nil {
			return nil, nil, err
		}
	}
	return t, config, nil
}

// Parse returns a template that is no file of a model. special gives tokens by name, such
// as "bos_token".
func Parse(source string, special map[string]string) (*Templates, error) {
	parsed, err := jinja.Parse(source)
	if err != nil {
		return nil, formats.Rejectf("", "", "chat template: %v", err)
	}
	t := &Templates{named: map[string]*jinja.Template{"default": parsed}, special: map[string]any{}}
	for k, v := range special {
		t.special[k] = v
	}
	return t, nil
}

// Names returns the names of the templates, in order.
func (t *Templates) Names() []string { return slices.Sorted(maps.Keys(t.named)) }

func readObject(model *formats.Checkpoint, name string) (*strictjson.Object, error) {
	if _, ok := model.SideFile(name); !ok {
		return nil, nil
	}
	text, err := model.ReadSideFile(name, formats.MaxConfigBytes)
	if err != nil {
		return nil, err
	}
	doc, err := strictjson.ParseObject(text, formats.MaxJSONDepth)
	if err != nil {
		return nil, formats.Rejectf(model.Path()+"/"+name, "", "%v", err)
	}
	return doc, nil
}

// readSpecial takes the special tokens that are not known yet. Each is a string, or an
// object with its content.
func (t *Templates) readSpecial(name string, doc *strictjson.Object) error {
	for _, id := range specialTokens {
		v := doc.Get(id)
		if o, ok := v.(*strictjson.Object); ok {
			v = o.Get("content")
		}
		s, ok := v.(string)
		if v != nil && !ok {
			return formats.Rejectf(t.model+"/"+name, "", "%s is %s (want a string)", id, strictjson.KindOf(v))
		}
		if _, known := t.special[id]; ok && !known {
			t.special[id] = s
		}
	}
	return nil
}

type source struct{ file, name, text string }

func templateFiles(model *formats.Checkpoint) (out []source, err error) {
	for _, f := range model.SideFiles() {
		name, more := strings.CutPrefix(f.Name, moreFiles)
		if more {
			name, more = strings.CutSuffix(name, ".jinja")
		}
		if f.Name == templateFile {
			name = "default"
		} else if !more || strings.Contains(name, "/") {
			continue
		}
		text, err := model.ReadSideFile(f.Name, MaxTemplateBytes)
		if err != nil {
			return nil, err
		}
		out = append(out, source{model.Path() + "/" + f.Name, name, string(text)})
		if len(out) > maxTemplates {
			return nil, formats.Rejectf(model.Path(), "", "more than %d chat templates", maxTemplates)
		}
	}
	return out, nil
}

// configTemplates reads the value of chat_template: a template, or a list of named ones.
func configTemplates(file string, v any) (out []source, err error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []source{{file, "default", v}}, nil
	case []any:
		seen := map[string]bool{}
		for i, x := range v {
			o, _ := x.(*strictjson.Object)
			if o == nil || i >= maxTemplates {
				return nil, formats.Rejectf(file, "", "chat_template: element %d is %s (want at most %d objects with name and template)", i+1, strictjson.KindOf(x), maxTemplates)
			}
			name, isName := o.Get("name").(string)
			text, isText := o.Get("template").(string)
			if !isName || !isText || seen[name] {
				return nil, formats.Rejectf(file, "", "chat_template: element %d (want a name of its own and a template, both strings)", i+1)
			}
			seen[name] = true
			out = append(out, source{file, name, text})
		}
		return out, nil
	}
	return nil, formats.Rejectf(file, "", "chat_template is %s (want a string or an array)", strictjson.KindOf(v))
}

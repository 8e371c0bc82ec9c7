package tokenizer

import (
	"fmt"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// maxTokenID bounds ids; the largest vocabularies have 262,144.
const maxTokenID = 1<<24 - 1

// Open parses the bytes of a tokenizer.json; file is its name, for messages. A file
// that is damaged, or that names a part or option which is not implemented, is
// refused with a [formats.ErrInput] of one line.
func Open(file string, data []byte) (*Tokenizer, error) {
	t := &Tokenizer{file: file}
	if err := t.read(data); err != nil {
		return nil, formats.Rejectf(file, "", "%v", err)
	}
	return t, nil
}

func (t *Tokenizer) read(data []byte) error {
	if len(data) > formats.MaxTokenizerBytes {
		return fmt.Errorf("tokenizer of %d bytes (want at most %d)", len(data), formats.MaxTokenizerBytes)
	}
	p, err := strictjson.NewParser(data, formats.MaxJSONDepth)
	if err != nil {
		return err
	}
	parts := map[string]any{}
	err = p.Object(func(name string) (err error) {
		switch name {
		case "model":
			t.model, err = readModel(p)
		case "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder":
			parts[name], err = p.Value()
		default:
			err = fmt.Errorf("member %s is not known", formats.Quote(name))
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := p.End(); err != nil {
		return err
	}
	if v, ok := parts["version"]; ok && v != "1.0" {
		return fmt.Errorf("version is %s (want \"1.0\")", show(v))
	}
	if t.model == nil {
		return fmt.Errorf("no model")
	}
	if t.normalize, err = readNormalizer(parts["normalizer"]); err != nil {
		return err
	}
	var goesByPlace bool
	if t.split, goesByPlace, err = readPreTokenizer(parts["pre_tokenizer"]); err != nil {
		return err
	}
	t.follow = goesByPlace && t.normalize != nil
	if t.finish, err = readPostProcessor(parts["post_processor"]); err != nil {
		return err
	}
	if t.decoder, err = readDecoder(parts["decoder"]); err != nil {
		return err
	}
	if t.added, err = readAdded(parts["added_tokens"], t.model, t.normalize); err != nil {
		return err
	}
	t.size = t.model.rows()
	for id := range t.added.forms {
		t.size = max(t.size, int(id)+1)
	}
	return nil
}

// section reads the members of one object of the file. The first failure sticks,
// so that callers read all they want and then ask for it; members that nobody
// asked for are one.
type section struct {
	path string
	left map[string]any
	keys []string
	err  error
}

func newSection(path string, v any) *section {
	s := &section{path: path}
	o, ok := v.(*strictjson.Object)
	if !ok {
		s.err = wrongKind(path, "an object", v)
		return s
	}
	s.left, s.keys = o.Values, o.Keys
	return s
}

// newPart opens a component, and says in its messages which type it has.
func newPart(role string, v any) (*section, string) {
	s := newSection(role, v)
	kind := s.text("type")
	s.path = role + " " + formats.Quote(kind)
	return s, kind
}

func wrongKind(path, want string, v any) error {
	return fmt.Errorf("%s is %s (want %s)", path, strictjson.KindOf(v), want)
}

func show(v any) string {
	switch v := v.(type) {
	case string:
		return formats.Quote(v)
	case strictjson.Number:
		return string(v)
	}
	return strictjson.KindOf(v)
}

func (s *section) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("%s: %s", s.path, fmt.Sprintf(format, args...))
	}
}

// end returns the first failure, or one for a member that nobody asked for.
func (s *section) end() error {
	for _, k := range s.keys {
		if _, ok := s.left[k]; ok {
			s.fail("option %s is not implemented", formats.Quote(k))
		}
	}
	return s.err
}

// has reports whether a member is there and is not null.
func (s *section) has(name string) bool {
	if v, ok := s.left[name]; ok && v == nil {
		delete(s.left, name)
	}
	return s.left[name] != nil
}

func member[T any](s *section, name, want string) (out T) {
	v, there := s.left[name]
	delete(s.left, name)
	out, ok := v.(T)
	if s.err == nil && !ok {
		if there {
			s.err = wrongKind(s.path+": "+name, want, v)
		} else {
			s.fail("no %s", name)
		}
	}
	return out
}

func (s *section) text(name string) string  { return member[string](s, name, "a string") }
func (s *section) boolean(name string) bool { return member[bool](s, name, "true or false") }
func (s *section) list(name string) []any   { return member[[]any](s, name, "an array") }

// flag reads an option that may be missing.
func (s *section) flag(name string, missing bool) bool {
	if !s.has(name) {
		return missing
	}
	return s.boolean(name)
}

// ignore accepts options that change no id.
func (s *section) ignore(names ...string) {
	for _, n := range names {
		delete(s.left, n)
	}
}

func (s *section) natural(name string, most int64) int64 {
	n := member[strictjson.Number](s, name, "a number")
	if s.err != nil {
		return 0
	}
	i, err := n.Int()
	if err != nil || i < 0 || i > most {
		s.fail("%s is %s (want 0 to %d)", name, formats.Quote(string(n)), most)
		return 0
	}
	return i
}

func (s *section) tokenID(name string) int32 { return int32(s.natural(name, maxTokenID)) }

// char reads a string of one character.
func (s *section) char(name string) rune {
	c := []rune(s.text(name))
	if len(c) != 1 {
		s.fail("%s has %d characters (want 1)", name, len(c))
		return 0
	}
	return c[0]
}

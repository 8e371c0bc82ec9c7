package tokenizer

import (
	"fmt"
	"math"
	"strings"

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
	if t.split, err = readPreTokenizer(parts["pre_tokenizer"], t.normalize != nil); err != nil {
		return err
	}
	if t.template, err = readPostProcessor(parts["post_processor"]); err != nil {
		return err
	}
	if t.decoder, err = readDecoder(parts["decoder"]); err != nil {
		return err
	}
	if t.added, err = readAdded(parts["added_tokens"], t.model, t.normalize); err != nil {
		return err
	}
	for id := range t.model.tokens {
		t.size = max(t.size, int(id)+1)
	}
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

// readModel reads the model, whose vocabulary and merges are the bulk of a file,
// without building their JSON.
func readModel(p *strictjson.Parser) (*bpe, error) {
	m := &bpe{vocab: map[string]int32{}, tokens: map[int32]string{}}
	var merges [][2]string
	var vocabThere, mergesThere bool
	rest := &strictjson.Object{Values: map[string]any{}}
	err := p.Object(func(name string) (err error) {
		switch c := p.Peek(); {
		case name == "vocab" && c == '{':
			vocabThere, err = true, m.readVocab(p)
		case name == "merges" && c == '[':
			mergesThere = true
			merges, err = readMerges(p)
		default:
			rest.Keys = append(rest.Keys, name)
			rest.Values[name], err = p.Value()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	s := newSection("model", rest)
	// The first files of GPT-2 name no type.
	if s.has("type") {
		kind := s.text("type")
		s.path = "model " + formats.Quote(kind)
		if s.err == nil && kind != "BPE" {
			s.fail("not implemented (only \"BPE\" is)")
		}
	}
	if s.err == nil && (!vocabThere || !mergesThere) {
		s.fail("vocab must be an object and merges an array")
	}
	if s.has("dropout") {
		n := member[strictjson.Number](s, "dropout", "a number")
		if f, err := n.Float(); err != nil || f != 0 {
			s.fail("dropout %s is not implemented: ids would be random", formats.Quote(string(n)))
		}
	}
	for _, name := range []string{"continuing_subword_prefix", "end_of_word_suffix"} {
		if s.has(name) && s.text(name) != "" {
			s.fail("%s is not implemented", name)
		}
	}
	if s.has("unk_token") {
		unknown := s.text("unk_token")
		m.unknown = &unknown
	}
	m.fuse = s.flag("fuse_unk", false)
	m.fallback = s.flag("byte_fallback", false)
	m.wholeWords = s.flag("ignore_merges", false)
	if err := s.end(); err != nil {
		return nil, err
	}
	for b := range m.byteIDs {
		id, ok := m.vocab[fmt.Sprintf("<0x%02X>", b)]
		if !ok {
			id = -1
		}
		m.byteIDs[b] = id
	}
	return m, m.rank(merges)
}

func (m *bpe) readVocab(p *strictjson.Parser) error {
	return p.Object(func(token string) error {
		id, err := p.Natural()
		if err != nil {
			return fmt.Errorf("model: vocab: %s: %w", formats.Quote(token), err)
		}
		if id > maxTokenID {
			return fmt.Errorf("model: vocab: %s has id %d (want at most %d)", formats.Quote(token), id, maxTokenID)
		}
		if other, twice := m.tokens[int32(id)]; twice {
			return fmt.Errorf("model: vocab: %s and %s have the same id %d", formats.Quote(other), formats.Quote(token), id)
		}
		m.vocab[token] = int32(id)
		m.tokens[int32(id)] = token
		return nil
	})
}

// readMerges reads merges of either form, "a b" or ["a", "b"].
func readMerges(p *strictjson.Parser) ([][2]string, error) {
	var merges [][2]string
	strs, pairs := false, false
	err := p.Array(func(i int) error {
		var parts []string
		if p.Peek() == '[' {
			pairs = true
			err := p.Array(func(int) error {
				s, err := p.String()
				parts = append(parts, s)
				return err
			})
			if err != nil {
				return fmt.Errorf("model: merges[%d]: %w", i, err)
			}
		} else {
			strs = true
			line, err := p.String()
			if err != nil {
				return fmt.Errorf("model: merges[%d]: %w", i, err)
			}
			if strings.HasPrefix(line, "#version") {
				return nil // the first line of a merges.txt
			}
			parts = strings.Split(line, " ")
		}
		if len(parts) != 2 || strs && pairs {
			return fmt.Errorf("model: merges[%d] has %d parts (want 2, and all merges written alike)", i, len(parts))
		}
		merges = append(merges, [2]string{parts[0], parts[1]})
		return nil
	})
	return merges, err
}

// rank builds the table of merges. Where a pair comes twice the later rank counts.
func (m *bpe) rank(merges [][2]string) error {
	if len(merges) > math.MaxInt32 {
		return fmt.Errorf("model: %d merges (want at most %d)", len(merges), math.MaxInt32)
	}
	m.ranks = make(map[uint64]uint32, len(merges))
	m.merged = make([]int32, len(merges))
	for i, parts := range merges {
		var ids [3]int32
		for j, token := range []string{parts[0], parts[1], parts[0] + parts[1]} {
			id, ok := m.vocab[token]
			if !ok {
				return fmt.Errorf("model: merges[%d]: token %s is not in the vocabulary", i, formats.Quote(token))
			}
			ids[j] = id
		}
		m.ranks[pair(ids[0], ids[1])] = uint32(i)
		m.merged[i] = ids[2]
	}
	return nil
}

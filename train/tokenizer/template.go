package tokenizer

import (
	"fmt"
	"strconv"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// readPostProcessor returns the template for one text, or nil where nothing is
// added. Offsets, and templates for pairs of texts, are no concern here.
func readPostProcessor(v any) ([]piece, error) {
	if v == nil {
		return nil, nil
	}
	s, kind := newPart("post_processor", v)
	var out []piece
	switch kind {
	case "ByteLevel": // moves offsets only
		s.ignore("add_prefix_space", "trim_offsets", "use_regex")
	case "TemplateProcessing":
		out = readTemplate(s)
	case "Sequence":
		for _, v := range s.list("processors") {
			inner, err := readPostProcessor(v)
			if err != nil {
				return nil, err
			}
			if out != nil && inner != nil {
				s.fail("more than one TemplateProcessing is not implemented")
			}
			if inner != nil {
				out = inner
			}
		}
	default:
		s.fail("not implemented")
	}
	return out, s.end()
}

func readTemplate(s *section) []piece {
	s.ignore("pair")
	special := map[string][]int32{}
	tokens := s.section("special_tokens")
	for _, name := range tokens.keys {
		tok := tokens.section(name)
		special[name] = []int32{}
		for i, v := range tok.list("ids") {
			// Read each as a member, for the same checks and messages.
			list := &section{path: tok.path + ": ids", left: map[string]any{strconv.Itoa(i): v}}
			special[name] = append(special[name], list.tokenID(strconv.Itoa(i)))
			tok.take(list.err)
		}
		tok.ignore("id", "tokens")
		tokens.take(tok.end())
	}
	s.take(tokens.end())
	out := []piece{}
	for i, v := range s.list("single") {
		element := newSection(fmt.Sprintf("%s: single[%d]", s.path, i), v)
		if element.has("Sequence") {
			seq := element.section("Sequence")
			if id := seq.text("id"); id != "A" {
				seq.fail("sequence %s (want \"A\")", formats.Quote(id))
			}
			seq.ignore("type_id")
			element.take(seq.end())
			out = append(out, piece{text: true})
		} else {
			tok := element.section("SpecialToken")
			name := tok.text("id")
			ids, ok := special[name]
			if !ok {
				tok.fail("token %s is not among special_tokens", formats.Quote(name))
			}
			tok.ignore("type_id")
			element.take(tok.end())
			out = append(out, piece{ids: ids})
		}
		s.take(element.end())
	}
	return out
}

// section opens a member that is an object.
func (s *section) section(name string) *section {
	o := member[*strictjson.Object](s, name, "an object")
	inner := &section{path: s.path + ": " + formats.Quote(name)}
	if o != nil {
		inner.left, inner.keys = o.Values, o.Keys
	}
	return inner
}

// take makes the first failure of another section this one's.
func (s *section) take(err error) {
	if s.err == nil {
		s.err = err
	}
}

package tokenizer

import (
	"fmt"
	"strconv"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// run is ids that share a type id, which says to which of two texts they belong.
type run struct {
	ids    []int32
	typeID int32
}

// postProcessor adds special tokens to one text or a pair, each of which is a list
// of runs, and sets type ids.
type postProcessor func(texts [][]run, addSpecial bool) [][]run

// readPostProcessor returns nil where nothing is added. Offsets are no concern here.
func readPostProcessor(v any) (postProcessor, error) {
	if v == nil {
		return nil, nil
	}
	s, kind := newPart("post_processor", v)
	var p postProcessor
	switch kind {
	case "ByteLevel": // moves offsets only
		s.ignore("add_prefix_space", "trim_offsets", "use_regex")
	case "TemplateProcessing":
		p = readTemplate(s)
	case "BertProcessing":
		p = surround(s.tokenPair("cls"), s.tokenPair("sep"), true)
	case "RobertaProcessing":
		s.ignore("add_prefix_space", "trim_offsets")
		p = surround(s.tokenPair("cls"), s.tokenPair("sep"), false)
	case "Sequence":
		var all []postProcessor
		for _, v := range s.list("processors") {
			inner, err := readPostProcessor(v)
			if err != nil {
				return nil, err
			}
			if inner == nil {
				continue
			}
			if len(all) > 0 {
				// After a template the library no longer knows which text is which.
				s.fail("more than one that adds tokens is not implemented")
			}
			all = append(all, inner)
		}
		if len(all) > 0 {
			p = all[0]
		}
	default:
		s.fail("not implemented")
	}
	return p, s.end()
}

// surround puts cls before the first text and sep behind each. BERT's second text
// has type 1; RoBERTa has no types, and a second sep between the texts.
func surround(cls, sep int32, bert bool) postProcessor {
	first, last := []int32{cls}, []int32{sep}
	return func(texts [][]run, addSpecial bool) [][]run {
		for i, text := range texts {
			if !bert {
				for j := range text {
					text[j].typeID = 0
				}
			}
			if !addSpecial {
				continue
			}
			var out []run
			switch {
			case i == 0:
				out = append(out, run{ids: first})
			case !bert:
				out = append(out, run{ids: last})
			}
			out = append(out, text...)
			end := run{ids: last}
			if bert && i > 0 {
				end.typeID = 1
			}
			texts[i] = append(out, end)
		}
		return texts
	}
}

// tokenPair reads a token and its id, as BERT's processors name them.
func (s *section) tokenPair(name string) int32 {
	list := s.list(name)
	if s.err == nil && len(list) != 2 {
		s.fail("%s has %d members (want a token and its id)", name, len(list))
	}
	if s.err != nil {
		return 0
	}
	pair := &section{path: s.path + ": " + name, left: map[string]any{"token": list[0], "id": list[1]}}
	pair.text("token")
	id := pair.tokenID("id")
	s.take(pair.err)
	return id
}

// piece is one element of a template.
type piece struct {
	text   int     // which text goes here, or -1 for special tokens
	ids    []int32 // the special tokens
	typeID int32
}

func readTemplate(s *section) postProcessor {
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
	single := readPieces(s, "single", special, 1)
	pair := readPieces(s, "pair", special, 2)
	return func(texts [][]run, addSpecial bool) [][]run {
		pieces := single
		if len(texts) == 2 {
			pieces = pair
		}
		var out []run
		for _, p := range pieces {
			switch {
			case p.text >= 0:
				for _, r := range texts[p.text] {
					out = append(out, run{r.ids, p.typeID})
				}
			case addSpecial:
				out = append(out, run{p.ids, p.typeID})
			}
		}
		return [][]run{out}
	}
}

// readPieces reads the template for one text or two.
func readPieces(s *section, name string, special map[string][]int32, texts int) []piece {
	var out []piece
	for i, v := range s.list(name) {
		element := newSection(fmt.Sprintf("%s: %s[%d]", s.path, name, i), v)
		p := piece{text: -1}
		if element.has("Sequence") {
			seq := element.section("Sequence")
			switch id := seq.text("id"); {
			case id == "A":
				p.text = 0
			case id == "B" && texts == 2:
				p.text = 1
			default:
				seq.fail("sequence %s (want \"A\", or in pair \"B\")", formats.Quote(id))
			}
			p.typeID = seq.tokenID("type_id")
			element.take(seq.end())
		} else {
			tok := element.section("SpecialToken")
			name := tok.text("id")
			ids, ok := special[name]
			if !ok {
				tok.fail("token %s is not among special_tokens", formats.Quote(name))
			}
			p.ids, p.typeID = ids, tok.tokenID("type_id")
			element.take(tok.end())
		}
		s.take(element.end())
		out = append(out, p)
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

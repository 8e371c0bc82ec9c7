package tokenizer

import (
	"fmt"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// model gives ids to the words that the pre-tokenizer cuts.
type model interface {
	encoder() encoder
	id(token string) (int32, bool)
	token(id int32) (string, bool)
	// size is what the library takes for the size of the vocabulary; added tokens
	// are numbered on from it. rows is the highest id plus one.
	size() int
	rows() int
}

// encoder appends the ids of one word. It belongs to one goroutine.
type encoder interface {
	appendIDs(ids []int32, word string) ([]int32, error)
}

// modelFile is the model as the file has it.
type modelFile struct {
	vocabulary             // where vocab is an object
	pieces        []scored // where it is an array
	merges        [][2]string
	object, array bool // which of the two vocab is
	mergesThere   bool
}

// readModel reads the model, whose vocabulary and merges are the bulk of a file,
// without building their JSON.
func readModel(p *strictjson.Parser) (model, error) {
	f := modelFile{vocabulary: vocabulary{ids: map[string]int32{}, tokens: map[int32]string{}}}
	rest := &strictjson.Object{Values: map[string]any{}}
	err := p.Object(func(name string) (err error) {
		switch c := p.Peek(); {
		case name == "vocab" && c == '{':
			f.object, err = true, f.readVocab(p)
		case name == "vocab" && c == '[':
			f.array, err = true, f.readPieces(p)
		case name == "merges" && c == '[':
			f.mergesThere, err = true, f.readMerges(p)
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
	kind := f.kind(s)
	s.path = "model " + formats.Quote(kind)
	var m model
	switch kind {
	case "BPE":
		f.want(s, f.object && f.mergesThere, "vocab must be an object and merges an array")
		m = readBPE(s, f.vocabulary, f.merges)
	case "WordPiece":
		f.want(s, f.object && !f.mergesThere, "vocab must be an object, and merges missing")
		m = readWordPiece(s, f.vocabulary)
	case "WordLevel":
		f.want(s, f.object && !f.mergesThere, "vocab must be an object, and merges missing")
		m = &wordLevel{vocabulary: f.vocabulary, unknown: s.text("unk_token")}
	case "Unigram":
		f.want(s, f.array && !f.mergesThere, "vocab must be an array, and merges missing")
		m = readUnigram(s, f.pieces)
	default:
		s.fail("not implemented")
	}
	return m, s.end()
}

// kind returns the type of the model, which old files do not name: the library
// takes the first whose members are there.
func (f *modelFile) kind(s *section) string {
	switch {
	case s.has("type"):
		return s.text("type")
	case f.mergesThere:
		return "BPE"
	case f.array:
		return "Unigram"
	case s.has("continuing_subword_prefix") && s.has("max_input_chars_per_word"):
		return "WordPiece"
	}
	return "WordLevel"
}

func (f *modelFile) want(s *section, ok bool, what string) {
	if !ok {
		s.fail("%s", what)
	}
}

func (f *modelFile) readVocab(p *strictjson.Parser) error {
	return p.Object(func(token string) error {
		id, err := p.Natural()
		if err != nil {
			return fmt.Errorf("model: vocab: %s: %w", formats.Quote(token), err)
		}
		if id > maxTokenID {
			return fmt.Errorf("model: vocab: %s has id %d (want at most %d)", formats.Quote(token), id, maxTokenID)
		}
		if other, twice := f.tokens[int32(id)]; twice {
			return fmt.Errorf("model: vocab: %s and %s have the same id %d", formats.Quote(other), formats.Quote(token), id)
		}
		f.ids[token] = int32(id)
		f.tokens[int32(id)] = token
		return nil
	})
}

// readPieces reads the vocabulary of a Unigram model, pairs of token and score.
func (f *modelFile) readPieces(p *strictjson.Parser) error {
	return p.Array(func(i int) error {
		if i > maxTokenID {
			return fmt.Errorf("model: vocab has more than %d tokens", maxTokenID)
		}
		var piece scored
		n := 0
		err := p.Array(func(int) (err error) {
			switch n++; n {
			case 1:
				piece.token, err = p.String()
			default:
				var v any
				if v, err = p.Value(); err != nil {
					return err
				}
				number, ok := v.(strictjson.Number)
				if !ok {
					return fmt.Errorf("score is %s (want a number)", strictjson.KindOf(v))
				}
				piece.score, err = score(number)
			}
			return err
		})
		if err == nil && n != 2 {
			err = fmt.Errorf("%d members (want a token and its score)", n)
		}
		if err != nil {
			return fmt.Errorf("model: vocab[%d]: %w", i, err)
		}
		f.pieces = append(f.pieces, piece)
		return nil
	})
}

// readMerges reads merges of either form, "a b" or ["a", "b"].
func (f *modelFile) readMerges(p *strictjson.Parser) error {
	strs, pairs := false, false
	return p.Array(func(i int) error {
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
		f.merges = append(f.merges, [2]string{parts[0], parts[1]})
		return nil
	})
}

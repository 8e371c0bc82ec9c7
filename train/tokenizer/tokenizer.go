// Package tokenizer turns text into token ids and back as a model's own
// tokenizer.json says, with exactly the ids that Hugging Face's tokenizers library
// gives. It is for anything that feeds text to a model or reads text from one:
// training data, prompts, generation.
//
// It implements the pipeline of byte-pair models: GPT-2 and its descendants
// (ByteLevel), Llama 3, Qwen, DeepSeek and others (a Split by regular expression,
// then ByteLevel), Llama 2, Mistral and Gemma (SentencePiece converted to BPE with
// byte fallback). There is nothing to choose: [Open] reads which parts the file
// names. A part or option that is not implemented (the WordPiece and Unigram
// models, the Bert parts, dropout, a construct of Oniguruma that has another
// meaning here) is refused by name when the file is opened; nothing is
// approximated.
//
// What it promises, and checks against the library's own output:
//
//   - [Tokenizer.Encode] gives the library's ids for every text. Classes of
//     characters, case and normal forms follow the Unicode versions that the
//     library is built with, which differ from Go's and from one another.
//   - Text that is not UTF-8 is read as Python's bytes.decode("utf-8", "replace")
//     would: each ill-formed sequence becomes one U+FFFD.
//   - Encoding takes time in proportion to n·log n for a text of n bytes, whatever
//     it says, if the pattern of the file's own Split does. A pattern that runs for
//     10 seconds without a match is stopped with an error.
//   - A [Tokenizer] does not change and may be used from many goroutines. A
//     [Stream] belongs to one.
//
// The file's truncation and padding settings are not applied: they are a caller's
// choice, which the transformers library also resets for every call.
package tokenizer

import (
	"strings"

	"github.com/seed-b982eded/graft/formats"
)

// Tokenizer is an opened tokenizer.json.
type Tokenizer struct {
	file      string
	added     *addedVocabulary
	normalize normalizer   // nil for none
	split     preTokenizer // nil for none
	model     *bpe
	template  []piece
	decoder   *decoder
	size      int
}

// piece is one element of a post-processor's template.
type piece struct {
	text bool    // the ids of the text go here
	ids  []int32 // otherwise these special tokens do
}

// Encode returns the ids of text. With addSpecial the file's post-processor adds
// its special tokens, such as the one that begins a text. Special tokens written in
// the text become their ids either way, as in the library.
//
// It fails only where the library does too, on a character that has no token while
// the file's unknown token is not in the vocabulary, or if the file's pattern runs
// too long on this text.
func (t *Tokenizer) Encode(text string, addSpecial bool) ([]int32, error) {
	ids, err := t.encode(validUTF8(text))
	if err != nil {
		return nil, formats.Rejectf(t.file, "", "encoding a text: %v", err)
	}
	if t.template == nil {
		return ids, nil
	}
	var out []int32
	for _, p := range t.template {
		if p.text {
			out = append(out, ids...)
		} else if addSpecial {
			out = append(out, p.ids...)
		}
	}
	return out, nil
}

func (t *Tokenizer) encode(text string) (ids []int32, err error) {
	m := merger{bpe: t.model}
	ids = make([]int32, 0, len(text)/3)
	plain := func(s string, atStart bool) error {
		words := []string{s}
		if t.split != nil {
			if words, err = t.split(nil, s, atStart); err != nil {
				return err
			}
		}
		for _, w := range words {
			if w == "" {
				continue
			}
			if ids, err = m.appendIDs(ids, w); err != nil {
				return err
			}
		}
		return nil
	}
	token := func(id int32) { ids = append(ids, id) }
	// Tokens that are not normalized are looked for first, in the text as it is;
	// the others in what normalizing the rest gives.
	err = t.added.verbatim.split(text, token, func(s string, start int) error {
		if t.normalize != nil {
			if s, err = t.normalize(s); err != nil {
				return err
			}
		}
		return t.added.normalized.split(s, token, func(s string, inner int) error {
			return plain(s, start+inner == 0)
		})
	})
	return ids, err
}

// Decode returns the text of ids. With skipSpecial it leaves out tokens that the
// file marks as special. An id that has no token is left out, as in the library;
// bytes that are not UTF-8 become U+FFFD.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	tokens := make([]string, 0, len(ids))
	for _, id := range ids {
		if tok, ok := t.token(id, skipSpecial); ok {
			tokens = append(tokens, tok)
		}
	}
	return strings.Join(t.decoder.run(tokens), t.decoder.separator)
}

// token returns what the decoder gets for id, if it gets anything.
func (t *Tokenizer) token(id int32, skipSpecial bool) (string, bool) {
	tok, ok := t.added.forms[id]
	if !ok {
		tok, ok = t.model.tokens[id]
	}
	// The library asks for the text, not the id: any token that reads like a special
	// one is skipped, and a special one that normalizing changed is not.
	return tok, ok && !(skipSpecial && t.added.special[tok])
}

// VocabSize returns the highest id plus one: the least number of rows that the
// model's embedding must have.
func (t *Tokenizer) VocabSize() int { return t.size }

// TokenID returns the id of a token by its text in the file, special or not.
func (t *Tokenizer) TokenID(token string) (int32, bool) {
	if id, ok := t.added.ids[token]; ok {
		return id, true
	}
	id, ok := t.model.vocab[token]
	return id, ok
}

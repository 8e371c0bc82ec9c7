// Package tokenizer turns text into token ids and back as a model's own
// tokenizer.json says, with exactly the ids that Hugging Face's tokenizers library
// gives. It is for anything that feeds text to a model or reads text from one:
// training data, prompts, generation.
//
// It implements every part that the library has: the models BPE, WordPiece, Unigram
// and WordLevel with their normalizers, pre-tokenizers, post-processors and
// decoders, as GPT-2, Llama, Qwen, DeepSeek, Gemma, BERT, RoBERTa, T5, CLIP and
// others use them. There is nothing to choose: [Open] reads which parts the file
// names. What would not give the same ids (dropout, an option of a later version, a
// construct of Oniguruma that has another meaning here) is refused by name when the
// file is opened; nothing is approximated.
//
// What it promises, and checks against the library's own output:
//
//   - [Tokenizer.Encode] and [Tokenizer.EncodePair] give the library's ids for every
//     text. Classes of characters, case, normal forms, scripts and graphemes follow
//     the Unicode versions that the library is built with, which differ from Go's
//     and from one another.
//   - Text that is not UTF-8 is read as Python's bytes.decode("utf-8", "replace")
//     would: each ill-formed sequence becomes one U+FFFD.
//   - Encoding takes time in proportion to n·log n for a text of n bytes, whatever
//     it says, if the file's own patterns do. A pattern that runs for
//     10 seconds without a match is stopped with an error.
//   - A [Tokenizer] does not change and may be used from many goroutines. A
//     [Stream] belongs to one.
//
// The file's truncation and padding settings are not applied: they are a caller's
// choice, which the transformers library also resets for every call.
package tokenizer

import (
	"strings"
	"unicode/utf8"

	"github.com/seed-b982eded/graft/formats"
)

// Tokenizer is an opened tokenizer.json.
type Tokenizer struct {
	file      string
	added     *addedVocabulary
	normalize normalizer   // nil for none
	split     preTokenizer // nil for none
	// follow says that split asks for places in the text before normalizing.
	follow  bool
	model   model
	finish  postProcessor // nil for none
	decoder *decoder
	size    int
}

// Encode returns the ids of text. With addSpecial the file's post-processor adds
// its special tokens, such as the one that begins a text. Special tokens written in
// the text become their ids either way, as in the library.
//
// It fails only where the library does too, on a character or word that has no
// token while the file's unknown token is not in the vocabulary, or if the file's
// pattern runs too long on this text.
func (t *Tokenizer) Encode(text string, addSpecial bool) ([]int32, error) {
	if t.finish == nil {
		return t.encode(text)
	}
	ids, _, err := t.process(addSpecial, text)
	return ids, err
}

// EncodeTyped is Encode with the type id of each token: the numbers by which models
// like BERT tell texts apart, all 0 for one text unless the file's template says
// otherwise.
func (t *Tokenizer) EncodeTyped(text string, addSpecial bool) (ids, typeIDs []int32, err error) {
	return t.process(addSpecial, text)
}

// EncodePair returns the ids of two texts that are read together, such as a
// question and an answer, and to each id its type id. Where the file has no
// template for pairs the second text follows the first, with type 1.
func (t *Tokenizer) EncodePair(first, second string, addSpecial bool) (ids, typeIDs []int32, err error) {
	return t.process(addSpecial, first, second)
}

// process encodes one text or two and runs the post-processor.
func (t *Tokenizer) process(addSpecial bool, texts ...string) (ids, typeIDs []int32, err error) {
	all := make([][]int32, len(texts))
	for i, text := range texts {
		if all[i], err = t.encode(text); err != nil {
			return nil, nil, err
		}
	}
	ids, typeIDs = t.join(addSpecial, all...)
	return ids, typeIDs, nil
}

// join runs the post-processor on the ids of one text or two.
func (t *Tokenizer) join(addSpecial bool, texts ...[]int32) (ids, typeIDs []int32) {
	all := make([][]run, len(texts))
	for i, ids := range texts {
		all[i] = []run{{ids, int32(i)}}
	}
	if t.finish != nil {
		all = t.finish(all, addSpecial)
	}
	n := 0
	for _, text := range all {
		for _, r := range text {
			n += len(r.ids)
		}
	}
	ids, typeIDs = make([]int32, 0, n), make([]int32, 0, n)
	for _, text := range all {
		for _, r := range text {
			ids = append(ids, r.ids...)
			for range r.ids {
				typeIDs = append(typeIDs, r.typeID)
			}
		}
	}
	return ids, typeIDs
}

// encode returns the ids of one text without those that the post-processor adds.
func (t *Tokenizer) encode(text string) ([]int32, error) {
	if len(text) > maxTextBytes {
		return nil, formats.Usagef("a text of %d bytes (want at most %d)", len(text), maxTextBytes)
	}
	text = validUTF8(text)
	e := encoding{encoder: t.model.encoder(), ids: make([]int32, 0, len(text)/3)}
	whole := passage{s: text}
	if t.follow {
		whole.from = make([]int32, len(text))
		for i, r := range text {
			for j := range utf8.RuneLen(r) {
				whole.from[i+j] = int32(i)
			}
		}
	}
	// Tokens that are not normalized are looked for first, in the text as it is;
	// the others in what normalizing the rest gives.
	err := t.added.verbatim.split(text, e.add, func(i, j int) error {
		p := whole.slice(i, j)
		if t.normalize != nil {
			if err := t.normalize(&p); err != nil {
				return err
			}
		}
		return t.added.normalized.split(p.s, e.add, func(i, j int) error {
			return e.addText(t.split, p.slice(i, j))
		})
	})
	if err != nil {
		return nil, formats.Rejectf(t.file, "", "encoding a text: %v", err)
	}
	return e.ids, nil
}

// maxTextBytes keeps places in a text within 32 bits.
const maxTextBytes = 1<<31 - 1

// encoding gathers the ids of one text.
type encoding struct {
	encoder encoder
	ids     []int32
	words   []word
}

func (e *encoding) add(id int32) { e.ids = append(e.ids, id) }

// addText appends the ids of a piece without added tokens.
func (e *encoding) addText(split preTokenizer, p passage) (err error) {
	e.words = append(e.words[:0], word{s: p.s})
	if split != nil {
		if e.words, err = split(e.words[:0], word{s: p.s}, &p); err != nil {
			return err
		}
	}
	for _, w := range e.words {
		if w.s == "" {
			continue
		}
		if e.ids, err = e.encoder.appendIDs(e.ids, w.s); err != nil {
			return err
		}
	}
	return nil
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
		tok, ok = t.model.token(id)
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
	return t.model.id(token)
}

package tokenizer

import "strings"

// Stream decodes ids one by one, for printing while a model generates. What Next
// and Flush return adds up to what [Tokenizer.Decode] makes of all ids.
type Stream struct {
	t           *Tokenizer
	skipSpecial bool
	// ids are those of the text returned last, which the decoding of the following
	// can depend on, and from context on those whose text is held back.
	ids     []int32
	context int
}

// Stream returns an incremental decoder; see [Tokenizer.Decode] for skipSpecial.
func (t *Tokenizer) Stream(skipSpecial bool) *Stream {
	return &Stream{t: t, skipSpecial: skipSpecial}
}

// Next returns the text that id completes. It returns "" while the text ends
// within a character, or might.
func (s *Stream) Next(id int32) string {
	token, ok := s.t.token(id, s.skipSpecial)
	if !ok {
		return ""
	}
	s.ids = append(s.ids, id)
	if s.t.decoder.whole {
		return ""
	}
	if _, isByte := byteToken(token); isByte && s.t.decoder.bytes {
		return "" // what follows may still spoil the run
	}
	text := s.t.Decode(s.ids, s.skipSpecial)
	if strings.HasSuffix(text, "\uFFFD") {
		return ""
	}
	return s.emit(text)
}

// Flush returns the text held back, with U+FFFD for what never was completed, and
// makes the stream ready for another text.
func (s *Stream) Flush() string {
	text := s.emit(s.t.Decode(s.ids, s.skipSpecial))
	s.ids, s.context = nil, 0
	return text
}

// emit returns what text, the decoding of all ids, has beyond the context's.
func (s *Stream) emit(text string) string {
	before := s.t.Decode(s.ids[:s.context], s.skipSpecial)
	if len(text) <= len(before) {
		return ""
	}
	s.ids = s.ids[s.context:]
	s.context = len(s.ids)
	return text[len(before):]
}

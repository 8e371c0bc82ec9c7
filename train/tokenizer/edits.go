package tokenizer

import "unicode/utf8"

// edits is one rewriting of a text by a normalizer, character by character. It can
// follow from where in the original text each byte comes, by the library's own
// rules, which a Metaspace that marks only the first word goes by.
type edits struct {
	in  string
	out []byte
	// from has the offset in the original text of each byte of in, and of out; nil
	// where nobody asks.
	from, outFrom []int32
	origin        int32 // of the piece that is rewritten
	at            int   // how far in is used up; kept where from is
}

// put appends r. As in the library, change is 0 for a character in place of the
// next one, -n for one that n more go with, and 1 for an additional one.
func (e *edits) put(r rune, change int) {
	before := len(e.out)
	e.out = utf8.AppendRune(e.out, r)
	if e.from == nil {
		return
	}
	from := e.origin
	switch {
	case change <= 0 && e.at < len(e.in):
		from = e.from[e.at]
		e.skip(1 - change)
	case e.at > 0:
		from = e.from[e.at-1]
	}
	for range len(e.out) - before {
		e.outFrom = append(e.outFrom, from)
	}
}

// keep appends s, which is what comes next, as it is.
func (e *edits) keep(s string) {
	e.out = append(e.out, s...)
	if e.from != nil {
		e.outFrom = append(e.outFrom, e.from[e.at:e.at+len(s)]...)
		e.at += len(s)
	}
}

// replace appends s in the place of the next n bytes.
func (e *edits) replace(n int, s string) {
	e.out = append(e.out, s...)
	if e.from == nil {
		return
	}
	e.at += n
	from := e.origin
	if e.at > 0 {
		from = e.from[e.at-1]
	}
	for range len(s) {
		e.outFrom = append(e.outFrom, from)
	}
}

// skip drops the next n characters.
func (e *edits) skip(n int) {
	for ; e.from != nil && n > 0 && e.at < len(e.in); n-- {
		_, size := utf8.DecodeRuneInString(e.in[e.at:])
		e.at += size
	}
}

// filter keeps the characters that keep reports true for.
func (e *edits) filter(keep func(rune) bool, change func(rune) rune) {
	// A character is put when it is known how many that follow it are dropped.
	last, dropped := rune(-1), 0
	for _, r := range e.in {
		switch {
		case !keep(r):
			dropped++
			continue
		case last < 0:
			e.skip(dropped)
		default:
			e.put(change(last), -dropped)
		}
		last, dropped = r, 0
	}
	if last >= 0 {
		e.put(change(last), -dropped)
	}
}

// passage is a piece of a text on its way through the pipeline.
type passage struct {
	s string
	// from has the offset in the original text of each byte of s, where that is
	// followed; origin is the offset of the piece itself.
	from   []int32
	origin int32
}

// rewrite applies a normalizer to the passage.
func (p *passage) rewrite(n func(e *edits) error) error {
	e := edits{in: p.s, from: p.from, origin: p.origin, out: make([]byte, 0, len(p.s)+len(p.s)/8+8)}
	if p.from != nil {
		e.outFrom = make([]int32, 0, cap(e.out))
	}
	if err := n(&e); err != nil {
		return err
	}
	p.s = string(e.out)
	if p.from != nil {
		p.from = e.outFrom
	}
	return nil
}

// slice returns the part from i to j.
func (p *passage) slice(i, j int) passage {
	if p.from == nil {
		return passage{s: p.s[i:j], origin: p.origin + int32(i)}
	}
	out := passage{s: p.s[i:j], from: p.from[i:j], origin: p.origin}
	if i < j {
		out.origin = p.from[i]
	}
	return out
}

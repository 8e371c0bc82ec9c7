package data

import (
	"context"
	"slices"

	"github.com/seed-b982eded/graft/train/chat"
)

// encodeChat makes an example of a chat, of any length.
func encodeChat(ctx context.Context, c *Chat, tok Tokenizer, opt EncodeOptions) (Example, *fault) {
	if opt.Templates == nil {
		return Example{}, faultf("a chat, where the model has no chat template")
	}
	var text string
	var spans []chat.Span
	var err error
	if c.Reply != nil {
		var at int
		text, at, err = opt.Templates.Completion(ctx, c.Chat, c.Reply, opt.ChatOptions)
		spans = []chat.Span{{From: at, To: len(text)}}
	} else {
		text, spans, err = opt.Templates.Train(ctx, c.Chat, opt.Turns, opt.ChatOptions)
	}
	if err != nil {
		return Example{}, faultf("%v", err).withHint(chat.Hint(err))
	}
	ids, err := tok.Encode(text, false)
	if err != nil {
		return Example{}, tokenFault(err)
	}
	ex := Example{IDs: ids, Learned: []Range{}}
	for _, s := range spans {
		if s.From == s.To {
			continue
		}
		from, _, f := tokensBefore(tok, text, ids, s.From)
		if f != nil {
			return Example{}, f
		}
		to, crossing, f := tokensBefore(tok, text, ids, s.To)
		if f != nil {
			return Example{}, f
		}
		if crossing {
			to++
		}
		if n := len(ex.Learned); n > 0 && ex.Learned[n-1].To >= from {
			ex.Learned[n-1].To = to
		} else {
			ex.Learned = append(ex.Learned, Range{from, to})
		}
	}
	return ex, nil
}

// tokensBefore returns how many of a text's tokens lie before a byte of it, and whether
// the next one crosses it. A tokenizer tells no offsets, so the text is cut there and the
// parts are tokenised: where the tokens of the first part begin those of the whole, no
// token crosses. Else one token may differ between what both parts have in common with the
// whole.
func tokensBefore(tok Tokenizer, text string, ids []int32, at int) (n int, crossing bool, f *fault) {
	switch at {
	case 0:
		return 0, false, nil
	case len(text):
		return len(ids), false, nil
	}
	before, err := tok.Encode(text[:at], false)
	if err != nil {
		return 0, false, tokenFault(err)
	}
	n = common(before, ids)
	if n == len(before) {
		return n, false, nil
	}
	after, err := tok.Encode(text[at:], false)
	if err != nil {
		return 0, false, tokenFault(err)
	}
	slices.Reverse(after)
	reversed := slices.Clone(ids)
	slices.Reverse(reversed)
	switch left := len(ids) - n - common(after, reversed); {
	case left <= 0:
		return n + left, false, nil
	case left == 1:
		return n, true, nil
	}
	return 0, false, faultf("the tokens at byte %d of the rendered chat do not tell where what is learned begins or ends", at).
		withHint("the template should have a special token or a newline there")
}

// common returns how many ids two lists begin with together.
func common(a, b []int32) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

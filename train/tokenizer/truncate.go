package tokenizer

import "github.com/seed-b982eded/graft/formats"

// EncodePairWithin is EncodePair with special tokens and at most limit ids. The ends of the
// texts are cut as by transformers' truncation=True, which the library calls longest_first:
// of the longer text as long as it is the longer one, then of both alike. lost is how many
// ids were cut. A limit that the special tokens alone exceed is a [formats.ErrUsage].
func (t *Tokenizer) EncodePairWithin(first, second string, limit int) (ids, typeIDs []int32, lost int, err error) {
	a, err := t.encode(first)
	if err != nil {
		return nil, nil, 0, err
	}
	b, err := t.encode(second)
	if err != nil {
		return nil, nil, 0, err
	}
	special, _ := t.join(true, nil, nil)
	room := limit - len(special)
	if room < 0 {
		return nil, nil, 0, formats.Usagef("the special tokens alone are %d (want at most %d)", len(special), limit)
	}
	n, m := longestFirst(len(a), len(b), room)
	ids, typeIDs = t.join(true, a[:n], b[:m])
	return ids, typeIDs, len(a) - n + len(b) - m, nil
}

// longestFirst returns the lengths that two texts of n and m ids are cut to, together at
// most room. Of an odd room the longer text has one more, and the second where both are
// equally long.
func longestFirst(n, m, room int) (int, int) {
	switch short := min(n, m); {
	case n+m <= room:
		return n, m
	case short <= room/2 && n > m:
		return room - m, m
	case short <= room/2:
		return n, room - n
	case n > m:
		return room - room/2, room / 2
	}
	return room / 2, room - room/2
}

package data

import (
	"slices"

	"github.com/seed-b982eded/graft/formats"
)

// PairTokenizer is a [Tokenizer] that knows how a model reads two texts in one sequence.
// EncodePairWithin gives at most limit ids with the special tokens among them and the segment
// of each, and how many ids of the texts it had to cut.
type PairTokenizer interface {
	Tokenizer
	EncodePairWithin(first, second string, limit int) (ids, types []int32, lost int, err error)
}

// ClassNames returns the names of classes that records have, sorted, or nil where their
// labels are numbers. It is what to give to [EncodeOptions] where the model does not name
// them.
func ClassNames(records []Record) []string {
	var out []string
	for _, r := range records {
		for _, l := range append(r.Labels[:len(r.Labels):len(r.Labels)], r.Label) {
			if l.Name != "" {
				out = append(out, l.Name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// encodeLabelled makes an example of a text, or of two, and its label.
func encodeLabelled(rec Record, tok Tokenizer, opt EncodeOptions, stats *Stats) (ex Example, f *fault) {
	switch ex.Target = rec.Label.Number; opt.Task {
	case Classification:
		ex.Target, f = classOf(rec.Label, opt.Classes)
	case MultiLabel:
		ex.Classes, f = classesOf(rec.Labels, opt.Classes)
	}
	if f != nil {
		return Example{}, f
	}
	if rec.TextPair == "" {
		ex.IDs, f = encodeWhole(rec.Text, tok, opt.MaxLength, stats)
		return ex, f
	}
	pairs, ok := tok.(PairTokenizer)
	if !ok {
		return Example{}, faultf("two texts, where the tokenizer takes one")
	}
	ids, types, lost, err := pairs.EncodePairWithin(rec.Text, rec.TextPair, opt.MaxLength)
	if err != nil {
		return Example{}, tokenFault(err)
	}
	if lost > 0 {
		stats.Truncated++
		stats.LostTokens += int64(lost)
	}
	ex.IDs, ex.Types = ids, types
	return ex, nil
}

// classOf returns the number of a class.
func classOf(l Label, classes []string) (float64, *fault) {
	if l.Name != "" {
		i := slices.Index(classes, l.Name)
		if i < 0 {
			return 0, faultf("class %s is none of the model's %d", formats.Quote(l.Name), len(classes))
		}
		return float64(i), nil
	}
	if classes != nil && int(l.Number) >= len(classes) {
		return 0, faultf("class %v (want 0 to %d)", l.Number, len(classes)-1)
	}
	return l.Number, nil
}

// classesOf returns the numbers of classes, rising.
func classesOf(labels []Label, classes []string) ([]int32, *fault) {
	numbers := make([]int32, len(labels))
	for i, l := range labels {
		n, f := classOf(l, classes)
		if f != nil {
			return nil, f
		}
		if slices.Contains(numbers[:i], int32(n)) {
			return nil, faultf("class %s is given twice", formats.Quote(classes[int(n)])).
				withHint("a list has the classes of its text, and not 0 or 1 for each class")
		}
		numbers[i] = int32(n)
	}
	slices.Sort(numbers)
	return numbers, nil
}

// encodeSentences makes an example of texts that belong together.
func encodeSentences(rec Record, tok Tokenizer, opt EncodeOptions, stats *Stats) (ex Example, f *fault) {
	ex.Target = rec.Label.Number
	for i, s := range rec.Sentences {
		ids, f := encodeWhole(s, tok, opt.MaxLength, stats)
		if f != nil {
			return Example{}, f
		}
		if i == 0 {
			ex.IDs = ids
		} else {
			ex.More = append(ex.More, ids)
		}
	}
	return ex, nil
}

// encodeWhole tokenises a text with the special tokens around it, which stay when its end
// is cut.
func encodeWhole(text string, tok Tokenizer, limit int, stats *Stats) ([]int32, *fault) {
	ids, err := tok.Encode(text, true)
	if err != nil {
		return nil, tokenFault(err)
	}
	if len(ids) == 0 {
		return nil, faultf("a text without tokens")
	}
	over := len(ids) - limit
	if over <= 0 {
		return ids, nil
	}
	plain, err := tok.Encode(text, false)
	if err != nil {
		return nil, tokenFault(err)
	}
	for at := range len(ids) - len(plain) + 1 {
		if !slices.Equal(ids[at:at+len(plain)], plain) {
			continue
		}
		if over >= len(plain) {
			return nil, faultf("the special tokens alone are %d (want fewer than %d)", len(ids)-len(plain), limit)
		}
		stats.Truncated++
		stats.LostTokens += int64(over)
		end := at + len(plain)
		return slices.Delete(slices.Clone(ids), end-over, end), nil
	}
	return nil, faultf("the tokenizer's special tokens change a text's own")
}

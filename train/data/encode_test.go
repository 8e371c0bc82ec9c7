package data

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// letters is a tokenizer with one token a byte: a is 10, b is 11 and so on. It fails
// on an exclamation mark.
type letters struct{}

func (letters) Encode(text string, addSpecial bool) ([]int32, error) {
	if addSpecial {
		return nil, errors.New("asked for special tokens")
	}
	if strings.Contains(text, "!") {
		return nil, errors.New("no token for '!'")
	}
	ids := make([]int32, len(text))
	for i := range ids {
		ids[i] = int32(text[i]) - 'a' + 10
	}
	return ids, nil
}

func text(s string) Record { return Record{Origin: Origin{File: "d", Line: 1}, Text: s} }
func pair(p, c string) Record {
	return Record{Origin: Origin{File: "d", Line: 1}, Prompt: p, Completion: c}
}
func ids(values ...int32) []int32  { return values }
func at(line int, r Record) Record { r.Line = line; return r }

const (
	bos int32 = 1
	eos int32 = 2
)

func TestEncode(t *testing.T) {
	special := EncodeOptions{MaxLength: 6, BOS: bos, EOS: eos}
	plain := EncodeOptions{MaxLength: 6, BOS: NoToken, EOS: NoToken}
	split := special
	split.SplitText = true
	type example struct {
		ids     []int32
		context int
	}
	for _, c := range []struct {
		name   string
		record Record
		opt    EncodeOptions
		want   []example
		stats  Stats
	}{
		{"text", text("abc"), special, []example{{ids(1, 10, 11, 12, 2), 0}}, Stats{Tokens: 5, Labels: 4}},
		{"text without specials", text("abc"), plain, []example{{ids(10, 11, 12), 0}}, Stats{Tokens: 3, Labels: 2}},
		{"text that just fits", text("abcd"), special, []example{{ids(1, 10, 11, 12, 13, 2), 0}}, Stats{Tokens: 6, Labels: 5}},
		{"text cut", text("abcdefg"), special, []example{{ids(1, 10, 11, 12, 13, 14), 0}},
			Stats{Tokens: 6, Labels: 5, Truncated: 1, LostTokens: 3}},
		{"text split", text("abcdefg"), split, []example{{ids(1, 10, 11, 12, 13, 14), 0}, {ids(14, 15, 16, 2), 0}},
			Stats{Tokens: 10, Labels: 8, Split: 1}},
		{"text split without a rest", text("abcdefghi"), split, []example{{ids(1, 10, 11, 12, 13, 14), 0}, {ids(14, 15, 16, 17, 18, 2), 0}},
			Stats{Tokens: 12, Labels: 10, Split: 1}},
		{"pair", pair("ab", "c"), special, []example{{ids(1, 10, 11, 12, 2), 3}}, Stats{Tokens: 5, Labels: 2}},
		{"pair without specials", pair("ab", "cd"), plain, []example{{ids(10, 11, 12, 13), 2}}, Stats{Tokens: 4, Labels: 2}},
		{"pair cut, even where texts are split", pair("ab", "cdef"), split, []example{{ids(1, 10, 11, 12, 13, 14), 3}},
			Stats{Tokens: 6, Labels: 3, Truncated: 1, LostTokens: 2}},
	} {
		set, stats, err := Encode(t.Context(), []Record{c.record}, letters{}, c.opt)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []example
		for _, e := range set.Examples {
			got = append(got, example{e.IDs, e.Context})
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
		c.stats.Records, c.stats.Examples = 1, len(c.want)
		if !reflect.DeepEqual(stats, c.stats) {
			t.Errorf("%s: stats\n%+v, want\n%+v", c.name, stats, c.stats)
		}
		if set.Labels() != stats.Labels || set.Tokens() != stats.Tokens {
			t.Errorf("%s: the set has %d labels of %d tokens", c.name, set.Labels(), set.Tokens())
		}
	}
}

func TestExamplesWithoutLabelsAreCounted(t *testing.T) {
	opt := EncodeOptions{MaxLength: 4, BOS: bos, EOS: NoToken}
	records := []Record{at(1, pair("abc", "d")), at(2, text("ab")), at(3, pair("abcdef", "g"))}
	set, stats, err := Encode(t.Context(), records, letters{}, opt)
	if err != nil || len(set.Examples) != 1 || set.Examples[0].Line != 2 {
		t.Fatalf("got %+v, %v", set, err)
	}
	if stats.Dropped != 2 || !reflect.DeepEqual(stats.FirstDropped, []Origin{{File: "d", Line: 1}, {File: "d", Line: 3}}) || stats.Truncated != 2 {
		t.Errorf("stats %+v", stats)
	}

	_, stats, err = Encode(t.Context(), records[:1], letters{}, opt)
	want := `reading "d": no example has a token to learn (of 1 records)`
	if !errors.Is(err, formats.ErrInput) || err.Error() != want || stats.Dropped != 1 {
		t.Errorf("got %v, want %s", err, want)
	}
	// One token is nothing to learn from without another before it.
	if _, _, err := Encode(t.Context(), []Record{text("a")}, letters{}, EncodeOptions{MaxLength: 4, BOS: NoToken, EOS: NoToken}); err == nil {
		t.Error("a text of one token was taken")
	}
}

func TestEncodeRefuses(t *testing.T) {
	opt := EncodeOptions{MaxLength: 8, BOS: bos, EOS: eos, Vocab: 13}
	_, _, err := Encode(t.Context(), []Record{at(3, text("a!")), at(4, text("abc")), at(9, pair("a", "bd"))}, letters{}, opt)
	want := `reading "d": line 3: tokenising: no token for '!'
reading "d": line 9: token id outside the model's vocabulary (got 13, want 0 to 12)`
	if !errors.Is(err, formats.ErrInput) || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	opt.BOS, opt.Vocab = -7, 0
	_, _, err = Encode(t.Context(), []Record{text("a")}, letters{}, opt)
	if err == nil || !strings.Contains(err.Error(), "(got -7, want 0 or more)") {
		t.Errorf("negative id: %v", err)
	}
	opt.MaxLength = 1
	if _, _, err := Encode(t.Context(), []Record{text("a")}, letters{}, opt); !errors.Is(err, formats.ErrUsage) {
		t.Errorf("length 1: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Encode(ctx, []Record{text("a")}, letters{}, EncodeOptions{MaxLength: 8}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

package data

import (
	"context"
	"fmt"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/chat"
)

// NoToken as a special id means that there is no such token.
const NoToken int32 = -1

// Tokenizer turns text into ids. For a language model Encode is always called with
// addSpecial false: where special tokens go is decided here, from [EncodeOptions].
type Tokenizer interface {
	Encode(text string, addSpecial bool) ([]int32, error)
}

// EncodeOptions says how records become examples.
type EncodeOptions struct {
	// MaxLength is the most tokens of an example, special ones included; at least 2,
	// as one token has no next one to learn from.
	MaxLength int
	// BOS is put before each example and EOS after it; [NoToken] leaves it out. Note
	// that the zero value is a token, so both must be set.
	BOS, EOS int32
	// Vocab is the number of ids that the model knows; a larger one is refused. 0
	// checks nothing.
	Vocab int
	// SplitText cuts a text above MaxLength into pieces instead of dropping its end.
	// Each piece begins with the last token of the one before it, so that every
	// token is learned once. Prompts with completions are never split.
	SplitText bool
	// Task is what the records were read for. The fields above on special tokens are for
	// language models; other tasks have them where the tokenizer puts them.
	Task Task
	// Templates renders chats; Turns says what is learned of one, ChatOptions how it is
	// rendered. A chat has the special tokens that its template writes, and no others.
	Templates   *chat.Templates
	Turns       chat.Turns
	ChatOptions chat.Options
	// Classes are the names of classes, in order of their numbers; [MultiLabel] needs them.
	Classes []string
}

// Range is a range of tokens, From the first to the last before To.
type Range struct{ From, To int }

// Example is one sequence of tokens.
type Example struct {
	Origin
	IDs []int32
	// Context is how many tokens at the beginning are given and not learned: a
	// prompt with its BOS; 0 for a text.
	Context int
	// Learned are the tokens of a chat that are learned, in order; nil means all after
	// Context.
	Learned []Range
	// Types are the segments of two texts, one for each of IDs; nil where there is one.
	Types []int32
	// More are the other sequences of an example of [Embedding]: the positive and the
	// negative, or the second sentence.
	More [][]int32
	// Classes are the numbers of the classes of an example of [MultiLabel], rising.
	Classes []int32
	// Target is the number of the class, the value, or the similarity.
	Target float64
}

// learned returns the ranges of tokens that are learned. The first token never is, as
// nothing comes before it.
func (e Example) learned() []Range {
	ranges := e.Learned
	if ranges == nil {
		ranges = []Range{{e.Context, len(e.IDs)}}
	}
	var out []Range
	for _, r := range ranges {
		if r.From, r.To = max(r.From, 1), min(r.To, len(e.IDs)); r.From < r.To {
			out = append(out, r)
		}
	}
	return out
}

// Labels returns how many tokens are learned.
func (e Example) Labels() (n int) {
	for _, r := range e.learned() {
		n += r.To - r.From
	}
	return n
}

// size returns the tokens of all sequences.
func (e Example) size() int {
	n := len(e.IDs)
	for _, ids := range e.More {
		n += len(ids)
	}
	return n
}

// Set is an ordered set of examples, for a language model each with at least one label.
// It is not changed once made.
type Set struct {
	Examples []Example
	Task     Task
	// Classes is how many classes [MultiLabel] has.
	Classes int
}

// Labels returns how many tokens of the set are learned in one epoch.
func (s *Set) Labels() int64 {
	var n int64
	for _, e := range s.Examples {
		n += int64(e.Labels())
	}
	return n
}

// Tokens returns how many tokens the set holds.
func (s *Set) Tokens() int64 {
	var n int64
	for _, e := range s.Examples {
		n += int64(e.size())
	}
	return n
}

// Stats counts what [Encode] did, so that a command can say it.
type Stats struct {
	Records  int `json:"records"`
	Examples int `json:"examples"` // differs from Records by splits and drops
	// Tokens counts the ids of all examples, and Labels those that are learned.
	Tokens int64 `json:"tokens"`
	Labels int64 `json:"labels"`
	// Truncated counts records that lost their end, and LostTokens what they lost.
	Truncated  int   `json:"truncated"`
	LostTokens int64 `json:"lost_tokens"`
	// Split counts texts that were cut into several examples.
	Split int `json:"split"`
	// Dropped counts records that had no label left: prompts that fill the whole
	// length, and texts of one token. FirstDropped names up to 20 of them.
	Dropped      int      `json:"dropped"`
	FirstDropped []Origin `json:"first_dropped,omitempty"`
}

// Encode tokenises the records. A text becomes [BOS] ids [EOS]. A prompt and its
// completion are tokenised separately and joined, [BOS] prompt completion [EOS],
// with labels on the completion and its EOS only; joining first could let one token
// straddle the two. A chat is tokenised as the text that its template makes of it; a token
// that crosses the edge of what is learned is learned.
//
// Records of other tasks become one example each, cut to MaxLength; of two texts the longer
// one is cut first.
//
// Failures of the tokeniser and ids outside the vocabulary are collected and
// returned as [formats.ErrInput] with file and line, or row. It is also an error if no
// record has a label left; dropped records are otherwise only counted.
func Encode(ctx context.Context, records []Record, tok Tokenizer, opt EncodeOptions) (*Set, Stats, error) {
	if opt.MaxLength < 2 {
		return nil, Stats{}, formats.Usagef("maximum length (got %d, want at least 2)", opt.MaxLength)
	}
	if opt.Task == MultiLabel && len(opt.Classes) == 0 {
		return nil, Stats{}, formats.Usagef("classes of a multi-label task are not named")
	}
	stats := Stats{Records: len(records)}
	set := &Set{Task: opt.Task, Classes: len(opt.Classes)}
	var found faults
	for _, rec := range records {
		if err := ctx.Err(); err != nil {
			return nil, stats, err
		}
		ex, f := encodeRecord(ctx, rec, tok, opt, &stats)
		if err := ctx.Err(); err != nil {
			return nil, stats, err
		}
		if f != nil {
			found.add(rec.Origin, f)
			continue
		}
		pieces := []Example{ex}
		if opt.Task == LanguageModel {
			pieces = fit(ex, rec.IsText() && opt.SplitText, opt.MaxLength, &stats)
		}
		kept := 0
		for _, p := range pieces {
			if opt.Task == LanguageModel && p.Labels() == 0 {
				continue
			}
			kept++
			stats.Examples++
			stats.Tokens += int64(p.size())
			if opt.Task == LanguageModel {
				stats.Labels += int64(p.Labels())
			}
			set.Examples = append(set.Examples, p)
		}
		if kept == 0 {
			stats.Dropped++
			if len(stats.FirstDropped) < formats.MaxProblems {
				stats.FirstDropped = append(stats.FirstDropped, rec.Origin)
			}
		}
	}
	if err := found.problems.Err(); err != nil {
		return nil, stats, err
	}
	if len(set.Examples) == 0 {
		file := ""
		if len(records) > 0 {
			file = records[0].File
		}
		return nil, stats, formats.Rejectf(file, "", "no example has a token to learn (of %d records)", len(records)).
			WithHint("raise the maximum length (now %d tokens) above the length of the prompts", opt.MaxLength)
	}
	return set, stats, nil
}

// encodeRecord makes one example, for a language model of any length.
func encodeRecord(ctx context.Context, rec Record, tok Tokenizer, opt EncodeOptions, stats *Stats) (Example, *fault) {
	var ex Example
	var f *fault
	switch {
	case opt.Task == Embedding:
		ex, f = encodeSentences(rec, tok, opt, stats)
	case opt.Task != LanguageModel:
		ex, f = encodeLabelled(rec, tok, opt, stats)
	case rec.Chat != nil:
		ex, f = encodeChat(ctx, rec.Chat, tok, opt)
	default:
		ex, f = encodeText(rec, tok, opt)
	}
	ex.Origin = rec.Origin
	for _, ids := range append(ex.More[:len(ex.More):len(ex.More)], ex.IDs) {
		for _, id := range ids {
			if f == nil && (id < 0 || opt.Vocab > 0 && int(id) >= opt.Vocab) {
				f = vocabFault(id, opt.Vocab)
			}
		}
	}
	return ex, f
}

func encodeText(rec Record, tok Tokenizer, opt EncodeOptions) (ex Example, f *fault) {
	if opt.BOS != NoToken {
		ex.IDs = append(ex.IDs, opt.BOS)
	}
	parts := []string{rec.Prompt, rec.Completion}
	if rec.IsText() {
		parts = []string{rec.Text}
	}
	for i, part := range parts {
		ids, err := tok.Encode(part, false)
		if err != nil {
			return Example{}, tokenFault(err)
		}
		ex.IDs = append(ex.IDs, ids...)
		if i < len(parts)-1 {
			ex.Context = len(ex.IDs)
		}
	}
	if opt.EOS != NoToken {
		ex.IDs = append(ex.IDs, opt.EOS)
	}
	return ex, nil
}

func tokenFault(err error) *fault { return faultf("tokenising: %v", err) }

func vocabFault(id int32, vocab int) *fault {
	limit := "0 or more"
	if vocab > 0 {
		limit = fmt.Sprintf("0 to %d", vocab-1)
	}
	return faultf("token id outside the model's vocabulary (got %d, want %s)", id, limit).
		withHint("the tokenizer does not belong to this model")
}

// fit brings an example to at most limit tokens, in one piece or several.
func fit(ex Example, split bool, limit int, stats *Stats) []Example {
	over := len(ex.IDs) - limit
	if over <= 0 {
		return []Example{ex}
	}
	if !split {
		stats.Truncated++
		stats.LostTokens += int64(over)
		ex.IDs = ex.IDs[:limit:limit]
		return []Example{ex}
	}
	stats.Split++
	var pieces []Example
	for at := 0; at < len(ex.IDs)-1; at += limit - 1 {
		piece := ex
		end := min(at+limit, len(ex.IDs))
		piece.IDs = ex.IDs[at:end:end]
		pieces = append(pieces, piece)
	}
	return pieces
}

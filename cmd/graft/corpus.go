package main

import (
	"context"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/data"
	"github.com/seed-b982eded/graft/train/models"
	"github.com/seed-b982eded/graft/train/tokenizer"
)

// encoder turns lines of training data into examples for one model.
type encoder struct {
	tok  *tokenizer.Tokenizer
	opts data.EncodeOptions
	base *formats.Checkpoint // has the chat template, which is read when there are chats
}

// dataFlags say what records are read, and from where; train and eval share them.
func dataFlags(what string) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "task", Value: "causal-lm", Usage: "what the model is for: causal-lm, sequence-classification, multi-label-classification, regression or embedding"},
		&cli.StringFlag{Name: "data", Required: true, Usage: what + " `FILE` or pattern: JSON Lines, JSON, CSV or Parquet with the fields of the task"},
		&cli.StringFlag{Name: "columns", Usage: "take a field from another column of the data: `FIELD=COLUMN[,…]`, as in text=body"},
	}, chatFlags()...)
}

// maxLengthFlag is the flag for newEncoder.
func maxLengthFlag() cli.Flag {
	return &cli.IntFlag{Name: "max-length", Usage: "tokens in an example (default: as many as the model takes)"}
}

// loaderFlags say how the training data becomes batches.
func loaderFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "packing", Usage: "put several examples into each row of a batch, up to --max-length tokens; they do not see one another"},
		&cli.BoolFlag{Name: "group-by-length", Usage: "make batches of examples of like length"},
	}
}

// loaderOptions reads loaderFlags and what else the training's batches need.
func loaderOptions(c *cli.Context, enc *encoder) data.LoaderOptions {
	o := data.LoaderOptions{
		Rows: c.Int("batch-size"), Pad: enc.pad(), Shuffle: true, Seed: c.Uint64("seed"), GroupByLength: c.Bool("group-by-length"),
	}
	if c.Bool("packing") {
		o.PackLength = c.Int("max-length")
	}
	return o
}

// readOptions reads --task and --columns, and checks the flags that depend on the task.
func readOptions(c *cli.Context) (opts data.ReadOptions, err error) {
	if opts.Task, err = parseTask(c.String("task")); err != nil {
		return opts, err
	}
	if err := checkChatFlags(c, opts.Task); err != nil {
		return opts, err
	}
	if c.Bool("packing") {
		if opts.Task != data.LanguageModel {
			return opts, formats.Usagef("--packing is for --task causal-lm alone (got %s)", c.String("task"))
		}
		if c.Int("max-length") == 0 {
			return opts, formats.Usagef("--packing needs --max-length: how many tokens a row of a batch has")
		}
	}
	opts.Columns, err = parseColumns(c.String("columns"))
	return opts, err
}

// parseColumns reads the value of --columns.
func parseColumns(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil
	}
	columns := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		field, column, ok := strings.Cut(pair, "=")
		if _, twice := columns[field]; !ok || twice {
			return nil, formats.Usagef("flag --columns: %s (want FIELD=COLUMN, each field once)", formats.Quote(pair))
		}
		columns[field] = column
	}
	return columns, nil
}

// newEncoder puts special tokens where the model's own files say: the beginning as its
// tokenizer does, and the model's end token after each example. maxLength 0 means the
// model's own.
func newEncoder(tok *tokenizer.Tokenizer, m models.Adaptable, maxLength int) (*encoder, error) {
	if maxLength == 0 {
		maxLength = m.MaxPositions()
	}
	if maxLength < 2 || maxLength > m.MaxPositions() {
		return nil, formats.Usagef("--max-length must be from 2 to the model's %d positions (got %d)", m.MaxPositions(), maxLength)
	}
	e := &encoder{tok: tok, opts: data.EncodeOptions{
		MaxLength: maxLength, BOS: data.NoToken, EOS: data.NoToken, Vocab: m.Vocabulary(), SplitText: true,
	}}
	writer, ok := m.(models.Model)
	if !ok { // whole texts, which the tokenizer ends
		return e, nil
	}
	lead, err := leadTokens(tok)
	if err != nil {
		return nil, err
	}
	if len(lead) > 1 {
		return nil, formats.Rejectf("", "", "the tokenizer puts %d tokens before a text (want at most one)", len(lead))
	}
	if len(lead) == 1 {
		e.opts.BOS = lead[0]
	}
	if ends := writer.EndTokens(); len(ends) > 0 {
		e.opts.EOS = ends[0]
	}
	return e, nil
}

// leadTokens returns the special tokens that a tokenizer puts before a text. What it puts
// behind is not asked: a text that is continued has no end, and one that is learned
// ends as the model ends texts.
func leadTokens(tok *tokenizer.Tokenizer) ([]int32, error) {
	const text = "a"
	plain, err := tok.Encode(text, false)
	if err != nil {
		return nil, err
	}
	special, err := tok.Encode(text, true)
	if err != nil {
		return nil, err
	}
	for i := range max(0, len(special)-len(plain)) + 1 {
		if slices.Equal(special[i:min(len(special), i+len(plain))], plain) {
			return special[:i], nil
		}
	}
	return nil, formats.Rejectf("", "", "the tokenizer's special tokens change a text's own")
}

func (e *encoder) encode(ctx context.Context, records []data.Record) (*data.Set, data.Stats, error) {
	return data.Encode(ctx, records, e.tok, e.opts)
}

// set encodes the records of a file, and says what had to be cut.
func (e *encoder) set(ctx context.Context, co *console, path string, records []data.Record) (*data.Set, error) {
	set, stats, err := e.encode(ctx, records)
	if err != nil {
		return nil, err
	}
	if stats.Truncated > 0 {
		co.note("note: %s: %d of %d records were cut to %d tokens (%d tokens lost)", path, stats.Truncated, stats.Records, e.opts.MaxLength, stats.LostTokens)
	}
	if stats.Split > 0 {
		co.note("note: %s: %d long texts were split into pieces of %d tokens", path, stats.Split, e.opts.MaxLength)
	}
	if stats.Dropped > 0 {
		co.note("note: %s: %d records have no token to learn and are left out, the first at %s", path, stats.Dropped, stats.FirstDropped[0])
	}
	return set, nil
}

// pad returns an id to pad with: any will do, as nothing looks at it.
func (e *encoder) pad() int32 { return max(e.opts.EOS, 0) }

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/models"
	"github.com/seed-b982eded/graft/train/tokenizer"
)

func generateCommand() *cli.Command {
	return &cli.Command{
		Name:      "generate",
		Usage:     "continue a text with a base and adapters",
		UsageText: "graft generate --base B [--adapter A[=W]]... --prompt TEXT",
		Description: "The continuation streams to stdout. Give --prompt - to read the prompt from stdin,\n" +
			"where a newline at the end counts.",
		Flags: append([]cli.Flag{
			baseFlag(), adaptersFlag(false),
			&cli.StringFlag{Name: "prompt", Required: true, Usage: "the `TEXT` to continue; - reads it from stdin"},
			&cli.IntFlag{Name: "max-tokens", Value: 100, Usage: "at most so many new tokens"},
			&cli.Float64Flag{Name: "temperature", Value: 0.8, Usage: "randomness; 0 always takes the likeliest token"},
			&cli.IntFlag{Name: "top-k", Value: 40, Usage: "choose among the K likeliest tokens; 0 among all"},
			&cli.Uint64Flag{Name: "seed", Usage: "seed of the choices"},
		}, commonFlags()...),
		Action: generateAction,
	}
}

type generateResult struct {
	Schema string            `json:"schema"`
	Prompt string            `json:"prompt"`
	Text   string            `json:"text"`
	Tokens int               `json:"tokens"`
	Stop   models.StopReason `json:"stop"`
}

func generateAction(c *cli.Context) error {
	if err := noPaths(c); err != nil {
		return err
	}
	if c.Int("max-tokens") < 1 {
		return formats.Usagef("--max-tokens must be 1 or more (got %d)", c.Int("max-tokens"))
	}
	co := newConsole(c)
	prompt := c.String("prompt")
	if prompt == "-" {
		text, err := readAll(c.Context, io.LimitReader(c.App.Reader, formats.MaxLineBytes))
		if err != nil {
			return &formats.Error{Class: formats.ErrInput, File: "stdin", Err: err}
		}
		prompt = string(text)
	}
	if !utf8.ValidString(prompt) {
		return formats.Usagef("the prompt is not valid UTF-8")
	}
	in, err := openOperands(c, false)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := co.checkReport("", in.paths()...); err != nil {
		return err
	}
	tok, err := openTokenizer(in.base)
	if err != nil {
		return err
	}
	m, err := in.load()
	if err != nil {
		return err
	}
	res := &generateResult{Schema: "graft.generate/1", Prompt: prompt}
	opts := models.GenerateOptions{MaxTokens: c.Int("max-tokens"), Temperature: c.Float64("temperature"), TopK: c.Int("top-k"), Seed: c.Uint64("seed")}
	var text strings.Builder
	show := func(piece string) error {
		text.WriteString(piece)
		if co.json {
			return nil
		}
		_, err := io.WriteString(co.out, piece)
		return err
	}
	if res.Stop, res.Tokens, err = continueText(c.Context, m, tok, prompt, opts, show); err != nil {
		return err
	}
	res.Text = text.String()
	return co.emit(res, func(w io.Writer) { fmt.Fprintln(w) })
}

// readAll is io.ReadAll that does not wait once ctx is done, as for a terminal at which
// nobody types. Then the reader goes on being read, until the process ends.
func readAll(ctx context.Context, r io.Reader) ([]byte, error) {
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := io.ReadAll(r)
		done <- result{text, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-done:
		return r.text, r.err
	}
}

// continueText streams the continuation of a prompt to show.
func continueText(ctx context.Context, m models.Model, tok *tokenizer.Tokenizer, prompt string, opts models.GenerateOptions, show func(string) error) (models.StopReason, int, error) {
	lead, err := leadTokens(tok)
	if err != nil {
		return "", 0, err
	}
	own, err := tok.Encode(prompt, false)
	if err != nil {
		return "", 0, err
	}
	ids := slices.Concat(lead, own)
	if len(ids) == 0 {
		if ends := m.EndTokens(); len(ends) > 0 {
			ids = ends[:1] // a text begins where another ended
		} else {
			return "", 0, formats.Usagef("the prompt is empty")
		}
	}
	if len(ids) > m.MaxPositions() {
		return "", 0, formats.Usagef("the prompt has %d tokens, but the model has %d positions", len(ids), m.MaxPositions())
	}
	n, stream := 0, tok.Stream(true)
	stop, err := models.Generate(ctx, m, ids, opts, func(id int32) error {
		n++
		return show(stream.Next(id))
	})
	if err != nil {
		return stop, n, err
	}
	return stop, n, show(stream.Flush())
}

package models

import (
	"context"
	"math"
	"slices"

	"github.com/seed-b982eded/graft/formats"
)

// GenerateOptions say how a text is continued.
type GenerateOptions struct {
	MaxTokens   int     // at most so many new tokens
	Temperature float64 // see NewSampler
	TopK        int     // see NewSampler
	Seed        uint64
	EndTokens   []int32 // nil means the model's own
}

// StopReason says why a text ended.
type StopReason string

// The reasons to stop.
const (
	StopEnd       StopReason = "end"        // an end token was chosen
	StopMaxTokens StopReason = "max_tokens" // as many as asked for
	StopContext   StopReason = "context"    // the model has no more positions
)

// Generate continues a prompt of at least one token and calls emit with each new token,
// but not with the end token. It stops early when ctx is done or emit fails, with that
// error.
func Generate(ctx context.Context, m Model, prompt []int32, opts GenerateOptions, emit func(id int32) error) (StopReason, error) {
	sampler, err := NewSampler(opts.Temperature, opts.TopK, opts.Seed)
	if err != nil {
		return "", err
	}
	ends := opts.EndTokens
	if ends == nil {
		ends = m.EndTokens()
	}
	session, next := m.NewSession(), prompt
	for range opts.MaxTokens {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		if session.Len() > 0 && session.Len() == m.MaxPositions() {
			return StopContext, nil
		}
		scores, err := session.Step(next)
		if err != nil {
			return "", err
		}
		id := sampler.Next(scores)
		if math.IsNaN(float64(scores[id])) {
			return "", &formats.Error{Class: formats.ErrInput, Detail: "the model's scores are not numbers"}
		}
		if slices.Contains(ends, id) {
			return StopEnd, nil
		}
		if err := emit(id); err != nil {
			return "", err
		}
		next = []int32{id}
	}
	return StopMaxTokens, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/seed-b982eded/graft/formats"
)

// Rules for messages: on stderr, begun with the program's name, lower case, no full
// stop, one line a problem; a line that begins with "hint:" may follow.

// report prints an error and returns the exit code for it.
func report(ctx context.Context, stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	var interrupted *interruption
	switch {
	case errors.As(err, &interrupted):
		fmt.Fprintf(stderr, "graft: interrupted; %s\n", interrupted.left)
		return 130
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		left, ok := resumable(err)
		if !ok {
			left = "nothing was written"
		}
		fmt.Fprintf(stderr, "graft: interrupted; %s\n", left)
		return 130
	}
	code := exitCode(err)
	fmt.Fprintf(stderr, "graft: %v\n", err)
	var e *formats.Error
	if errors.As(err, &e) && e.Hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", e.Hint)
	}
	if left, ok := resumable(err); ok {
		fmt.Fprintf(stderr, "hint: %s\n", left)
	}
	return code
}

// interruption is a Ctrl-C that left something on purpose.
type interruption struct{ left string }

func (i *interruption) Error() string { return "interrupted; " + i.left }

func exitCode(err error) int {
	for _, c := range []struct {
		class error
		code  int
	}{
		{formats.ErrUsage, 1}, {formats.ErrOutput, 6}, {formats.ErrInput, 4}, {formats.ErrUnfit, 5}, {formats.ErrDiffers, 3},
	} {
		if errors.Is(err, c.class) {
			return c.code
		}
	}
	return 6 // what has no class comes from the system
}

// finalName makes an error about a staged file speak of the final one, which is what
// the user knows, and drops the staged path that the system's error repeats.
func finalName(err error, staged, out string) error {
	var e *formats.Error
	if errors.As(err, &e) && e.Class == formats.ErrOutput {
		if rest, ok := strings.CutPrefix(e.File, staged); ok {
			e.File, e.Err = out+rest, formats.Cause(e.Err)
		}
	}
	return err
}

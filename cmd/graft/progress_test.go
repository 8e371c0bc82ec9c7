package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func detail(text string) func(float64) string { return func(float64) string { return text } }

// TestBarOnTerminal: each line covers the one before, none reaches the last column, and
// nothing is left at the end.
func TestBarOnTerminal(t *testing.T) {
	var out bytes.Buffer
	co := &console{err: &out, tty: true}
	b := co.newBar("merging", 4)
	for _, text := range []string{"short", strings.Repeat("long ", 30), "short"} {
		b.since, b.shown = b.since.Add(-redraw), b.shown.Add(-redraw)
		b.add(1, detail(text))
		b.shown = b.shown.Add(-redraw)
	}
	b.add(1, detail("done"))
	b.end()
	lines := strings.Split(out.String(), "\r")
	if len(lines) != 7 || lines[0] != "" || lines[6] != "" || strings.TrimSpace(lines[5]) != "" {
		t.Fatalf("lines are %q", lines)
	}
	for i, line := range lines[1:6] {
		if n := utf8.RuneCountInString(line); n > 79 {
			t.Errorf("line %d takes %d columns", i+1, n)
		}
	}
	if !strings.HasPrefix(lines[1], "merging ██████··") || !strings.Contains(lines[1], " 25%  short") {
		t.Errorf("the first line is %q", lines[1])
	}
	if utf8.RuneCountInString(lines[3]) != 79 {
		t.Errorf("%q does not cover the line before", lines[3])
	}
	if strings.Contains(out.String(), "\n") {
		t.Error("the bar goes on to a new line")
	}
}

// TestBarOnNarrowTerminal: the picture gets smaller and goes before the numbers do.
func TestBarOnNarrowTerminal(t *testing.T) {
	for _, c := range []struct {
		columns int
		want    string
	}{
		{50, "\rtraining ██······  25%  step 1/4  loss 1  0s left"},
		{45, "\rtraining  25%  step 1/4  loss 1  0s left"},
	} {
		var out bytes.Buffer
		b := (&console{err: &out, tty: true}).newBar("training", 4)
		b.columns = c.columns
		b.since, b.shown = b.since.Add(-redraw), b.shown.Add(-redraw)
		b.add(1, detail("step 1/4  loss 1"))
		if out.String() != c.want {
			t.Errorf("%d columns: got %q, want %q", c.columns, out.String(), c.want)
		}
	}
}

// TestBarElsewhere: in a file there is a line now and then, and none for short work.
func TestBarElsewhere(t *testing.T) {
	var out bytes.Buffer
	co := &console{err: &out}
	b := co.newBar("training", 10)
	b.add(10, detail("step 10/10"))
	b.end()
	if out.Len() > 0 {
		t.Errorf("short work printed %q", out.String())
	}
	b = co.newBar("training", 10)
	b.shown, b.since = b.shown.Add(-sayAgain), b.since.Add(-sayAgain)
	b.add(5, detail("step 5/10"))
	b.end()
	if got, want := out.String(), "training  50%  step 5/10  10s left\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	co.quiet = true
	co.newBar("training", 10).add(10, nil)
	co.newBar("training", 10).end()
}

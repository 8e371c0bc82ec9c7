package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// bar shows how far long work has come: on a terminal a line that is drawn over, else
// a line now and then. A nil *bar shows nothing.
type bar struct {
	w     io.Writer
	tty   bool
	what  string
	total float64
	since time.Time

	mu      sync.Mutex
	done    float64
	shown   time.Time
	width   int // of the line on the terminal, in characters
	columns int // of the terminal
}

const (
	redraw      = 100 * time.Millisecond
	sayAgain    = 10 * time.Second
	barCells    = 24
	fewestCells = 5
	fullBlock   = "█"
)

// newBar starts a bar; nil when the console is quiet.
func (co *console) newBar(what string, total float64) *bar {
	if co.quiet {
		return nil
	}
	return &bar{w: co.err, tty: co.tty, what: what, total: total, since: time.Now(), shown: time.Now(), columns: co.columns()}
}

// add says that n more of the work is done; detail returns more to show.
func (b *bar) add(n float64, detail func(rate float64) string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done += n
	wait := sayAgain
	if b.tty {
		wait = redraw
	}
	if time.Since(b.shown) < wait && (b.done < b.total || !b.tty) {
		return
	}
	b.shown = time.Now()
	elapsed := time.Since(b.since).Seconds()
	rate := b.done / max(elapsed, 1e-9)
	left := time.Duration((b.total - b.done) / max(rate, 1e-9) * float64(time.Second)).Round(time.Second)
	share := min(1, b.done/max(b.total, 1))
	line := fmt.Sprintf("%s %3.0f%%  %s  %s left", b.what, 100*share, detail(rate), left)
	if !b.tty {
		fmt.Fprintln(b.w, line)
		return
	}
	// What a narrow terminal has no room for is the picture, not the numbers.
	room := b.columns - 1 - utf8.RuneCountInString(line) - 1
	cells := min(barCells, room)
	if cells >= fewestCells {
		full := int(share * float64(cells))
		line = b.what + " " + strings.Repeat(fullBlock, full) + strings.Repeat("·", cells-full) + line[len(b.what):]
	}
	b.draw(line)
}

// draw shows a line over the one before. It never reaches the last column: there the
// terminal would go on to a new line, and the next one would not cover it.
func (b *bar) draw(line string) {
	text := []rune(line)
	text = text[:min(len(text), b.columns-1)]
	pad := max(0, b.width-len(text))
	b.width = len(text)
	fmt.Fprintf(b.w, "\r%s%s", string(text), strings.Repeat(" ", pad))
}

// end removes the bar from a terminal.
func (b *bar) end() {
	if b == nil || !b.tty || b.width == 0 {
		return
	}
	fmt.Fprintf(b.w, "\r%s\r", strings.Repeat(" ", b.width))
}

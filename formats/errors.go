package formats

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Classes of failure, for errors.Is. They say whose fault it is and decide a
// command's exit code.
var (
	// ErrUsage: the caller asked for something that makes no sense (exit 1).
	ErrUsage = errors.New("usage")
	// ErrDiffers: a comparison or check found a difference (exit 3).
	ErrDiffers = errors.New("differs")
	// ErrInput: a file is damaged, hostile or of a kind graft does not read (exit 4).
	ErrInput = errors.New("input rejected")
	// ErrUnfit: an adapter does not fit the base, or asks for what graft does not
	// implement (exit 5).
	ErrUnfit = errors.New("adapter does not fit")
	// ErrOutput: writing failed (exit 6).
	ErrOutput = errors.New("output failed")
)

// Error is a failure with its place. It prints as one line:
//
//	reading "FILE": tensor "NAME": what (got G, want W)
type Error struct {
	Class  error  // one of the classes above
	Op     string // "reading", "writing", …; empty means "reading" where File is set
	File   string
	Tensor string
	Detail string
	Hint   string // how to mend it, printed on a line of its own; may be empty
	Err    error  // cause, may be nil
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		op := e.Op
		if op == "" {
			op = "reading"
		}
		fmt.Fprintf(&b, "%s %s: ", op, Quote(e.File))
	}
	if e.Tensor != "" {
		fmt.Fprintf(&b, "tensor %s: ", Quote(e.Tensor))
	}
	b.WriteString(e.Detail)
	if e.Err != nil {
		if e.Detail != "" {
			b.WriteString(": ")
		}
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap gives errors.Is and errors.As both the class and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Class}
	}
	return []error{e.Class, e.Err}
}

// WithHint sets the hint and returns e.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// Rejectf returns an [ErrInput] about a file and, unless it is empty, a tensor.
func Rejectf(file, tensor, format string, args ...any) *Error {
	return &Error{Class: ErrInput, File: file, Tensor: tensor, Detail: fmt.Sprintf(format, args...)}
}

// Unfitf returns an [ErrUnfit] about an adapter's file and, unless it is empty, a tensor.
func Unfitf(file, tensor, format string, args ...any) *Error {
	return &Error{Class: ErrUnfit, File: file, Tensor: tensor, Detail: fmt.Sprintf(format, args...)}
}

// Outputf returns an [ErrOutput] about the file being written.
func Outputf(file string, cause error, format string, args ...any) *Error {
	return &Error{Class: ErrOutput, Op: "writing", File: file, Detail: fmt.Sprintf(format, args...), Err: cause}
}

// Usagef returns an [ErrUsage].
func Usagef(format string, args ...any) *Error {
	return &Error{Class: ErrUsage, Detail: fmt.Sprintf(format, args...)}
}

// MaxProblems is how many problems an [Problems] error lists in full.
const MaxProblems = 20

// Problems collects several errors about one job, so that a user sees all that is
// wrong and not only the first.
type Problems struct{ list []error }

// Add records err; nil is ignored.
func (p *Problems) Add(err error) {
	if err != nil {
		p.list = append(p.list, err)
	}
}

// Err returns nil, the only problem, or an error that lists the first [MaxProblems],
// one a line.
func (p *Problems) Err() error {
	switch len(p.list) {
	case 0:
		return nil
	case 1:
		return p.list[0]
	}
	return &problemList{p.list}
}

type problemList struct{ list []error }

func (p *problemList) Error() string {
	var b strings.Builder
	for i, err := range p.list {
		if i == MaxProblems {
			fmt.Fprintf(&b, "\nand %d more", len(p.list)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(err.Error())
	}
	return b.String()
}

func (p *problemList) Unwrap() []error { return p.list }

// maxQuoted is how much of an untrusted text a message shows.
const maxQuoted = 200

// Quote returns untrusted text quoted with all control characters escaped and cut
// to 200 bytes, fit for a terminal.
func Quote(s string) string {
	if len(s) <= maxQuoted {
		return strconv.Quote(s)
	}
	cut := maxQuoted
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.Quote(s[:cut]) + "…"
}

// Nearest returns up to n of the names that look most like s, best first, for "did
// you mean" lists. It compares shared dot-separated segments, then shared letters.
func Nearest(s string, names []string, n int) []string {
	type scored struct {
		name  string
		score int
	}
	want := map[string]int{}
	for _, seg := range strings.Split(s, ".") {
		want[seg]++
	}
	best := make([]scored, 0, len(names))
	for _, name := range names {
		score := 0
		seen := map[string]int{}
		for _, seg := range strings.Split(name, ".") {
			if seen[seg] < want[seg] {
				seen[seg]++
				score += 100
			}
		}
		if score == 0 {
			score = commonAffix(s, name)
		}
		if score > 2 {
			best = append(best, scored{name, score - abs(len(name)-len(s))})
		}
	}
	sort.SliceStable(best, func(i, j int) bool { return best[i].score > best[j].score })
	var out []string
	for i := 0; i < len(best) && i < n; i++ {
		out = append(out, best[i].name)
	}
	return out
}

func commonAffix(a, b string) int {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	j := 0
	for j < len(a)-i && j < len(b)-i && a[len(a)-1-j] == b[len(b)-1-j] {
		j++
	}
	return i + j
}

func abs(x int) int {
	if x < 0 {
		return -x
	}
	return x
}

// ReadError makes a failure to read from a file, or a tensor of it, an [ErrInput] that names
// it. An error that is an [Error] already says where it comes from and stays.
func ReadError(file, tensor string, err error) error {
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	return &Error{Class: ErrInput, File: file, Tensor: tensor, Err: Cause(err)}
}

// Cause strips the operation and the path that errors of package os begin with: an [Error]
// names its file itself.
func Cause(err error) error {
	for {
		switch e := err.(type) {
		case *fs.PathError:
			err = e.Err
		case *os.LinkError:
			err = e.Err
		default:
			return err
		}
	}
}

package train

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/data"
)

// ErrDiverged is the cause of errors about a loss or gradient that is not finite.
// Their class is [formats.ErrInput].
var ErrDiverged = errors.New("training diverged")

// diverged names the lines that the numbers came from.
func diverged(from []data.Origin, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	return (&formats.Error{
		Class:  formats.ErrInput,
		Detail: what + " on " + origins(from),
		Err:    ErrDiverged,
	}).WithHint("a lower learning rate or more warm-up helps if the loss was rising; at the first step, look at the base's weights and at these lines")
}

// maxOrigins is how many lines an error names; a batch is rarely larger.
const maxOrigins = 32

// origins lists lines by file: "a.jsonl" lines 3, 9 and "b.jsonl" line 1.
func origins(from []data.Origin) string {
	if len(from) == 0 {
		return "a batch of unknown origin"
	}
	left := 0
	if len(from) > maxOrigins {
		left = len(from) - maxOrigins
		from = from[:maxOrigins]
	}
	var files []string
	lines, unit := map[string][]string{}, map[string]string{}
	for _, o := range from {
		if lines[o.File] == nil {
			files = append(files, o.File)
			unit[o.File] = o.Unit()
		}
		lines[o.File] = append(lines[o.File], strconv.Itoa(o.Line))
	}
	parts := make([]string, len(files))
	for i, file := range files {
		word := unit[file]
		if len(lines[file]) != 1 {
			word += "s"
		}
		parts[i] = fmt.Sprintf("%s %s %s", formats.Quote(file), word, strings.Join(lines[file], ", "))
	}
	text := strings.Join(parts, " and ")
	if left > 0 {
		text += fmt.Sprintf(" and %d more", left)
	}
	return text
}

package data

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
)

var utf8BOM = []byte("\xef\xbb\xbf")

// ReadOptions says what records are made of.
type ReadOptions struct {
	Task Task
	// Columns renames: the field NAME of a record is Columns[NAME] in the files.
	Columns map[string]string
	// Ignore are fields of the files that are passed over; any other unknown field with
	// a value is refused.
	Ignore []string
}

// meaning returns the name that a file's field has in a record.
func (o ReadOptions) meaning(name string) (string, bool) {
	for meant, given := range o.Columns {
		if given == name {
			return meant, slices.Contains(fieldNames[o.Task], meant)
		}
	}
	_, elsewhere := o.Columns[name]
	return name, !elsewhere && slices.Contains(fieldNames[o.Task], name)
}

func (o ReadOptions) check() error {
	seen := map[string]bool{}
	for meant, given := range o.Columns {
		if !slices.Contains(fieldNames[o.Task], meant) {
			return formats.Usagef("there is no field %s to take from a column (there are %s)", formats.Quote(meant), strings.Join(fieldNames[o.Task], ", "))
		}
		if seen[given] || given == "" {
			return formats.Usagef("column %s is to be two fields, or none", formats.Quote(given))
		}
		seen[given] = true
	}
	return nil
}

// ReadFile reads a file of language-model records; see [ReadFiles].
func ReadFile(path string, ignore ...string) ([]Record, error) {
	return ReadFiles([]string{path}, ReadOptions{Ignore: ignore})
}

// Read reads JSON Lines of language-model records from r; name is what messages and origins
// call it. A byte order mark is accepted and blank lines are skipped.
//
// All lines are read before an error is returned, which is a [formats.ErrInput]
// that lists the first 20 faults by line, or one fault if the file as a whole is of
// another kind: plain text, compressed, Parquet, UTF-16, or empty.
func Read(name string, r io.Reader, ignore ...string) ([]Record, error) {
	return readLines(name, r, ReadOptions{Ignore: ignore})
}

func readLines(name string, r io.Reader, opt ReadOptions) ([]Record, error) {
	in := bufio.NewReaderSize(r, 1<<16)
	head, err := in.Peek(512)
	if err != nil && err != io.EOF {
		return nil, ioError(name, err)
	}
	if err := refuseKind(name, head); err != nil {
		return nil, err
	}
	if bytes.HasPrefix(head, utf8BOM) {
		if _, err := in.Discard(len(utf8BOM)); err != nil {
			return nil, ioError(name, err)
		}
	}

	found := reading{name: name}
	for number := 1; ; number++ {
		line, tooLong, err := readLine(in, formats.MaxLineBytes)
		if err != nil && err != io.EOF {
			return nil, ioError(name, err)
		}
		switch {
		case tooLong:
			found.take(number, Record{}, faultf("line too long (want at most %d bytes)", formats.MaxLineBytes))
		case len(bytes.TrimSpace(line)) > 0:
			rec, f := parseLine(line, opt)
			found.take(number, rec, f)
		}
		if err == io.EOF {
			break
		}
	}
	return found.result()
}

// reading gathers the records of one file, or what is wrong with them.
type reading struct {
	faults
	name    string
	rows    bool // lines are rows
	records []Record
}

// take adds the record that begins on a line, or a fault in it.
func (r *reading) take(line int, rec Record, f *fault) {
	origin := Origin{File: r.name, Line: line, IsRow: r.rows}
	if f != nil {
		r.add(origin, f)
		return
	}
	rec.Origin = origin
	r.records = append(r.records, rec)
}

func (r *reading) result() ([]Record, error) {
	if err := r.problems.Err(); err != nil {
		return nil, err
	}
	if len(r.records) == 0 {
		return nil, formats.Rejectf(r.name, "", "no examples").WithHint(shapeHint)
	}
	return r.records, nil
}

// readLine returns the next line without its newline, valid until the next call.
// Of a line above limit the rest is read and dropped. The error is io.EOF with the
// last line, which may be empty.
func readLine(in *bufio.Reader, limit int) (line []byte, tooLong bool, err error) {
	var long []byte
	for {
		piece, err := in.ReadSlice('\n')
		more := errors.Is(err, bufio.ErrBufferFull)
		piece = bytes.TrimSuffix(piece, []byte("\n"))
		switch {
		case tooLong || len(long)+len(piece) > limit:
			tooLong, long, piece = true, nil, nil
		case more || long != nil:
			long = append(long, piece...)
			piece = long
		}
		if !more {
			return piece, tooLong, err
		}
	}
}

// faults collects the problems of a file's lines. Those beyond what is ever printed
// share one value, so that a large file of another kind does not fill memory.
type faults struct {
	problems formats.Problems
	count    int
	beyond   *formats.Error
}

func (c *faults) add(o Origin, f *fault) {
	c.count++
	if c.count > formats.MaxProblems && c.beyond != nil {
		c.problems.Add(c.beyond)
		return
	}
	err := formats.Rejectf(o.File, "", "%s: %s", o.Place(), f.what)
	err.Hint = f.hint
	c.problems.Add(err)
	c.beyond = err
}

// refuseKind recognises whole files that are not JSON Lines by their first bytes,
// so that one line says what they are instead of 20 that say what they are not.
func refuseKind(name string, head []byte) error {
	content := bytes.TrimSpace(bytes.TrimPrefix(head, utf8BOM))
	isText := strings.EqualFold(filepath.Ext(name), ".txt") && len(content) > 0 && content[0] != '{'
	what, hint := "", ""
	switch {
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")):
		what, hint = "UTF-16 text, want UTF-8", "convert it, for instance with iconv -f UTF-16 -t UTF-8"
	case bytes.HasPrefix(head, []byte("\x1f\x8b")), bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		what, hint = "compressed, want JSON Lines", "unpack it first"
	case bytes.HasPrefix(head, []byte("PAR1")):
		what, hint = "Parquet, want JSON Lines", "export it as JSON Lines first"
	case isText:
		what = "plain text, want JSON Lines"
		hint = `make one example of each line with jq -cR 'select(. != "") | {text: .}', or one of the whole file with jq -cRs '{text: .}'`
	default:
		return nil
	}
	return formats.Rejectf(name, "", "%s", what).WithHint("%s", hint)
}

// ioError says that name could not be read, without the path that os errors repeat.
func ioError(name string, err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return &formats.Error{Class: formats.ErrInput, File: name, Err: err}
}

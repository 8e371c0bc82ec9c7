package data

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/seed-b982eded/graft/formats"
)

// maxColumns bounds the columns of a table; a hostile header can have as many as bytes.
const maxColumns = 10_000

// readTable reads CSV or TSV as RFC 4180 has it, with a header. An empty cell is a field
// that is not there. Faults name the line on which a record begins.
func readTable(name string, r io.Reader, comma rune, opt ReadOptions) ([]Record, error) {
	head := make([]byte, len(utf8BOM))
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, ioError(name, err)
	}
	lines := &lineLimit{r: io.MultiReader(strings.NewReader(strings.TrimPrefix(string(head[:n]), string(utf8BOM))), r)}
	in := csv.NewReader(lines)
	in.Comma, in.ReuseRecord = comma, true
	header, err := in.Read()
	if err == io.EOF {
		return nil, formats.Rejectf(name, "", "no header")
	}
	if err != nil {
		return nil, tableError(name, err)
	}
	header = slices.Clone(header)
	if err := checkHeader(name, header, opt); err != nil {
		return nil, err
	}
	found := reading{name: name}
	for {
		lines.record = 0
		cells, err := in.Read()
		if err == io.EOF {
			return found.result()
		}
		var syntax *csv.ParseError
		if errors.As(err, &syntax) && errors.Is(err, csv.ErrFieldCount) {
			found.take(syntax.StartLine, Record{}, faultf("%d cells, want %d as in the header", len(cells), len(header)))
			continue
		}
		if err != nil {
			found.problems.Add(tableError(name, err)) // what follows a stray quote is anybody's guess
			return nil, found.problems.Err()
		}
		line, _ := in.FieldPos(0)
		rec, f := parseCells(header, cells, opt)
		found.take(line, rec, f)
	}
}

// checkHeader refuses columns of one name, and a table without any column that is read:
// the first row is often data.
func checkHeader(name string, header []string, opt ReadOptions) error {
	if len(header) > maxColumns {
		return formats.Rejectf(name, "", "%d columns (want at most %d)", len(header), maxColumns)
	}
	known := false
	for i, h := range header {
		if slices.Contains(header[:i], h) {
			return formats.Rejectf(name, "", "column %s is there twice", formats.Quote(h))
		}
		_, ok := opt.meaning(h)
		known = known || ok
	}
	if !known {
		return formats.Rejectf(name, "", "no column of the header %s is known (want some of %s)", formats.Quote(strings.Join(header, ", ")), strings.Join(fieldNames[opt.Task], ", ")).
			WithHint("the first line names the columns; rename them with --columns text=NAME")
	}
	return nil
}

func parseCells(header, cells []string, opt ReadOptions) (Record, *fault) {
	var fields []field
	for i, cell := range cells {
		if cell == "" {
			continue
		}
		if !utf8.ValidString(cell) {
			return Record{}, faultf("column %s: invalid UTF-8", formats.Quote(header[i]))
		}
		raw, err := json.Marshal(cell)
		if err != nil {
			return Record{}, faultf("column %s: %v", formats.Quote(header[i]), err)
		}
		// A cell has no type: what is a list or an object elsewhere is JSON here.
		name, _ := opt.meaning(header[i])
		if structured := name == "messages" || name == "tools" || name == "documents" || name == "chat_template_kwargs"; structured && json.Valid([]byte(cell)) {
			raw = []byte(cell)
		}
		fields = append(fields, field{header[i], raw})
	}
	return parseRecord(fields, opt)
}

func tableError(name string, err error) error {
	var syntax *csv.ParseError
	if errors.As(err, &syntax) {
		return formats.Rejectf(name, "", "line %d: %v", syntax.Line, syntax.Err)
	}
	return ioError(name, err)
}

// lineLimit bounds what is read of one record: a quote that is never closed would take
// the rest of the file into memory.
type lineLimit struct {
	r      io.Reader
	record int
}

func (l *lineLimit) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.record += n; l.record > formats.MaxLineBytes+1<<20 {
		return 0, formats.Rejectf("", "", "a record of more than %d bytes; a quote may lack its end", formats.MaxLineBytes)
	}
	return n, err
}

package data

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"

	"github.com/seed-b982eded/graft/formats"
)

// parquetRows is how many rows are in memory at a time.
const parquetRows = 64

// readParquet reads a Parquet file. Columns may be strings, numbers, booleans, and lists and
// groups of these, as data sets have for messages. Faults name the row, counted from 1.
func readParquet(name string, f *os.File, opt ReadOptions) (_ []Record, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, ioError(name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, formats.Rejectf(name, "", "Parquet is read from a file only")
	}
	if err := checkFooter(name, f, info.Size()); err != nil {
		return nil, err
	}
	// The library panics at some schemas and pages that no writer makes: at a decimal of a
	// type that has none, or at levels and lengths that do not fit. What it was doing is only
	// reading, so nothing is left half done.
	defer func() {
		if p := recover(); p != nil {
			err = formats.Rejectf(name, "", "damaged Parquet: %.200s", fmt.Sprint(p))
		}
	}()
	file, err := parquet.OpenFile(f, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, formats.Rejectf(name, "", "damaged Parquet: %v", err)
	}
	if err := checkPages(name, f, file); err != nil {
		return nil, err
	}
	columns, err := parquetColumns(name, file.Root(), opt)
	if err != nil {
		return nil, err
	}
	found := reading{name: name, rows: true}
	row := 0
	// What a file unpacks to is bounded by its size, far above what texts are packed to.
	budget := 1<<30 + 1000*info.Size()
	for _, group := range file.RowGroups() {
		rows := group.Rows()
		buffer := make([]parquet.Row, parquetRows)
		for {
			n, err := rows.ReadRows(buffer)
			for _, r := range buffer[:n] {
				row++
				rec, f := parquetRecord(columns, r, opt, &budget)
				found.take(row, rec, f)
			}
			if budget < 0 {
				rows.Close()
				return nil, formats.Rejectf(name, "", "row %d: the file unpacks to more than a thousand times its size", row)
			}
			if errors.Is(err, io.EOF) || err == nil && n == 0 {
				break
			}
			if err != nil {
				rows.Close()
				return nil, formats.Rejectf(name, "", "damaged Parquet after row %d: %v", row, err)
			}
		}
		if err := rows.Close(); err != nil {
			return nil, formats.Rejectf(name, "", "damaged Parquet: %v", err)
		}
	}
	return found.result()
}

// parquetColumns returns the top-level columns that a record is made of, after checking
// that their types are read.
func parquetColumns(name string, root *parquet.Column, opt ReadOptions) ([]*parquet.Column, error) {
	var columns []*parquet.Column
	var titles []string
	known := false
	for _, c := range root.Columns() {
		if slices.Contains(titles, c.Name()) {
			return nil, formats.Rejectf(name, "", "column %s is there twice", formats.Quote(c.Name()))
		}
		titles = append(titles, c.Name())
		if _, ok := opt.meaning(c.Name()); ok {
			known = true
			if err := checkType(name, c, 0); err != nil {
				return nil, err
			}
		}
		columns = append(columns, c)
	}
	if !known {
		return nil, formats.Rejectf(name, "", "no column of %s is known (want some of %s)", formats.Quote(strings.Join(titles, ", ")), strings.Join(fieldNames[opt.Task], ", ")).
			WithHint("name columns with --columns text=NAME")
	}
	return columns, nil
}

// maxParquetDepth bounds nested groups; a list in a group in a list takes five.
const maxParquetDepth = 32

func checkType(name string, c *parquet.Column, depth int) error {
	if depth > maxParquetDepth {
		return formats.Rejectf(name, "", "column %s is nested deeper than %d", formats.Quote(c.Name()), maxParquetDepth)
	}
	if !c.Leaf() {
		for _, child := range c.Columns() {
			if err := checkType(name, child, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	t := c.Type()
	text := t.String()
	if l := t.LogicalType(); l != nil {
		text = l.String()
		switch kind, _, _ := strings.Cut(text, "("); kind {
		case "STRING", "JSON", "ENUM", "INT":
			return nil
		}
	} else if t.Kind() != parquet.Int96 {
		return nil
	}
	return formats.Rejectf(name, "", "column %s has the type %s (want a string, a number, a boolean, or lists and groups of them)",
		formats.Quote(strings.Join(c.Path(), ".")), text)
}

// parquetRecord makes a record of a row.
func parquetRecord(columns []*parquet.Column, row parquet.Row, opt ReadOptions, budget *int64) (Record, *fault) {
	a := assembler{values: map[int][]parquet.Value{}}
	row.Range(func(i int, values []parquet.Value) bool {
		a.values[i] = values
		return true
	})
	var fields []field
	for _, c := range columns {
		if slices.Contains(opt.Ignore, c.Name()) {
			continue
		}
		a.out = nil
		a.value(c, 0, 0)
		if a.fault != nil {
			return Record{}, a.fault
		}
		*budget -= int64(len(a.out))
		if string(a.out) == "null" {
			continue // what has no value is not there
		}
		fields = append(fields, field{c.Name(), a.out})
	}
	return parseRecord(fields, opt)
}

// assembler writes the values of a row as JSON, putting nested ones together by their
// levels (Melnik et al., "Dremel", 2010).
type assembler struct {
	values map[int][]parquet.Value // left of each leaf column
	out    []byte
	fault  *fault
}

// firstLeaf returns a leaf of a column; all of them tell how the column itself repeats.
func firstLeaf(c *parquet.Column) *parquet.Column {
	for !c.Leaf() {
		children := c.Columns()
		if len(children) == 0 {
			return nil
		}
		c = children[0]
	}
	return c
}

func (a *assembler) peek(c *parquet.Column) (parquet.Value, bool) {
	leaf := firstLeaf(c)
	if leaf == nil {
		return parquet.Value{}, false
	}
	left := a.values[leaf.Index()]
	if len(left) == 0 {
		return parquet.Value{}, false
	}
	return left[0], true
}

// skip takes one value of each leaf of a column that holds nothing.
func (a *assembler) skip(c *parquet.Column) {
	if c.Leaf() {
		if left := a.values[c.Index()]; len(left) > 0 {
			a.values[c.Index()] = left[1:]
		}
		return
	}
	for _, child := range c.Columns() {
		a.skip(child)
	}
}

// value writes the next value of a column whose parents have the given levels.
func (a *assembler) value(c *parquet.Column, repetition, definition int) {
	v, ok := a.peek(c)
	if !ok && !c.Repeated() {
		a.skip(c)
		a.out = append(a.out, "null"...)
		return
	}
	switch {
	case c.Repeated():
		a.list(c, repetition+1, definition+1)
		return
	case c.Optional():
		definition++
		if v.DefinitionLevel() < definition {
			a.skip(c)
			a.out = append(a.out, "null"...)
			return
		}
	}
	a.present(c, repetition, definition)
}

// list writes the elements of a repeated column.
func (a *assembler) list(c *parquet.Column, repetition, definition int) {
	a.out = append(a.out, '[')
	v, ok := a.peek(c)
	if !ok || v.DefinitionLevel() < definition {
		a.skip(c)
	} else {
		for n := 0; ; n++ {
			if n > 0 {
				a.out = append(a.out, ',')
			}
			a.present(c, repetition, definition)
			if v, ok = a.peek(c); !ok || v.RepetitionLevel() != repetition {
				break
			}
		}
	}
	a.out = append(a.out, ']')
}

// present writes a value that is there. A group with one repeated child is what the format
// calls a list, and a group of one child within it is the element.
func (a *assembler) present(c *parquet.Column, repetition, definition int) {
	if c.Leaf() {
		left := a.values[c.Index()]
		a.values[c.Index()] = left[1:]
		a.leaf(left[0])
		return
	}
	children := c.Columns()
	if len(children) == 1 && (children[0].Repeated() && !c.Repeated() || c.Repeated() && (c.Name() == "list" || c.Name() == "bag")) {
		a.value(children[0], repetition, definition)
		return
	}
	a.out = append(a.out, '{')
	for i, child := range children {
		if i > 0 {
			a.out = append(a.out, ',')
		}
		a.out = append(appendJSONString(a.out, child.Name()), ':')
		a.value(child, repetition, definition)
	}
	a.out = append(a.out, '}')
}

func (a *assembler) leaf(v parquet.Value) {
	float := func(f float64, bits int) {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			a.fault = faultf("%v is no number that can be used", f)
			return
		}
		a.out = strconv.AppendFloat(a.out, f, 'g', -1, bits)
	}
	switch v.Kind() {
	case parquet.Boolean:
		a.out = strconv.AppendBool(a.out, v.Boolean())
	case parquet.Int32:
		a.out = strconv.AppendInt(a.out, int64(v.Int32()), 10)
	case parquet.Int64:
		a.out = strconv.AppendInt(a.out, v.Int64(), 10)
	case parquet.Float:
		float(float64(v.Float()), 32)
	case parquet.Double:
		float(v.Double(), 64)
	case parquet.ByteArray, parquet.FixedLenByteArray:
		if !utf8.Valid(v.ByteArray()) {
			a.fault = faultf("bytes that are no UTF-8")
			return
		}
		a.out = appendJSONString(a.out, string(v.ByteArray()))
	default:
		a.out = appendJSONString(a.out, v.String())
	}
}

func appendJSONString(out []byte, s string) []byte {
	text, err := json.Marshal(s)
	if err != nil {
		return append(out, `""`...) // a string can always be written
	}
	return append(out, text...)
}

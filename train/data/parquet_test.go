package data

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

const fixtures = "../../testdata/data"

// assembled returns the rows of a file as JSON.
func assembled(t *testing.T, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parquet.OpenFile(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	if err := checkPages(path, f, file); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, g := range file.RowGroups() {
		rows := g.Rows()
		buffer := make([]parquet.Row, 7)
		for {
			n, err := rows.ReadRows(buffer)
			for _, r := range buffer[:n] {
				a := assembler{values: map[int][]parquet.Value{}}
				r.Range(func(i int, v []parquet.Value) bool { a.values[i] = v; return true })
				a.out = append(a.out, '{')
				for i, c := range file.Root().Columns() {
					if i > 0 {
						a.out = append(a.out, ',')
					}
					a.out = append(appendJSONString(a.out, c.Name()), ':')
					a.value(c, 0, 0)
				}
				out = append(out, string(append(a.out, '}')))
			}
			if err != nil {
				break
			}
		}
		rows.Close()
	}
	return out
}

// TestRowsLikePyarrow compares the rows that pyarrow wrote, whatever their nesting,
// compression and encoding.
func TestRowsLikePyarrow(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(fixtures, "*.parquet"))
	if err != nil || len(files) < 8 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		text, err := os.ReadFile(strings.TrimSuffix(path, "parquet") + "jsonl")
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Split(strings.TrimSpace(string(text)), "\n")
		got := assembled(t, path)
		if len(got) != len(want) {
			t.Errorf("%s: %d rows, want %d", path, len(got), len(want))
			continue
		}
		for i := range want {
			var compact, again bytes.Buffer
			if err := json.Compact(&compact, []byte(want[i])); err != nil {
				t.Fatal(err)
			}
			if err := json.Compact(&again, []byte(got[i])); err != nil {
				t.Fatalf("%s, row %d: %v in %s", path, i+1, err, got[i])
			}
			norm := func(s string) string { return strings.ReplaceAll(s, ".0,", ",") }
			if norm(again.String()) != norm(compact.String()) {
				t.Errorf("%s, row %d:\n got %s\nwant %s", path, i+1, again.String(), compact.String())
			}
		}
	}
}

package data

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMultiLabel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.jsonl")
	write := func(lines string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(lines), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"text":"a c","labels":["y","x"]}
{"text":"b d","label":[]}
{"text":"c","label":"z"}
{"text":"d","labels":[0]}
`)
	records, err := ReadFiles([]string{path}, ReadOptions{Task: MultiLabel})
	if err != nil {
		t.Fatal(err)
	}
	if names := ClassNames(records); !slices.Equal(names, []string{"x", "y", "z"}) {
		t.Errorf("classes %q", names)
	}
	tok := &words{map[string]int32{}}
	opt := EncodeOptions{MaxLength: 9, Task: MultiLabel, Classes: []string{"x", "w", "y", "z"}}
	set, _, err := Encode(t.Context(), records, tok, opt)
	if err != nil {
		t.Fatal(err)
	}
	b := newLoader(t, set, LoaderOptions{Rows: 4}).At(0, 0)
	want := []float32{1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0}
	if !slices.Equal(b.Targets, want) || b.Labels != nil || b.Count() != 4 {
		t.Errorf("got %+v", b)
	}
	rest, held, err := set.SplitCount(1, 1)
	if err != nil || rest.Classes != 4 || held.Classes != 4 {
		t.Errorf("a split has %+v and %+v, %v", rest, held, err)
	}

	records[0].Labels = []Label{{Name: "x", Number: -1}, {Number: 0}}
	records[2].Labels[0].Name = "v"
	_, _, err = Encode(t.Context(), records, tok, opt)
	if err == nil || !strings.Contains(err.Error(), `line 1: class "x" is given twice`) || !strings.Contains(err.Error(), `line 3: class "v" is none of the model's 4`) {
		t.Errorf("got %v", err)
	}
	opt.Classes = nil
	if _, _, err := Encode(t.Context(), records, tok, opt); err == nil {
		t.Error("classes without names were taken")
	}

	write(`{"text":"a","labels":[["x"]]}
{"text":"a","labels":[1.5]}
{"text":"a"}
{"text":"a","label":["x"],"labels":["x"]}
{"labels":["x"]}
`)
	_, err = ReadFiles([]string{path}, ReadOptions{Task: MultiLabel})
	for _, want := range []string{
		`line 1: field "labels": got array, want a number or a string`, `line 2: field "labels": class "1.5" (want a whole number`,
		`line 3: one of "labels" and "label" is needed`, `line 4: one of "labels" and "label" is needed`, `line 5: no "text"`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

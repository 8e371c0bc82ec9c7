package main

import (
	"bytes"
	"testing"

	"github.com/seed-b982eded/graft/train/data"
)

func TestLargestBatch(t *testing.T) {
	set := &data.Set{}
	for i, n := range []int{3, 2, 9, 1, 4, 7, 2} {
		set.Examples = append(set.Examples, data.Example{Origin: data.Origin{File: "d", Line: i + 1}, IDs: make([]int32, n)})
	}
	source, err := data.NewLoader(set, data.LoaderOptions{Rows: 2})
	if err != nil {
		t.Fatal(err)
	}
	// 5, 10, 11 and 2 tokens: the most are not where the longest row is.
	if b, tokens := largestBatch(source); tokens != 11 || b.Rows != 2 || b.Cols != 7 {
		t.Errorf("got %d×%d with %d tokens", b.Rows, b.Cols, tokens)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		list []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{1, 4}, 2.5}, {[]float64{1, 2, 9}, 2}, {[]float64{1, 2, 4, 9}, 3}} {
		if got := median(c.list); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.list, got, c.want)
		}
	}
}

func TestLatencyPrint(t *testing.T) {
	l := &latency{Rows: 2, Length: 7, Tokens: 11, Rounds: 3, Models: []modelLatency{{"base", 2, 3}, {"base + adapter", 3, 3.5}, {"merged", 2, 2.25}}}
	var b bytes.Buffer
	l.print(&b)
	want := `
MODEL           FASTEST ms  MEDIAN ms  TIMES BASE
base            2.000       3.000      1.000
base + adapter  3.000       3.500      1.500
merged          2.000       2.250      1.000
a forward pass of 2 rows, the longest of 7 tokens, in float32; 3 rounds in turns
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	l.Models = l.Models[1:]
	b.Reset()
	if l.print(&b); !bytes.Contains(b.Bytes(), []byte("3.500      -\n")) {
		t.Errorf("without a base:\n%s", b.String())
	}
	b.Reset()
	if (*latency)(nil).print(&b); b.Len() != 0 {
		t.Errorf("no latency prints %q", b.String())
	}
}

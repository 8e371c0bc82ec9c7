package data_test

import (
	"context"
	"fmt"
	"log"
	"strings"

	"github.com/seed-b982eded/graft/train/data"
)

// bytewise is a stand-in for a real tokenizer.
type bytewise struct{}

func (bytewise) Encode(text string, addSpecial bool) ([]int32, error) {
	var ids []int32
	for _, b := range []byte(text) {
		ids = append(ids, int32(b))
	}
	return ids, nil
}

func Example() {
	lines := `{"prompt": "2+2=", "completion": "4"}
{"text": "ab"}
`
	records, err := data.Read("sums.jsonl", strings.NewReader(lines))
	if err != nil {
		log.Fatal(err)
	}
	set, stats, err := data.Encode(context.Background(), records, bytewise{}, data.EncodeOptions{
		MaxLength: 64, BOS: data.NoToken, EOS: 0,
	})
	if err != nil {
		log.Fatal(err)
	}
	loader, err := data.NewLoader(set, data.LoaderOptions{Rows: 2})
	if err != nil {
		log.Fatal(err)
	}
	batch := loader.At(0, 0)
	fmt.Println(stats.Examples, "examples,", stats.Labels, "labels")
	for r := range batch.Rows {
		row := batch.Labels[r*batch.Cols : (r+1)*batch.Cols]
		fmt.Println(batch.Origins[r], batch.Lens[r], row)
	}
	// Output:
	// 2 examples, 4 labels
	// sums.jsonl:1 6 [-100 -100 -100 52 0 -100]
	// sums.jsonl:2 3 [98 0 -100 -100 -100 -100]
}

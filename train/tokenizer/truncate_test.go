package tokenizer

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// cutPair is two texts, a limit, how many ids are lost to it, and what is left.
type cutPair struct {
	first, second string
	limit, lost   int
	ids, typeIDs  []int32
}

func (c *cutPair) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&c.first, &c.second, &c.limit, &c.lost, &c.ids, &c.typeIDs})
}

// TestPairsAreCutLikeTransformers compares with testdata/gen/truncate.py.
func TestPairsAreCutLikeTransformers(t *testing.T) {
	text, err := os.ReadFile("testdata/truncate.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden map[string][]cutPair
	if err := json.Unmarshal(text, &golden); err != nil || len(golden) != 4 {
		t.Fatal(len(golden), err)
	}
	for name, cases := range golden {
		tok := openFile(t, name+".json")
		for _, c := range cases {
			ids, types, lost, err := tok.EncodePairWithin(c.first, c.second, c.limit)
			if err != nil || lost != c.lost || !slices.Equal(ids, c.ids) || !slices.Equal(types, c.typeIDs) {
				t.Errorf("%s: %q, %q at most %d:\n got %d\n     %d, %d lost, %v\nwant %d\n     %d, %d lost", name, c.first, c.second, c.limit, ids, types, lost, err, c.ids, c.typeIDs, c.lost)
			}
		}
	}
	if _, _, _, err := openFile(t, "roberta.json").EncodePairWithin("a", "b", 3); !errors.Is(err, formats.ErrUsage) {
		t.Errorf("room for fewer than the special tokens: %v", err)
	}
}

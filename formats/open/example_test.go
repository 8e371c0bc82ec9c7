package open_test

import (
	"fmt"
	"log"

	"github.com/seed-b982eded/graft/formats/open"
)

// Opening reads headers only; tensors stay on disk until they are read.
func ExampleCheckpoint() {
	c, err := open.Checkpoint("../../testdata/odd-llama")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for _, s := range c.Shards() {
		fmt.Println(s.Name, len(s.Tensors))
	}
	t, _ := c.Tensor("norm.weight")
	fmt.Println(t.DType, t.Shape)
	// Output:
	// model-00001-of-00002.safetensors 17
	// model-00002-of-00002.safetensors 24
	// BF16 [60]
}

// An adapter is a list of modules, each with what happens to it.
func ExampleAdapter() {
	a, err := open.Adapter("../../testdata/odd-llama/reference/regex-r3-rslora/trained")
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	e := a.Entries[0]
	fmt.Println(e.Module, e.Update.Kind(), e.Update.Shape(), "rank", e.Update.RankBound())
	// Output: model.layers.0.mlp.up_proj LowRank [101 60] rank 3
}

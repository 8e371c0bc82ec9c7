package models_test

import (
	"context"
	"fmt"
	"log"

	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/train/models"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Run a model with an adapter beside its weights, and continue a few tokens.
func Example() {
	base, err := open.Checkpoint("../../testdata/tiny-llama")
	check(err)
	defer base.Close()
	lora, err := open.Adapter("../../testdata/tiny-llama/reference/qv-r8/trained")
	check(err)
	defer lora.Close()

	m, err := models.Load(base)
	check(err)
	check(m.Attach(lora, 1))
	greedy := models.GenerateOptions{MaxTokens: 5}
	stop, err := models.Generate(context.Background(), m, []int32{0}, greedy, func(id int32) error {
		fmt.Print(id, " ")
		return nil
	})
	check(err)
	fmt.Println(stop)
	// Output: 283 46 12 302 260 max_tokens
}

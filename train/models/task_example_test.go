package models_test

import (
	"fmt"

	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/train/models"
	"github.com/seed-b982eded/graft/train/score"
)

// Classify texts with an adapter that brings its own head.
func ExampleLoadClassifier() {
	base, err := open.Checkpoint("../../testdata/models/bert-old")
	check(err)
	defer base.Close()
	lora, err := open.Adapter("../../testdata/models/bert-old/reference/multi-label/init")
	check(err)
	defer lora.Close()

	m, err := models.LoadClassifier(base, models.ClassifierOptions{
		Outputs: models.HeadOutputs(lora), Problem: models.MultiLabel,
	})
	check(err)
	check(m.Attach(lora, 1))
	// Two texts of three and two tokens.
	scores, err := m.Scores(models.Batch{Rows: 2, Cols: 3, IDs: []int32{4, 9, 5, 4, 5, 1}, Lens: []int{3, 2}})
	check(err)
	labels := score.Above(scores, 0)
	fmt.Println(labels[:m.Outputs()], labels[m.Outputs():])
	// Output: [true true false false] [true true false false]
}

// Compare sentences by their embeddings.
func ExampleLoadEmbedder() {
	base, err := open.Checkpoint("../../testdata/models/minilm")
	check(err)
	defer base.Close()

	cfg, err := models.ReadSentenceConfig(base)
	check(err)
	m, err := models.LoadEmbedder(base, models.EmbedderOptions{SentenceConfig: cfg})
	check(err)
	embeddings, err := m.Embed(models.Batch{Rows: 2, Cols: 3, IDs: []int32{4, 9, 5, 4, 5, 1}, Lens: []int{3, 2}})
	check(err)
	n := m.Dim()
	fmt.Printf("%d elements, cosine %.2f\n", n, score.Cosines(embeddings[:n], embeddings[n:], n)[0])
	// Output: 20 elements, cosine 0.91
}

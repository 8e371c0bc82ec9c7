package train_test

import (
	"context"
	"fmt"
	"log"
	"math"

	"github.com/seed-b982eded/graft/train"
	"github.com/seed-b982eded/graft/train/data"
	"github.com/seed-b982eded/graft/train/models"
)

// dice predicts the next token without looking at the ones before: its parameters
// are one row of logits.
type dice struct{ logits models.Param }

func (d dice) Params() []models.Param { return []models.Param{d.logits} }

func (d dice) Loss(b models.Batch) (float64, int, error) { return d.LossGrad(b, 0) }

func (d dice) LossGrad(b models.Batch, scale float32) (sum float64, labels int, err error) {
	var total float64
	for _, x := range d.logits.Data {
		total += math.Exp(float64(x))
	}
	for _, label := range b.Labels {
		if label == models.Ignored {
			continue
		}
		labels++
		sum += math.Log(total) - float64(d.logits.Data[label])
		for k, x := range d.logits.Data {
			d.logits.Grad[k] += scale * float32(math.Exp(float64(x))/total)
		}
		d.logits.Grad[label] -= scale
	}
	return sum, labels, nil
}

func ExampleRun() {
	// One of four tokens that are learned is a 1.
	set := &data.Set{Examples: []data.Example{{IDs: []int32{0, 1, 0, 0, 0}}}}
	source, err := data.NewLoader(set, data.LoaderOptions{Rows: 1})
	if err != nil {
		log.Fatal(err)
	}
	model := dice{models.Param{Name: "logits", Data: make([]float32, 2), Grad: make([]float32, 2), Rows: 1, Cols: 2}}

	opt := train.DefaultOptions
	opt.LearningRate, opt.MaxSteps, opt.LogSteps = 0.1, 60, 30
	opt.Eval = source // a real run holds data out
	result, err := train.Run(context.Background(), model, source, opt, train.Events{
		Point: func(p train.Point) error {
			fmt.Printf("step %2d  eval %-5v  loss %.3f\n", p.Step, p.Eval, p.Loss)
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("finished:", result.Finished)
	// Output:
	// step  0  eval true   loss 0.693
	// step 30  eval false  loss 0.577
	// step 60  eval false  loss 0.563
	// step 60  eval true   loss 0.562
	// finished: true
}

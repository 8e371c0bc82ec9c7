package autodiff_test

import (
	"fmt"

	"github.com/seed-b982eded/graft/train/autodiff"
)

// A frozen layer of two inputs learns a class it was not made for, by a factor pair
// of rank 1 alone.
func Example() {
	w := autodiff.Frozen(2, 2, []float32{1, 0, 0, 1})
	a := autodiff.Trainable(1, 2, []float32{0.5, -0.5}, make([]float32, 2))
	b := autodiff.Trainable(2, 1, []float32{0, 0}, make([]float32, 2))
	x := autodiff.Frozen(3, 2, []float32{2, 1, 1, 2, 3, 0})
	labels := []int32{1, 0, 1} // the other way round than w says

	var tape autodiff.Tape
	for step := range 61 {
		tape.Reset()
		y := tape.Linear(x, w, nil)
		tape.LoRA(y, x, a, b, 2)
		loss, n := tape.CrossEntropy(y, labels, 1./3)
		if step%20 == 0 {
			fmt.Printf("step %d: loss %.3f\n", step, loss/float64(n))
		}
		tape.Backward()
		for _, p := range []*autodiff.Value{a, b} {
			for i, g := range p.Grad() {
				p.Data[i] -= 0.5 * g
				p.Grad()[i] = 0
			}
		}
	}
	// Output:
	// step 0: loss 1.892
	// step 20: loss 0.004
	// step 40: loss 0.002
	// step 60: loss 0.001
}

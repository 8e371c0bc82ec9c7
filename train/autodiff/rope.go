package autodiff

import (
	"fmt"
	"math"
)

// Rotary holds the angles of rotary position embeddings (Su et al., "RoFormer",
// 2021) for positions from 0 on. It grows as positions are asked for.
type Rotary struct {
	half     int
	inverse  []float32 // theta**(−2i/dim)
	cos, sin []float32 // position × half
}

// NewRotary returns the angles position·theta**(−2i/dim) for heads of an even
// dimension. Frequencies and angles are rounded to float32, as in the usual
// implementations in PyTorch, because trained weights know those angles.
func NewRotary(dim int, theta float64) *Rotary {
	if dim <= 0 || dim%2 != 0 {
		panic(fmt.Sprintf("autodiff: rotary embeddings of a head of %d", dim))
	}
	r := &Rotary{half: dim / 2, inverse: make([]float32, dim/2)}
	for i := range r.inverse {
		power := float32(math.Pow(theta, float64(float32(2*i)/float32(dim))))
		r.inverse[i] = 1 / power
	}
	return r
}

// Grow makes the table cover positions below n.
func (r *Rotary) Grow(n int) {
	for p := len(r.cos) / r.half; p < n; p++ {
		for _, f := range r.inverse {
			angle := float64(float32(p) * f)
			r.cos = append(r.cos, float32(math.Cos(angle)))
			r.sin = append(r.sin, float32(math.Sin(angle)))
		}
	}
}

// Rotate turns each head of y in place by the angles of the row's position, pairing
// element i of a head with element i+dim/2 (the order of Hugging Face's Llama, where
// GPT-J pairs neighbours). y has len(positions) rows of whole heads; the table must
// cover the positions, which must stay as they are until Backward.
func (t *Tape) Rotate(y *Value, r *Rotary, positions []int32) {
	if y.Rows != len(positions) || y.Cols%(2*r.half) != 0 {
		panic(fmt.Sprintf("autodiff: rotating %d×%d with %d positions and heads of %d", y.Rows, y.Cols, len(positions), 2*r.half))
	}
	change(y, "Rotate")
	r.rotate(y.Data, y.Cols, positions, 1)
	if !t.wants(y) {
		return
	}
	// The transpose of a rotation turns the other way.
	t.record(func() { r.rotate(t.gradOf(y), y.Cols, positions, -1) })
}

func (r *Rotary) rotate(data []float32, cols int, positions []int32, sign float32) {
	eachRows(len(positions), cols, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			at := int(positions[i]) * r.half
			cos, sin := r.cos[at:at+r.half], r.sin[at:at+r.half]
			for h := i * cols; h < (i+1)*cols; h += 2 * r.half {
				a, b := data[h:h+r.half], data[h+r.half:h+2*r.half]
				for j, c := range cos {
					s := sign * sin[j]
					x, y := a[j], b[j]
					a[j] = x*c - y*s
					b[j] = y*c + x*s
				}
			}
		}
	})
}

package autodiff

import (
	"fmt"
	"math"
)

// Rotary holds the angles of rotary position embeddings (Su et al., "RoFormer",
// 2021) for one set of frequencies and positions from 0 on. It grows as positions are
// asked for.
type Rotary struct {
	frequencies []float32
	scale       float32
	cos, sin    []float32 // position × frequency
}

// NewRotary returns the angles position·frequency, one for each pair of a head's
// elements. They are rounded to float32, as in the usual implementations in PyTorch,
// because trained weights know those angles. Cosines and sines are multiplied by scale,
// which is 1 for a rotation and above where longer queries and keys are wanted (Peng et
// al., "YaRN", 2023, section 3.4).
func NewRotary(frequencies []float32, scale float32) *Rotary {
	return &Rotary{frequencies: frequencies, scale: scale}
}

// grow makes the table cover positions below n.
func (r *Rotary) grow(n int) {
	for p := len(r.cos) / len(r.frequencies); p < n; p++ {
		for _, f := range r.frequencies {
			angle := float64(float32(p) * f)
			r.cos = append(r.cos, float32(math.Cos(angle))*r.scale)
			r.sin = append(r.sin, float32(math.Sin(angle))*r.scale)
		}
	}
}

// Span is a run of rows that are successive positions, from From on.
type Span struct {
	Rotary *Rotary
	From   int
	Rows   int
}

// Rotate turns each head of dim columns of y in place by the angles of the row's
// position. Of a head's first elements, two for each frequency, element i is paired
// with the one half of them further on (the order of Hugging Face's Llama, where GPT-J
// pairs neighbours); elements after those stay as they are. The spans cover the rows
// of y and must stay as they are until Backward.
func (t *Tape) Rotate(y *Value, dim int, spans []Span) {
	rows := 0
	for _, s := range spans {
		if n := 2 * len(s.Rotary.frequencies); s.From < 0 || s.Rows < 0 || n > dim {
			panic(fmt.Sprintf("autodiff: rotating %d elements of heads of %d at %d rows from %d", n, dim, s.Rows, s.From))
		}
		s.Rotary.grow(s.From + s.Rows)
		rows += s.Rows
	}
	if y.Rows != rows || dim <= 0 || y.Cols%dim != 0 {
		panic(fmt.Sprintf("autodiff: rotating %d×%d with %d positions and heads of %d", y.Rows, y.Cols, rows, dim))
	}
	change(y, "Rotate")
	rotate(y.Data, y.Cols, dim, spans, 1)
	if !t.wants(y) {
		return
	}
	// The transpose of a rotation turns the other way.
	t.record(func() { rotate(t.gradOf(y), y.Cols, dim, spans, -1) })
}

func rotate(data []float32, cols, dim int, spans []Span, sign float32) {
	for _, s := range spans {
		own, n := data[:s.Rows*cols], len(s.Rotary.frequencies)
		data = data[len(own):]
		eachRows(s.Rows, cols, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				at := (s.From + i) * n
				cos, sin := s.Rotary.cos[at:at+n], s.Rotary.sin[at:at+n]
				for h := i * cols; h < (i+1)*cols; h += dim {
					a, b := own[h:h+n], own[h+n:h+2*n]
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
}

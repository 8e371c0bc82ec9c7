package autodiff

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// layers is a stack of scopes with a factor pair in all but the first, and a loss. Where
// the last layer makes the logits, their gradient lies in their place.
func layers(tape *Tape, depth int, head bool) (loss float64, grads [][]float32) {
	const rows, width = 37, 24
	rng := rand.New(rand.NewPCG(3, 4))
	random := func(rows, cols int) []float32 {
		data := NewBuffer(rows * cols)
		for i := range data {
			data[i] = float32(rng.NormFloat64()) * 0.3
		}
		return data
	}
	frozen := func(rows, cols int) *Value { return Frozen(rows, cols, random(rows, cols)) }
	labels := make([]int32, rows)
	for i := range labels {
		labels[i] = int32(rng.IntN(width))
	}
	tape.Reset()
	h := frozen(rows, width)
	for i := range depth {
		up, gate, down, norm := frozen(55, width), frozen(55, width), frozen(width, 55), frozen(1, width)
		var a, b *Value
		if i > 0 {
			a = Trainable(3, width, random(3, width), NewBuffer(3*width))
			b = Trainable(55, 3, random(55, 3), NewBuffer(55*3))
			grads = append(grads, a.Grad(), b.Grad())
		}
		h = tape.Scope(h, func(h *Value) *Value {
			x := tape.RMSNorm(h, norm, RMS{Eps: 1e-6})
			u := tape.Linear(x, up, nil)
			if a != nil {
				tape.LoRA(u, tape.Dropout(x, 0.3, uint64(i)), a, b, 0.7)
			}
			y := tape.Linear(tape.SwiGLU(tape.Linear(x, gate, nil), u), down, nil)
			tape.Add(y, h)
			return y
		})
	}
	if head {
		h = tape.Linear(h, frozen(width, width), nil)
	}
	loss, _ = tape.CrossEntropy(h, labels, 0.1)
	tape.Backward()
	return loss, grads
}

func TestCheckpointing(t *testing.T) {
	for _, head := range []bool{true, false} {
		var plain, thrifty Tape
		thrifty.Checkpointing = true
		want, wantGrads := layers(&plain, 8, head)
		for range 3 {
			got, grads := layers(&thrifty, 8, head)
			if got != want {
				t.Errorf("loss %v, want %v", got, want)
			}
			for i, g := range grads {
				if !slices.Equal(g, wantGrads[i]) {
					t.Errorf("gradient %d is another", i)
				}
			}
		}
		if size, limit := elements(&thrifty), elements(&plain)/3; size > limit {
			t.Errorf("%d elements with checkpoints, want at most %d", size, limit)
		}
		if len(thrifty.ops) != 0 {
			t.Error("a record is left")
		}
	}
}

// Scopes may lie in one another.
func TestNestedCheckpoints(t *testing.T) {
	run := func(checkpointing bool) []float32 {
		tape := Tape{Checkpointing: checkpointing}
		x := Trainable(5, 7, NewBuffer(35), NewBuffer(35))
		for i := range x.Data {
			x.Data[i] = float32(i%9-4) / 3
		}
		y := tape.Scope(x, func(x *Value) *Value {
			y := tape.Scope(x, func(x *Value) *Value { return tape.Activate(x, Tanh) })
			y = tape.Scope(y, func(y *Value) *Value { return y })
			return tape.SwiGLU(y, x)
		})
		tape.SquaredError(y, make([]float32, 35), 1)
		tape.Backward()
		return x.Grad()
	}
	if got, want := run(true), run(false); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// elements counts the elements of a tape's buffers.
func elements(t *Tape) (n int) {
	for _, b := range t.arena.all {
		n += len(b.data)
	}
	return n
}

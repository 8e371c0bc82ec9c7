package autodiff

import "gonum.org/v1/gonum/blas"

// Tape runs operations, records them and differentiates them. The zero value is
// ready for use.
type Tape struct {
	// NoGrad turns recording off: all values made while it is set need no gradient.
	NoGrad bool
	// Checkpointing lets each [Tape.Scope] keep only what it was given and what it returns,
	// and run once more in Backward (Chen et al., "Training deep nets with sublinear memory
	// cost", 2016). Gradients are the same bits.
	Checkpointing bool

	arena arena
	ops   []op
}

// op is one recorded operation.
type op struct {
	back func()
	made []*Value // what the operation made; their buffers are free once back has run
}

// Reset forgets the record and takes back all buffers. Values that the tape made
// must not be used afterwards.
func (t *Tape) Reset() {
	clear(t.ops)
	t.ops = t.ops[:0]
	t.arena.reset()
}

// Backward runs the record in reverse and adds to the gradients of trainable leaves.
// The gradients that it starts from are those that [Tape.CrossEntropy] and
// [Tape.AddGrad] asked for. It uses the record up, and the data of all values that
// the tape made.
func (t *Tape) Backward() {
	for i := len(t.ops) - 1; i >= 0; i-- {
		t.ops[i].back()
		for _, v := range t.ops[i].made {
			t.arena.put(v.buf)
			t.arena.put(v.gradBuf)
		}
		t.ops[i] = op{}
	}
	t.ops = t.ops[:0]
}

// AddGrad makes Backward start with g added to the gradient of v. It is how a loss
// that this package does not know enters; g must stay as it is until Backward.
func (t *Tape) AddGrad(v *Value, g []float32) {
	if len(g) != len(v.Data) {
		panic("autodiff: a gradient of another size than its value")
	}
	if t.wants(v) {
		t.record(func() { add(t.gradOf(v), g) })
	}
}

// Scope runs f on x and returns its result: a layer, say. f reads x and leaves, and no
// other value of the tape; with Checkpointing it runs a second time and has to do the same.
// When f recorded nothing, or Checkpointing is set, all other buffers that f took are free
// again, so that evaluation needs the memory of one layer. The values that f made, but its
// result, must not be used afterwards.
func (t *Tape) Scope(x *Value, f func(x *Value) *Value) *Value {
	mark, recorded := t.arena.now, len(t.ops)
	y := f(x)
	if len(t.ops) == recorded {
		t.arena.putSince(mark, y.buf)
		return y
	}
	if !t.Checkpointing || y == x {
		return y
	}
	clear(t.ops[recorded:])
	t.ops = t.ops[:recorded]
	t.arena.putSince(mark, y.buf)
	keep(x)
	t.record(func() { t.again(x, y, f) })
	return y
}

// again runs f once more, records it and differentiates it from y's gradient.
func (t *Tape) again(x, y *Value, f func(x *Value) *Value) {
	// Nothing reads y again. Its gradient may lie in its place.
	if y.grad == nil || y.gradBuf != nil {
		t.arena.put(y.buf)
	} else {
		y.gradBuf = y.buf
	}
	if y.grad == nil {
		return
	}
	outer, mark := t.ops, t.arena.now
	t.ops = nil
	z := f(x)
	z.grad, z.gradBuf = y.grad, y.gradBuf
	t.Backward()
	t.ops = outer
	t.arena.putSince(mark, x.gradBuf)
}

// newValue returns a value of any content; it needs a gradient when one of the
// inputs does.
func (t *Tape) newValue(rows, cols int, inputs ...*Value) *Value {
	v := &Value{Rows: rows, Cols: cols, needs: t.wants(inputs...)}
	v.buf, v.Data = t.arena.get(rows * cols)
	return v
}

// wants reports whether an operation on the inputs has to be recorded.
func (t *Tape) wants(inputs ...*Value) bool {
	if t.NoGrad {
		return false
	}
	for _, v := range inputs {
		if v != nil && v.needs {
			return true
		}
	}
	return false
}

func (t *Tape) record(back func(), made ...*Value) {
	t.ops = append(t.ops, op{back, made})
}

// keep notes that the derivative of an operation reads the data of the inputs.
func keep(inputs ...*Value) {
	for _, v := range inputs {
		v.kept = true
	}
}

// change prepares an operation that overwrites v's data.
func change(v *Value, what string) {
	if v.buf == nil || v.kept {
		panic("autodiff: " + what + " in place needs a value of the tape that no recorded operation reads again")
	}
}

// gradOf returns v's gradient, zeros at first. Derivatives add to it.
func (t *Tape) gradOf(v *Value) []float32 {
	grad, first := t.startGrad(v)
	if first {
		clear(grad)
	}
	return grad
}

// startGrad returns v's gradient. The first time its content is anything, and whoever asks
// has to write all of it.
func (t *Tape) startGrad(v *Value) (grad []float32, first bool) {
	if !v.needs {
		panic("autodiff: a gradient for a value that needs none")
	}
	if v.grad == nil {
		v.gradBuf, v.grad = t.arena.get(v.Rows * v.Cols)
		return v.grad, true
	}
	return v.grad, false
}

// addProduct adds alpha·op(a)·op(b) to v's gradient.
func (t *Tape) addProduct(v *Value, opA, opB blas.Transpose, alpha float32, a, b matrix) {
	beta := float32(1)
	grad, first := t.startGrad(v)
	if first {
		beta = 0
	}
	product(opA, opB, alpha, a, b, beta, general(v.Rows, v.Cols, grad))
}

func (t *Tape) gradMatrix(v *Value) matrix { return general(v.Rows, v.Cols, t.gradOf(v)) }

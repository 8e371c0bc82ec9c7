package models

import (
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// weights finds a model's parameters in a checkpoint. All are looked up and checked
// first; read then makes them.
type weights struct {
	ckpt     *formats.Checkpoint
	body     string // the first segment of the body's paths, with a dot
	prefix   string // what the checkpoint's names have of it: all or nothing
	used     map[string]bool
	pending  []pending
	problems formats.Problems

	// leave, unless it is nil, says which tensors of the checkpoint are no part of the
	// model, by their name below the prefix.
	leave func(name string) bool
}

// pending is a parameter that was found and is not yet read.
type pending struct {
	tensor     formats.Tensor
	rows, cols int
	flipped    bool // stored as cols × rows
	into       **autodiff.Value
}

// findWeights begins to look up the weights of a model that keeps its body in an attribute:
// the first segment of the body's module paths.
func findWeights(ckpt *formats.Checkpoint, body string) *weights {
	w := &weights{ckpt: ckpt, body: body, used: map[string]bool{}}
	for t := range ckpt.Tensors() {
		if strings.HasPrefix(t.Name, body) {
			w.prefix = body
			break
		}
	}
	return w
}

// stored returns the checkpoint's name of a parameter: a checkpoint saved from the body
// alone has no prefix.
func (w *weights) stored(name string) string {
	if rest, ok := strings.CutPrefix(name, w.body); ok {
		return w.prefix + rest
	}
	return name
}

// oldNames are what BERT's norms called their parameters at first.
var oldNames = strings.NewReplacer("LayerNorm.weight", "LayerNorm.gamma", "LayerNorm.bias", "LayerNorm.beta")

// tensor returns the tensor that holds a parameter.
func (w *weights) tensor(name string) (formats.Tensor, bool) {
	t, ok := w.ckpt.Tensor(w.stored(name))
	if !ok {
		t, ok = w.ckpt.Tensor(oldNames.Replace(w.stored(name)))
	}
	return t, ok
}

// matrix looks up a parameter of rows × cols.
func (w *weights) matrix(into **autodiff.Value, name string, rows, cols int) {
	w.find(name, []int64{int64(rows), int64(cols)}, pending{rows: rows, cols: cols, into: into})
}

// flippedMatrix looks up a parameter of rows × cols that is stored as cols × rows.
func (w *weights) flippedMatrix(into **autodiff.Value, name string, rows, cols int) {
	w.find(name, []int64{int64(cols), int64(rows)}, pending{rows: rows, cols: cols, into: into, flipped: true})
}

// vector looks up a parameter of one dimension, a row.
func (w *weights) vector(into **autodiff.Value, name string, n int) {
	w.find(name, []int64{int64(n)}, pending{rows: 1, cols: n, into: into})
}

func (w *weights) find(name string, shape []int64, p pending) {
	t, ok := w.tensor(name)
	switch {
	case !ok:
		w.problems.Add(formats.Rejectf(w.ckpt.Path(), w.stored(name), "is missing"))
		return
	case !slices.Equal(t.Shape, shape):
		w.problems.Add(formats.Rejectf(w.ckpt.Path(), t.Name, "shape does not fit config.json (got %v, want %v)", t.Shape, shape))
	case !t.DType.IsFloat():
		w.problems.Add(formats.Rejectf(w.ckpt.Path(), t.Name, "cannot compute with its dtype (got %s, want F64, F32, F16 or BF16)", t.DType))
	}
	w.used[t.Name] = true
	p.tensor = t
	w.pending = append(w.pending, p)
}

// ignorable reports whether a tensor is a buffer that old versions of transformers
// saved and that is computed from the config.
func ignorable(name string) bool { return strings.HasSuffix(name, ".rotary_emb.inv_freq") }

// read reports everything that is missing, misshapen or left over, and only if there is
// nothing, reads the parameters.
func (w *weights) read() error {
	for t := range w.ckpt.Tensors() {
		left := ignorable(t.Name) || w.leave != nil && w.leave(strings.TrimPrefix(t.Name, w.body))
		if !w.used[t.Name] && !left {
			w.problems.Add(formats.Rejectf(w.ckpt.Path(), t.Name, "the model that config.json describes has no such parameter"))
		}
	}
	if err := w.problems.Err(); err != nil {
		return err
	}
	for _, p := range w.pending {
		data, err := readFloats(p.tensor)
		if err != nil {
			return &formats.Error{Class: formats.ErrInput, File: w.ckpt.Path(), Tensor: p.tensor.Name, Err: err}
		}
		if p.flipped {
			data = transposed(data, p.cols, p.rows)
		}
		*p.into = autodiff.Frozen(p.rows, p.cols, data)
	}
	return nil
}

// transposed returns a rows × cols matrix as cols × rows.
func transposed(data []float32, rows, cols int) []float32 {
	out := autodiff.NewBuffer(len(data))
	for i := range rows {
		for j := range cols {
			out[j*rows+i] = data[i*cols+j]
		}
	}
	return out
}

// readFloats reads a tensor of a float type into a buffer that suits autodiff.
func readFloats(t formats.Tensor) ([]float32, error) {
	raw, err := t.ReadAll()
	if err != nil {
		return nil, err
	}
	data := autodiff.NewBuffer(int(t.Elements()))
	formats.DecodeFloat32(data, raw, t.DType)
	return data, nil
}

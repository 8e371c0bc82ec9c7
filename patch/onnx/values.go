package onnx

import (
	"context"
	"math"
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch"
)

// part is a module that has some outputs of a layer.
type part struct {
	module      string
	first, outs int64
}

// matchValues looks for each layer's numbers among the weights of the checkpoint that the
// graph was exported from. A few elements find the candidates, and all of them decide.
// Numbers that an export rounded to a narrower type are the same numbers. What is left of
// the checkpoint then is looked for in parts of the layers that are left.
//
// Equal weights of several modules decide nothing by themselves: then what else is known
// of the layer chooses among them.
func matchValues(layers []*Layer, weights *patch.Model) error {
	var theirs []*weightView
	for _, s := range weights.Sites {
		if s.Weight.DType.IsFloat() {
			theirs = append(theirs, viewOf(s))
		}
	}
	found := map[*weightView]bool{}
	var left []*Layer
	for _, l := range layers {
		if l.Quantized != "" || !l.Weight.HasData || !l.Weight.Data.DType.IsFloat() {
			continue
		}
		if p, ok := l.Weight.Data.Data.(formats.Preparer); ok {
			if err := p.Prepare(context.Background()); err != nil {
				return err
			}
		}
		same, err := l.equals(theirs)
		if err != nil {
			return err
		}
		for _, v := range same {
			found[v] = true
		}
		if len(same) == 0 {
			left = append(left, l)
		}
		if len(same) > 1 {
			same = slices.DeleteFunc(same, func(v *weightView) bool {
				q, _, _ := l.agreesWith(v.module)
				return q == none
			})
		}
		if len(same) == 1 {
			l.Evidence = append([]Evidence{{ruleValue, same[0].module, same[0].t.Name}}, l.Evidence...)
		}
	}
	theirs = slices.DeleteFunc(theirs, func(v *weightView) bool { return found[v] })
	for _, l := range left {
		for _, v := range theirs {
			if err := l.findPart(v); err != nil {
				return err
			}
		}
		if len(l.parts) == 0 {
			l.contradict(weights)
		}
	}
	return nil
}

// contradict notes that the checkpoint has other numbers for the module that names tell.
func (l *Layer) contradict(weights *patch.Model) {
	for _, s := range weights.Sites {
		in, out := s.InOutSize()
		if q, _, _ := l.agreesWith(s.Module); q >= suffix && in == l.In && out == l.Out && s.Weight.DType.IsFloat() {
			l.differs = s.Weight.Name
			return
		}
	}
}

// weightView reads a weight by (output, input), however it is stored.
type weightView struct {
	module  string // of the checkpoint; empty for a layer's
	kind    patch.Kind
	t       formats.Tensor
	inOut   bool
	out, in int64
	sample  []float32 // elements at fixed places, once they are read
}

func viewOf(s patch.Site) *weightView {
	in, out := s.InOutSize()
	return &weightView{module: s.Module, kind: s.Kind, t: s.Weight, inOut: s.InOut, out: out, in: in}
}

func (l *Layer) view() *weightView {
	return &weightView{kind: l.Kind, t: l.Weight.Data, inOut: l.InOut, out: l.Out, in: l.In}
}

// samples is how many elements find a candidate. Trained weights differ in the first.
const samples = 16

// equals returns the weights that have the layer's numbers.
func (l *Layer) equals(theirs []*weightView) ([]*weightView, error) {
	own := l.view()
	var out []*weightView
	for _, v := range theirs {
		// A tied head is no embedding.
		if v.kind != own.kind || v.out != own.out || v.in != own.in || len(v.t.Shape) != len(own.t.Shape) ||
			len(v.t.Shape) > 2 && !slices.Equal(v.t.Shape, own.t.Shape) {
			continue
		}
		ok, err := own.equal(v, 0)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, v)
		}
	}
	return out, nil
}

// findPart looks for a weight among the layer's outputs. One that is there twice is not
// found: which of them is it?
func (l *Layer) findPart(v *weightView) error {
	own := l.view()
	if own.kind != patch.Linear || v.kind != patch.Linear || own.in != v.in || own.out <= v.out {
		return nil
	}
	candidates, err := own.find(v)
	if err != nil {
		return err
	}
	var at []int64
	for first, maybe := range candidates {
		if !maybe {
			continue
		}
		ok, err := own.equal(v, int64(first))
		if err != nil {
			return err
		}
		if ok {
			at = append(at, int64(first))
		}
		if len(at) > 1 {
			return nil
		}
	}
	if len(at) == 1 {
		l.parts = append(l.parts, part{v.module, at[0], v.out})
	}
	return nil
}

// sampled returns elements at places that depend on the size alone.
func (a *weightView) sampled() ([]float32, error) {
	if a.sample == nil {
		sample, err := a.sampleOf(0, a.out, a.in)
		if err != nil {
			return nil, err
		}
		a.sample = sample
	}
	return a.sample, nil
}

// sampleOf reads the elements that a weight of a size has its sample from, from an output on.
func (a *weightView) sampleOf(first, out, in int64) ([]float32, error) {
	var sample []float32
	for i := range int64(samples) {
		x, err := a.block(first+(i*i*7919+i*31)%out, 1, (i*104729+7)%in, 1)
		if err != nil {
			return nil, err
		}
		sample = append(sample, x[0])
	}
	return sample, nil
}

// equal compares b with a's outputs from first on.
func (a *weightView) equal(b *weightView, first int64) (bool, error) {
	y, err := b.sampled()
	if err != nil {
		return false, err
	}
	var x []float32
	if a.out == b.out {
		x, err = a.sampled()
	} else {
		x, err = a.sampleOf(first, b.out, b.in)
	}
	if err != nil || !sameNumbers(x, y, a.t.DType) {
		return false, err
	}
	const tile = 512
	for o := int64(0); o < b.out; o += tile {
		for n := int64(0); n < b.in; n += tile {
			outs, ins := min(tile, b.out-o), min(tile, b.in-n)
			x, err := a.block(first+o, outs, n, ins)
			if err != nil {
				return false, err
			}
			y, err := b.block(o, outs, n, ins)
			if err != nil {
				return false, err
			}
			if !sameNumbers(x, y, a.t.DType) {
				return false, nil
			}
		}
	}
	return true, nil
}

// find returns for each output of a whether b's may lie from there on, by samples of b's
// first.
func (a *weightView) find(b *weightView) ([]bool, error) {
	candidates := make([]bool, a.out-b.out+1)
	for i := range candidates {
		candidates[i] = true
	}
	for i := range int64(samples) {
		n := (i*104729 + 7) % b.in
		column, err := a.block(0, int64(len(candidates)), n, 1)
		if err != nil {
			return nil, err
		}
		y, err := b.block(0, 1, n, 1)
		if err != nil {
			return nil, err
		}
		for o, x := range column {
			candidates[o] = candidates[o] && sameNumbers([]float32{x}, y, a.t.DType)
		}
	}
	return candidates, nil
}

// block reads outs × ins elements, row by row of outputs, as float32.
func (a *weightView) block(out, outs, in, ins int64) ([]float32, error) {
	rows, cols, row, col, stride := outs, ins, out, in, a.in
	if a.inOut {
		rows, cols, row, col, stride = ins, outs, in, out, a.out
	}
	values := make([]float32, rows*cols)
	size := a.t.DType.Bits() / 8
	raw := make([]byte, cols*size)
	for i := range rows {
		if err := formats.ReadFullAt(a.t.Data, raw, ((row+i)*stride+col)*size); err != nil {
			return nil, err
		}
		formats.DecodeFloat32(values[i*cols:(i+1)*cols], raw, a.t.DType)
	}
	if !a.inOut {
		return values, nil
	}
	turned := make([]float32, len(values))
	for i := range rows {
		for j := range cols {
			turned[j*rows+i] = values[i*cols+j]
		}
	}
	return turned, nil
}

// sameNumbers reports whether x, of a dtype, is what y becomes in that.
func sameNumbers(x, y []float32, dtype formats.DType) bool {
	for i, v := range y {
		switch dtype {
		case formats.F16:
			v = formats.Float16ToFloat32(formats.Float32ToFloat16(v))
		case formats.BF16:
			v = math.Float32frombits(uint32(formats.Float32ToBFloat16(v)) << 16)
		}
		if x[i] != v && (x[i] == x[i] || v == v) {
			return false
		}
	}
	return true
}

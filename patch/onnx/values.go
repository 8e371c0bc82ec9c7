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
// Numbers that an export rounded to a narrower type are the same numbers.
//
// Equal weights of several modules decide nothing by themselves: then what else is known
// of the layer chooses among them.
func matchValues(layers []*Layer, weights *patch.Model) error {
	for _, l := range layers {
		if l.Quantized != "" || !l.Weight.HasData || !l.Weight.Data.DType.IsFloat() {
			continue
		}
		if p, ok := l.Weight.Data.Data.(formats.Preparer); ok {
			if err := p.Prepare(context.Background()); err != nil {
				return err
			}
		}
		var same []patch.Site
		for _, s := range weights.Sites {
			if !s.Weight.DType.IsFloat() || s.Kind != l.Kind { // a tied head is no embedding
				continue
			}
			ok, err := l.holds(s)
			if err != nil {
				return err
			}
			if ok {
				same = append(same, s)
			}
		}
		if len(same) == 0 && len(l.parts) == 0 {
			l.contradict(weights)
		}
		if len(same) > 1 {
			same = slices.DeleteFunc(same, func(s patch.Site) bool {
				q, _, _ := l.agreesWith(s.Module)
				return q == none
			})
		}
		if len(same) == 1 {
			l.Evidence = append([]Evidence{{ruleValue, same[0].Module, same[0].Weight.Name}}, l.Evidence...)
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

// view reads a weight by (output, input), however it is stored.
type view struct {
	t       formats.Tensor
	inOut   bool
	out, in int64
}

func viewOf(s patch.Site) view {
	in, out := s.InOutSize()
	return view{s.Weight, s.InOut, out, in}
}

func (l *Layer) view() view { return view{l.Weight.Data, l.InOut, l.Out, l.In} }

// samples is how many elements find a candidate. Trained weights differ in the first.
const samples = 16

// holds reports whether the layer has the numbers of a site: all of its outputs, or, where
// it has more, some that lie together, which become a part of it.
func (l *Layer) holds(s patch.Site) (bool, error) {
	a, b := l.view(), viewOf(s)
	if a.in != b.in || a.out < b.out || (len(l.Weight.Dims) != len(s.Weight.Shape)) {
		return false, nil
	}
	if a.out == b.out {
		if len(a.t.Shape) > 2 && !slices.Equal(a.t.Shape, b.t.Shape) {
			return false, nil
		}
		return a.equal(b, 0)
	}
	if l.Kind != patch.Linear || s.Kind != patch.Linear {
		return false, nil
	}
	candidates, err := a.find(b)
	if err != nil {
		return false, err
	}
	var at []int64
	for first, maybe := range candidates {
		if !maybe {
			continue
		}
		ok, err := a.equal(b, int64(first))
		if err != nil {
			return false, err
		}
		if ok {
			at = append(at, int64(first))
		}
		if len(at) > 1 { // which of them is it?
			return false, nil
		}
	}
	if len(at) == 1 {
		l.parts = append(l.parts, part{s.Module, at[0], b.out})
	}
	return false, nil
}

// equal compares b with a's outputs from first on.
func (a view) equal(b view, first int64) (bool, error) {
	for i := range int64(samples) {
		o, n := (i*i*7919+i*31)%b.out, (i*104729+7)%b.in
		x, err := a.block(first+o, 1, n, 1)
		if err != nil {
			return false, err
		}
		y, err := b.block(o, 1, n, 1)
		if err != nil {
			return false, err
		}
		if !sameNumbers(x, y, a.t.DType) {
			return false, nil
		}
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
func (a view) find(b view) ([]bool, error) {
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
func (a view) block(out, outs, in, ins int64) ([]float32, error) {
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

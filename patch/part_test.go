package patch

import (
	"bytes"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// TestPaddedReadsAnyRange also behind the end.
func TestPaddedReadsAnyRange(t *testing.T) {
	for _, at := range []int64{0, 3, 5} {
		p := &padded{bytes.NewReader([]byte{1, 2, 3, 4}), at, 4, 9}
		want := make([]byte, 9)
		copy(want[at:], []byte{1, 2, 3, 4})
		for off := range 11 {
			for n := range 12 - off {
				buf := bytes.Repeat([]byte{0xee}, n)
				got, err := p.ReadAt(buf, int64(off))
				expected := want[min(off, 9):min(off+n, 9)]
				if got != len(expected) || !bytes.Equal(buf[:got], expected) || got < n && err != io.EOF || got == n && n > 0 && err != nil {
					t.Fatalf("%d bytes at %d: %d, %x, %v; want %x", n, off, got, buf, err, expected)
				}
			}
		}
	}
}

// TestPartOfAWeight changes three of a weight's outputs, and of the others no bit: also
// where adding +0 would make a −0 a +0.
func TestPartOfAWeight(t *testing.T) {
	const in, out, first, outs = 2, 6, 2, 3
	zero := float32(math.Copysign(0, -1))
	values := make([]float32, in*out) // (out, in)
	for i := range values {
		values[i] = zero
	}
	a := formats.FromFloat32s("A", []int64{1, in}, []float32{1, -2})
	b := formats.FromFloat32s("B", []int64{outs, 1}, []float32{3, 5, 7})
	for _, inOut := range []bool{false, true} {
		for _, scale := range []float64{2, -2} {
			shape := []int64{out, in}
			if inOut {
				shape = []int64{in, out}
			}
			w := formats.FromFloat32s("w", shape, values)
			base, err := formats.NewCheckpoint("base", formats.Directory, []formats.Shard{{Name: "base", Tensors: []formats.Tensor{w}}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			m := NewGraphModel(base, []Site{{Module: "m.k", Kind: Linear, Weight: w, InOut: inOut, First: first, Outs: outs}})
			u := &adapter.LowRank{A: a, B: b, Scale: scale}
			plan, err := NewModelPlan(m, RoundOnce, Weighted{&adapter.Adapter{Path: "a", Entries: []adapter.Entry{{Module: "m.k", Update: u}}}, 1})
			if err != nil {
				t.Fatal(err)
			}
			merged, _ := plan.Merge().Tensor("w")
			got := floatsOf(t, merged)
			for o := range out {
				for i := range in {
					at := o*in + i
					if inOut {
						at = i*out + o
					}
					want := zero
					if o >= first && o < first+outs {
						want = float32(scale) * []float32{3, 5, 7}[o-first] * []float32{1, -2}[i]
					}
					if math.Float32bits(got[at]) != math.Float32bits(want) {
						t.Errorf("stored in_out %v, scale %v: output %d, input %d is %v, want %v", inOut, scale, o, i, got[at], want)
					}
				}
			}
		}
	}
}

func floatsOf(t *testing.T, x formats.Tensor) []float32 {
	t.Helper()
	raw, err := x.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float32, x.Elements())
	formats.DecodeFloat32(out, raw, x.DType)
	return out
}

// TestSpreadRefuses updates of another number of outputs, and of other shapes.
func TestSpreadRefuses(t *testing.T) {
	site := Site{Weight: formats.Tensor{Name: "w", DType: formats.F32, Shape: []int64{6, 2}}, First: 2, Outs: 3}
	tensor := func(shape ...int64) formats.Tensor { return formats.Tensor{DType: formats.F32, Shape: shape} }
	for _, u := range []*adapter.LowRank{
		{A: tensor(1, 2), B: tensor(4, 1)}, {A: tensor(1, 2), B: tensor(6, 1)}, {A: tensor(1, 2, 1), B: tensor(3, 1, 1)}, {A: tensor(1, 2), B: tensor(3)},
	} {
		if _, err := spread(u, site); err == nil || !strings.Contains(err.Error(), "shapes do not fit the 3 outputs from 2 on of \"w\"") {
			t.Errorf("A %v, B %v: got %v", u.A.Shape, u.B.Shape, err)
		}
	}
	wide, err := spread(&adapter.LowRank{A: tensor(1, 2), B: formats.FromFloat32s("B", []int64{3, 1}, []float32{1, 2, 3})}, site)
	if err != nil {
		t.Fatal(err)
	}
	if got := floatsOf(t, wide.B); !slices.Equal(got, []float32{0, 0, 1, 2, 3, 0}) || !slices.Equal(wide.B.Shape, []int64{6, 1}) {
		t.Errorf("B became %v of %v", got, wide.B.Shape)
	}
}

// TestReplaceInAGraph turns a saved weight where the graph stores it so.
func TestReplaceInAGraph(t *testing.T) {
	values := []float32{1, 2, 3, 4, 5, 6}
	for _, c := range []struct {
		kind  Kind
		inOut bool
		shape []int64 // stored
		saved []int64
		want  []float32
	}{
		{Linear, false, []int64{2, 3}, []int64{2, 3}, values},
		{Linear, true, []int64{3, 2}, []int64{2, 3}, []float32{1, 4, 2, 5, 3, 6}},
		{Embedding, true, []int64{2, 3}, []int64{2, 3}, values},
		{Conv, false, []int64{2, 3, 1}, []int64{2, 3, 1}, values},
		{Linear, true, []int64{2, 3}, []int64{2, 3}, nil},
		{Linear, false, []int64{3, 2}, []int64{2, 3}, nil},
	} {
		w := formats.FromFloat32s("w", c.shape, make([]float32, 6))
		base, err := formats.NewCheckpoint("base", formats.Directory, []formats.Shard{{Name: "base", Tensors: []formats.Tensor{w}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		m := NewGraphModel(base, []Site{{Module: "score", Kind: c.kind, Weight: w, InOut: c.inOut}})
		r := &adapter.Replace{Param: "weight", Value: formats.FromFloat32s("score.weight", c.saved, values)}
		plan, err := NewModelPlan(m, RoundOnce, Weighted{&adapter.Adapter{Path: "a", Entries: []adapter.Entry{{Module: "score", Update: r}}}, 1})
		if c.want == nil {
			if err == nil || !strings.Contains(err.Error(), "shape differs") {
				t.Errorf("%+v: got %v", c, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		merged, _ := plan.Merge().Tensor("w")
		if got := floatsOf(t, merged); !slices.Equal(got, c.want) || !slices.Equal(merged.Shape, c.shape) {
			t.Errorf("%+v: got %v of %v", c, got, merged.Shape)
		}
	}
}

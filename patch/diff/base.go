package diff

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

// Weight is where a base has the weight that an update is for.
type Weight struct {
	Tensor formats.Tensor
	File   string // names the base in messages
	InOut  bool   // the tensor is stored as (in, out)
	// First and Outs say which of the tensor's outputs are the module's; all where Outs is 0.
	First, Outs int64
}

// is reports whether two are the same place.
func (w *Weight) is(v *Weight) bool {
	return w.Tensor.Name == v.Tensor.Name && w.InOut == v.InOut && w.First == v.First && w.Outs == v.Outs
}

// Base is a module's weight W in the base, in the directions of the updates.
type Base struct {
	Tensor string         `json:"tensor"`
	Norm   Number         `json:"norm"`        // ‖W‖, Frobenius; of the module's outputs
	A      *Amplification `json:"a,omitempty"` // nil where ΔW is zero or on the other side alone
	B      *Amplification `json:"b,omitempty"`
}

// Amplification says how much an update ΔW = UΣVᵀ strengthens directions that W has already
// (Hu et al., LoRA, 2021, §7.3). U and V are the singular vectors of ΔW up to its numerical
// rank r.
type Amplification struct {
	Rank      int    `json:"rank"`      // r
	Projected Number `json:"projected"` // ‖UᵀWV‖, Frobenius
	// Random is what directions that know nothing of W would have in place of Projected:
	// r·‖W‖/√(out·in), the root mean square over all pairs of r-dimensional subspaces.
	Random Number `json:"random"`
	Factor Number `json:"factor"` // ‖ΔW‖/‖UᵀWV‖
}

// directions are the leading singular vectors of an update, and what W has in them.
type directions struct {
	u, v *mat.Dense // out×r, in×r
	core *mat.Dense // UᵀWV
}

// directionsOf returns nil where ΔW is zero.
func directionsOf(p *lowrank.Product) (*directions, error) {
	d, err := lowrank.Decompose(p)
	if err != nil {
		return nil, err
	}
	out, in := p.Dims()
	r := lowrank.NumericalRank(d.S, out, in, 0x1p-52)
	if r == 0 {
		return nil, nil
	}
	return &directions{
		u: mat.DenseCopyOf(d.U.Slice(0, out, 0, r)), v: mat.DenseCopyOf(d.V.Slice(0, in, 0, r)), core: mat.NewDense(r, r, nil),
	}, nil
}

// projectBytes bounds the rows of W that are held in float64 at once.
const projectBytes = 8 << 20

// project reads a weight once, row by row, adds up UᵀWV for all directions, and returns
// ‖W‖. A W that is NaN or infinite somewhere, or whose norm is, is [formats.ErrInput].
func (w *Weight) project(list []*directions, progress func(int64)) (float64, error) {
	t := w.Tensor
	rows, cols := t.Matrix()
	firstRow, firstCol, someRows, someCols := int64(0), int64(0), rows, cols
	switch {
	case w.Outs > 0 && w.InOut:
		firstCol, someCols = w.First, w.Outs
	case w.Outs > 0:
		firstRow, someRows = w.First, w.Outs
	}
	// The rows of the stored matrix meet left vectors, its columns right ones.
	width := 0
	for _, d := range list {
		_, r := d.u.Dims()
		width += r
	}
	var right, products *mat.Dense
	if width > 0 { // else both updates are zero
		right = mat.NewDense(int(someCols), width, nil)
	}
	at := 0
	for _, d := range list {
		v := d.v
		if w.InOut {
			v = d.u
		}
		n, r := v.Dims()
		right.Slice(0, n, at, at+r).(*mat.Dense).Copy(v)
		at += r
	}
	step := max(1, min(someRows, projectBytes/8/cols))
	values := make([]float64, step*cols)
	raw := make([]byte, step*cols*t.DType.Bits()/8)
	if right != nil {
		products = mat.NewDense(int(step), width, nil)
	}
	norm := 0.0
	for row := int64(0); row < someRows; row += step {
		n := min(step, someRows-row)
		raw := raw[:n*cols*t.DType.Bits()/8]
		if err := formats.ReadFullAt(t.Data, raw, (firstRow+row)*cols*t.DType.Bits()/8); err != nil {
			return 0, formats.ReadError(w.File, t.Name, err)
		}
		formats.DecodeFloat64(values[:n*cols], raw, t.DType)
		left := values[:n*someCols]
		for i := range n {
			of := left[i*someCols : (i+1)*someCols]
			copy(of, values[i*cols+firstCol:])
			sum := 0.0
			for j, x := range of {
				if x-x != 0 {
					return 0, formats.Rejectf(w.File, t.Name, "%v at row %d, column %d", x, firstRow+row+i, firstCol+int64(j))
				}
				sum += x * x
			}
			// A sum that is near the ends of float64 has overflowed, or lost what vanished.
			length := math.Sqrt(sum)
			if !(smallSafe < length && length < largeSafe) {
				length = floats.Norm(of, 2)
			}
			norm = math.Hypot(norm, length)
		}
		var rows *mat.Dense
		if right != nil {
			rows = products.Slice(0, int(n), 0, width).(*mat.Dense)
			rows.Mul(mat.NewDense(int(n), int(someCols), left), right)
		}
		at := 0
		for _, d := range list {
			l := d.u
			if w.InOut {
				l = d.v
			}
			_, r := l.Dims()
			var part mat.Dense
			part.Mul(l.Slice(int(row), int(row+n), 0, r).T(), rows.Slice(0, int(n), at, at+r))
			d.core.Add(d.core, &part)
			at += r
		}
		if progress != nil {
			progress(int64(len(raw)))
		}
	}
	whole := norm
	for _, d := range list {
		whole += mat.Norm(d.core, 2)
	}
	if whole-whole != 0 {
		return 0, formats.Rejectf(w.File, t.Name, "its norm is too large for float64")
	}
	return norm, nil
}

// amplify measures the directions of both updates, of which one may be nil, in the base.
func (m *Module) amplify(p, q *lowrank.Product, a, b *Weight, progress func(int64)) error {
	var x, y *directions
	var err error
	if p != nil {
		if x, err = directionsOf(p); err != nil {
			return err
		}
	}
	if q != nil {
		if y, err = directionsOf(q); err != nil {
			return err
		}
	}
	first := a
	if first == nil {
		first = b
	}
	m.Base = &Base{Tensor: first.Tensor.Name}
	var list []*directions
	if x != nil {
		list = append(list, x)
	}
	if y != nil && (b == first || b.is(first)) {
		list = append(list, y)
	}
	norm, err := first.project(list, progress)
	if err != nil {
		return err
	}
	m.Base.Norm = Number(norm)
	if y != nil && !slices.Contains(list, y) {
		if norm, err = b.project([]*directions{y}, progress); err != nil {
			return err
		}
	}
	if x != nil {
		m.Base.A = x.amplification(m.A.Norm, m.Base.Norm)
	}
	if y != nil {
		m.Base.B = y.amplification(m.B.Norm, Number(norm))
	}
	return nil
}

func (d *directions) amplification(delta, norm Number) *Amplification {
	out, r := d.u.Dims()
	in, _ := d.v.Dims()
	projected := mat.Norm(d.core, 2)
	return &Amplification{
		Rank: r, Projected: Number(projected), Random: norm * Number(float64(r)/math.Sqrt(float64(out)*float64(in))),
		Factor: Number(float64(delta) / projected),
	}
}

// weights are where the base has the updates of a module, nil where a side has none.
type weights struct{ a, b *Weight }

// weightsOf finds them, or says of all modules what is wrong.
func weightsOf(names []string, x, y *side, find func(*adapter.Adapter, adapter.Entry) (Weight, error)) ([]weights, error) {
	out := make([]weights, len(names))
	if find == nil {
		return out, nil
	}
	var problems formats.Problems
	place := func(s *side, name string) *Weight {
		e, ok := s.entries[name]
		if !ok {
			return nil
		}
		w, err := find(s.adapter, e)
		problems.Add(err)
		return &w
	}
	for i, name := range names {
		out[i] = weights{place(x, name), place(y, name)}
	}
	return out, problems.Err()
}

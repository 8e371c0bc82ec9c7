package models

import (
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// attachment is an adapter that fits, read and not yet applied.
type attachment struct {
	host     *host
	ad       *adapter.Adapter
	weight   float64
	train    bool
	grafts   []graft
	replaces map[string]*autodiff.Value // by slot
	params   []Param
	problems formats.Problems
}

// graft is a branch for a linear layer.
type graft struct {
	path string
	branch
}

// plan checks an adapter against the model and reads its tensors, without a change to
// the model.
func (h *host) plan(ad *adapter.Adapter, weight float64, train bool) (*attachment, error) {
	if math.IsNaN(weight) || math.IsInf(weight, 0) {
		return nil, formats.Usagef("an adapter's weight must be a finite number (got %g)", weight)
	}
	p := &attachment{host: h, ad: ad, weight: weight, train: train, replaces: map[string]*autodiff.Value{}}
	for _, e := range ad.Entries {
		switch u := e.Update.(type) {
		case *adapter.LowRank:
			p.lowRank(e, u)
		case *adapter.Replace:
			p.replace(e, u)
		default:
			p.unfit(e, "a %s update is not implemented for training and running", e.Update.Kind())
		}
	}
	return p, p.problems.Err()
}

func (p *attachment) unfit(e adapter.Entry, format string, args ...any) {
	err := formats.Unfitf(p.ad.Path, "", "module %s: "+format, append([]any{formats.Quote(e.Module)}, args...)...)
	p.problems.Add(err)
}

// apply changes the model.
func (p *attachment) apply() {
	for _, g := range p.grafts {
		l := p.host.byPath[g.path]
		l.branches = append(l.branches, g.branch)
		p.host.size.Attached += int64(len(g.a.Data) + len(g.b.Data))
	}
	for name, v := range p.replaces {
		*p.host.slots[name] = v
		p.host.replaced[name] = true
		p.host.size.Attached += int64(len(v.Data))
	}
}

// lowRank plans scale·B·A on a linear layer.
func (p *attachment) lowRank(e adapter.Entry, u *adapter.LowRank) {
	names := p.host.spellings(e.Module)
	i := slices.IndexFunc(p.host.linears, func(m Module) bool { return slices.Contains(names, m.Path) })
	if _, other := p.host.slots[e.Module+".weight"]; i < 0 && other {
		p.unfit(e, "low-rank updates lie on linear layers only, and it is none")
		return
	}
	if i < 0 {
		p.noModule(e, "low-rank updates lie on linear layers only")
		return
	}
	m := p.host.linears[i]
	if u.Embedding || len(u.A.Shape) != 2 || len(u.B.Shape) != 2 {
		p.unfit(e, "factors are not those of a linear layer (A is %v, B is %v)", u.A.Shape, u.B.Shape)
		return
	}
	if err := u.Check(); err != nil {
		p.unfit(e, "%v", err)
		return
	}
	rank := u.Rank()
	if u.A.Shape[1] != int64(m.In) || u.B.Shape[0] != int64(m.Out) || rank < 1 || rank > formats.MaxAdapterRank {
		p.unfit(e, "factors do not fit the layer (got A %v and B %v, want [r %d] and [%d r])", u.A.Shape, u.B.Shape, m.In, m.Out)
		return
	}
	scale := p.weight * u.Scale
	if math.IsNaN(scale) || math.IsInf(float64(float32(scale)), 0) {
		p.unfit(e, "the scale is not a finite float32 (%g · %g)", p.weight, u.Scale)
		return
	}
	if slices.ContainsFunc(p.grafts, func(g graft) bool { return g.path == m.Path }) {
		p.unfit(e, "has two factor pairs")
		return
	}
	a := p.factor(e, u.A, m.Path+".lora_A.weight")
	b := p.factor(e, u.B, m.Path+".lora_B.weight")
	if a == nil || b == nil {
		return
	}
	g := graft{m.Path, branch{a: a, b: b, scale: float32(scale)}}
	if p.train {
		g.number = uint64(len(p.grafts)) + 1
	}
	p.grafts = append(p.grafts, g)
}

// factor reads a factor; it is nil after a problem.
func (p *attachment) factor(e adapter.Entry, t formats.Tensor, name string) *autodiff.Value {
	data := p.read(e, t)
	if data == nil {
		return nil
	}
	rows, cols := int(t.Shape[0]), int(t.Shape[1])
	if !p.train {
		return autodiff.Frozen(rows, cols, data)
	}
	grad := autodiff.NewBuffer(len(data))
	p.params = append(p.params, Param{Name: name, Data: data, Grad: grad, Rows: rows, Cols: cols})
	return autodiff.Trainable(rows, cols, data, grad)
}

// replace plans a new value of a parameter, which is trained where the adapter is.
func (p *attachment) replace(e adapter.Entry, u *adapter.Replace) {
	var name string
	var slot **autodiff.Value
	for _, module := range p.host.spellings(e.Module) {
		if slot == nil {
			name = module + "." + u.Param
			slot = p.host.slots[name]
		}
	}
	if slot == nil || *slot == nil {
		p.noModule(e, "or it has no parameter "+formats.Quote(u.Param))
		return
	}
	old, flipped := *slot, p.host.flipped[name]
	rows, cols := old.Rows, old.Cols
	if flipped {
		rows, cols = cols, rows
	}
	if !sameShape(u.Value.Shape, rows, cols) {
		p.unfit(e, "%s does not fit (got %v, want %d×%d)", u.Param, u.Value.Shape, rows, cols)
		return
	}
	if p.weight != 1 {
		p.unfit(e, "a replaced parameter cannot be weighted (got a weight of %g)", p.weight)
		return
	}
	if p.host.replaced[name] || p.replaces[name] != nil {
		p.unfit(e, "%s is replaced twice", u.Param)
		return
	}
	data := p.read(e, u.Value)
	if data == nil {
		return
	}
	if flipped {
		data = transposed(data, rows, cols)
	}
	if !p.train {
		p.replaces[name] = autodiff.Frozen(old.Rows, old.Cols, data)
		return
	}
	grad := autodiff.NewBuffer(len(data))
	p.params = append(p.params, Param{Name: name, Data: data, Grad: grad, Rows: old.Rows, Cols: old.Cols, Vector: len(u.Value.Shape) == 1})
	p.replaces[name] = autodiff.Trainable(old.Rows, old.Cols, data, grad)
}

// sameShape reports whether a stored shape is that of a parameter: rows and columns, or
// the columns alone for a vector.
func sameShape(shape []int64, rows, cols int) bool {
	if len(shape) == 1 {
		return rows == 1 && shape[0] == int64(cols)
	}
	return len(shape) == 2 && shape[0] == int64(rows) && shape[1] == int64(cols)
}

// read returns a tensor's elements, nil after a problem.
func (p *attachment) read(e adapter.Entry, t formats.Tensor) []float32 {
	if !t.DType.IsFloat() {
		p.unfit(e, "cannot compute with %s (got %s, want F64, F32, F16 or BF16)", formats.Quote(t.Name), t.DType)
		return nil
	}
	data, err := readFloats(t)
	if err != nil {
		p.problems.Add(&formats.Error{Class: formats.ErrInput, File: p.ad.Path, Tensor: t.Name, Err: err})
		return nil
	}
	return data
}

// noModule reports a module that is not there, with the names most like it.
func (p *attachment) noModule(e adapter.Entry, also string) {
	var paths []string
	for name := range maps.Keys(p.host.slots) {
		if path, ok := strings.CutSuffix(name, ".weight"); ok {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	err := formats.Unfitf(p.ad.Path, "", "module %s is not in the model, %s", formats.Quote(e.Module), also)
	if near := formats.Nearest(e.Module, paths, 3); len(near) > 0 {
		err = err.WithHint("similar modules: %s", strings.Join(near, ", "))
	}
	p.problems.Add(err)
}

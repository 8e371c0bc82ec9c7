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
	grafts   []*graft
	biases   []bias
	replaces map[string]*autodiff.Value // by slot
	params   []Param
	parts    [][]part // by entry, what its tensors are trained in; nothing where they are not
	problems formats.Problems
}

// graft is a branch for a linear layer or a table.
type graft struct {
	path  string
	entry int
	on    *[]*branch
	branch
}

// bias is B's own, for the graft on a layer.
type bias struct {
	path  string
	entry adapter.Entry
	value *autodiff.Value
	scale float32
}

// part is what one of an entry's tensors is trained in.
type part struct {
	data       []float32
	rows, cols int
	turned     bool // the tensor has it as cols × rows
}

// plan checks an adapter against the model and reads its tensors, without a change to
// the model.
func (h *host) plan(ad *adapter.Adapter, weight float64, train bool) (*attachment, error) {
	if math.IsNaN(weight) || math.IsInf(weight, 0) {
		return nil, formats.Usagef("an adapter's weight must be a finite number (got %g)", weight)
	}
	p := &attachment{
		host: h, ad: ad, weight: weight, train: train,
		replaces: map[string]*autodiff.Value{}, parts: make([][]part, len(ad.Entries)),
	}
	ties, err := h.tiesOf(ad)
	if err != nil {
		return nil, err
	}
	for i, e := range ad.Entries {
		if i == ties.head && ties.alike {
			continue
		}
		switch u := e.Update.(type) {
		case *adapter.LowRank:
			p.lowRank(i, u, nil)
		case *adapter.Magnitude:
			p.lowRank(i, u.Inner, u)
		case *adapter.BiasDelta:
			p.bias(i, u)
		case *adapter.Replace:
			p.replace(i, u)
		default:
			p.unfit(e, "a %s update is not implemented for training and running", e.Update.Kind())
		}
	}
	p.putBiases()
	if err := p.problems.Err(); err != nil {
		return nil, err
	}
	p.tie(ties)
	return p, p.problems.Err()
}

func (p *attachment) unfit(e adapter.Entry, format string, args ...any) {
	err := formats.Unfitf(p.ad.Path, "", "module %s: "+format, append([]any{formats.Quote(e.Module)}, args...)...)
	p.problems.Add(err)
}

// apply changes the model.
func (p *attachment) apply() {
	for _, g := range p.grafts {
		*g.on = append(*g.on, &g.branch)
		if g.turned { // the embedding's
			continue
		}
		p.host.size.Attached += int64(len(g.a.Data) + len(g.b.Data))
		for _, v := range []*autodiff.Value{g.bias, g.magnitude} {
			if v != nil {
				p.host.size.Attached += int64(len(v.Data))
			}
		}
	}
	seen := map[*autodiff.Value]bool{}
	for name, v := range p.replaces {
		*p.host.slots[name] = v
		p.host.replaced[name] = true
		if !seen[v] {
			p.host.size.Attached += int64(len(v.Data))
		}
		seen[v] = true
	}
}

// lowRank plans scale·B·A on a linear layer or a table, with a magnitude where there is one.
func (p *attachment) lowRank(i int, u *adapter.LowRank, scaled *adapter.Magnitude) {
	e := p.ad.Entries[i]
	names := p.host.spellings(e.Module)
	if at := slices.IndexFunc(p.host.linears, func(m Module) bool { return slices.Contains(names, m.Path) }); at >= 0 {
		m := p.host.linears[at]
		if u.Embedding || len(u.A.Shape) != 2 || len(u.B.Shape) != 2 {
			p.unfit(e, "factors are not those of a linear layer (A is %v, B is %v)", u.A.Shape, u.B.Shape)
			return
		}
		p.factors(i, u, scaled, place{m.Path, m.Out, m.In, &p.host.byPath[m.Path].branches, false})
		return
	}
	if at := slices.IndexFunc(p.host.tables, func(t *table) bool { return slices.Contains(names, t.path) }); at >= 0 {
		t := p.host.tables[at]
		if !u.Embedding || len(u.A.Shape) != 2 || len(u.B.Shape) != 2 {
			p.unfit(e, "factors are not those of an embedding (A is %v, B is %v)", u.A.Shape, u.B.Shape)
			return
		}
		p.factors(i, u, scaled, place{t.path, t.width, t.rows, &t.branches, true})
		return
	}
	const where = "low-rank updates lie on linear layers and embeddings only"
	if slices.ContainsFunc(names, func(name string) bool { return p.host.slots[name+".weight"] != nil }) {
		p.unfit(e, where+", and it is neither")
		return
	}
	p.noModule(e, where)
}

// place is what factors lie on: a layer of out × in, or a table of in × out.
type place struct {
	path     string
	out, in  int
	branches *[]*branch
	table    bool
}

func (p place) kind() string {
	if p.table {
		return "the embedding"
	}
	return "the layer"
}

func (p *attachment) factors(i int, u *adapter.LowRank, scaled *adapter.Magnitude, on place) {
	e := p.ad.Entries[i]
	check := u.Check
	if scaled != nil {
		check = scaled.Check
	}
	if err := check(); err != nil {
		p.unfit(e, "%v", err)
		return
	}
	rank := u.Rank()
	if u.A.Shape[1] != int64(on.in) || u.B.Shape[0] != int64(on.out) || rank < 1 || rank > formats.MaxAdapterRank {
		p.unfit(e, "factors do not fit %s (got A %v and B %v, want [r %d] and [%d r])", on.kind(), u.A.Shape, u.B.Shape, on.in, on.out)
		return
	}
	scale := p.weight * u.Scale
	if math.IsNaN(scale) || math.IsInf(float64(float32(scale)), 0) {
		p.unfit(e, "the scale is not a finite float32 (%g · %g)", p.weight, u.Scale)
		return
	}
	if scaled != nil && p.weight != 1 {
		p.unfit(e, "an update with a magnitude cannot be weighted (got weight %v, want 1)", p.weight)
		return
	}
	if slices.ContainsFunc(p.grafts, func(g *graft) bool { return g.path == on.path }) {
		p.unfit(e, "has two factor pairs")
		return
	}
	names := []string{on.path + ".lora_A.weight", on.path + ".lora_B.weight"}
	if on.table {
		names = []string{on.path + ".lora_embedding_A", on.path + ".lora_embedding_B"}
	}
	a := p.factor(i, u.A, names[0], int(rank), on.in)
	b := p.factor(i, u.B, names[1], on.out, int(rank))
	if a == nil || b == nil {
		return
	}
	g := &graft{path: on.path, entry: i, on: on.branches, branch: branch{a: a, b: b, scale: float32(scale)}}
	if scaled != nil {
		if g.magnitude = p.factor(i, scaled.Vector, on.path+".lora_magnitude_vector", 1, on.out); g.magnitude == nil {
			return
		}
	}
	if p.train {
		g.number = uint64(len(p.grafts)) + 1
	}
	p.grafts = append(p.grafts, g)
}

// factor reads a tensor of rows × cols of entry i, which is trained where the adapter is;
// it is nil after a problem.
func (p *attachment) factor(i int, t formats.Tensor, name string, rows, cols int) *autodiff.Value {
	data := p.read(p.ad.Entries[i], t)
	if data == nil {
		return nil
	}
	if !p.train {
		return autodiff.Frozen(rows, cols, data)
	}
	return p.trained(i, name, t.Shape, rows, cols, data, false)
}

// trained makes a parameter of which a tensor of entry i is made, of a shape.
func (p *attachment) trained(i int, name string, shape []int64, rows, cols int, data []float32, turned bool) *autodiff.Value {
	grad := autodiff.NewBuffer(len(data))
	p.params = append(p.params, Param{Name: name, Data: data, Grad: grad, Rows: rows, Cols: cols, Vector: len(shape) == 1})
	p.parts[i] = append(p.parts[i], part{data, rows, cols, turned})
	return autodiff.Trainable(rows, cols, data, grad)
}

// bias plans scale·v beside a factor pair.
func (p *attachment) bias(i int, u *adapter.BiasDelta) {
	e := p.ad.Entries[i]
	names := p.host.spellings(e.Module)
	at := slices.IndexFunc(p.host.linears, func(m Module) bool { return slices.Contains(names, m.Path) })
	if at < 0 {
		p.noModule(e, "biases of factors lie on linear layers only")
		return
	}
	m := p.host.linears[at]
	if len(u.Vector.Shape) != 1 || u.Vector.Shape[0] != int64(m.Out) {
		p.unfit(e, "the bias of B does not fit the layer (got %v, want [%d])", u.Vector.Shape, m.Out)
		return
	}
	scale := p.weight * u.Scale
	if math.IsNaN(scale) || math.IsInf(float64(float32(scale)), 0) {
		p.unfit(e, "the scale is not a finite float32 (%g · %g)", p.weight, u.Scale)
		return
	}
	if v := p.factor(i, u.Vector, m.Path+".lora_B.bias", 1, m.Out); v != nil {
		p.biases = append(p.biases, bias{m.Path, e, v, float32(scale)})
	}
}

// putBiases puts each bias on the factors beside it, which may come after it.
func (p *attachment) putBiases() {
	for _, b := range p.biases {
		at := slices.IndexFunc(p.grafts, func(g *graft) bool { return g.path == b.path })
		switch {
		case at < 0:
			p.unfit(b.entry, "has a bias of B and no factors")
		case p.grafts[at].bias != nil:
			p.unfit(b.entry, "has two biases of B")
		default:
			p.grafts[at].bias, p.grafts[at].biasScale = b.value, b.scale
		}
	}
}

// read returns a tensor's elements, nil after a problem.
func (p *attachment) read(e adapter.Entry, t formats.Tensor) []float32 {
	if !t.DType.IsFloat() {
		p.unfit(e, "cannot compute with %s (got %s, want F64, F32, F16 or BF16)", formats.Quote(t.Name), t.DType)
		return nil
	}
	data, err := readFloats(t)
	if err != nil {
		p.problems.Add(formats.ReadError(p.ad.Path, t.Name, err))
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

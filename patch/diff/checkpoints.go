package diff

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// Options of [Checkpoints] and [Adapters].
type Options struct {
	// Only are patterns, in the form of PEFT's rank_pattern, of module paths or tensor
	// names: nothing else is compared, and nothing beside the weights. All where empty.
	Only []string
	// Base, if not nil, finds the weight of the base that an entry of one of two adapters
	// updates; the directions of each ΔW are measured in it. Checkpoints have no use for it.
	Base func(*adapter.Adapter, adapter.Entry) (Weight, error)
	// Progress, if not nil, is called with the bytes read since the last call, from several
	// goroutines.
	Progress func(int64)
}

// Result is what two checkpoints or two adapters do not have in common.
type Result struct {
	OnlyA   []string `json:"only_in_a"` // tensors
	OnlyB   []string `json:"only_in_b"`
	Same    int      `json:"same"`    // tensors that have one type, one shape and the same bits
	Alike   []string `json:"-"`       // their names, in A's order
	Tensors []Tensor `json:"tensors"` // that are in both and not the same, in A's order
	Modules []Module `json:"modules"` // of two adapters, all of them
	Config  []Key    `json:"config"`
	Files   []File   `json:"files"`
	// Total is over all float tensors that differ; of two adapters over all ΔW, but for those
	// of two shapes.
	Total *Total `json:"total,omitempty"`
	// Scale: all of B's ΔW are A's times this number.
	Scale *Number `json:"scale,omitempty"`
}

// Total measures many tensors as if they were one.
type Total struct {
	NormA    Number `json:"norm_a"`
	NormB    Number `json:"norm_b"`
	Distance Number `json:"distance"`
	Relative Number `json:"relative"`
	Cosine   Number `json:"cosine"`
}

func totalOf(m *moments) *Total {
	a, b, d := m.norms()
	return &Total{Number(a), Number(b), Number(d), Number(m.relative()), Number(m.cosine())}
}

// Tensor is a tensor of one name on both sides that is not the same.
type Tensor struct {
	Name   string  `json:"name"`
	DTypeA string  `json:"dtype_a"`
	DTypeB string  `json:"dtype_b"`
	ShapeA []int64 `json:"shape_a"`
	ShapeB []int64 `json:"shape_b"`
	// Values is nil where shapes differ, or types of which one is no float.
	Values *Values `json:"values,omitempty"`
}

// Comparable reports whether values were compared.
func (t *Tensor) Comparable() bool { return t.Values != nil }

// differs reports whether a tensor counts as another one.
func (t *Tensor) differs(tolerance float64) bool {
	v := t.Values
	switch {
	case v == nil || v.NotFinite > 0:
		return true
	case tolerance < 0:
		return v.Differing > 0 || t.DTypeA != t.DTypeB
	case v.Relative != v.Relative: // no floats
		return v.Differing > 0
	}
	return float64(v.Relative) > tolerance
}

// Differing returns the tensors and modules that count as different. With a tolerance
// from 0 up those do whose values are further apart than that, relative and in the
// Frobenius norm, whatever their types; below 0 everything does that is not the same.
func (r *Result) Differing(tolerance float64) (tensors []Tensor, modules []Module) {
	for _, t := range r.Tensors {
		if t.differs(tolerance) {
			tensors = append(tensors, t)
		}
	}
	for _, m := range r.Modules {
		if m.differs(tolerance) {
			modules = append(modules, m)
		}
	}
	return tensors, modules
}

// Differs reports whether anything counts as different: something that is on one side
// alone, what [Result.Differing] returns and, without a tolerance, what lies beside the
// weights.
func (r *Result) Differs(tolerance float64) bool {
	tensors, modules := r.Differing(tolerance)
	return len(r.OnlyA)+len(r.OnlyB)+len(tensors)+len(modules) > 0 || tolerance < 0 && len(r.Config)+len(r.Files) > 0
}

// Checkpoints compares two models tensor by tensor, by name. How they lie in files is not
// compared.
func Checkpoints(ctx context.Context, a, b *formats.Checkpoint, opts Options) (*Result, error) {
	only, err := newFilter(opts.Only)
	if err != nil {
		return nil, err
	}
	r := newResult()
	var x, y []formats.Tensor
	for _, side := range []struct {
		c    *formats.Checkpoint
		list *[]formats.Tensor
	}{{a, &x}, {b, &y}} {
		for t := range side.c.Tensors() {
			ok, err := only.tensor(t.Name)
			if err != nil {
				return nil, err
			}
			if ok {
				*side.list = append(*side.list, t)
			}
		}
	}
	if err := only.Unused("tensor"); err != nil {
		return nil, err
	}
	if len(opts.Only) == 0 {
		if err := r.besides(ctx, a, b); err != nil {
			return nil, err
		}
	}
	m, err := r.tensors(ctx, x, y, a.Path(), b.Path(), opts.Progress)
	if err != nil {
		return nil, err
	}
	if m != nil {
		r.Total = totalOf(m)
	}
	return r, nil
}

func newResult() *Result {
	return &Result{OnlyA: []string{}, OnlyB: []string{}, Tensors: []Tensor{}, Modules: []Module{}, Config: []Key{}, Files: []File{}}
}

// tensors compares two lists by name, and returns the sums over the float tensors that
// differ; nil where there are none.
func (r *Result) tensors(ctx context.Context, a, b []formats.Tensor, pathA, pathB string, progress func(int64)) (*moments, error) {
	byName := make(map[string]formats.Tensor, len(b))
	for _, t := range b {
		byName[t.Name] = t
	}
	var pairs []*pair
	var both []Tensor
	var of []*pair // of each in both; nil where there is none
	for _, t := range a {
		u, ok := byName[t.Name]
		delete(byName, t.Name)
		if !ok {
			r.OnlyA = append(r.OnlyA, t.Name)
			continue
		}
		both = append(both, Tensor{Name: t.Name, DTypeA: t.DType.String(), DTypeB: u.DType.String(), ShapeA: dims(t), ShapeB: dims(u)})
		var p *pair
		if slices.Equal(t.Shape, u.Shape) {
			p = newPair(t, u, pathA, pathB)
		}
		if p != nil {
			pairs = append(pairs, p)
		}
		of = append(of, p)
	}
	for _, t := range b {
		if _, ok := byName[t.Name]; ok {
			r.OnlyB = append(r.OnlyB, t.Name)
		}
	}
	if err := comparePairs(ctx, pairs, progress); err != nil {
		return nil, err
	}
	var total *moments
	for i, t := range both {
		if p := of[i]; p != nil {
			t.Values = p.values()
			if t.Values.Differing > 0 && p.a.DType.IsFloat() {
				if total == nil {
					total = &moments{}
				}
				total.add(p.moments())
			}
		}
		if t.differs(-1) {
			r.Tensors = append(r.Tensors, t)
		} else {
			r.Same++
			r.Alike = append(r.Alike, t.Name)
		}
	}
	return total, nil
}

// dims is a shape that JSON has as a list also where it is empty.
func dims(t formats.Tensor) []int64 { return append([]int64{}, t.Shape...) }

// filter is what Options.Only chooses: all where it is empty.
type filter struct {
	*adapter.NameFilter
	all bool
}

func newFilter(only []string) (*filter, error) {
	f, err := adapter.NewNameFilter("only", only)
	return &filter{f, len(only) == 0}, err
}

// tensor reports whether a tensor's name or its module's path matches a pattern.
func (f *filter) tensor(name string) (bool, error) {
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		return f.takes(name, name[:i])
	}
	return f.takes(name)
}

// takes reports whether one of the names matches a pattern.
func (f *filter) takes(names ...string) (bool, error) {
	if f.all {
		return true, nil
	}
	return f.Matches(names...)
}

// Stored returns an adapter's tensors as they were read, as a checkpoint under the names
// that its file has for them. It shares the adapter's files.
func Stored(a *adapter.Adapter) (*formats.Checkpoint, error) {
	var s formats.Shard
	for _, e := range a.Entries {
		for i, t := range e.Update.Tensors() {
			if i >= len(e.Keys) {
				return nil, fmt.Errorf("module %s: %d tensors and %d keys", formats.Quote(e.Module), len(e.Update.Tensors()), len(e.Keys))
			}
			t.Name = e.Keys[i]
			s.Tensors = append(s.Tensors, t)
		}
	}
	return formats.NewCheckpoint(a.Path, formats.SingleFile, []formats.Shard{s}, nil)
}

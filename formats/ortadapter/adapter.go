package ortadapter

import (
	"context"
	"fmt"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// Dialect is the name of this one in [adapter.Adapter].
const Dialect = "onnx_adapter"

// Read opens an adapter file as LoRA. ONNX Runtime feeds A as (in, r) and B as (r, out)
// with the scale in it, so each update has scale 1, and factors that turn the matrices
// round while they are read; those of convolutions lie as everywhere. All of [Names]
// are understood. Damaged files are [formats.ErrInput]; parameters that are no
// factors, or do not fit together, are [formats.ErrUnfit], with every problem listed.
func Read(path string) (*adapter.Adapter, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	a := &adapter.Adapter{Path: path, Dialect: Dialect, Closer: f}
	if a.Entries, err = entries(f.Parameters, path); err != nil {
		f.Close()
		return nil, err
	}
	return a, nil
}

// pair collects the factors of a module, which may come in any order.
type pair struct {
	module    string
	embedding bool
	t         [2]formats.Tensor // A, B as they are stored; without data until found
	bad       bool              // its problems are known
}

func entries(params []formats.Tensor, file string) ([]adapter.Entry, error) {
	var problems formats.Problems
	var order []*pair
	pairs := map[string]*pair{}
	for _, t := range params {
		module, f, err := parseName(t.Name)
		if err != nil {
			problems.Add(formats.Unfitf(file, t.Name, "%v", err))
			continue
		}
		p, ok := pairs[module]
		if !ok {
			p = &pair{module: module, embedding: f >= embeddingA}
			pairs[module] = p
			order = append(order, p)
		}
		if err := p.add(t, f, file); err != nil {
			problems.Add(err)
			p.bad = true
		}
	}
	if len(params) == 0 {
		problems.Add(formats.Unfitf(file, "", "it holds no parameters"))
	}
	var out []adapter.Entry
	for _, p := range order {
		e, err := p.entry(file)
		problems.Add(err)
		out = append(out, e)
	}
	return out, problems.Err()
}

func (p *pair) add(t formats.Tensor, f factor, file string) error {
	slot := &p.t[f%2]
	other := p.t[0].Name
	if other == "" {
		other = p.t[1].Name
	}
	switch {
	case slot.Data != nil:
		return formats.Unfitf(file, t.Name, "a second factor for the same place: %s is there too", formats.Quote(slot.Name))
	case other != "" && p.embedding != (f >= embeddingA):
		return formats.Unfitf(file, t.Name, "factors of an embedding and of a linear layer on one module: %s is there too", formats.Quote(other))
	case !t.DType.IsFloat():
		return formats.Unfitf(file, t.Name, "factors must be F64, F32, F16 or BF16 (got %s)", t.DType)
	}
	*slot = t
	return nil
}

// entry makes a pair an update.
func (p *pair) entry(file string) (adapter.Entry, error) {
	a, b := p.t[0], p.t[1]
	none := adapter.Entry{}
	switch {
	case p.bad:
		return none, nil
	case b.Data == nil:
		return none, formats.Unfitf(file, a.Name, "its B is missing")
	case a.Data == nil:
		return none, formats.Unfitf(file, b.Name, "its A is missing")
	}
	u := &adapter.LowRank{A: a, B: b, Scale: 1, Embedding: p.embedding}
	switch n := len(a.Shape); {
	case n != len(b.Shape) || n < 2 || n > 2 && p.embedding:
		return none, formats.Unfitf(file, a.Name, "factors must both be matrices, or both of a convolution (%s)", describe(a, b))
	case n == 2 && a.Shape[1] != b.Shape[0]:
		err := formats.Unfitf(file, a.Name, "factors A and B disagree on the rank (%s, want (in, r) and (r, out))", describe(a, b))
		if a.Shape[0] == b.Shape[1] {
			err.Hint = "A and B look as PyTorch stores them, and not as a MatMul takes them"
		}
		return none, err
	case n == 2:
		u.A, u.B = adapter.Transposed(a), adapter.Transposed(b)
	}
	if err := u.Check(); err != nil {
		return none, formats.Unfitf(file, a.Name, "%v", err)
	}
	if r := u.Rank(); r > formats.MaxAdapterRank {
		return none, formats.Unfitf(file, a.Name, "rank %d is too large (want at most %d)", r, formats.MaxAdapterRank)
	}
	return adapter.Entry{Module: p.module, Update: u, Keys: []string{a.Name, b.Name}}, nil
}

// Write writes an adapter into a file that appears at path whole or not at all. B gets the
// scale: each element of it is the exact product, rounded once to the type that it has, so
// that ΔW is the same where the scale is a power of two (unless an element
// becomes subnormal), and else differs by that rounding. An element
// that becomes too large for its type is [formats.ErrUnfit], and so is an update that is no
// LoRA (DoRA's magnitudes, modules saved whole), each named. Other failures are those of
// [WriteParameters].
func Write(ctx context.Context, a *adapter.Adapter, path string, opts WriteOptions) error {
	params, err := parameters(a, opts.Names)
	if err != nil {
		return err
	}
	return WriteParameters(ctx, path, params, opts)
}

// Check reports what would keep [Write] from beginning, without reading a factor or looking
// at path.
func Check(a *adapter.Adapter, path string, opts WriteOptions) error {
	params, err := parameters(a, opts.Names)
	if err != nil {
		return err
	}
	_, err = newEncoder(path, params, opts.AdapterVersion, opts.ModelVersion)
	return err
}

// parameters returns what a session needs of an adapter.
func parameters(a *adapter.Adapter, names Names) ([]formats.Tensor, error) {
	if names == "" {
		names = Olive
	}
	if _, err := ParseNames(string(names)); err != nil {
		return nil, err
	}
	var problems formats.Problems
	var out []formats.Tensor
	for _, e := range a.Entries {
		x, y, err := stored(a.Path, e, names)
		problems.Add(err)
		out = append(out, x, y)
	}
	return out, problems.Err()
}

// stored returns an entry's factors as the file holds them.
func stored(file string, e adapter.Entry, names Names) (a, b formats.Tensor, err error) {
	fail := func(format string, args ...any) (formats.Tensor, formats.Tensor, error) {
		return a, b, formats.Unfitf(file, e.Keys[0], format, args...)
	}
	if len(e.Keys) == 0 {
		e.Keys = []string{e.Module}
	}
	u, ok := e.Update.(*adapter.LowRank)
	switch up := e.Update.(type) {
	case *adapter.Magnitude:
		return fail("an .onnx_adapter file has no form for DoRA: module %s has magnitudes", formats.Quote(e.Module))
	case *adapter.Replace:
		return fail("an .onnx_adapter file has no form for parameters saved whole (modules_to_save): %s of module %s", formats.Quote(up.Param), formats.Quote(e.Module))
	}
	if !ok {
		return fail("an .onnx_adapter file has no form for an update of kind %s: module %s", e.Update.Kind(), formats.Quote(e.Module))
	}
	if err := u.Check(); err != nil {
		return fail("%v", err)
	}
	a, b = u.A, u.B
	switch n := len(a.Shape); {
	case n != len(b.Shape):
		return fail("factors must both be matrices, or both of a convolution (%s)", describe(a, b))
	case n == 2:
		a, b = adapter.Transposed(a), adapter.Transposed(b)
	}
	b = adapter.Scaled(b, u.Scale, b.DType)
	kind := factorA
	if u.Embedding {
		kind = embeddingA
	}
	a.Name, b.Name = names.name(e.Module, kind), names.name(e.Module, kind+1)
	if module, _, err := parseName(a.Name); err != nil || module != e.Module {
		return fail("module %s has no name of the kind %q that can be read again (it would be %s)", formats.Quote(e.Module), names, formats.Quote(a.Name))
	}
	return a, b, nil
}

// describe names a pair of factors in messages, as they are stored.
func describe(a, b formats.Tensor) string {
	return fmt.Sprintf("A is %v, B is %v", a.Shape, b.Shape)
}

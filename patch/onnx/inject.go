package onnx

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/formats/ortadapter"
	"github.com/seed-b982eded/graft/patch"
)

// Mode says how [Binding.Inject] adds adapters to a graph.
type Mode string

const (
	// InGraph computes each weight in the graph, W + A·B. A runtime folds that when it
	// loads the model, so it costs nothing per run, and models that differ in adapters
	// alone can share one file of weights.
	InGraph Mode = "in-graph"
	// Baked adds Y + (X·A)·B beside each layer: two small products per run, and weights
	// that stay as they are, quantised ones too.
	Baked Mode = "baked"
	// Inputs is Baked with factors that are inputs of the model, of any rank, with a
	// default of rank 0: without an adapter the model computes what it did. ONNX Runtime
	// gives them values from an .onnx_adapter file.
	Inputs Mode = "inputs"
)

// InjectOptions of [Binding.Inject].
type InjectOptions struct {
	Mode  Mode
	Names ortadapter.Names // of the inputs; ortadapter.Olive when empty
}

// Injected is a graph with adapters in it.
type Injected struct {
	Edit *wire.Edit
	// Adapters are, with Inputs, those given, with the modules that the graph has: to be
	// written as .onnx_adapter files with the same Names.
	Adapters []*adapter.Adapter
	Sites    []InjectedSite
}

// InjectedSite is a layer that adapters were added to.
type InjectedSite struct {
	Module    string // of several in one layer, the layer's
	Node      string
	Rank      int64 // of all adapters together; with Inputs of the largest
	Quantized string
}

// minOpset is the first with broadcasting as it is now.
const minOpset = 7

// Inject adds adapters to the graph, each scaled by its weight. It fails with
// [formats.ErrUnfit] where an update is no plain LoRA, or a layer cannot take it in this
// mode.
func (b *Binding) Inject(adapters []patch.Weighted, opts InjectOptions) (*Injected, error) {
	if opts.Names == "" {
		opts.Names = ortadapter.Olive
	}
	if v := b.opset(); v < minOpset {
		return nil, formats.Unfitf(b.Model.Path, "", "operator set %d is too old to add to (want %d or newer)", v, minOpset)
	}
	updates, err := b.collect(adapters)
	if err != nil {
		return nil, err
	}
	in := newInjector(b, opts)
	out := &Injected{Edit: in.e}
	for range adapters {
		out.Adapters = append(out.Adapters, &adapter.Adapter{})
	}
	var problems formats.Problems
	for _, u := range updates {
		problems.Add(in.layer(u, out))
	}
	problems.Add(in.finishFunctions())
	if err := problems.Err(); err != nil {
		return nil, err
	}
	if opts.Mode == Inputs {
		if b.Model.IRVersion < 4 { // before, initializers could not be given other values
			in.e.SetIRVersion(4)
		}
	} else {
		out.Adapters = nil
	}
	for i, a := range out.Adapters {
		a.Path, a.Dialect, a.Base = adapters[i].Adapter.Path, ortadapter.Dialect, adapters[i].Adapter.Base
	}
	return out, nil
}

func (b *Binding) opset() int64 {
	for _, o := range b.Model.Opsets {
		if domainOf(o.Domain) == "" {
			return o.Version
		}
	}
	return 1
}

// layerUpdates are the updates that one layer gets, by adapter.
type layerUpdates struct {
	*Layer
	path string // the module, or where the layer holds several the layer's name beside them
	of   [][]piece
}

// piece is one update of some outputs of a layer.
type piece struct {
	u           *adapter.LowRank
	weight      float64
	first, outs int64
}

// collect sorts the adapters' updates by layer.
func (b *Binding) collect(adapters []patch.Weighted) ([]*layerUpdates, error) {
	var problems formats.Problems
	var out []*layerUpdates
	at := map[*Layer]*layerUpdates{}
	for i, w := range adapters {
		for _, e := range w.Adapter.Entries {
			found := b.of[e.Module]
			same, err := b.unchanged(found, e)
			if err != nil {
				return nil, err
			}
			if same {
				continue
			}
			u, ok := e.Update.(*adapter.LowRank)
			if !ok {
				problems.Add(formats.Unfitf(w.Adapter.Path, firstKey(e), "module %s: an update of kind %s cannot be added to a graph", formats.Quote(e.Module), e.Update.Kind()).
					WithHint("graft merge takes it"))
				continue
			}
			if err := u.Check(); err != nil {
				problems.Add(formats.Unfitf(w.Adapter.Path, firstKey(e), "%v", err))
				continue
			}
			if len(found) == 0 {
				problems.Add(b.missing(w.Adapter, e))
			}
			for _, x := range found {
				if err := fits(x, u); err != nil {
					problems.Add(formats.Unfitf(w.Adapter.Path, firstKey(e), "%v", err))
					continue
				}
				lu := at[x.Layer]
				if lu == nil {
					lu = &layerUpdates{Layer: x.Layer, path: x.pathFor(e.Module), of: make([][]piece, len(adapters))}
					at[x.Layer] = lu
					out = append(out, lu)
				}
				lu.of[i] = append(lu.of[i], piece{u, w.Weight, x.first, x.outs})
			}
		}
	}
	model := b.targetable()
	for _, w := range adapters {
		problems.Add(patch.CheckComplete(model, w.Adapter))
	}
	b.nameFused(out)
	return out, problems.Err()
}

// targetable is the graph as the modules that an adapter's config may target.
func (b *Binding) targetable() *patch.Model {
	var sites []patch.Site
	for _, module := range b.order {
		sites = append(sites, patch.Site{Module: module, Kind: b.of[module][0].Kind})
	}
	for _, l := range b.unnamed() {
		sites = append(sites, patch.Site{Module: l.Path, Kind: l.Kind})
	}
	return patch.NewGraphModel(b.Model.Checkpoint(), sites)
}

// unchanged reports whether an update gives a module the weight that it has: PEFT saves the
// weights of an embedding and of the head with an adapter of them, trained or not.
func (b *Binding) unchanged(found []*bound, e adapter.Entry) (bool, error) {
	u, ok := e.Update.(*adapter.Replace)
	if !ok || u.Param != "weight" || len(found) == 0 || !u.Value.DType.IsFloat() {
		return false, nil
	}
	for _, x := range found {
		if same, err := x.holdsWeight(u.Value); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// holdsWeight reports whether the module has the numbers of a weight of PyTorch's: (out,
// in, kernel…), and (vocabulary, dim) of an embedding.
func (x *bound) holdsWeight(w formats.Tensor) (bool, error) {
	if x.Quantized != "" || !x.Weight.HasData || !x.Weight.Data.DType.IsFloat() || len(w.Shape) != len(x.Weight.Dims) {
		return false, nil
	}
	rows, cols := w.Matrix()
	theirs := &weightView{t: w, inOut: x.Kind == patch.Embedding, out: rows, in: cols}
	if theirs.inOut {
		theirs.out, theirs.in = cols, rows
	}
	outs := x.Out
	if x.outs > 0 {
		outs = x.outs
	}
	if theirs.out != outs || theirs.in != x.In || x.Kind == patch.Conv && !slices.Equal(w.Shape, x.Weight.Dims) {
		return false, nil
	}
	if outs == 0 || x.In == 0 {
		return true, nil
	}
	for _, t := range []formats.Tensor{x.Weight.Data, w} {
		if p, ok := t.Data.(formats.Preparer); ok {
			if err := p.Prepare(context.Background()); err != nil {
				return false, err
			}
		}
	}
	return x.view().equal(theirs, x.first)
}

// pathFor returns what an update's factors are named after: the module, or beside it the
// layer that the module is a part of.
func (x *bound) pathFor(module string) string {
	if x.outs == 0 {
		return module
	}
	name := x.Path[strings.LastIndexByte(x.Path, '.')+1:]
	if name == "" {
		name = "fused"
	}
	return module[:strings.LastIndexByte(module, '.')+1] + name
}

// nameFused makes the paths unique of layers that hold several modules.
func (b *Binding) nameFused(updates []*layerUpdates) {
	modules := map[string]string{} // by path
	holding := b.modules()
	for _, u := range updates {
		if !u.fused() {
			modules[u.path] = u.path
		}
	}
	for _, u := range updates {
		if !u.fused() {
			continue
		}
		path, holds := u.path, holding[u.Layer]
		for i := 1; modules[u.path] != "" && modules[u.path] != holds; i++ {
			u.path = fmt.Sprintf("%s_%d", path, i)
		}
		modules[u.path] = holds
	}
}

// fused reports whether an update is of some of the layer's outputs.
func (u *layerUpdates) fused() bool {
	return slices.ContainsFunc(u.of, func(pieces []piece) bool {
		return slices.ContainsFunc(pieces, func(p piece) bool { return p.outs > 0 })
	})
}

func (b *Binding) missing(a *adapter.Adapter, e adapter.Entry) error {
	err := formats.Unfitf(a.Path, firstKey(e), "the base %s has no module %s", formats.Quote(b.Model.Path), formats.Quote(e.Module))
	var names []string
	for _, l := range b.Layers {
		if l.Path != "" {
			names = append(names, l.Path)
		}
	}
	if near := formats.Nearest(e.Module, names, 3); len(near) > 0 {
		for i, n := range near {
			near[i] = formats.Quote(n)
		}
		return err.WithHint("nearest: %s", strings.Join(near, ", "))
	}
	if len(names) > 0 {
		return err.WithHint("--weights DIR finds layers by the numbers of the checkpoint that the graph was exported from")
	}
	return err.WithHint("no layer of this graph has a name that tells its module: --weights DIR finds them by the numbers of the checkpoint that it was exported from")
}

// fits checks the shapes of an update against a layer.
func fits(x *bound, u *adapter.LowRank) error {
	outs := x.Out
	if x.outs > 0 {
		outs = x.outs
	}
	in := int64(1)
	for _, d := range u.A.Shape[1:] {
		in *= d
	}
	conv := x.Kind == patch.Conv
	if in != x.In || u.B.Shape[0] != outs || conv != (len(u.A.Shape) > 2) || u.Embedding != (x.Kind == patch.Embedding) {
		return fmt.Errorf("shapes do not fit %s: A is %v and B %v (want in %d, out %d)", x.describe(), u.A.Shape, u.B.Shape, x.In, outs)
	}
	return nil
}

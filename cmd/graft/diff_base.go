package main

import (
	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/diff"
)

// diffBase is what two adapters are for: the model that --base names.
type diffBase struct {
	*operands
	places map[*adapter.Adapter]*patch.Finder
}

// openDiffBase opens the base, and finds the modules of both adapters in it.
func openDiffBase(c *cli.Context, a, b *adapter.Adapter) (*diffBase, error) {
	if a == nil || b == nil {
		return nil, formats.Usagef("--base is the base of two adapters, and one of these is none")
	}
	o, err := openModel(c.String("base"))
	if err != nil {
		return nil, err
	}
	d := &diffBase{o, map[*adapter.Adapter]*patch.Finder{}}
	if err := d.place(c, a, b); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *diffBase) Close() {
	d.base.Close()
	if d.weights != nil {
		d.weights.Close()
	}
}

func (d *diffBase) place(c *cli.Context, adapters ...*adapter.Adapter) error {
	if err := d.openWeights(c); err != nil {
		return err
	}
	for _, a := range adapters {
		// Each is looked up alone: one may name a module that the other does not fit.
		model, err := d.model(a)
		if err != nil {
			return err
		}
		if d.places[a], err = patch.NewFinder(model, a); err != nil {
			return err
		}
	}
	return nil
}

// model returns the base as modules; of a graph those of an adapter.
func (d *diffBase) model(a *adapter.Adapter) (*patch.Model, error) {
	if d.graph == nil {
		return patch.NewModel(d.base)
	}
	d.adapters = []patch.Weighted{{Adapter: a, Weight: 1}}
	b, err := d.bind()
	if err != nil {
		return nil, err
	}
	sites, err := b.Sites()
	if err != nil {
		return nil, err
	}
	return sites.Model, nil
}

// weight finds the weight that an entry updates.
func (d *diffBase) weight(a *adapter.Adapter, e adapter.Entry) (diff.Weight, error) {
	s, err := d.places[a].Site(e)
	return diff.Weight{Tensor: s.Weight, File: d.base.Path(), InOut: s.InOut, First: s.First, Outs: s.Outs}, err
}

// size counts the bytes of the weights that will be read.
func (d *diffBase) size(adapters ...*adapter.Adapter) int64 {
	seen, total := map[string]bool{}, int64(0)
	for _, a := range adapters {
		for _, e := range a.Entries {
			if w, err := d.weight(a, e); err == nil && !seen[w.Tensor.Name] {
				seen[w.Tensor.Name] = true
				total += w.Tensor.Size()
			}
		}
	}
	return total
}

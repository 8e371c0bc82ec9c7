package extract

import (
	"context"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch"
)

// Flatten turns an adapter whose changes depend on the base's weights (DoRA) into factors
// alone: those of the difference that it makes to this base, which is formed in float32, or
// float64 for F64 weights, without rounding to the base's type. Parameters saved whole go along.
func Flatten(ctx context.Context, base *patch.Model, a *adapter.Adapter, opts Options) (*Result, error) {
	changing := *a
	changing.Entries = nil
	var saved []adapter.Entry
	for _, e := range a.Entries {
		if _, ok := e.Update.(*adapter.Replace); ok {
			saved = append(saved, e)
		} else {
			changing.Entries = append(changing.Entries, e)
		}
	}
	changing.Selection = nil // what it targets and saves is checked where it is merged
	wide, err := wideModel(base)
	if err != nil {
		return nil, err
	}
	plan, err := patch.NewModelPlan(wide, patch.RoundOnce, patch.Weighted{Adapter: &changing, Weight: 1})
	if err != nil {
		return nil, err
	}
	merged := plan.Merge()
	var before, after formats.Shard
	for _, s := range wide.Sites { // a head tells whether it shares the embedding's weight
		if m, _ := merged.Tensor(s.Weight.Name); s.Head && m.Data == s.Weight.Data {
			before.Tensors, after.Tensors = append(before.Tensors, m), append(after.Tensors, m)
		}
	}
	for _, t := range plan.Targets() {
		m, _ := merged.Tensor(t.Tensor.Name)
		before.Tensors, after.Tensors = append(before.Tensors, t.Tensor), append(after.Tensors, m)
	}
	old, err := modelOf(base, before)
	if err != nil {
		return nil, err
	}
	tuned, err := modelOf(base, after)
	if err != nil {
		return nil, err
	}
	r, err := Extract(ctx, old, tuned, opts)
	if err != nil {
		return nil, err
	}
	r.Adapter.Entries = append(r.Adapter.Entries, saved...)
	return r, nil
}

// wideModel is a model whose weights of 16 bits are float32.
func wideModel(m *patch.Model) (*patch.Model, error) {
	return patch.NewModel(m.Checkpoint.MapTensors(func(t formats.Tensor) formats.Tensor {
		if t.DType == formats.BF16 || t.DType == formats.F16 {
			return patch.AsDType(t, formats.F32)
		}
		return t
	}))
}

// modelOf is a model of some tensors of another one, under their names.
func modelOf(m *patch.Model, s formats.Shard) (*patch.Model, error) {
	c, err := formats.NewCheckpoint(m.Checkpoint.Path(), formats.SingleFile, []formats.Shard{s}, m.Checkpoint.SideFiles())
	if err != nil {
		return nil, err
	}
	return patch.NewModel(c)
}

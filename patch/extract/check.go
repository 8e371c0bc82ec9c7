package extract

import (
	"context"
	"math"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/diff"
)

// Merged says how a tensor of the base with the adapter merged into it differs from the
// tuned model's, where their types differ by value.
type Merged struct {
	Elements  int64   `json:"elements"`
	Differing int64   `json:"differing"`
	OneULP    int64   `json:"one_ulp"` // of those, that are one step of their type apart, or in the sign of zero
	MaxULPs   uint64  `json:"max_ulps"`
	Relative  float64 `json:"relative"` // ‖merged − tuned‖/‖tuned‖
}

// Check merges the adapter into the base, tensor by tensor, and compares with the tuned model
// what it changes: the numbers are those that a merge will have. With a MaxError of 0, what does
// not come out with the tuned model's bits is saved whole from then on.
func (r *Result) Check(ctx context.Context, opts Options) error {
	differ, err := r.check(ctx, opts.Progress)
	if err != nil || !opts.bits() || !differ {
		return err
	}
	for _, m := range r.Modules {
		if m.Merged == nil || m.Merged.Differing == 0 {
			continue
		}
		for _, c := range r.changes {
			if c.module == m.Module && c.role != whole {
				c.role, c.reason = whole, "factors do not give its bits"
			}
		}
	}
	if err := r.assemble(); err != nil {
		return err
	}
	_, err = r.check(ctx, opts.Progress)
	return err
}

func (r *Result) check(ctx context.Context, progress func(int64)) (differ bool, err error) {
	// What a merge cannot place is left out: what the base has not, and another vocabulary.
	place := map[string]*change{} // by the base's tensor
	skip := map[string]bool{}
	for _, c := range r.changes {
		if c.base.Data == nil || c.reason == "vocabulary" {
			skip[c.module+"."+c.param], skip[c.head+"."+c.param] = true, true
		} else {
			place[c.base.Name] = c
		}
	}
	a := *r.Adapter
	a.Path, a.Entries = "the adapter", nil
	for _, e := range r.Adapter.Entries {
		if u, ok := e.Update.(*adapter.Replace); !ok || !skip[e.Module+"."+u.Param] {
			a.Entries = append(a.Entries, e)
		}
	}
	var x, y formats.Shard
	pair := func(got formats.Tensor, c *change) {
		want := c.tuned
		want.Name = got.Name
		x.Tensors, y.Tensors = append(x.Tensors, got), append(y.Tensors, want)
	}
	changed := map[string]bool{}
	if len(a.Entries) > 0 {
		plan, err := patch.NewModelPlan(r.base, patch.RoundOnce, patch.Weighted{Adapter: &a, Weight: 1})
		if err != nil {
			return false, err
		}
		merged := plan.Merge()
		for _, t := range plan.Targets() {
			if c := place[t.Tensor.Name]; c != nil { // else a bias that becomes no other
				m, _ := merged.Tensor(t.Tensor.Name)
				pair(m, c)
				changed[t.Tensor.Name] = true
			}
		}
	}
	for name, c := range place {
		if !changed[name] { // left out: it stays as the base has it
			pair(c.base, c)
		}
	}
	if len(x.Tensors) == 0 {
		return false, nil
	}
	got, err := formats.NewCheckpoint("the merged model", formats.SingleFile, []formats.Shard{x}, nil)
	if err != nil {
		return false, err
	}
	want, err := formats.NewCheckpoint("the tuned model", formats.SingleFile, []formats.Shard{y}, nil)
	if err != nil {
		return false, err
	}
	found, err := diff.Checkpoints(ctx, want, got, diff.Options{Progress: progress})
	if err != nil {
		return false, err
	}
	values := map[string]*diff.Values{}
	for i := range found.Tensors {
		values[found.Tensors[i].Name] = found.Tensors[i].Values
	}
	byTensor := map[string]*Merged{}
	for name, c := range place {
		m := &Merged{Elements: c.base.Elements()}
		if v := values[name]; v != nil {
			m.Differing, m.MaxULPs, m.Relative = v.Differing, v.MaxULPs, float64(v.Relative)
			for _, u := range v.ULPs {
				if u.To <= 1 {
					m.OneULP += u.Count
				}
			}
			if math.IsNaN(m.Relative) || math.IsInf(m.Relative, 0) {
				m.Relative = 0
			}
			differ = true
		}
		byTensor[c.tuned.Name] = m
	}
	for i := range r.Modules {
		r.Modules[i].Merged = byTensor[r.Modules[i].Tensor]
	}
	return differ, nil
}

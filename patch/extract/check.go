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
// tuned model's, in the base's type.
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
func (r *Result) Check(ctx context.Context, base *patch.Model, opts Options) error {
	differ, err := r.check(ctx, base, opts.Progress)
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
	_, err = r.check(ctx, base, opts.Progress)
	return err
}

func (r *Result) check(ctx context.Context, base *patch.Model, progress func(int64)) (differ bool, err error) {
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
	if len(a.Entries) == 0 {
		return false, nil
	}
	plan, err := patch.NewModelPlan(base, patch.RoundOnce, patch.Weighted{Adapter: &a, Weight: 1})
	if err != nil {
		return false, err
	}
	merged := plan.Merge()
	var x, y formats.Shard
	for _, t := range plan.Targets() {
		c := place[t.Tensor.Name]
		if c == nil { // a bias that becomes no other
			continue
		}
		m, _ := merged.Tensor(t.Tensor.Name)
		want := c.tuned
		if want.DType != m.DType {
			want = patch.AsDType(want, m.DType)
		}
		want.Name = m.Name
		x.Tensors, y.Tensors = append(x.Tensors, m), append(y.Tensors, want)
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
		if m := &r.Modules[i]; m.Kind != "" {
			m.Merged = byTensor[m.Tensor]
		}
	}
	return differ, nil
}

package main

import (
	"context"

	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/extract"
)

// hasDoRA reports whether an adapter has updates with a magnitude.
func hasDoRA(a *adapter.Adapter) bool {
	for _, e := range a.Entries {
		if _, ok := e.Update.(*adapter.Magnitude); ok {
			return true
		}
	}
	return false
}

// flattened makes an adapter of DoRA one of factors alone, for its base.
func flattened(ctx context.Context, base *patch.Model, a *adapter.Adapter, opts patch.ResizeOptions) (*adapter.Adapter, []patch.ResizedModule, error) {
	if opts.Common && opts.Size != 0 {
		var err error
		if opts.Rank, err = opts.CommonRank(a); err != nil {
			return nil, nil, err
		}
		opts.Size = 0
	}
	r, err := extract.Flatten(ctx, base, a, extract.Options{Rank: opts.Rank, Energy: opts.Energy, MaxError: opts.MaxError, Size: opts.Size, DType: opts.DType})
	if err != nil {
		return nil, nil, err
	}
	old := map[string]int64{}
	for _, e := range a.Entries {
		if u, ok := adapter.LowRankOf(e.Update); ok {
			old[e.Module] = u.Rank()
		}
	}
	small, report := r.Adapter, make([]patch.ResizedModule, 0, len(r.Modules))
	for _, m := range r.Modules {
		if m.Param != "weight" || m.Reason == extract.Unchanged {
			continue
		}
		report = append(report, patch.ResizedModule{
			Module: m.Module, Shape: m.Shape, OldRank: old[m.Module], Rank: int64(m.Rank), Whole: m.Kind == "Replace", Norm: m.Norm, Error: m.Residual,
		})
	}
	if opts.Common {
		same := patch.ResizeOptions{Rank: opts.Rank, Common: true, DType: opts.DType}
		if opts.Rank == 0 {
			same.MaxError = new(float64)
		}
		padded, ranks, err := patch.Resize(ctx, small, same)
		if err != nil {
			return nil, nil, err
		}
		small = padded
		for i := range report {
			for _, x := range ranks {
				if x.Module == report[i].Module {
					report[i].Rank = x.Rank
				}
			}
		}
	}
	small.Base = a.Base
	return small, report, nil
}

package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/patch"
)

// onlySlims reports whether --slim stands without a flag that says how far.
func onlySlims(c *cli.Context) (bool, error) {
	if !c.Bool("slim") {
		return false, nil
	}
	for _, flag := range []string{"rank", "energy", "max-error", "size"} {
		if c.IsSet(flag) {
			return false, nil
		}
	}
	for _, flag := range []string{"common", "dtype"} {
		if c.IsSet(flag) {
			return false, formats.Usagef("--%s needs --rank, --energy, --max-error or --size", flag)
		}
	}
	return true, nil
}

// slim takes what changes nothing from an adapter, which is the source or was made of it, and
// makes the config of what is left.
func (r *resizeResult) slim(c *cli.Context, base *patch.Model, a, source *adapter.Adapter) (*adapter.Adapter, *peft.Config, error) {
	opts := patch.SlimOptions{Base: base}
	if a != source {
		made := *a
		made.Path = source.Path
		if source.Selection != nil {
			made.Selection = &adapter.Selection{ModulesToSave: source.Selection.ModulesToSave}
		}
		a = &made
	}
	for _, opts.KeepRanks = range []bool{false, true} {
		small, slimmed, err := patch.Slim(c.Context, a, opts)
		if err != nil {
			return nil, nil, err
		}
		cfg, ok, err := slimConfig(small, source)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			r.Slimmed = slimmed
			return small, cfg, nil
		}
	}
	return nil, nil, formats.Unfitf(source.Path, "", "no config gives the modules that are left the scales that they have")
}

// slimConfig describes a slimmed adapter: as its source where that gives every module the
// rank and scale that it has, and anew otherwise. ok is false where neither does.
func slimConfig(a, source *adapter.Adapter) (cfg *peft.Config, ok bool, err error) {
	saved := a.Selection.ModulesToSave
	if source.Config != nil {
		if cfg, err = peft.ParseConfig(source.Config, source.Path); err != nil {
			return nil, false, err
		}
		if modules := lowRankModules(a); !slices.Equal(modules, lowRankModules(source)) {
			cfg.Selection = adapter.Selection{TargetModules: modules}
		}
		cfg.Selection.ModulesToSave = saved
		if ok, err = describes(cfg, a); ok || err != nil {
			return cfg, ok, err
		}
	}
	if cfg, err = derivedConfig(a, []*adapter.Adapter{source}); err != nil {
		return nil, false, err
	}
	cfg.Selection.ModulesToSave = saved
	ok, err = describes(cfg, a)
	return cfg, ok, err
}

// describes reports whether a config gives every module its rank and its scale.
func describes(cfg *peft.Config, a *adapter.Adapter) (bool, error) {
	scaling, err := cfg.Scaling()
	if err != nil {
		return false, err
	}
	for _, e := range a.Entries {
		u, ok := adapter.LowRankOf(e.Update)
		if !ok {
			continue
		}
		r, scale, err := scaling.Of(e.Module)
		if err != nil || r != u.Rank() || scale != u.Scale {
			return false, err
		}
	}
	return true, nil
}

// printSlimmed says what was left out and what is stored in less, with tensors that were
// narrowed alike as one row.
func (r *resizeResult) printSlimmed(w io.Writer) {
	if len(r.Slimmed) == 0 {
		return
	}
	type row struct {
		what  string
		first string
		count int
		bytes int64
	}
	grouped := len(r.Slimmed) > maxRows
	var rows []*row
	at := map[string]*row{}
	for _, s := range r.Slimmed {
		name, what := s.Module, ""
		switch s.What {
		case patch.SlimSaved:
			name, what = s.Tensor, "the base's: left out"
		case patch.SlimZero:
			what = "ΔW is zero: left out"
		case patch.SlimRanks:
			what = fmt.Sprintf("rank %s", arrow(fmt.Sprint(s.OldRank), fmt.Sprint(s.Rank)))
		case patch.SlimNarrow:
			name, what = s.Tensor, arrow(s.OldDType, s.DType)
		}
		if grouped {
			name = overLayers(name)
		}
		x := at[name+"\x00"+what]
		if x == nil {
			x = &row{what: what, first: name}
			at[name+"\x00"+what] = x
			rows = append(rows, x)
		}
		x.count++
		x.bytes += s.Bytes
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if grouped {
		fmt.Fprintln(t, "SLIMMED\tCOUNT\tWHAT\tSAVES")
	} else {
		fmt.Fprintln(t, "SLIMMED\tWHAT\tSAVES")
	}
	for _, x := range rows {
		fmt.Fprintf(t, "%s\t", printable(x.first))
		if grouped {
			fmt.Fprintf(t, "%d\t", x.count)
		}
		fmt.Fprintf(t, "%s\t%s\n", x.what, sizeText(x.bytes))
	}
	t.Flush()
}

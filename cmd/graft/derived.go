package main

import (
	"reflect"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/internal/atomicfile"
)

// What commands share that compute an adapter from others.

func factorTypeFlag() cli.Flag {
	return &cli.StringFlag{Name: "dtype", Usage: "dtype of the factors: bf16, f16, f32 or f64 (default: f32, and f64 where a factor is)"}
}

// factorType reads --dtype; nothing where it is not given.
func factorType(c *cli.Context) (formats.DType, error) {
	if !c.IsSet("dtype") {
		return formats.InvalidDType, nil
	}
	dtype, err := formats.ParseDType(strings.ToUpper(c.String("dtype")))
	if err != nil || !dtype.IsFloat() {
		return formats.InvalidDType, formats.Usagef("dtype %s is not supported (want bf16, f16, f32 or f64)", formats.Quote(c.String("dtype")))
	}
	return dtype, nil
}

// checkAdapterOut reports what would keep a directory from being written at --out, before
// any work is done, and returns its path.
func checkAdapterOut(c *cli.Context, co *console, sources []*adapter.Adapter) (string, error) {
	out := outPath(c)
	var inputs []string
	for _, a := range sources {
		if err := publish.CheckApart(a.Path, out); err != nil {
			return "", err
		}
		inputs = append(inputs, a.Path)
	}
	if err := co.checkReport(out, inputs...); err != nil {
		return "", err
	}
	return out, atomicfile.Check(out, true, c.Bool("force"))
}

// writeDerived publishes an adapter as a PEFT directory, with a config that goes on from
// those of its sources, or with --dry-run only makes the config.
func writeDerived(c *cli.Context, co *console, a *adapter.Adapter, sources []*adapter.Adapter, out string) error {
	a.Path = out
	cfg, err := derivedConfig(a, sources)
	if err != nil {
		return err
	}
	return writeAdapter(c, co, a, cfg, out)
}

// writeAdapter publishes an adapter with its config, or with --dry-run does nothing.
func writeAdapter(c *cli.Context, co *console, a *adapter.Adapter, cfg *peft.Config, out string) error {
	a.Path, a.Config = out, cfg.Encode()
	if c.Bool("dry-run") {
		return nil
	}
	if err := publishDir(out, c.Bool("force"), func(dir string) error { return peft.Write(dir, a) }); err != nil {
		return err
	}
	co.noteLeft(out)
	return nil
}

// derivedConfig describes an adapter. Modules are targeted as the sources target them where
// all do so in the same way and have the same ones, and by their whole paths otherwise; what
// the sources agree on is kept.
func derivedConfig(a *adapter.Adapter, sources []*adapter.Adapter) (*peft.Config, error) {
	low := *a
	low.Entries = slices.DeleteFunc(slices.Clone(a.Entries), func(e adapter.Entry) bool {
		_, whole := e.Update.(*adapter.Replace)
		return whole
	})
	if len(low.Entries) == 0 { // all is saved whole
		return peft.ConfigFor(a)
	}
	cfg, err := peft.ConfigFor(&low)
	if err != nil {
		return nil, err
	}
	var olds []*peft.Config
	for _, s := range sources {
		if s.Config == nil {
			return cfg, nil
		}
		old, err := peft.ParseConfig(s.Config, s.Path)
		if err != nil {
			return nil, err
		}
		olds = append(olds, old)
	}
	first := olds[0]
	same := len(first.Selection.TargetModules) > 0 || first.Selection.TargetRegex != ""
	cfg.TaskType, cfg.Dropout = first.TaskType, first.Dropout
	for i, old := range olds {
		if old.TaskType != cfg.TaskType {
			cfg.TaskType = ""
		}
		if cfg.Bias == "" || old.Bias == peft.BiasAll {
			cfg.Bias = old.Bias
		}
		if old.Dropout != cfg.Dropout {
			cfg.Dropout = 0
		}
		same = same && reflect.DeepEqual(ordered(old.Selection), ordered(first.Selection)) && slices.Equal(lowRankModules(sources[i]), lowRankModules(a))
		for _, name := range old.Selection.ModulesToSave {
			if !slices.Contains(cfg.Selection.ModulesToSave, name) {
				cfg.Selection.ModulesToSave = append(cfg.Selection.ModulesToSave, name)
			}
		}
	}
	if same {
		cfg.Selection = first.Selection
	}
	return cfg, nil
}

// ordered returns a selection with its lists of names sorted, for PEFT writes them in the
// order of a hash table.
func ordered(s adapter.Selection) adapter.Selection {
	for _, list := range []*[]string{&s.TargetModules, &s.ExcludeModules, &s.ModulesToSave} {
		*list = slices.Sorted(slices.Values(*list))
	}
	return s
}

// lowRankModules lists the modules with low-rank updates, sorted.
func lowRankModules(a *adapter.Adapter) []string {
	var names []string
	for _, e := range a.Entries {
		if _, ok := adapter.LowRankOf(e.Update); ok {
			names = append(names, e.Module)
		}
	}
	slices.Sort(names)
	return names
}

// savedNames lists the parameters that are saved whole.
func savedNames(a *adapter.Adapter) []string {
	var names []string
	for _, e := range a.Entries {
		if u, ok := e.Update.(*adapter.Replace); ok {
			names = append(names, e.Module+"."+u.Param)
		}
	}
	return names
}

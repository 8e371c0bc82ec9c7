package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// narrowFlags choose among an adapter's modules.
func narrowFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "prefix", Usage: "take the adapters' modules below `MODULE` only, without that in their paths: for a base that is a part of the model they were made for"},
		&cli.StringSliceFlag{Name: "skip-modules", Usage: "leave out the adapters' modules that match `PATTERN`, as in PEFT's rank_pattern; may be repeated"},
	}
}

// narrow leaves out the modules of an adapter that the flags exclude.
func (o *operands) narrow(c *cli.Context, a *adapter.Adapter) error {
	prefix, patterns := strings.TrimSuffix(c.String("prefix"), "."), c.StringSlice("skip-modules")
	if prefix == "" && len(patterns) == 0 {
		return nil
	}
	var list []adapter.Pattern
	for _, p := range patterns {
		list = append(list, adapter.Pattern{Key: p})
	}
	skip, err := adapter.CompilePatterns("--skip-modules", list)
	if err != nil {
		return formats.Usagef("%v", err)
	}
	var kept []adapter.Entry
	for _, e := range a.Entries {
		hit, err := skip.Find(e.Module)
		if err != nil {
			return formats.Usagef("--skip-modules: %v", err)
		}
		module, below := e.Module, true
		if prefix != "" {
			module, below = strings.CutPrefix(e.Module, prefix+".")
		}
		if hit >= 0 || !below {
			o.leftOut = append(o.leftOut, e.Module)
			continue
		}
		e.Module = module
		kept = append(kept, e)
	}
	if len(kept) == 0 {
		var names []string
		for _, e := range a.Entries[:min(3, len(a.Entries))] {
			names = append(names, formats.Quote(e.Module))
		}
		return formats.Unfitf(a.Path, "", "no module is left by --prefix and --skip-modules").WithHint("it has, for example, %s", strings.Join(names, ", "))
	}
	a.Entries = kept
	a.Selection = nil // it speaks of the modules by their old paths, and of those left out
	return nil
}

// noteLeftOutModules says which modules the flags left out.
func (o *operands) noteLeftOutModules(co *console) {
	slices.Sort(o.leftOut)
	o.leftOut = slices.Compact(o.leftOut)
	if n := len(o.leftOut); n > 0 {
		more := ""
		if n > 5 {
			more = fmt.Sprintf(" and %d more", n-5)
		}
		co.note("note: left out of the adapters: %s%s", joinNames(o.leftOut[:min(5, n)]), more)
	}
}

package patch

import (
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// checkSaved reports modules that the adapter's config says were trained whole
// (modules_to_save), that the base has, and whose weights the adapter has not: without
// them its result is not that of the training.
func checkSaved(m *Model, a *adapter.Adapter, r renaming) error {
	if a.Selection == nil {
		return nil
	}
	back := renaming{strip: r.add, add: r.strip}
	var absent []string
	for _, name := range a.Selection.ModulesToSave {
		wanted := slices.ContainsFunc(m.Sites, func(s Site) bool { return isOrHolds(back.apply(s.Module), name) })
		saved := slices.ContainsFunc(a.Entries, func(e adapter.Entry) bool {
			_, whole := e.Update.(*adapter.Replace)
			return whole && isOrHolds(e.Module, name)
		})
		if wanted && !saved {
			absent = append(absent, formats.Quote(name))
		}
	}
	if len(absent) == 0 {
		return nil
	}
	return formats.Unfitf(a.Path, "", "weights are missing for modules that the config's modules_to_save names: %s", strings.Join(absent[:min(5, len(absent))], ", "))
}

// isOrHolds reports whether a name of modules_to_save stands for a module or for one that
// holds it.
func isOrHolds(module, name string) bool {
	return strings.Contains("."+module+".", "."+name+".")
}

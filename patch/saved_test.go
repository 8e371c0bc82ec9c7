package patch_test

import (
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch"
)

// TestPlanMissingSavedModules: a module that was trained whole must come with the adapter,
// if the base has it.
func TestPlanMissingSavedModules(t *testing.T) {
	norm := whole("", formats.F32, 1, 4)
	for _, c := range []struct {
		saved   []string
		entries []adapter.Entry
		want    string // "": fits
	}{
		{[]string{"norm"}, nil, `weights are missing for modules that the config's modules_to_save names: "norm"`},
		{[]string{"model.norm"}, nil, `"model.norm"`},
		{[]string{"norm", "embed_tokens"}, []adapter.Entry{replace("model.norm", "weight", norm)}, `names: "embed_tokens"`},
		{[]string{"layers"}, nil, `"layers"`},
		{[]string{"norm"}, []adapter.Entry{replace("model.norm", "weight", norm)}, ""},
		{[]string{"classifier", "score"}, nil, ""}, // PEFT lists both, and a model has one
		{[]string{"orm"}, nil, ""},
		{nil, nil, ""},
	} {
		a := fakeAdapter(append(c.entries, wholeLora("model.layers.0.q_proj", 1, 2, 4, 5))...)
		a.Selection = &adapter.Selection{ModulesToSave: c.saved}
		_, err := patch.NewPlan(twoLayers(t), patch.Weighted{Adapter: a, Weight: 1})
		if c.want == "" {
			if err != nil {
				t.Errorf("%q: %v", c.saved, err)
			}
			continue
		}
		checkClass(t, err, formats.ErrUnfit, c.want)
	}
}

package peft

import (
	"bytes"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats/adapter"
)

// TestEncodeLikePEFT gives the options of two configs that PEFT saved. What graft cannot
// say in a Config, or says in another form of the same, is changed in PEFT's text first.
func TestEncodeLikePEFT(t *testing.T) {
	unchanged := func(s string) string { return s }
	for _, c := range []struct {
		name   string
		config Config
		edit   func(string) string
	}{
		{"default", Config{R: 8, Alpha: 8, InitWeights: "true", TaskType: "CAUSAL_LM"}, unchanged},
		{"options", Config{
			R: 5, Alpha: 12.5, UseRSLoRA: true, Dropout: 0.05, InitWeights: "gaussian", TaskType: "CAUSAL_LM",
			BaseModel:   "org/modèle \"q\" \\ <&> 語 😀",
			RankPattern: []adapter.Pattern{{Key: "z", Value: 3}, {Key: `a\.b`, Value: 4}},
			AlphaPattern: []adapter.Pattern{
				{Key: "whole", Value: 2}, {Key: "tiny", Value: 1e-5}, {Key: "third", Value: 1.0 / 3}, {Key: "low", Value: 1e-4},
				{Key: "large", Value: 1e16}, {Key: "edge", Value: 123456789012345},
			},
			Selection: adapter.Selection{
				TargetModules: []string{"q_proj"}, ExcludeModules: []string{"lm_head"}, ModulesToSave: []string{"score"},
				LayersToTransform: []int64{0, 2}, LayersPattern: []string{"layers"},
			},
		}, func(s string) string {
			s = regexp.MustCompile(`(?s)"layer_replication": \[.*?\n  \]`).ReplaceAllString(s, `"layer_replication": null`)
			s = regexp.MustCompile(`(?s)"trainable_token_indices": \{.*?\n  \}`).ReplaceAllString(s, `"trainable_token_indices": null`)
			s = strings.Replace(s, `"layers_pattern": "layers"`, "\"layers_pattern\": [\n    \"layers\"\n  ]", 1)
			s = strings.Replace(s, `"whole": 2.0`, `"whole": 2`, 1)
			return strings.Replace(s, `"edge": 123456789012345.0`, `"edge": 123456789012345`, 1)
		}},
	} {
		want := c.edit(string(load(t, golden, "config", c.name, ConfigName)))
		want = strings.Replace(want, `"inference_mode": false`, `"inference_mode": true`, 1) // a saved adapter is for inference
		if got := string(c.config.Encode()); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, want)
		}
	}
}

// TestParseEncode writes again what it read from PEFT's configs. PEFT writes names from
// a set, in any order; graft sorts them.
func TestParseEncode(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(golden, "*", "adapter*"))
	if err != nil || len(dirs) < 20 {
		t.Fatalf("%d directories, %v", len(dirs), err)
	}
	for _, dir := range dirs {
		text := load(t, dir, ConfigName)
		c, err := ParseConfig(text, "f")
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		want := regexp.MustCompile(`(?s)"auto_mapping": \{.*?\n  \}`).ReplaceAllString(string(text), `"auto_mapping": null`)
		want = regexp.MustCompile(`(?s)"target_modules": \[\n.*?\n  \]`).ReplaceAllStringFunc(want, func(s string) string {
			lines := strings.Split(s, "\n")
			names := lines[1 : len(lines)-1]
			for i := range names {
				names[i] = strings.TrimSuffix(names[i], ",")
			}
			slices.Sort(names)
			return lines[0] + "\n" + strings.Join(names, ",\n") + "\n" + lines[len(lines)-1]
		})
		if got := string(c.Encode()); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", dir, got, want)
		}
	}
}

func TestEncodeParse(t *testing.T) {
	for _, c := range []Config{
		{R: 1, Alpha: -0.5, InitWeights: "false", FanInFanOut: true, Selection: adapter.Selection{TargetRegex: `.*\.(?P<n>q|v)_proj`, ExcludeRegex: "x"}},
		{R: 1 << 20, Alpha: 1e300, InitWeights: "gaussian", UseRSLoRA: true, Selection: adapter.Selection{TargetModules: []string{"a", "b.c"}}},
		{R: 7, InitWeights: "true", Selection: adapter.Selection{TargetModules: []string{"é\n"}}},
	} {
		text := c.Encode()
		got, err := ParseConfig(text, "f")
		if err != nil {
			t.Fatal(err)
		}
		if again := got.Encode(); !bytes.Equal(again, text) || got.R != c.R || got.Alpha != c.Alpha || got.UseRSLoRA != c.UseRSLoRA || got.InitWeights != c.InitWeights {
			t.Errorf("got %+v of %+v", got, c)
		}
	}
}

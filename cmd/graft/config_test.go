package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-b982eded/graft/formats"
)

// readConfigText reads a file of flags of train.
func readConfigText(text string) (map[string][]string, error) {
	settings, err := parseConfig("train.yaml", []byte(text), trainCommand().Flags)
	got := map[string][]string{}
	for _, s := range settings {
		got[s.name] = s.values
	}
	return got, err
}

func TestConfigValues(t *testing.T) {
	got, err := readConfigText(`
# every kind of flag, with dashes or underscores
base: TinyLlama-1.1B
"learning_rate": 2e-4
lr-scheduler-type: linear
r: 16
alpha: 8
rank_pattern: {q_proj: 4, "a=b": 8}
alpha_pattern:
  - k_proj=0.5
target_modules: [q_proj, v_proj]
exclude-modules: '.*\.0\..*'
layers_to_transform: [0, 2]
columns: {text: body, label: "class"}
seed: 18446744073709551615
init_lora_weights: True
force: false
quiet: True
eval_data: ~
eval-share:
weight_decay: 0
out: 2020-01-01
data: |-
  a b
`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"base": {"TinyLlama-1.1B"}, "learning-rate": {"2e-4"}, "lr-scheduler-type": {"linear"}, "rank": {"16"}, "alpha": {"8"},
		"rank-pattern": {"q_proj=4", "a=b=8"}, "alpha-pattern": {"k_proj=0.5"}, "target-modules": {"q_proj,v_proj"},
		"exclude-modules": {`.*\.0\..*`}, "layers-to-transform": {"0,2"}, "columns": {"text=body,label=class"},
		"seed": {"18446744073709551615"}, "init-lora-weights": {"true"}, "force": {"false"}, "quiet": {"true"},
		"weight-decay": {"0"}, "out": {"2020-01-01"}, "data": {"a b"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("- want, + got:\n%s", diff)
	}
}

func TestConfigRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"bach_size: 3", `line 1: unknown key "bach_size"`},
		{"a: 1\n", `line 1: unknown key "a"`},
		{"config: other.yaml", `line 1: unknown key "config"`},
		{"\nbatch-size: 3\nbatch_size: 4", `line 3: "batch_size" is given twice, first in line 2`},
		{"rank: 3\nr: 4", `line 2: "r" is given twice, first in line 1`},
		{"batch-size: x", `line 1: "batch-size": "x" is not a whole number`},
		{"batch-size: 4.0", `line 1: "batch-size": "4.0" is not a whole number`},
		{"batch-size: true", `line 1: "batch-size": "true" is not a whole number`},
		{`batch-size: "4"`, `line 1: "batch-size": "4" is not a whole number`},
		{"batch-size: [4]", `line 1: "batch-size" is a list (want a whole number)`},
		{"seed: -1", `line 1: "seed": "-1" is not a whole number from 0 up`},
		{"epochs: .inf", `line 1: "epochs": ".inf" is not a number`},
		{"epochs: 0x10", `line 1: "epochs": "0x10" is not a number`},
		{"force: yes", `line 1: "force": "yes" is not true or false`},
		{"force: 1", `line 1: "force": "1" is not true or false`},
		{"out: ''", `line 1: "out" has an empty value`},
		{`out: "a\0b"`, `line 1: "out": "a\x00b" has a zero character`},
		{"out: [a]", `line 1: "out" is a list (want a text)`},
		{"out: {a: b}", `line 1: "out" is a map (want a text)`},
		{"target-modules: [q, 'a,b']", `line 1: "target-modules": "a,b" is no name (a list has names; a regular expression is one string)`},
		{"target-modules: ['a.*']", `line 1: "target-modules": "a.*" is no name (a list has names; a regular expression is one string)`},
		{"target-modules: [q, null]", `line 1: "target-modules" has null in its list (want a text or a list of texts)`},
		{"rank_pattern: {q: 1, q: 2}", `line 1: "rank_pattern": "q" is given twice, first in line 1`},
		{"rank_pattern:\n  q:\n    k: 1", `line 2: "rank_pattern": got a map for "q" (want a name with one value)`},
		{"rank_pattern: [q=1, {k: 2}]", `line 1: "rank_pattern" has a map in its list (want names with their values, or texts such as KEY=VALUE)`},
		{"out: &a x\ndata: *a", "line 1: anchors, aliases and merge keys are not read"},
		{"<<: {out: x}", "line 1: anchors, aliases and merge keys are not read"},
		{"out: !!str x", `line 1: tags are not read (got "!!str")`},
		{"? [a]\n: b", "line 1: a key is a list (want the name of a flag)"},
		{"- out", "line 1: got a list, want the names of flags with their values"},
		{"out", `line 1: got "out", want the names of flags with their values`},
		{"out: x\n---\nout: y", "line 2: a second document (want one)"},
		{"out: x\n  data: y", "line 2: not YAML: mapping values are not allowed in this context"},
		{"out: [a\n", "line 2: not YAML: did not find expected ',' or ']'"},
		{"out: \x01", "not YAML: control characters are not allowed (value: 1)"},
		{strings.Repeat("[", 100_000), "line 1: not YAML: exceeded max depth of 10000"},
		{strings.Repeat("#", maxConfigFileBytes+1), "too large for a file of flags (want at most 1048576 bytes)"},
	} {
		_, err := readConfigText(c.text)
		want := `reading "train.yaml": ` + c.want
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.40q:\ngot  %v\nwant %s", c.text, err, want)
		} else if !errors.Is(err, formats.ErrInput) {
			t.Errorf("%.40q: %v is no fault of an input", c.text, err)
		}
	}
}

// printConfig returns what --print-config prints, and the exit code.
func printConfig(t *testing.T, args ...string) (string, int) {
	t.Helper()
	var out, errs bytes.Buffer
	code := execute(t.Context(), append(args, "--print-config"), nil, &out, &errs)
	if code == 0 && errs.Len() > 0 {
		t.Fatalf("%v: %s", args, errs.String())
	}
	return out.String(), code
}

// TestPrintConfig: a printed file, read back, prints itself, and a flag of the command line
// takes the place of what it excludes.
func TestPrintConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "train.yaml")
	for _, args := range [][]string{
		{"train"},
		{"train", "--base", "~", "--out", "123", "--max-steps", "10", "--learning-rate", "1e-5", "--rank-pattern", "a: b=4", "--rank-pattern", "k=2"},
		{"train", "--adapter", "true", "--data", "*.jsonl", "--epochs", "1.5", "--seed", "18446744073709551615"},
		{"train", "--target-modules", `.*\.(q|v)_proj`, "--columns", "text=body,label=class", "--warmup-ratio", "0.1"},
	} {
		first, code := printConfig(t, args...)
		if code != 0 {
			t.Fatalf("%v: exit code %d", args, code)
		}
		if err := os.WriteFile(path, []byte(first), 0o666); err != nil {
			t.Fatal(err)
		}
		second, _ := printConfig(t, "train", "--config", path)
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("%v: - printed, + read and printed again:\n%s", args, diff)
		}
		got, err := readConfigText(second)
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i+1 < len(args); i += 2 {
			if name := args[i][2:]; name != "learning-rate" && !slices.Contains(got[name], args[i+1]) {
				t.Errorf("%v: the file sets %s to %q", args, name, got[name])
			}
		}
	}
	full, _ := printConfig(t, "train", "--epochs", "2")
	if err := os.WriteFile(path, []byte(full), 0o666); err != nil {
		t.Fatal(err)
	}
	text, code := printConfig(t, "train", "--config", path, "--max-steps", "3", "--adapter", "A")
	got, err := readConfigText(text)
	if code != 0 || err != nil {
		t.Fatal(code, err)
	}
	if got["epochs"] != nil || got["rank"] != nil || got["max-steps"] == nil || got["batch-size"] == nil {
		t.Errorf("flags of the command line beside a whole file: %v", got)
	}
}

// FuzzConfig: any text is refused as an input, each fault in one line, or gives flags that
// the command line takes, and that are the same when they are printed and read again.
func FuzzConfig(f *testing.F) {
	for _, text := range []string{
		"", "# x", "base: a\nout: b\n", "rank_pattern: {q: 1}\ntarget-modules: [q, v]\nepochs: 2e-1", "out: &a [*a]",
		"a: &a [x,x]\nb: &b [*a,*a]", "<<: {}", "? a\n: b", "out: |\n  a\n  b\n", "columns: {text: 'a b'}", "seed: 0b1",
		"out: \"\\u0085 #'\"", "--- {force: true}", "%YAML 1.2\n---\nout: é", "\xff\xfeo\x00",
	} {
		f.Add(text)
	}
	flags := trainCommand().Flags
	f.Fuzz(func(t *testing.T, text string) {
		settings, err := parseConfig("c.yaml", []byte(text), flags)
		if err != nil {
			for _, line := range strings.Split(err.Error(), "\n") {
				if !errors.Is(err, formats.ErrInput) || !strings.HasPrefix(line, `reading "c.yaml": `) && !strings.HasPrefix(line, "and ") {
					t.Fatalf("%q", line)
				}
			}
			return
		}
		args := []string{"train"}
		for _, s := range settings {
			for _, v := range s.values {
				args = append(args, "--"+s.name+"="+v)
			}
		}
		first, code := printConfig(t, args...)
		if code != 0 { // flags that exclude each other
			return
		}
		again, err := parseConfig("c.yaml", []byte(first), flags)
		if err != nil {
			t.Fatalf("%v:\n%s", err, first)
		}
		for _, s := range settings {
			if !slices.ContainsFunc(again, func(o setting) bool { return o.name == s.name && sameTexts(s.values, o.values) }) {
				t.Fatalf("%s is %q, and again %q", s.name, s.values, again)
			}
		}
	})
}

// sameTexts compares values, numbers as numbers.
func sameTexts(a, b []string) bool {
	return slices.EqualFunc(a, b, func(a, b string) bool {
		x, err1 := parseFloat(a)
		y, err2 := parseFloat(b)
		return a == b || err1 == nil && err2 == nil && x == y
	})
}

package peft

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

func TestConfigsRefused(t *testing.T) {
	input, unfit := formats.ErrInput, formats.ErrUnfit
	for _, c := range []struct {
		name, text string
		class      error
		want       string
	}{
		// 26: no JSON, or another kind of it
		{"empty", "", input, "unexpected end"},
		{"cut short", `{"peft_type": "LORA", "r": 8`, input, "unexpected end"},
		{"NaN", plainConfig("lora_alpha", "NaN"), input, "unexpected 'N' (want a value)"},
		{"Infinity", plainConfig("lora_alpha", "Infinity"), input, "want a value"},
		{"array", `[]`, input, "must be an object (got an array)"},
		{"duplicate", `{"peft_type":"LORA","r":8,"r":16}`, input, `duplicate name "r"`},
		{"duplicate inside", plainConfig("rank_pattern", `{"a":1,"a":2}`), input, `duplicate name "a"`},
		{"deep", plainConfig("x", strings.Repeat("[", 1000)), input, "nested deeper than 64"},
		{"not UTF-8", plainConfig("x", "\"\xff\""), input, "invalid UTF-8"},

		// 27: numbers
		{"r 0", plainConfig("r", "0"), input, `r must be a whole number from 1 to 1048576 (got "0")`},
		{"r -1", plainConfig("r", "-1"), input, `r must be a whole number`},
		{"r 1.5", plainConfig("r", "1.5"), input, `r must be a whole number`},
		{"r 8.0", plainConfig("r", "8.0"), input, `r must be a whole number`},
		{"r text", plainConfig("r", `"8"`), input, "r must be a whole number (got a string)"},
		{"r 2^31", plainConfig("r", "2147483648"), input, `(got "2147483648")`},
		{"r true", plainConfig("r", "true"), input, "r must be a whole number (got true or false)"},
		{"r null", plainConfig("r", "null"), input, "r must be a whole number (got null)"},
		{"alpha text", plainConfig("lora_alpha", `"16"`), input, "lora_alpha must be a number (got a string)"},
		{"alpha null", plainConfig("lora_alpha", "null"), input, "lora_alpha must be a number (got null)"},
		{"alpha too large", plainConfig("lora_alpha", "1e999"), input, `lora_alpha: number "1e999" is out of range`},
		{"pattern of text", plainConfig("rank_pattern", `"q"`), input, "rank_pattern must be an object (got a string)"},
		{"pattern of 0", plainConfig("rank_pattern", `{"q":0}`), input, `rank_pattern "q" must be a whole number`},
		{"pattern of null", plainConfig("alpha_pattern", `{"q":null}`), input, `alpha_pattern "q" must be a number (got null)`},
		{"bad pattern", plainConfig("rank_pattern", `{"(":1}`), input, "rank_pattern: bad regular expression"},
		{"bad alpha pattern", plainConfig("alpha_pattern", `{"[":1}`), input, "alpha_pattern: bad regular expression"},
		{"rslora text", plainConfig("use_rslora", `"yes"`), input, "use_rslora must be true or false (got a string)"},
		{"fan_in_fan_out number", plainConfig("fan_in_fan_out", `1`), input, "fan_in_fan_out must be true or false (got a number)"},
		{"dropout text", plainConfig("lora_dropout", `"0.1"`), input, "lora_dropout must be a number"},

		// 28: methods and options
		{"no method", `{"r":8}`, input, "peft_type must be a string (got null)"},
		{"method of a number", plainConfig("peft_type", "1"), input, "peft_type must be a string (got a number)"},
		{"IA3", plainConfig("peft_type", `"IA3"`), unfit, `peft_type "IA3" is not supported (want "LORA")`},
		{"lower case", plainConfig("peft_type", `"lora"`), unfit, `peft_type "lora" is not supported`},
		{"unknown method", plainConfig("peft_type", `"\u001b[31m"`), unfit, `peft_type "\x1b[31m" is not supported`},
		{"lora_bias of a text", plainConfig("lora_bias", `"all"`), input, "lora_bias must be true or false (got a string)"},
		{"ensure_weight_tying of a number", plainConfig("ensure_weight_tying", "1"), input, "ensure_weight_tying must be true or false (got a number)"},
		{"bias", plainConfig("bias", `"boft_only"`), unfit, `bias "boft_only" is not supported (want "none", "all" or "lora_only")`},
		{"bias true", plainConfig("bias", `true`), input, "bias must be a string"},
		{"target_parameters", plainConfig("target_parameters", `["x"]`), unfit, "target_parameters"},
		{"trainable tokens", plainConfig("trainable_token_indices", `[1]`), unfit, "trainable_token_indices"},
		{"megatron", plainConfig("megatron_config", `{"a":1}`), unfit, "megatron_config"},
		{"aLoRA", plainConfig("alora_invocation_tokens", `[1,2]`), unfit, "alora_invocation_tokens"},
		{"layer replication", plainConfig("layer_replication", `[[0,4]]`), unfit, "layer_replication"},
		{"loftq", plainConfig("loftq_config", `{"loftq_bits":4}`), unfit, "loftq_config"},
		{"PiSSA", plainConfig("init_lora_weights", `"pissa"`), unfit, `init_lora_weights "pissa" is not supported: its training changed the base`},
		{"PiSSA fast", plainConfig("init_lora_weights", `"PiSSA_niter_4"`), unfit, "init_lora_weights"},
		{"OLoRA", plainConfig("init_lora_weights", `"olora"`), unfit, "init_lora_weights"},
		{"CorDA", plainConfig("init_lora_weights", `"corda"`), unfit, "init_lora_weights"},
		{"LoftQ", plainConfig("init_lora_weights", `"loftq"`), unfit, "init_lora_weights"},
		{"LoRA-GA", plainConfig("init_lora_weights", `"lora_ga"`), unfit, "init_lora_weights"},
		{"init of a number", plainConfig("init_lora_weights", `1`), input, "init_lora_weights must be true, false or a string"},
		{"unknown option", plainConfig("use_magic", "true"), unfit, `unknown option "use_magic" with value "true"`},
		{"unknown number", plainConfig("depth", "0"), unfit, `unknown option "depth" with value "0"`},
		{"unknown text", plainConfig("mode", `"\n"`), unfit, `unknown option "mode" with value "\"\\n\""`},
		{"unknown object", plainConfig("more", `{"a":null}`), unfit, `unknown option "more"`},

		// 30: what is targeted
		{"targets of numbers", plainConfig("target_modules", "[1]"), input, "target_modules must be an array of strings (got a number)"},
		{"targets of true", plainConfig("target_modules", "true"), input, "target_modules must be an array of strings"},
		{"broken regex", plainConfig("target_modules", `".*(q_proj"`), input, "target_modules: bad regular expression"},
		{"broken exclusion", plainConfig("exclude_modules", `"["`), input, "exclude_modules: bad regular expression"},
		{"layers of text", plainConfig("layers_to_transform", `["1"]`), input, "layers_to_transform must be a whole number or an array of them (got a string)"},
		{"layers of 1.5", plainConfig("layers_to_transform", `[1.5]`), input, `layers_to_transform: number "1.5" is not a whole number`},
		{"layers with a regex", plainConfig("target_modules", `".*q"`, "layers_to_transform", "[1]"), input, "layers_to_transform"},
		{"pattern without layers", plainConfig("layers_pattern", `"h"`), input, "layers_pattern needs layers_to_transform"},
		{"bad layers pattern", plainConfig("layers_pattern", `["("]`, "layers_to_transform", "1"), input, "layers_pattern: bad regular expression"},
		{"saved modules of text", plainConfig("modules_to_save", `"lm_head"`), input, "modules_to_save must be an array of strings"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseConfig([]byte(c.text), "a file")
			checkError(t, err, c.class, `reading "a file": `, c.want)
			if err != nil && strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("not one plain line: %q", err)
			}
		})
	}
}

func TestConfigsAccepted(t *testing.T) {
	for name, text := range map[string]string{
		"nothing but the method": `{"peft_type":"LORA"}`,
		"options switched off":   plainConfig("use_dora", "false", "lora_bias", "false", "loftq_config", "{}", "layer_replication", "null", "alora_invocation_tokens", "[]", "bias", `"none"`),
		"unknown and off":        plainConfig("a", "null", "b", "false", "c", `""`, "d", "[]", "e", "{}"),
		"what changes nothing":   plainConfig("auto_mapping", `{"parent_library":"os","base_model_class":"system"}`, "revision", `"../../etc"`, "megatron_core", `"m"`, "qalora_group_size", "16", "peft_version", `"99"`, "eva_config", `{"rho":2}`, "runtime_config", `{"x":1}`),
		"negative alpha":         plainConfig("lora_alpha", "-16"),
		"alpha 0":                plainConfig("lora_alpha", "0"),
		"alpha 1.5":              plainConfig("lora_alpha", "1.5"),
		"no targets":             plainConfig("target_modules", "null"),
		"empty regex":            plainConfig("target_modules", `""`),
		"targets twice":          plainConfig("target_modules", `["q","q"]`),
		"other inits":            plainConfig("init_lora_weights", `"eva"`),
		"layers pattern empty":   plainConfig("layers_pattern", `""`),
	} {
		if _, err := ParseConfig([]byte(text), "f"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := ParseConfig([]byte(`{"peft_type":"LORA"}`), "f")
	if err != nil || c.R != 8 || c.Alpha != 8 || c.InitWeights != "true" {
		t.Errorf("PEFT's defaults: got %+v, %v", c, err)
	}
	c, err = ParseConfig([]byte(plainConfig("target_modules", `"All-Linear"`)), "f")
	if err != nil || !c.Selection.AllLinear || c.Selection.TargetRegex != "" {
		t.Errorf("all-linear: got %+v, %v", c, err)
	}
	c, err = ParseConfig([]byte(plainConfig("target_modules", `["all-linear"]`)), "f")
	if err != nil || c.Selection.AllLinear {
		t.Errorf("all-linear in a list is a name: got %+v, %v", c, err)
	}
}

// TestEveryProblemIsListed has four problems in one config.
func TestEveryProblemIsListed(t *testing.T) {
	_, err := ParseConfig([]byte(plainConfig("use_qalora", "true", "kasa_config", `{"a":1}`, "r", "0", "new", "1")), "f")
	checkError(t, err, formats.ErrUnfit, "use_qalora", "kasa_config", "r must be", `"new"`)
	if n := strings.Count(err.Error(), "\n"); n != 3 {
		t.Errorf("%d lines", n+1)
	}
}

// TestPatternOrder gives the same two patterns in both orders: the first that matches
// counts, and a key is an expression for the end of the path.
func TestPatternOrder(t *testing.T) {
	for _, c := range []struct {
		patterns, alphas, module string
		rslora                   string
		r                        int64
		scale                    float64
	}{
		{`{"q_proj":2,".*":6}`, "{}", "model.layers.0.q_proj", "false", 2, 7.0 / 2},
		{`{".*":6,"q_proj":2}`, "{}", "model.layers.0.q_proj", "false", 6, 7.0 / 6},
		{`{"q_proj":2,".*":6}`, "{}", "model.layers.0.k_proj", "false", 6, 7.0 / 6},
		{`{"proj":2}`, "{}", "model.layers.0.q_proj", "false", 3, 7.0 / 3},
		{`{"^q_proj":2}`, "{}", "model.layers.0.q_proj", "false", 3, 7.0 / 3},
		{`{"^model\\.layers\\.0\\.q_proj":2}`, "{}", "model.layers.0.q_proj", "false", 2, 7.0 / 2},
		{`{"layers.0.q_proj":2}`, "{}", "model.layersx0.q_proj", "false", 2, 7.0 / 2}, // a dot is any letter
		{`{"layers\\.0\\.q_proj":2}`, "{}", "model.layersx0.q_proj", "false", 3, 7.0 / 3},
		{`{"layers\\.0\\.q_proj":2}`, "{}", "model.layers.0.q_proj.x", "false", 3, 7.0 / 3},
		{`{"q_proj":2}`, "{}", "q_proj", "false", 2, 7.0 / 2},
		{`{}`, `{"q_proj":5,".*":1}`, "a.q_proj", "false", 3, 5.0 / 3},
		{`{"q_proj":4}`, `{"q_proj":-5}`, "a.q_proj", "true", 4, -5.0 / 2},
		{`{}`, `{}`, "a.q_proj", "true", 3, 7 / math.Sqrt(3)},
	} {
		cfg, err := ParseConfig([]byte(plainConfig("rank_pattern", c.patterns, "alpha_pattern", c.alphas, "use_rslora", c.rslora)), "f")
		if err != nil {
			t.Fatal(err)
		}
		s, err := cfg.Scaling()
		if err != nil {
			t.Fatal(err)
		}
		if r, scale, err := s.Of(c.module); r != c.r || scale != c.scale || err != nil {
			t.Errorf("%s, %s of %s: got %d, %v, %v; want %d, %v", c.patterns, c.alphas, c.module, r, scale, err, c.r, c.scale)
		}
	}
}

// TestSlowPattern has an expression that takes for ever on some paths.
func TestSlowPattern(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a time-out")
	}
	t.Parallel()
	cfg, err := ParseConfig([]byte(plainConfig("rank_pattern", `{"((a+)+)+b":2}`)), "f")
	if err != nil {
		t.Fatal(err)
	}
	s, err := cfg.Scaling()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Of(strings.Repeat("a", 60) + "c"); err == nil {
		t.Error("no time-out")
	}
}

func TestConfigFile(t *testing.T) {
	dir := t.TempDir()
	_, err := Read(dir)
	checkError(t, err, formats.ErrInput, ConfigName, "no such file")
	path := filepath.Join(dir, ConfigName)
	if err := os.Mkdir(path, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err = Read(dir)
	checkError(t, err, formats.ErrInput, ConfigName, "not a regular file")
	os.Remove(path)
	if err := os.WriteFile(path, []byte(strings.Repeat(" ", 9<<20)+plainConfig()), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Read(dir)
	checkError(t, err, formats.ErrInput, ConfigName, "too large (want at most 8388608 bytes)")
	if err := os.WriteFile(path, []byte(plainConfig()), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Read(dir)
	checkError(t, err, formats.ErrInput, WeightsName, "no such file")
	if err := os.WriteFile(filepath.Join(dir, "adapter_model.bin"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = Read(dir)
	checkError(t, err, formats.ErrInput, "adapter_model.bin, a PyTorch pickle")
}

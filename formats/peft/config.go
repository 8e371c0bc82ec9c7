package peft

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// Config is the part of adapter_config.json that graft acts on, in PEFT's words.
type Config struct {
	R            int64
	Alpha        float64
	RankPattern  []adapter.Pattern // in the order of the file: the first match counts
	AlphaPattern []adapter.Pattern
	UseRSLoRA    bool
	UseDoRA      bool
	Bias         string // the base's biases that are trained: [BiasAll], [BiasOfTargets] or "" for none
	LoRABias     bool   // B has a bias
	TieWeights   bool   // ensure_weight_tying: a tied head follows the embedding
	FanInFanOut  bool
	Dropout      float64
	InitWeights  string // "true", "false", "gaussian", …
	TaskType     string
	BaseModel    string // base_model_name_or_path; never opened
	Selection    adapter.Selection
}

// The biases that [Config.Bias] has trained and saved whole.
const (
	BiasAll       = "all"       // those of every module
	BiasOfTargets = "lora_only" // those of the modules with factors
)

// plain are keys that change nothing about the update itself.
var plain = []string{
	"auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "task_type", "peft_version", "peft_type",
	"megatron_core", "lora_dropout", "qalora_group_size", "eva_config", "velora_config", "runtime_config",
}

// unsupported are keys of PEFT whose meaning graft knows and does not implement, with
// what they stand for.
var unsupported = map[string]string{
	"use_qalora": "QALoRA", "use_bdlora": "block-diagonal LoRA",
	"trainable_token_indices": "trainable token rows", "target_parameters": "adapters of raw parameters",
	"alora_invocation_tokens": "activated LoRA", "arrow_config": "Arrow routing", "kasa_config": "KaSA",
	"layer_replication": "replicated layers", "megatron_config": "Megatron layers", "monteclora_config": "MonteCLoRA",
	"loftq_config": "LoftQ", "corda_config": "CorDA", "lora_ga_config": "LoRA-GA",
	"enable_lora": "legacy per-part LoRA", "merge_weights": "legacy merged weights",
}

// mutatesBase are values of init_lora_weights (up to a "_") with which training
// started from a changed base, so that the factors alone are no update of the base.
var mutatesBase = []string{"pissa", "olora", "corda", "loftq", "lora"}

// parser collects typed values of the config's members.
type parser struct {
	doc  *strictjson.Object
	file string
}

// ParseConfig reads adapter_config.json. Malformed text or values are
// [formats.ErrInput]; a method or option that graft does not implement, or a key that
// it does not know with a value that is not empty, is [formats.ErrUnfit].
func ParseConfig(data []byte, file string) (*Config, error) {
	doc, err := strictjson.ParseObject(data, formats.MaxJSONDepth)
	if err != nil {
		return nil, formats.Rejectf(file, "", "%v", err)
	}
	p := &parser{doc, file}
	method, ok := doc.Get("peft_type").(string)
	if !ok {
		return nil, formats.Rejectf(file, "", "peft_type must be a string (got %s)", strictjson.KindOf(doc.Get("peft_type")))
	}
	if method != "LORA" {
		return nil, formats.Unfitf(file, "", "peft_type %s is not supported (want \"LORA\")", formats.Quote(method))
	}
	c := &Config{R: 8, Alpha: 8, InitWeights: "true"}
	var problems formats.Problems
	for _, key := range doc.Keys {
		problems.Add(p.member(c, key, doc.Values[key]))
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	if _, err := c.Selection.Compile(); err != nil {
		return nil, formats.Rejectf(file, "", "%v", err)
	}
	if _, err := c.Scaling(); err != nil {
		return nil, formats.Rejectf(file, "", "%v", err)
	}
	return c, nil
}

// member takes one member into c.
func (p *parser) member(c *Config, key string, value any) (err error) {
	if value == nil && key != "r" && key != "lora_alpha" { // PEFT has no meaning for those two without a value
		return nil
	}
	sel := &c.Selection
	switch key {
	case "r":
		c.R, err = p.rank(key, value)
	case "lora_alpha":
		c.Alpha, err = p.float(key, value)
	case "lora_dropout":
		c.Dropout, err = p.float(key, value)
	case "rank_pattern":
		c.RankPattern, err = p.patterns(key, value, true)
	case "alpha_pattern":
		c.AlphaPattern, err = p.patterns(key, value, false)
	case "use_rslora":
		c.UseRSLoRA, err = p.bool(key, value)
	case "use_dora":
		c.UseDoRA, err = p.bool(key, value)
	case "ensure_weight_tying":
		c.TieWeights, err = p.bool(key, value)
	case "lora_bias":
		c.LoRABias, err = p.bool(key, value)
	case "fan_in_fan_out":
		c.FanInFanOut, err = p.bool(key, value)
	case "task_type":
		c.TaskType, _ = value.(string)
	case "base_model_name_or_path":
		c.BaseModel, _ = value.(string)
	case "target_modules":
		sel.TargetModules, sel.TargetRegex, err = p.names(key, value)
		if strings.EqualFold(sel.TargetRegex, "all-linear") {
			sel.TargetRegex, sel.AllLinear = "", true
		}
	case "exclude_modules":
		sel.ExcludeModules, sel.ExcludeRegex, err = p.names(key, value)
	case "modules_to_save":
		sel.ModulesToSave, err = p.list(key, value)
	case "layers_to_transform":
		sel.LayersToTransform, err = p.layers(key, value)
	case "layers_pattern":
		if s, ok := value.(string); ok {
			value = []any{s}
		}
		sel.LayersPattern, err = p.list(key, value)
		sel.LayersPattern = slices.DeleteFunc(sel.LayersPattern, func(s string) bool { return s == "" })
	case "bias":
		s, ok := value.(string)
		if !ok {
			return p.wrong(key, value, "a string")
		}
		if s != "none" && s != BiasAll && s != BiasOfTargets {
			return formats.Unfitf(p.file, "", "bias %s is not supported (want \"none\", %q or %q)", formats.Quote(s), BiasAll, BiasOfTargets)
		}
		if c.Bias = s; s == "none" {
			c.Bias = ""
		}
	case "init_lora_weights":
		c.InitWeights, err = p.initWeights(key, value)
	default:
		return p.other(key, value)
	}
	return err
}

func (p *parser) other(key string, value any) error {
	if slices.Contains(plain, key) || isEmpty(value) {
		return nil
	}
	if what, ok := unsupported[key]; ok {
		return formats.Unfitf(p.file, "", "%s (%s) is not supported", key, what)
	}
	return formats.Unfitf(p.file, "", "unknown option %s with value %s: what it changes is not known", formats.Quote(key), formats.Quote(string(strictjson.AppendIndented(nil, value))))
}

// isEmpty reports whether a value switches its option off.
func isEmpty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case *strictjson.Object:
		return len(v.Keys) == 0
	}
	return false
}

func (p *parser) wrong(key string, value any, want string) error {
	return formats.Rejectf(p.file, "", "%s must be %s (got %s)", key, want, strictjson.KindOf(value))
}

func (p *parser) bool(key string, value any) (bool, error) {
	b, ok := value.(bool)
	if !ok {
		return false, p.wrong(key, value, "true or false")
	}
	return b, nil
}

func (p *parser) float(key string, value any) (float64, error) {
	n, ok := value.(strictjson.Number)
	if !ok {
		return 0, p.wrong(key, value, "a number")
	}
	f, err := n.Float()
	if err != nil {
		return 0, formats.Rejectf(p.file, "", "%s: %v", key, err)
	}
	return f, nil
}

func (p *parser) rank(key string, value any) (int64, error) {
	n, ok := value.(strictjson.Number)
	if !ok {
		return 0, p.wrong(key, value, "a whole number")
	}
	r, err := n.Int()
	if err != nil || r < 1 || r > formats.MaxAdapterRank {
		return 0, formats.Rejectf(p.file, "", "%s must be a whole number from 1 to %d (got %s)", key, formats.MaxAdapterRank, formats.Quote(string(n)))
	}
	return r, nil
}

func (p *parser) list(key string, value any) ([]string, error) {
	list, ok := value.([]any)
	if !ok {
		return nil, p.wrong(key, value, "an array of strings")
	}
	var out []string
	for _, x := range list {
		s, ok := x.(string)
		if !ok {
			return nil, p.wrong(key, x, "an array of strings")
		}
		out = append(out, s)
	}
	return out, nil
}

// names reads an option that is a list of names or a regular expression.
func (p *parser) names(key string, value any) (names []string, expr string, err error) {
	if s, ok := value.(string); ok {
		return nil, s, nil
	}
	names, err = p.list(key, value)
	return names, "", err
}

func (p *parser) layers(key string, value any) ([]int64, error) {
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	var out []int64
	for _, x := range list {
		n, ok := x.(strictjson.Number)
		if !ok {
			return nil, p.wrong(key, x, "a whole number or an array of them")
		}
		i, err := n.Int()
		if err != nil {
			return nil, formats.Rejectf(p.file, "", "%s: %v", key, err)
		}
		out = append(out, i)
	}
	return out, nil
}

func (p *parser) patterns(key string, value any, ranks bool) ([]adapter.Pattern, error) {
	o, ok := value.(*strictjson.Object)
	if !ok {
		return nil, p.wrong(key, value, "an object")
	}
	var out []adapter.Pattern
	for _, k := range o.Keys {
		var f float64
		var err error
		if ranks {
			var r int64
			r, err = p.rank(key+" "+formats.Quote(k), o.Values[k])
			f = float64(r)
		} else {
			f, err = p.float(key+" "+formats.Quote(k), o.Values[k])
		}
		if err != nil {
			return nil, err
		}
		out = append(out, adapter.Pattern{Key: k, Value: f})
	}
	return out, nil
}

func (p *parser) initWeights(key string, value any) (string, error) {
	if b, ok := value.(bool); ok {
		return fmt.Sprint(b), nil
	}
	s, ok := value.(string)
	if !ok {
		return "", p.wrong(key, value, "true, false or a string")
	}
	kind, _, _ := strings.Cut(strings.ToLower(s), "_")
	if slices.Contains(mutatesBase, kind) {
		return "", formats.Unfitf(p.file, "", "init_lora_weights %s is not supported: its training changed the base, so the factors are no update of the original", formats.Quote(s)).
			WithHint("save the adapter with PEFT's path_initial_model_for_weight_conversion first")
	}
	return s, nil
}

// Scaling resolves rank and scale of a module from r, lora_alpha, the patterns and
// use_rslora.
type Scaling struct {
	c            *Config
	ranks, alpha *adapter.PatternMatcher
}

// Scaling compiles the patterns.
func (c *Config) Scaling() (*Scaling, error) {
	s := &Scaling{c: c}
	var err error
	if s.ranks, err = adapter.CompilePatterns("rank_pattern", c.RankPattern); err != nil {
		return nil, err
	}
	s.alpha, err = adapter.CompilePatterns("alpha_pattern", c.AlphaPattern)
	return s, err
}

// Of returns a module's rank r and scale s: alpha/r, or alpha/√r with rsLoRA.
func (s *Scaling) Of(module string) (r int64, scale float64, err error) {
	rank, err := s.ranks.Value(module, float64(s.c.R))
	if err != nil {
		return 0, 0, err
	}
	alpha, err := s.alpha.Value(module, s.c.Alpha)
	if err != nil {
		return 0, 0, err
	}
	if s.c.UseRSLoRA {
		return int64(rank), alpha / math.Sqrt(rank), nil
	}
	return int64(rank), alpha / rank, nil
}

package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/patch"
)

// loraFlags say what a fresh adapter is like; init and train share them.
func loraFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "target-modules", Usage: "layers to adapt: names split by commas, a Python regular expression for whole paths, or all-linear"},
		&cli.StringFlag{Name: "exclude-modules", Usage: "layers to leave out: names split by commas, or a regular expression"},
		&cli.StringFlag{Name: "layers-to-transform", Usage: "adapt only these layer numbers, split by commas"},
		&cli.StringFlag{Name: "layers-pattern", Usage: "the name of the list that layer numbers index"},
		&cli.IntFlag{Name: "rank", Aliases: []string{"r"}, Value: 8, Usage: "rank of the factors"},
		&cli.Float64Flag{Name: "alpha", Usage: "numerator of the scale alpha/rank (default: twice the rank)"},
		&cli.StringSliceFlag{Name: "rank-pattern", Usage: "`KEY=RANK` for modules whose path ends with KEY, a regular expression; the first match counts"},
		&cli.StringSliceFlag{Name: "alpha-pattern", Usage: "`KEY=ALPHA`, in the same way"},
		&cli.BoolFlag{Name: "use-rslora", Usage: "scale by alpha/√rank"},
		&cli.StringFlag{Name: "init-lora-weights", Value: patch.InitDefault, Usage: initWeightsUsage},
		&cli.Uint64Flag{Name: "seed", Usage: "seed of everything random"},
	}, extraFlags()...)
}

// freshAdapter makes the adapter that the flags describe.
func freshAdapter(c *cli.Context, base *formats.Checkpoint) (*adapter.Adapter, error) {
	m, err := patch.NewModel(base)
	if err != nil {
		return nil, err
	}
	cfg, err := loraConfig(c, m)
	if err != nil {
		return nil, err
	}
	return newAdapter(c.Context, newConsole(c), m, cfg, c.Uint64("seed"))
}

// newAdapter makes a fresh adapter with a config that PEFT reads the same way.
func newAdapter(ctx context.Context, co *console, m *patch.Model, cfg *peft.Config, seed uint64) (*adapter.Adapter, error) {
	sites, err := patch.Select(m, cfg.Selection)
	if err != nil {
		return nil, err
	}
	return adapterOn(ctx, co, m, sites, cfg, seed)
}

// adapterOn makes a fresh adapter of the sites that a config selects.
func adapterOn(ctx context.Context, co *console, m *patch.Model, sites []patch.Site, cfg *peft.Config, seed uint64) (*adapter.Adapter, error) {
	if cfg.Selection.AllLinear {
		cfg.Selection.AllLinear = false
		cfg.Selection.TargetModules = patch.ShortNames(m, sites)
	}
	for _, s := range sites {
		cfg.FanInFanOut = cfg.FanInFanOut || s.InOut && s.Kind == patch.Linear
	}
	scaling, err := cfg.Scaling()
	if err != nil {
		return nil, formats.Usagef("%v", err)
	}
	if err := checkPatternsUsed(sites, cfg); err != nil {
		return nil, err
	}
	a, err := freshFactors(ctx, co, m, sites, scaling, cfg, seed)
	if err != nil {
		return nil, err
	}
	if err := addExtras(m, a, cfg); err != nil {
		return nil, err
	}
	if err := pinPatterns(cfg, sites, scaling); err != nil {
		return nil, err
	}
	a.Dialect, a.Base, a.Config, a.Selection = "peft", cfg.BaseModel, cfg.Encode(), &cfg.Selection
	return a, nil
}

func loraConfig(c *cli.Context, m *patch.Model) (*peft.Config, error) {
	if !c.IsSet("target-modules") {
		return nil, formats.Usagef("which layers shall be adapted: --target-modules is missing").WithHint("for example --target-modules q_proj,v_proj or --target-modules all-linear")
	}
	rank := c.Int("rank")
	if rank < 1 {
		return nil, formats.Usagef("--rank must be 1 or more (got %d)", rank)
	}
	cfg := &peft.Config{
		R: int64(rank), Alpha: c.Float64("alpha"), UseRSLoRA: c.Bool("use-rslora"), Dropout: c.Float64("lora-dropout"),
		InitWeights: c.String("init-lora-weights"), BaseModel: c.String("base"), TaskType: taskType(m),
	}
	if !c.IsSet("alpha") {
		cfg.Alpha = 2 * float64(rank)
	}
	sel := &cfg.Selection
	if target := c.String("target-modules"); strings.EqualFold(target, "all-linear") {
		sel.AllLinear = true
	} else {
		sel.TargetModules, sel.TargetRegex = namesOrRegex(target)
	}
	if c.IsSet("exclude-modules") {
		sel.ExcludeModules, sel.ExcludeRegex = namesOrRegex(c.String("exclude-modules"))
	}
	if c.IsSet("layers-pattern") {
		sel.LayersPattern = []string{c.String("layers-pattern")}
	}
	if c.IsSet("layers-to-transform") {
		for _, s := range strings.Split(c.String("layers-to-transform"), ",") {
			n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
			if err != nil || n < 0 {
				return nil, formats.Usagef("--layers-to-transform: %s is not a layer number", formats.Quote(s))
			}
			sel.LayersToTransform = append(sel.LayersToTransform, n)
		}
	}
	var err error
	if cfg.RankPattern, err = patternFlags(c, "rank-pattern"); err != nil {
		return nil, err
	}
	for _, p := range cfg.RankPattern {
		if p.Value < 1 || p.Value != float64(int64(p.Value)) {
			return nil, formats.Usagef("--rank-pattern %s: a rank is a whole number from 1 up (got %v)", formats.Quote(p.Key), p.Value)
		}
	}
	if cfg.AlphaPattern, err = patternFlags(c, "alpha-pattern"); err != nil {
		return nil, err
	}
	return cfg, readExtras(c, cfg)
}

// taskType is PEFT's word for what the base is for. Only causal language models get
// one: for others PEFT adds modules to save by itself, which the file would not have.
func taskType(m *patch.Model) string {
	if len(m.Config.Architectures) == 0 {
		return ""
	}
	for _, suffix := range []string{"ForCausalLM", "LMHeadModel"} {
		if strings.HasSuffix(m.Config.Architectures[0], suffix) {
			return "CAUSAL_LM"
		}
	}
	return ""
}

// special are the characters that make a selection a regular expression.
var special = regexp.MustCompile(`[\^$*+?()\[\]{}|\\]`)

// namesOrRegex reads a list of names split by commas, or a regular expression.
func namesOrRegex(s string) (names []string, expr string) {
	if special.MatchString(s) {
		return nil, s
	}
	for _, n := range strings.Split(s, ",") {
		if n = strings.TrimSpace(n); n != "" {
			names = append(names, n)
		}
	}
	return names, ""
}

func patternFlags(c *cli.Context, flag string) ([]adapter.Pattern, error) {
	var out []adapter.Pattern
	for _, arg := range c.StringSlice(flag) {
		i := strings.LastIndexByte(arg, '=')
		if i <= 0 {
			return nil, formats.Usagef("--%s: %s is not KEY=NUMBER", flag, formats.Quote(arg))
		}
		value, err := parseFloat(arg[i+1:])
		if err != nil {
			return nil, formats.Usagef("--%s: %s is not KEY=NUMBER", flag, formats.Quote(arg))
		}
		key := arg[:i]
		if slices.ContainsFunc(out, func(p adapter.Pattern) bool { return p.Key == key }) {
			return nil, formats.Usagef("--%s: %s is given twice", flag, formats.Quote(key))
		}
		out = append(out, adapter.Pattern{Key: key, Value: value})
	}
	return out, nil
}

// checkPatternsUsed refuses a pattern that decides nothing: it is a slip of the pen.
func checkPatternsUsed(sites []patch.Site, cfg *peft.Config) error {
	for _, p := range []struct {
		flag     string
		patterns []adapter.Pattern
	}{{"rank-pattern", cfg.RankPattern}, {"alpha-pattern", cfg.AlphaPattern}} {
		m, err := adapter.CompilePatterns(p.flag, p.patterns)
		if err != nil {
			return formats.Usagef("--%v", err)
		}
		used := make([]bool, len(p.patterns))
		for _, s := range sites {
			i, err := m.Find(s.Module)
			if err != nil {
				return formats.Usagef("--%s: %v", p.flag, err)
			}
			if i >= 0 {
				used[i] = true
			}
		}
		for i, ok := range used {
			if !ok {
				return formats.Usagef("--%s %s decides nothing: no targeted module matches it first", p.flag, formats.Quote(p.patterns[i].Key))
			}
		}
	}
	return nil
}

// pinPatterns gives each module a pattern of its own where the order of the patterns
// matters: PEFT sorts them when it saves, and then another one may match first.
func pinPatterns(cfg *peft.Config, sites []patch.Site, want *peft.Scaling) error {
	same := func() (bool, error) {
		again, err := peft.ParseConfig(cfg.Encode(), peft.ConfigName)
		if err != nil {
			return false, err
		}
		got, err := again.Scaling()
		if err != nil {
			return false, err
		}
		for _, s := range sites {
			r1, s1, err1 := want.Of(s.Module)
			r2, s2, err2 := got.Of(s.Module)
			if err1 != nil || err2 != nil {
				return false, fmt.Errorf("matching patterns: %w", firstOf(err1, err2))
			}
			if r1 != r2 || s1 != s2 {
				return false, nil
			}
		}
		return true, nil
	}
	if ok, err := same(); ok || err != nil {
		return err
	}
	ranks, err := adapter.CompilePatterns("rank_pattern", cfg.RankPattern)
	if err != nil {
		return err
	}
	alphas, err := adapter.CompilePatterns("alpha_pattern", cfg.AlphaPattern)
	if err != nil {
		return err
	}
	var rankOf, alphaOf []adapter.Pattern
	for _, s := range sites {
		key := "^" + regexp.QuoteMeta(s.Module)
		r, err := ranks.Value(s.Module, float64(cfg.R))
		if err != nil {
			return err
		}
		a, err := alphas.Value(s.Module, cfg.Alpha)
		if err != nil {
			return err
		}
		rankOf = append(rankOf, adapter.Pattern{Key: key, Value: r})
		alphaOf = append(alphaOf, adapter.Pattern{Key: key, Value: a})
	}
	cfg.RankPattern, cfg.AlphaPattern = rankOf, alphaOf
	ok, err := same()
	if err == nil && !ok {
		err = formats.Usagef("the patterns cannot be written so that PEFT reads them in this order")
	}
	return err
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

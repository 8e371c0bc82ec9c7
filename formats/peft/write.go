package peft

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	oracle "github.com/nlpodyssey/safetensors"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// Version is the PEFT release whose set of config keys [Config.Encode] writes.
const Version = "0.21.2"

// Encode returns adapter_config.json as PEFT saves it: every key, sorted, floats as
// Python writes them, no final newline. Because PEFT tries patterns in the order of
// the file, and the file is sorted, the caller's order of patterns is lost; [Write]
// refuses when that changes a module's rank or scale.
func (c *Config) Encode() []byte {
	o := &strictjson.Object{}
	set := func(key string, v any) { o.Set(key, v) }
	for _, key := range []string{
		"alora_invocation_tokens", "arrow_config", "auto_mapping", "corda_config", "eva_config", "kasa_config",
		"layer_replication", "lora_ga_config", "megatron_config", "monteclora_config", "revision", "target_parameters",
		"trainable_token_indices", "use_bdlora", "velora_config",
	} {
		set(key, nil)
	}
	set("use_qalora", false)
	sel := c.Selection
	set("alpha_pattern", patternObject(c.AlphaPattern, false))
	set("base_model_name_or_path", orNull(c.BaseModel))
	set("bias", cmp.Or(c.Bias, "none"))
	set("ensure_weight_tying", c.TieWeights)
	set("exclude_modules", namesOrRegex(sel.ExcludeModules, sel.ExcludeRegex))
	set("fan_in_fan_out", c.FanInFanOut)
	set("inference_mode", true)
	set("init_lora_weights", initValue(c.InitWeights))
	set("layers_pattern", listOrNull(sel.LayersPattern))
	set("layers_to_transform", layersValue(sel.LayersToTransform))
	set("loftq_config", &strictjson.Object{})
	set("lora_alpha", number(c.Alpha))
	set("lora_bias", c.LoRABias)
	set("lora_dropout", c.Dropout)
	set("megatron_core", "megatron.core")
	set("modules_to_save", listOrNull(sel.ModulesToSave))
	set("peft_type", "LORA")
	set("peft_version", Version)
	set("qalora_group_size", int64(16))
	set("r", c.R)
	set("rank_pattern", patternObject(c.RankPattern, true))
	set("target_modules", namesOrRegex(sel.TargetModules, sel.TargetRegex))
	set("task_type", orNull(c.TaskType))
	set("use_dora", c.UseDoRA)
	set("use_rslora", c.UseRSLoRA)
	slices.Sort(o.Keys)
	return strictjson.AppendIndented(nil, o)
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func listOrNull(list []string) any {
	if len(list) == 0 {
		return nil
	}
	return list
}

func namesOrRegex(names []string, expr string) any {
	if expr != "" {
		return expr
	}
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	return listOrNull(sorted)
}

func layersValue(layers []int64) any {
	if len(layers) == 0 {
		return nil
	}
	list := make([]any, len(layers))
	for i, n := range layers {
		list[i] = n
	}
	return list
}

func initValue(s string) any {
	switch s {
	case "", "true":
		return true
	case "false":
		return false
	}
	return s
}

// number writes whole values as integers, as they are in configs that people make.
func number(f float64) any {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return int64(f)
	}
	return f
}

func patternObject(patterns []adapter.Pattern, ranks bool) *strictjson.Object {
	o := &strictjson.Object{}
	for _, p := range patterns {
		if ranks {
			o.Set(p.Key, int64(p.Value))
		} else {
			o.Set(p.Key, number(p.Value))
		}
	}
	slices.Sort(o.Keys)
	return o
}

// Write writes an adapter's two files into dir, which exists and should be a staging
// place. a.Config is written as it is. The adapter is held in memory. Before
// anything is written, the config is read again and must give every entry the rank and
// scale that it has: an adapter whose scale would be lost is [formats.ErrOutput].
func Write(dir string, a *adapter.Adapter) error {
	file := filepath.Join(dir, WeightsName)
	tensors, err := encodable(a, file)
	if err != nil {
		return err
	}
	if err := checkConfig(a, filepath.Join(dir, ConfigName)); err != nil {
		return err
	}
	if err := writeWeights(a, file, tensors); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, ConfigName), a.Config, 0o666); err != nil {
		return formats.Outputf(filepath.Join(dir, ConfigName), err, "")
	}
	return nil
}

// keyed is a tensor under its PEFT key.
type keyed struct {
	key   string
	dtype oracle.DType
	formats.Tensor
}

// encodable lists all tensors, none of which has been read yet.
func encodable(a *adapter.Adapter, file string) ([]keyed, error) {
	var out []keyed
	have, wrapped := map[string]bool{}, map[string]bool{}
	for _, e := range a.Entries {
		_, low := adapter.LowRankOf(e.Update)
		wrapped[e.Module] = wrapped[e.Module] || low
	}
	for _, e := range a.Entries {
		keys, err := keysOf(e)
		if err != nil {
			return nil, err
		}
		if u, ok := e.Update.(*adapter.Replace); ok && wrapped[e.Module] {
			keys[0] = "base_model.model." + e.Module + ".base_layer." + u.Param // as PEFT calls what it targets
		}
		for i, t := range e.Update.Tensors() {
			dtype, err := oracle.ParseDType(t.DType.String())
			if err != nil {
				return nil, formats.Outputf(file, err, "tensor %s", formats.Quote(keys[i]))
			}
			if have[keys[i]] {
				return nil, formats.Outputf(file, nil, "tensor %s would be there twice", formats.Quote(keys[i]))
			}
			have[keys[i]] = true
			out = append(out, keyed{keys[i], dtype, t})
		}
	}
	return out, nil
}

// writeWeights writes the weight file. The library has no tensors without dimensions, such as
// the counter of a normalisation that is saved whole; graft's own writer has.
func writeWeights(a *adapter.Adapter, file string, tensors []keyed) error {
	if slices.ContainsFunc(tensors, func(t keyed) bool { return len(t.Shape) == 0 }) {
		shard := formats.Shard{Metadata: []formats.MetadataEntry{{Key: "format", Value: "pt"}}}
		for _, t := range tensors {
			t.Name = t.key
			shard.Tensors = append(shard.Tensors, t.Tensor)
		}
		return safetensors.Write(context.Background(), file, shard, safetensors.WriteOptions{})
	}
	views := map[string]oracle.TensorView{}
	for _, t := range tensors {
		data, err := t.ReadAll()
		if err != nil {
			return &formats.Error{Class: formats.ErrInput, File: a.Path, Tensor: t.Name, Err: err}
		}
		shape := make([]uint64, len(t.Shape))
		for i, n := range t.Shape {
			shape[i] = uint64(n)
		}
		if views[t.key], err = oracle.NewTensorView(t.dtype, shape, data); err != nil {
			return formats.Outputf(file, err, "tensor %s", formats.Quote(t.key))
		}
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return formats.Outputf(file, err, "")
	}
	err = oracle.SerializeToWriter(views, map[string]string{"format": "pt"}, f)
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return formats.Outputf(file, err, "")
	}
	return nil
}

// keysOf returns the keys under which PEFT stores an entry's tensors.
func keysOf(e adapter.Entry) ([]string, error) {
	at := "base_model.model." + e.Module
	switch u := e.Update.(type) {
	case *adapter.LowRank:
		if u.Embedding {
			return []string{at + ".lora_embedding_A", at + ".lora_embedding_B"}, nil
		}
		return []string{at + ".lora_A.weight", at + ".lora_B.weight"}, nil
	case *adapter.Magnitude:
		inner, err := keysOf(adapter.Entry{Module: e.Module, Update: u.Inner})
		return append(inner, at+".lora_magnitude_vector"), err
	case *adapter.BiasDelta:
		return []string{at + ".lora_B.bias"}, nil
	case *adapter.Replace:
		return []string{at + "." + u.Param}, nil
	}
	return nil, formats.Unfitf("", "", "module %s: PEFT has no form for an update of kind %s", formats.Quote(e.Module), e.Update.Kind())
}

// hasFactors reports whether an adapter has a low-rank update of a module.
func hasFactors(a *adapter.Adapter, module string) bool {
	return slices.ContainsFunc(a.Entries, func(e adapter.Entry) bool {
		_, low := adapter.LowRankOf(e.Update)
		return low && e.Module == module
	})
}

// checkConfig makes sure that a reader of the config gets the adapter that was meant.
func checkConfig(a *adapter.Adapter, file string) error {
	cfg, err := ParseConfig(a.Config, file)
	if err != nil {
		return err
	}
	scaling, err := cfg.Scaling()
	if err != nil {
		return formats.Outputf(file, err, "")
	}
	targets, err := cfg.Selection.Compile()
	if err != nil {
		return formats.Outputf(file, err, "")
	}
	var wrong []string
	biased := map[string]float64{} // the scale of each bias
	for _, e := range a.Entries {
		if u, ok := e.Update.(*adapter.BiasDelta); ok {
			biased[e.Module] = u.Scale
		}
	}
	if len(biased) > 0 && !cfg.LoRABias {
		return formats.Outputf(file, nil, "the config does not describe the adapter: lora_bias is not set")
	}
	for _, e := range a.Entries {
		if isBias(cfg, e) && (cfg.Bias == "" || cfg.Bias == BiasOfTargets && !hasFactors(a, e.Module)) {
			wrong = append(wrong, fmt.Sprintf("%s has a bias of its own and the config's bias is %q", formats.Quote(e.Module), cmp.Or(cfg.Bias, "none")))
			continue
		}
		u, ok := adapter.LowRankOf(e.Update)
		if !ok {
			continue
		}
		if s, ok := biased[e.Module]; cfg.LoRABias && (!ok || s != u.Scale) {
			wrong = append(wrong, fmt.Sprintf("%s would get a bias, and lacks one of its scale", formats.Quote(e.Module)))
			continue
		}
		if _, scaled := e.Update.(*adapter.Magnitude); scaled != cfg.UseDoRA {
			wrong = append(wrong, fmt.Sprintf("use_dora would not agree with %s", formats.Quote(e.Module)))
			continue
		}
		r, scale, err := scaling.Of(e.Module)
		if err != nil {
			return formats.Outputf(file, err, "")
		}
		if r != u.Rank() || scale != u.Scale {
			wrong = append(wrong, fmt.Sprintf("%s would get rank %d and scale %g (want %d and %g)", formats.Quote(e.Module), r, scale, u.Rank(), u.Scale))
			continue
		}
		if hit, err := targets.Match(e.Module); err != nil || !hit && !(cfg.TieWeights && isTiedHead(e.Module)) {
			wrong = append(wrong, fmt.Sprintf("%s would not be targeted", formats.Quote(e.Module)))
		}
	}
	if len(wrong) > 0 {
		return formats.Outputf(file, nil, "the config does not describe the adapter: module %s", strings.Join(wrong[:min(len(wrong), 3)], "; "))
	}
	return nil
}

package models

import (
	"fmt"
	"math"
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
	"github.com/seed-b982eded/graft/train/autodiff"
)

// readConfig reads a side file that is a JSON object.
func readConfig(ckpt *formats.Checkpoint, name string) (*strictjson.Object, error) {
	data, err := ckpt.ReadSideFile(name, formats.MaxConfigBytes)
	if err != nil {
		return nil, err
	}
	doc, err := strictjson.ParseObject(data, formats.MaxJSONDepth)
	if err != nil {
		return nil, formats.Rejectf(ckpt.Path(), "", "%s: %v", name, err)
	}
	return doc, nil
}

// options reads the options of a config and collects what is wrong with them. A
// missing or null option has the default that the caller names.
type options struct {
	file     string // of the checkpoint, for messages
	doc      *strictjson.Object
	tensors  int // of the checkpoint
	problems formats.Problems
}

// has reports whether an option is there, if only as null.
func (o *options) has(name string) bool {
	_, ok := o.doc.Values[name]
	return ok
}

func (o *options) reject(name, format string, args ...any) {
	o.problems.Add(formats.Rejectf(o.file, "", "config.json: %s %s", name, fmt.Sprintf(format, args...)))
}

// refuse reports an option whose value changes the computation in a way that is not
// implemented.
func (o *options) refuse(name, want string) {
	o.reject(name, "%s is not implemented (want %s)", show(o.doc.Get(name)), want)
}

func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return fmt.Sprint(v)
	case string:
		return formats.Quote(v)
	case strictjson.Number:
		if len(v) <= 40 {
			return string(v)
		}
	}
	return strictjson.KindOf(v)
}

// maxDimension bounds every size in a config: beyond it products of two overflow, and no
// layer is a thousandth as wide.
const maxDimension = 1 << 30

// size reads a positive whole number. Without a default the option must be there.
func (o *options) size(name string, fallback int) int {
	v := o.doc.Get(name)
	if v == nil {
		if fallback == 0 {
			o.reject(name, "is missing")
		}
		return max(fallback, 1)
	}
	if n, ok := v.(strictjson.Number); ok {
		if i, err := n.Int(); err == nil && i > 0 && i <= maxDimension {
			return int(i)
		}
	}
	o.reject(name, "must be a whole number from 1 to %d (got %s)", maxDimension, show(v))
	return max(fallback, 1)
}

// count reads a whole number from 0 up.
func (o *options) count(name string, fallback int) int {
	if n, ok := number(o.doc.Get(name)); ok && n == 0 {
		return 0
	}
	return o.size(name, fallback)
}

// positive reads a positive number.
func (o *options) positive(name string, fallback float64) float64 {
	v := o.doc.Get(name)
	if v == nil {
		return fallback
	}
	if f, ok := number(v); ok && f > 0 {
		return f
	}
	o.reject(name, "must be a positive number (got %s)", show(v))
	return fallback
}

func number(v any) (float64, bool) {
	n, ok := v.(strictjson.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float()
	return f, err == nil && !math.IsNaN(f)
}

// flag reads true or false.
func (o *options) flag(name string, fallback bool) bool {
	switch v := o.doc.Get(name).(type) {
	case nil:
		return fallback
	case bool:
		return v
	default:
		o.reject(name, "must be true or false (got %s)", show(v))
		return fallback
	}
}

// mustBe refuses an option with another value than the given ones; a missing or null
// one is fine.
func (o *options) mustBe(name, want string, values ...any) {
	v := o.doc.Get(name)
	if v == nil || slices.Contains(values, v) {
		return
	}
	if f, ok := number(v); ok && slices.Contains(values, any(f)) {
		return
	}
	o.refuse(name, want)
}

// mustBeEmpty refuses an option whose value is not null, false, or an empty list or
// object.
func (o *options) mustBeEmpty(name string) {
	switch v := o.doc.Get(name).(type) {
	case nil:
	case bool:
		if v {
			o.refuse(name, "none")
		}
	case []any:
		if len(v) > 0 {
			o.refuse(name, "none")
		}
	case *strictjson.Object:
		if len(v.Keys) > 0 {
			o.refuse(name, "none")
		}
	default:
		o.refuse(name, "none")
	}
}

// endTokens reads eos_token_id, a number or a list of them; what is neither is left out.
func endTokens(doc *strictjson.Object) []int32 {
	list, ok := doc.Get("eos_token_id").([]any)
	if !ok {
		list = []any{doc.Get("eos_token_id")}
	}
	var ids []int32
	for _, v := range list {
		if n, ok := v.(strictjson.Number); ok {
			if i, err := n.Int(); err == nil && i >= 0 && i <= math.MaxInt32 {
				ids = append(ids, int32(i))
			}
		}
	}
	return ids
}

// boundedLayers refuses more layers than there are tensors, before anything is made for
// each.
func (o *options) boundedLayers(layers int) int {
	if layers > o.tensors {
		o.problems.Add(formats.Rejectf(o.file, "", "config.json: %d layers, but there are %d tensors", layers, o.tensors))
		return 1
	}
	return layers
}

// activation reads an activation by the names that transformers has for it.
func (o *options) activation(name, fallback string) autodiff.Activation {
	v := o.doc.Get(name)
	if v == nil {
		v = fallback
	}
	switch v {
	case "gelu", "gelu_python":
		return autodiff.GELU
	case "gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh":
		return autodiff.GELUTanh
	case "relu":
		return autodiff.ReLU
	case "tanh":
		return autodiff.Tanh
	}
	o.refuse(name, `"gelu", "gelu_new", "relu" or "tanh"`)
	return 0
}

// generationEnds returns eos_token_id of generation_config.json, else of config.json.
func generationEnds(ckpt *formats.Checkpoint, doc *strictjson.Object) ([]int32, error) {
	if _, ok := ckpt.SideFile("generation_config.json"); ok {
		generation, err := readConfig(ckpt, "generation_config.json")
		if err != nil {
			return nil, err
		}
		if ends := endTokens(generation); ends != nil {
			return ends, nil
		}
	}
	return endTokens(doc), nil
}

package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/train/models"
	"github.com/seed-b982eded/graft/train/tokenizer"
)

// operands are a base and the adapters on it, open.
type operands struct {
	base     *formats.Checkpoint
	graph    *wire.Model         // where the base is an ONNX model, else nil
	weights  *formats.Checkpoint // of --weights, or nil
	adapters []patch.Weighted
	leftOut  []string // modules of adapters that --prefix and --skip-modules leave out
}

// openOperands opens what --base and --adapter name. onnx says whether the base may be an
// ONNX model.
func openOperands(c *cli.Context, onnx bool) (*operands, error) {
	for _, arg := range c.StringSlice("adapter") {
		if err := checkWeight(arg); err != nil {
			return nil, err
		}
	}
	o := &operands{}
	var err error
	if onnx {
		o, err = openModel(c.String("base"))
	} else {
		o.base, err = open.Checkpoint(c.String("base"))
	}
	if err != nil {
		return nil, err
	}
	if err := o.openWeights(c); err != nil {
		o.Close()
		return nil, err
	}
	for _, arg := range c.StringSlice("adapter") {
		path, weight := splitWeight(arg)
		a, err := open.Adapter(path)
		if err != nil {
			o.Close()
			return nil, err
		}
		if err := o.narrow(c, a); err != nil {
			a.Close()
			o.Close()
			return nil, err
		}
		o.adapters = append(o.adapters, patch.Weighted{Adapter: a, Weight: weight})
	}
	return o, nil
}

func (o *operands) Close() {
	o.base.Close()
	if o.weights != nil {
		o.weights.Close()
	}
	for _, w := range o.adapters {
		w.Adapter.Close()
	}
}

// paths are the inputs, which no output may touch.
func (o *operands) paths() []string {
	list := []string{placeOf(o.base)}
	if o.graph != nil {
		list = append(list, o.graph.ExternalPaths()...)
	}
	if o.weights != nil {
		list = append(list, placeOf(o.weights))
	}
	for _, w := range o.adapters {
		list = append(list, w.Adapter.Path)
	}
	return list
}

// usedAdapter is an adapter in a command's JSON.
type usedAdapter struct {
	Path   string  `json:"path"`
	Weight float64 `json:"weight"`
}

func usedAdapters(list []patch.Weighted) []usedAdapter {
	out := make([]usedAdapter, len(list))
	for i, w := range list {
		out[i] = usedAdapter{w.Adapter.Path, w.Weight}
	}
	return out
}

// placeOf returns the directory or file that a base lies in: of a snapshot in a Hugging
// Face cache the cache's folder, for its files are links into the blobs there.
func placeOf(base *formats.Checkpoint) string {
	abs, err := filepath.Abs(base.Path())
	if err != nil || filepath.Base(filepath.Dir(abs)) != "snapshots" {
		return base.Path()
	}
	return filepath.Join(base.Path(), "..", "..")
}

// splitWeight reads A[=W]: the text after the last "=" is a weight only where it is a
// finite number, so that paths may hold the sign.
func splitWeight(arg string) (path string, weight float64) {
	i := strings.LastIndexByte(arg, '=')
	if i > 0 {
		if w, err := parseFloat(arg[i+1:]); err == nil {
			return arg[:i], w
		}
	}
	return arg, 1
}

// checkWeight refuses an argument whose text after the last "=" is no weight, where that is
// no part of a path: the path up to there leads to something, and the whole does not.
func checkWeight(arg string) error {
	path, _ := splitWeight(arg)
	i := strings.LastIndexByte(path, '=')
	if i <= 0 || path != arg {
		return nil
	}
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	if _, err := os.Lstat(path[:i]); err != nil {
		return nil
	}
	return formats.Usagef("flag --adapter: weight %s is not a finite number", formats.Quote(path[i+1:]))
}

// load builds the base as a model that runs, with the adapters on it.
func (o *operands) load() (models.Model, error) {
	m, err := models.Load(o.base)
	if err != nil {
		return nil, err
	}
	return m, o.attach(m)
}

// attach puts the adapters on a model.
func (o *operands) attach(m models.Adaptable) error {
	for _, w := range o.adapters {
		if err := m.Attach(w.Adapter, w.Weight); err != nil {
			return err
		}
	}
	return nil
}

// openTokenizer reads a model's own tokenizer.
func openTokenizer(base *formats.Checkpoint) (*tokenizer.Tokenizer, error) {
	if _, ok := base.SideFile("tokenizer.json"); !ok {
		return nil, formats.Rejectf(base.Path(), "", "there is no tokenizer.json").
			WithHint("transformers writes one: AutoTokenizer.from_pretrained(MODEL).save_pretrained(MODEL)")
	}
	text, err := base.ReadSideFile("tokenizer.json", formats.MaxTokenizerBytes)
	if err != nil {
		return nil, err
	}
	return tokenizer.Open(base.Path()+"/tokenizer.json", text)
}

// adapterShape counts an adapter's parameters and bytes.
func adapterShape(a *adapter.Adapter) (params, bytes int64) {
	for _, e := range a.Entries {
		for _, t := range e.Update.Tensors() {
			params += t.Elements()
			bytes += t.Size()
		}
	}
	return params, bytes
}

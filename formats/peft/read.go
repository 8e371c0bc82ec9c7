package peft

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/safetensors"
)

// Names of the files in an adapter's directory.
const (
	ConfigName  = "adapter_config.json"
	WeightsName = "adapter_model.safetensors"
)

// Read opens a PEFT LoRA directory. Every tensor of the file becomes part of an
// update or is refused; factors stay on disk until they are read. Damaged files are
// [formats.ErrInput]; what does not fit together or is not supported is
// [formats.ErrUnfit], with every problem listed.
func Read(dir string) (*adapter.Adapter, error) {
	configFile := filepath.Join(dir, ConfigName)
	text, err := readConfigFile(configFile)
	if err != nil {
		return nil, err
	}
	cfg, err := ParseConfig(text, configFile)
	if err != nil {
		return nil, err
	}
	weights := filepath.Join(dir, WeightsName)
	if _, err := os.Stat(weights); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, "adapter_model.bin")); err == nil {
			return nil, formats.Rejectf(dir, "", "it has adapter_model.bin, a PyTorch pickle, and no %s", WeightsName).WithHint("load it with PEFT and save it with safe_serialization=True")
		}
	}
	ckpt, err := safetensors.Open(weights)
	if err != nil {
		return nil, err
	}
	sel := cfg.Selection
	a := &adapter.Adapter{Path: dir, Dialect: "peft", Base: cfg.BaseModel, Config: text, Selection: &sel, Tied: cfg.TieWeights, Closer: ckpt}
	if a.Entries, err = entries(ckpt, cfg, weights); err != nil {
		ckpt.Close()
		return nil, err
	}
	return a, nil
}

func readConfigFile(path string) ([]byte, error) {
	f, err := safetensors.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tooLarge := formats.Rejectf(path, "", "too large (want at most %d bytes)", formats.MaxConfigBytes)
	if info, err := f.Stat(); err == nil && info.Size() > formats.MaxConfigBytes { // before memory is taken for it
		return nil, tooLarge
	}
	text, err := io.ReadAll(io.LimitReader(f, formats.MaxConfigBytes+1))
	if err != nil {
		return nil, &formats.Error{Class: formats.ErrInput, File: path, Err: err}
	}
	if len(text) > formats.MaxConfigBytes {
		return nil, tooLarge
	}
	return text, nil
}

// pair collects the factors of a module, which may come in any order, the magnitude that
// DoRA adds, and B's bias.
type pair struct {
	module           string
	a, b, m, bias    formats.Tensor
	keyA, keyB, keyM string
	keyBias          string
	embedding        bool
}

// entries turns the file's tensors into updates, in the order of the file.
func entries(ckpt *formats.Checkpoint, cfg *Config, file string) ([]adapter.Entry, error) {
	var problems formats.Problems
	var order []any // *pair and adapter.Entry
	pairs := map[string]*pair{}
	for t := range ckpt.Tensors() {
		module, param, part := parseKey(t.Name)
		switch part {
		case partRefused:
			problems.Add(formats.Unfitf(file, t.Name, "%s is not supported", formats.Quote(param)))
		case partOther:
			again, err := savedAgain(cfg, ckpt, t)
			problems.Add(err)
			if again || err != nil {
				continue
			}
			e, err := replacement(cfg, file, t, module, param)
			problems.Add(err)
			if err == nil {
				order = append(order, e)
			}
		default:
			p, ok := pairs[module]
			if !ok {
				p = &pair{module: module}
				pairs[module] = p
				order = append(order, p)
			}
			problems.Add(p.add(t, part, file))
		}
	}
	scaling, err := cfg.Scaling()
	if err != nil {
		return nil, formats.Rejectf(file, "", "%v", err)
	}
	targets, err := cfg.Selection.Compile()
	if err != nil {
		return nil, formats.Rejectf(file, "", "%v", err)
	}
	var out []adapter.Entry
	for _, x := range order {
		if e, ok := x.(adapter.Entry); ok {
			problems.Add(checkBias(cfg, e, pairs[e.Module] != nil, file))
			out = append(out, e)
			continue
		}
		e, err := x.(*pair).entry(cfg, scaling, targets, file)
		problems.Add(err)
		if errors.Is(err, formats.ErrInput) { // an expression that takes too long: it would for every module
			break
		}
		out = append(out, e)
		if p := x.(*pair); p.keyBias != "" || cfg.LoRABias {
			e, err := p.biasEntry(cfg, e, file)
			problems.Add(err)
			out = append(out, e)
		}
	}
	if ckpt.Len() == 0 {
		problems.Add(formats.Unfitf(file, "", "it holds no tensors"))
	}
	return out, problems.Err()
}

func (p *pair) add(t formats.Tensor, part part, file string) error {
	slot, key := &p.a, &p.keyA
	switch part {
	case partB, partEmbeddingB:
		slot, key = &p.b, &p.keyB
	case partMagnitude:
		if p.keyM != "" {
			return formats.Unfitf(file, t.Name, "a second magnitude for the same place: %s is there too", formats.Quote(p.keyM))
		}
		p.m, p.keyM = t, t.Name
		return nil
	case partBias:
		if p.keyBias != "" {
			return formats.Unfitf(file, t.Name, "a second bias for the same place: %s is there too", formats.Quote(p.keyBias))
		}
		p.bias, p.keyBias = t, t.Name
		return nil
	}
	embedding := part == partEmbeddingA || part == partEmbeddingB
	if *key != "" {
		return formats.Unfitf(file, t.Name, "a second factor for the same place: %s is there too", formats.Quote(*key))
	}
	if other := p.keyA + p.keyB; other != "" && p.embedding != embedding {
		return formats.Unfitf(file, t.Name, "factors of an embedding and of a linear layer on one module: %s is there too", formats.Quote(other))
	}
	*slot, *key, p.embedding = t, t.Name, embedding
	return nil
}

// entry checks a pair against the config.
func (p *pair) entry(cfg *Config, scaling *Scaling, targets *adapter.Matcher, file string) (adapter.Entry, error) {
	none := adapter.Entry{}
	switch {
	case p.keyA == "" && p.keyB == "":
		return none, formats.Unfitf(file, p.keyM+p.keyBias, "its A and B are missing")
	case p.keyB == "":
		return none, formats.Unfitf(file, p.keyA, "its B is missing")
	case p.keyA == "":
		return none, formats.Unfitf(file, p.keyB, "its A is missing")
	}
	parts := []formats.Tensor{p.a, p.b}
	if p.keyM != "" {
		parts = append(parts, p.m)
	}
	for _, t := range parts {
		if !t.DType.IsFloat() {
			return none, formats.Unfitf(file, t.Name, "factors must be F64, F32, F16 or BF16 (got %s)", t.DType)
		}
	}
	r, scale, err := scaling.Of(p.module)
	if err != nil {
		return none, formats.Rejectf(file, p.keyA, "%v", err)
	}
	u := &adapter.LowRank{A: p.a, B: p.b, Scale: scale, FanInFanOut: cfg.FanInFanOut, Embedding: p.embedding}
	misfit := func(err *formats.Error) error {
		if n := len(p.a.Shape); n > 1 && p.a.Shape[0] != r && p.a.Shape[n-1] == r {
			err.Hint = "A and B look transposed or swapped"
		}
		return err
	}
	if err := u.Check(); err != nil {
		return none, misfit(formats.Unfitf(file, p.keyA, "%v", err))
	}
	if u.Rank() != r {
		return none, misfit(formats.Unfitf(file, p.keyA, "rank does not match the config (got A %v, want %d rows)", p.a.Shape, r))
	}
	if s := cfg.Selection; len(s.TargetModules) > 0 || s.TargetRegex != "" {
		ok, err := targets.Match(p.module)
		if err != nil {
			return none, formats.Rejectf(file, p.keyA, "target_modules: %v", err)
		}
		if !ok && !(cfg.TieWeights && isTiedHead(p.module)) {
			return none, formats.Unfitf(file, p.keyA, "the config's target_modules do not select module %s", formats.Quote(p.module))
		}
	}
	switch {
	case cfg.UseDoRA && p.keyM == "":
		return none, formats.Unfitf(file, p.keyA, "use_dora is set and its magnitude is missing")
	case !cfg.UseDoRA && p.keyM != "":
		return none, formats.Unfitf(file, p.keyM, "a magnitude, but the config's use_dora is not set")
	case p.keyM == "":
		return adapter.Entry{Module: p.module, Update: u, Keys: []string{p.keyA, p.keyB}}, nil
	}
	d := &adapter.Magnitude{Inner: u, Vector: p.m}
	if err := d.Check(); err != nil {
		return none, formats.Unfitf(file, p.keyM, "%v", err)
	}
	return adapter.Entry{Module: p.module, Update: d, Keys: []string{p.keyA, p.keyB, p.keyM}}, nil
}

// isTiedHead reports whether PEFT saves factors for a module that nobody targets: an output
// head, beside those of the embedding whose weight it shares (ensure_weight_tying).
func isTiedHead(module string) bool {
	switch module[strings.LastIndexByte(module, '.')+1:] {
	case "lm_head", "embed_out", "decoder", "vocab_projector":
		return true
	}
	return false
}

// biasEntry makes B's bias an update of its own, beside that of the weight.
func (p *pair) biasEntry(cfg *Config, weight adapter.Entry, file string) (adapter.Entry, error) {
	none := adapter.Entry{}
	low, ok := weight.Update.(*adapter.LowRank)
	switch {
	case weight.Update == nil: // that was an error
		return none, nil
	case !cfg.LoRABias:
		return none, formats.Unfitf(file, p.keyBias, "a bias on B, but the config's lora_bias is not set")
	case !ok || low.Embedding:
		return none, formats.Unfitf(file, p.keyA, "lora_bias is set, and PEFT has no bias for DoRA and embeddings")
	case p.keyBias == "":
		return none, formats.Unfitf(file, p.keyB, "lora_bias is set and its bias is missing")
	case !p.bias.DType.IsFloat():
		return none, formats.Unfitf(file, p.keyBias, "factors must be F64, F32, F16 or BF16 (got %s)", p.bias.DType)
	case len(p.bias.Shape) != 1 || p.bias.Shape[0] != p.b.Shape[0]:
		return none, formats.Unfitf(file, p.keyBias, "bias and B disagree on the outputs (bias is %v, B is %v)", p.bias.Shape, p.b.Shape)
	}
	return adapter.Entry{Module: p.module, Update: &adapter.BiasDelta{Vector: p.bias, Scale: low.Scale}, Keys: []string{p.keyBias}}, nil
}

// replacement makes a whole parameter an update: of a module that the config lists in
// modules_to_save, or of an embedding or head that PEFT saved along.
func replacement(cfg *Config, file string, t formats.Tensor, module, param string) (adapter.Entry, error) {
	saved := savesWhole(cfg, module) || param == "bias" && cfg.Bias != ""
	last := module[strings.LastIndexByte(module, '.')+1:]
	along := param == "weight" && slices.Contains(savedAlong, last)
	if style := foreignStyle(t.Name); style != "" && !saved {
		return adapter.Entry{}, formats.Unfitf(file, t.Name, "a key as %s write it (want PEFT's lora_A and lora_B)", style)
	}
	if !saved && !along {
		return adapter.Entry{}, formats.Unfitf(file, t.Name, "unexpected tensor: it is no LoRA factor, and modules_to_save does not list its module")
	}
	return adapter.Entry{Module: module, Update: &adapter.Replace{Param: param, Value: t}, Keys: []string{t.Name}}, nil
}

// savedAlong are modules whose weights PEFT saves with an adapter when the vocabulary
// was resized (save_embedding_layers="auto").
var savedAlong = []string{"embed_tokens", "lm_head", "wte", "word_embeddings"}

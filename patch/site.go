package patch

import (
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/hf"
)

// Kind is what a module computes with its weight, as far as a checkpoint tells.
type Kind uint8

// Kinds of modules.
const (
	Other     Kind = iota // norms and other vectors
	Linear                // a matrix product
	Embedding             // rows looked up by token
	Conv                  // a convolution
)

func (k Kind) String() string {
	return [...]string{"other", "linear", "embedding", "conv"}[k]
}

// Site is where a module's weight lies in a checkpoint.
type Site struct {
	Module string // path in the model as transformers builds it, such as "model.layers.0.mlp.up_proj"
	Kind   Kind
	Weight formats.Tensor
	InOut  bool // the weight is stored as (in, out): embeddings and GPT-2's Conv1D
	Head   bool // the module projects to the vocabulary

	// Bias is the module's bias; zero where there is none, and where a checkpoint's names
	// tell it.
	Bias formats.Tensor
	// First and Outs say which outputs of the weight are the module's, where one weight
	// serves several modules side by side; all of them when Outs is 0.
	First, Outs int64
}

// InOutSize returns the layer's input and output width; for a convolution in counts
// the whole kernel.
func (s Site) InOutSize() (in, out int64) {
	rows, cols := s.Weight.Matrix()
	if s.InOut {
		return rows, cols
	}
	return cols, rows
}

// Model is a checkpoint seen as modules.
type Model struct {
	Checkpoint *formats.Checkpoint
	Config     hf.Config
	Sites      []Site // modules with a weight, in the order of the checkpoint

	naming naming
	byName map[string][]int
	conv1D bool // who made the sites knows which layers store (in, out)
	tied   bool // input embedding and output head are one weight
	graph  bool // the sites are those of a graph's operators
}

// NewModel finds the modules of a checkpoint: every tensor "PATH.weight" is the weight
// of module PATH. What it computes is told from its shape, its name and the model
// type in config.json.
func NewModel(c *formats.Checkpoint) (*Model, error) {
	cfg, err := hf.ReadConfig(c)
	if err != nil {
		return nil, err
	}
	family := hf.FamilyOf(cfg.ModelType)
	m := &Model{Checkpoint: c, Config: cfg, naming: newNaming(c, cfg, family), byName: map[string][]int{}, conv1D: len(family.Conv1D) > 0}
	stored := false // an output head
	for t := range c.Tensors() {
		path, ok := strings.CutSuffix(t.Name, ".weight")
		if !ok {
			continue
		}
		s := Site{Module: m.naming.inMemory(path), Weight: t}
		last := s.Module[strings.LastIndexByte(s.Module, '.')+1:]
		switch {
		case hf.IsEmbedding(s.Module) && len(t.Shape) == 2:
			s.Kind, s.InOut = Embedding, true
		case len(t.Shape) == 2:
			s.Kind, s.InOut = Linear, slices.Contains(family.Conv1D, last)
		case len(t.Shape) >= 3 && len(t.Shape) <= 5:
			s.Kind = Conv
		}
		s.Head = hf.IsOutputHead(s.Module)
		stored = stored || s.Head
		if old, ok := m.byName[s.Module]; ok {
			return nil, formats.Rejectf(c.Path(), t.Name, "it is the weight of module %s, and so is %s", formats.Quote(s.Module), formats.Quote(m.Sites[old[0]].Weight.Name))
		}
		m.byName[s.Module] = []int{len(m.Sites)}
		m.Sites = append(m.Sites, s)
	}
	// A model that scores tokens and stores no weight for it uses that of its input,
	// unless its config says otherwise.
	m.tied = cfg.ScoresTokens() && (cfg.TiedHead || !stored && !cfg.Untied)
	return m, nil
}

// NewGraphModel is a model whose modules somebody else has found, such as from the operators
// of a graph: they tell orientation and kind, and names tell nothing. A module may have
// several sites, which all get its update: a weight that is there twice.
func NewGraphModel(c *formats.Checkpoint, sites []Site) *Model {
	m := &Model{Checkpoint: c, Sites: sites, byName: map[string][]int{}, conv1D: true, graph: true}
	for i, s := range sites {
		m.byName[s.Module] = append(m.byName[s.Module], i)
	}
	return m
}

// Site returns the module with the given path; its first site, if it has several.
func (m *Model) Site(module string) (Site, bool) {
	if at := m.byName[module]; len(at) > 0 {
		return m.Sites[at[0]], true
	}
	return Site{}, false
}

// sitesOf returns all sites of a module.
func (m *Model) sitesOf(module string) []Site {
	var out []Site
	for _, i := range m.byName[module] {
		out = append(out, m.Sites[i])
	}
	return out
}

// naming translates between paths in a checkpoint and paths in the model that
// transformers builds from it. A checkpoint saved from the body of a model lacks
// the name under which a model with a head keeps the body.
type naming struct {
	add   string // put before a stored path to get the path in memory
	strip string // the other way round: the file has it and the model has not
}

func newNaming(c *formats.Checkpoint, cfg hf.Config, family hf.Family) naming {
	if cfg.ModelType == "" || family.Prefix == "" {
		return naming{}
	}
	prefix := family.Prefix + "."
	has, body := false, family.Known
	for t := range c.Tensors() {
		has = has || strings.HasPrefix(t.Name, prefix)
		// The body of a decoder, at the top: of another type only that much is known.
		body = body || strings.HasPrefix(t.Name, "layers.") || strings.HasPrefix(t.Name, "embed_tokens.")
	}
	switch {
	case cfg.HasHead() && !has && body:
		return naming{add: prefix}
	case !cfg.HasHead() && has:
		return naming{strip: prefix}
	}
	return naming{}
}

func (n naming) inMemory(stored string) string {
	if n.add != "" && !hf.IsHead(stored) {
		return n.add + stored
	}
	return strings.TrimPrefix(stored, n.strip)
}

func (n naming) stored(module string) string {
	if n.add != "" {
		return strings.TrimPrefix(module, n.add)
	}
	if n.strip != "" && !hf.IsHead(module) {
		return n.strip + module
	}
	return module
}

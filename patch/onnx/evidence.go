package onnx

import (
	"regexp"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	wire "github.com/seed-b982eded/graft/formats/onnx"
	"github.com/seed-b982eded/graft/patch"
)

// Evidence is a reason to think that a layer is a module.
type Evidence struct {
	Rule string // which kind of reason, strongest first: "value", "scopes", "weight", "bias", "node"
	Path string // the module
	From string // the name that says so
}

const (
	// ruleValue: the weight has the numbers of the checkpoint's tensor.
	ruleValue = "value"
	// ruleScopes: PyTorch's dynamo exporter writes the modules around each node into its
	// metadata.
	ruleScopes = "scopes"
	// ruleWeight: the weight is called as the module's parameter.
	ruleWeight = "weight"
	// ruleBias: the bias is. PyTorch's TorchScript exporter folds a transposition into the
	// weight, which loses its name, and leaves the bias alone.
	ruleBias = "bias"
	// ruleNode: nodes are called by the modules around them, "/layers.0/mlp/up_proj/MatMul".
	ruleNode = "node"
)

// rules are all of them, the strongest first.
var rules = []string{ruleValue, ruleScopes, ruleWeight, ruleBias, ruleNode}

// gatherEvidence finds the evidence that names give.
func (x *index) gatherEvidence(layers []*Layer) {
	for _, l := range layers {
		l.Evidence = slices.Concat(scopeEvidence(l), x.weightEvidence(l), biasEvidence(l), nodeEvidence(l))
	}
	dropShared(layers)
}

// Keys of metadata that exporters write.
const (
	metaScopes     = "pkg.torch.onnx.name_scopes"
	metaFoldedFrom = "pkg.onnxscript.optimizer.folded_from"
)

// nodes returns the nodes that may tell where a layer comes from: the calls around it, the
// innermost first, itself, and what belongs to it.
func (l *Layer) nodes() []*wire.Node {
	var out []*wire.Node
	for f := l.frame; f != nil; f = f.up {
		out = append(out, f.call)
	}
	out = append(out, l.tail...)
	for _, s := range l.chain.steps {
		if s.node != nil {
			out = append(out, s.node)
		}
	}
	return out
}

// scopeEvidence reads a list of modules and the operation, of which the one before the
// last is the innermost module:
//
//	['', 'model', 'model.layers.0.mlp', 'linear_3']
func scopeEvidence(l *Layer) []Evidence {
	for _, n := range l.nodes() {
		for _, m := range n.Metadata {
			if m.Key != metaScopes {
				continue
			}
			names, ok := parseStrings(m.Value)
			if ok && len(names) >= 2 && names[len(names)-2] != "" {
				return []Evidence{{ruleScopes, names[len(names)-2], m.Value}}
			}
		}
	}
	return nil
}

// parseStrings reads Python's way of writing a list of strings.
func parseStrings(s string) ([]string, bool) {
	s, ok := strings.CutPrefix(strings.TrimSpace(s), "[")
	if !ok {
		return nil, false
	}
	if s, ok = strings.CutSuffix(s, "]"); !ok {
		return nil, false
	}
	var out []string
	for s = strings.TrimSpace(s); s != ""; {
		quote := s[0]
		if quote != '\'' && quote != '"' {
			return nil, false
		}
		end := strings.IndexByte(s[1:], quote)
		if end < 0 || strings.Contains(s[1:end+1], `\`) {
			return nil, false
		}
		out = append(out, s[1:end+1])
		s = strings.TrimSpace(s[end+2:])
		if s == "" {
			break
		}
		if s, ok = strings.CutPrefix(s, ","); !ok {
			return nil, false
		}
		s = strings.TrimSpace(s)
	}
	return out, true
}

// weightSuffixes are what names of weights have after the module, longest first.
var weightSuffixes = []string{".MatMulNBits.qweight", ".MatMul.weight", ".Gemm.weight", ".qweight", ".weight"}

var (
	// The quantisers of ONNX Runtime append these to the name of the weight.
	quantSuffix = regexp.MustCompile(`(_quantized|_Q[0-9]+(G[0-9]+)?|_DQ|_QuantizeLinear|_DequantizeLinear(_Output)?)+$`)
	// An exporter marks a transposed copy so.
	transposedSuffix = regexp.MustCompile(`(::T[0-9]+|_transposed)$`)
	reused           = regexp.MustCompile(`_[0-9]+$`)
)

// moduleOfWeight returns the module whose parameter a name is.
func moduleOfWeight(name string) (string, bool) {
	name = transposedSuffix.ReplaceAllString(quantSuffix.ReplaceAllString(name, ""), "")
	for _, suffix := range weightSuffixes {
		if module, ok := strings.CutSuffix(name, suffix); ok && module != "" {
			return module, true
		}
	}
	// The names of torch.export's parameters, with underscores for the dots.
	if flat, ok := strings.CutPrefix(name, "p_"); ok && !strings.Contains(name, ".") {
		if module, ok := strings.CutSuffix(flat, "_weight"); ok && module != "" {
			return module, true
		}
	}
	return "", false
}

// weightEvidence looks at the names of the weight from the operand on: where an exporter
// made equal tensors one, an Identity nearer to the operand still has the right name.
func (x *index) weightEvidence(l *Layer) []Evidence {
	for _, name := range l.chain.names {
		if module, ok := moduleOfWeight(name); ok {
			return []Evidence{{ruleWeight, module, name}}
		}
	}
	for _, m := range x.metadata(l) {
		if m.Key != metaFoldedFrom {
			continue
		}
		if names, ok := parseStrings(m.Value); ok && len(names) == 1 {
			if module, ok := moduleOfWeight(names[0]); ok {
				return []Evidence{{ruleWeight, module, m.Value}}
			}
		}
	}
	return nil
}

// metadata returns what is written at a layer's weight, or at the description of its value,
// where PyTorch's exporter writes it.
func (x *index) metadata(l *Layer) []wire.Pair {
	out := slices.Clone(l.Weight.Metadata)
	for _, v := range x.graphs[l.chain.graph].described[l.chain.leafName()] {
		out = append(out, v.Metadata...)
	}
	return out
}

func biasEvidence(l *Layer) []Evidence {
	for _, suffix := range []string{".Add.bias", ".bias"} {
		if module, ok := strings.CutSuffix(l.bias, suffix); ok && module != "" {
			return []Evidence{{ruleBias, module, l.bias}}
		}
	}
	return nil
}

// nodeEvidence reads a node's name as a path of modules. A Sequential says its own name
// again: "/layers.0/mlp/mlp.0/MatMul" is layers.0.mlp.0.
func nodeEvidence(l *Layer) []Evidence {
	for _, n := range l.nodes() {
		if path, ok := modulePath(n.Name); ok {
			return []Evidence{{ruleNode, path, n.Name}}
		}
	}
	return nil
}

func modulePath(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, "/")
	segments := strings.Split(rest, "/")
	if !ok || len(segments) < 2 {
		return "", false
	}
	segments = segments[:len(segments)-1]
	// What ONNX Runtime fuses it names after an operation: "/up_proj/MatMul/MatMulAddFusion".
	if last := len(segments) - 1; last > 0 && slices.Contains([]string{"MatMul", "Gemm", "Conv"}, reused.ReplaceAllString(segments[last], "")) {
		segments = segments[:last]
	}
	out := segments[0]
	for i, s := range segments[1:] {
		before := segments[i]
		last := before[strings.LastIndexByte(before, '.')+1:]
		if inner, ok := strings.CutPrefix(s, before+"."); ok {
			s = inner
		} else if inner, ok := strings.CutPrefix(s, last+"."); ok {
			s = inner
		}
		out += "." + s
	}
	return out, out != ""
}

// at returns the layer's evidence by a rule.
func (l *Layer) at(rule string) (Evidence, bool) {
	for _, e := range l.Evidence {
		if e.Rule == rule {
			return e, true
		}
	}
	return Evidence{}, false
}

// base is the node's path without the number that a second use of a module gets.
func (l *Layer) base() string {
	e, ok := l.at(ruleNode)
	if !ok {
		return ""
	}
	return reused.ReplaceAllString(e.Path, "")
}

// dropShared takes a name from a layer that others have too, where its node says that it is
// another module: tied weights, and tensors that were made one because they are equal.
func dropShared(layers []*Layer) {
	for _, rule := range []string{ruleWeight, ruleBias} {
		having := map[string]int{}
		for _, l := range layers {
			if e, ok := l.at(rule); ok {
				having[e.Path]++
			}
		}
		for _, l := range layers {
			e, ok := l.at(rule)
			if !ok || having[e.Path] < 2 {
				continue
			}
			if l.contradicts(e) {
				l.Evidence = slices.DeleteFunc(l.Evidence, func(x Evidence) bool { return x == e })
			}
		}
	}
}

// contradicts reports whether what is known of the layer's node speaks against a path.
func (l *Layer) contradicts(e Evidence) bool {
	for _, rule := range []string{ruleScopes, ruleNode} {
		own, ok := l.at(rule)
		if !ok {
			continue
		}
		path := own.Path
		if agrees(path, e.Path) >= suffix || agrees(reused.ReplaceAllString(path, ""), e.Path) >= suffix {
			return false
		}
		return true
	}
	return false
}

const metaRule = "pkg.onnxscript.rewriter.rule_name"

var (
	// ONNX Runtime names the product of a weight and what it was scaled by so.
	scaledWeight = regexp.MustCompile(`^(ConvBnFusion_W_|ConvMulFusion_W_|MatMulBnFusion_)`)
	// PyTorch's TorchScript exporter leaves convolutions their names, but not those that it
	// folds a normalisation into.
	anonymousConv = regexp.MustCompile(`^onnx::Conv_[0-9]+$`)
)

// folded says why a layer's weight is not the module's: an exporter or optimizer multiplied
// something into it, by which an update of the module would have to be multiplied too, and
// which the file no longer has. Numbers of the checkpoint prove or disprove that.
func (l *Layer) folded() string {
	if _, ok := l.at(ruleValue); ok {
		return ""
	}
	if l.differs != "" {
		return "it has other numbers than " + formats.Quote(l.differs) + " of the checkpoint"
	}
	for _, n := range l.tail {
		for _, m := range n.Metadata {
			if m.Key == metaRule && (strings.Contains(m.Value, "FuseBatchNorm") || strings.Contains(m.Value, "Affine")) {
				return "the exporter folded a normalisation or scale into it (" + formats.Quote(m.Value) + ")"
			}
		}
	}
	if name := l.Weight.Name; scaledWeight.MatchString(name) || l.Kind == patch.Conv && anonymousConv.MatchString(name) {
		return "an exporter or optimizer folded a normalisation or scale into it"
	}
	return ""
}

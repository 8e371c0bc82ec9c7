package onnx

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/seed-b982eded/graft/formats"
)

// What the parts of a skeleton take in memory, about, with slices and allocator.
const (
	costNode      = 400
	costAttribute = 320
	costTensor    = 480
	costGraph     = 400
	costValueInfo = 160
	costString    = 40
	costPair      = 80
	costNumber    = 12
)

// parser reads a model's skeleton.
type parser struct {
	scanner
	m        *Model
	left     int64 // of formats.MaxSkeletonBytes
	interned map[string]string
}

// charge counts memory for what lies at off.
func (p *parser) charge(off, n int64) error {
	if p.left -= n; p.left < 0 {
		return p.rejectAt(off, "the graph takes too much memory (want at most %d MiB without weights)", formats.MaxSkeletonBytes>>20)
	}
	return nil
}

// want checks a field's wire type.
func (p *parser) want(f field, typ protowire.Type, what string) error {
	if f.typ != typ {
		return p.rejectAt(f.start, "%s has wire type %d (want %d)", what, f.typ, typ)
	}
	return nil
}

// message returns the message that a field is.
func (p *parser) message(parent *message, f field, what string) (*message, error) {
	if err := p.want(f, protowire.BytesType, what); err != nil {
		return nil, err
	}
	if parent.depth >= formats.MaxProtobufDepth {
		return nil, p.rejectAt(f.start, "messages are nested too deeply (want at most %d levels)", formats.MaxProtobufDepth)
	}
	return &message{parent: parent, depth: parent.depth + 1, tag: f.start, length: f.length, begin: f.begin, end: f.end}, nil
}

// bytes reads a field of bytes or text.
func (p *parser) bytes(f field, what string) ([]byte, error) {
	if err := p.want(f, protowire.BytesType, what); err != nil {
		return nil, err
	}
	if err := p.charge(f.start, f.end-f.begin+costString); err != nil {
		return nil, err
	}
	return p.read(f)
}

func (p *parser) text(dst *string, f field, what string) error {
	b, err := p.bytes(f, what)
	*dst = string(b)
	return err
}

// word reads a text that many parts of a model have in common.
func (p *parser) word(dst *string, f field, what string) error {
	b, err := p.bytes(f, what)
	if err != nil {
		return err
	}
	known, ok := p.interned[string(b)]
	if !ok {
		known = string(b)
		p.interned[known] = known
	}
	*dst = known
	return nil
}

func (p *parser) texts(dst *[]string, f field, what string) error {
	var s string
	err := p.text(&s, f, what)
	*dst = append(*dst, s)
	return err
}

func (p *parser) integer(dst *int64, f field, what string) error {
	*dst = int64(f.value)
	return p.want(f, protowire.VarintType, what)
}

// integers reads one number of a repeated field, or a run of packed ones.
func (p *parser) integers(dst *[]int64, f field, what string) error {
	if f.typ != protowire.BytesType {
		if err := p.want(f, protowire.VarintType, what); err != nil {
			return err
		}
		*dst = append(*dst, int64(f.value))
		return p.charge(f.start, costNumber)
	}
	for at := f.begin; at < f.end; {
		v, next, err := p.varint(at, f.end)
		if err != nil {
			return err
		}
		if err := p.charge(at, costNumber); err != nil {
			return err
		}
		*dst = append(*dst, int64(v))
		at = next
	}
	return nil
}

func (p *parser) pair(dst *[]Pair, parent *message, f field) error {
	m, err := p.message(parent, f, "metadata")
	if err != nil {
		return err
	}
	if err := p.charge(f.start, costPair); err != nil {
		return err
	}
	var pair Pair
	err = p.fields(m, func(f field) error {
		switch f.num {
		case pairKey:
			return p.word(&pair.Key, f, "a metadata key")
		case pairValue:
			return p.text(&pair.Value, f, "a metadata value")
		}
		return nil
	})
	*dst = append(*dst, pair)
	return err
}

func (p *parser) opset(dst *[]Opset, parent *message, f field) error {
	m, err := p.message(parent, f, "an operator set")
	if err != nil {
		return err
	}
	if err := p.charge(f.start, costPair); err != nil {
		return err
	}
	var o Opset
	err = p.fields(m, func(f field) error {
		switch f.num {
		case opsetDomain:
			return p.word(&o.Domain, f, "an operator set's domain")
		case opsetVersion:
			return p.integer(&o.Version, f, "an operator set's version")
		}
		return nil
	})
	*dst = append(*dst, o)
	return err
}

// parse reads the skeleton of a model from a file; path names it in messages.
func parse(file formats.SourceFile, path string) (*parser, error) {
	m := &Model{Path: path, file: file, root: &message{end: file.Size()}}
	p := &parser{
		scanner: scanner{r: file, size: file.Size(), path: path},
		m:       m, left: formats.MaxSkeletonBytes, interned: map[string]string{},
	}
	err := p.fields(m.root, func(f field) error {
		switch f.num {
		case modelIRVersion:
			return p.integer(&m.IRVersion, f, "ir_version")
		case modelProducerName:
			return p.text(&m.Producer, f, "producer_name")
		case modelProducerVersion:
			return p.text(&m.ProducerVersion, f, "producer_version")
		case modelDomain:
			return p.text(&m.Domain, f, "domain")
		case modelVersion:
			return p.integer(&m.ModelVersion, f, "model_version")
		case modelGraph:
			if m.Graph == nil {
				m.Graph = &Graph{model: m}
			}
			return p.graph(m.Graph, m.root, f)
		case modelOpsetImport:
			return p.opset(&m.Opsets, m.root, f)
		case modelMetadata:
			return p.pair(&m.Metadata, m.root, f)
		case modelTraining:
			return p.training(f)
		case modelFunctions:
			return p.function(f)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if m.Graph == nil {
		return nil, formats.Rejectf(path, "", "there is no graph in it: not an ONNX model")
	}
	return p, nil
}

// training reads the graphs of a TrainingInfoProto.
func (p *parser) training(f field) error {
	m, err := p.message(p.m.root, f, "training_info")
	if err != nil {
		return err
	}
	seen := map[number]bool{}
	return p.fields(m, func(f field) error {
		if f.num != trainingInitialization && f.num != trainingAlgorithm {
			return nil
		}
		if err := p.once(seen, f, "a graph of training_info"); err != nil {
			return err
		}
		g := &Graph{model: p.m}
		p.m.training = append(p.m.training, g)
		return p.graph(g, m, f)
	})
}

// once refuses a second singular message: protobuf would merge the two.
func (p *parser) once(seen map[number]bool, f field, what string) error {
	if seen[f.num] {
		return p.rejectAt(f.start, "%s is given twice; messages in pieces are not read here", what)
	}
	seen[f.num] = true
	return nil
}

// graph reads a GraphProto, or one more piece of it.
func (p *parser) graph(g *Graph, parent *message, f field) error {
	m, err := p.message(parent, f, "a graph")
	if err != nil {
		return err
	}
	if err := p.charge(f.start, costGraph); err != nil {
		return err
	}
	g.chunks = append(g.chunks, m)
	return p.fields(m, func(f field) error {
		switch f.num {
		case graphNode:
			return p.node(g, m, f)
		case graphName:
			return p.text(&g.Name, f, "a graph's name")
		case graphInitializer:
			t, err := p.tensor(m, f, &Tensor{Graph: g})
			if err != nil {
				return err
			}
			if t.Name == "" {
				return p.rejectAt(f.start, "an initializer without a name")
			}
			g.Initializers = append(g.Initializers, t)
			return nil
		case graphInput:
			return p.valueInfo(&g.Inputs, m, f)
		case graphOutput:
			return p.valueInfo(&g.Outputs, m, f)
		case graphValueInfo:
			return p.valueInfo(&g.ValueInfos, m, f)
		case graphQuantization:
			return p.quantization(g, m, f)
		case graphSparseInitializer:
			s, err := p.sparse(m, f, g, nil)
			if err != nil {
				return err
			}
			g.sparse = append(g.sparse, s)
			g.SparseNames = append(g.SparseNames, s.name())
			return nil
		case graphMetadata:
			return p.pair(&g.Metadata, m, f)
		}
		return nil
	})
}

func (p *parser) quantization(g *Graph, parent *message, f field) error {
	m, err := p.message(parent, f, "quantization_annotation")
	if err != nil {
		return err
	}
	return p.fields(m, func(f field) error {
		if f.num == quantizationTensorName {
			return p.texts(&g.QuantAnnotated, f, "the tensor of a quantization_annotation")
		}
		return nil
	})
}

// function reads a FunctionProto. Its nodes make a graph, whose message is the function's.
func (p *parser) function(f field) error {
	m, err := p.message(p.m.root, f, "a function")
	if err != nil {
		return err
	}
	if err := p.charge(f.start, 2*costGraph); err != nil {
		return err
	}
	fn := &Function{}
	g := &Graph{Function: fn, model: p.m, chunks: []*message{m}}
	fn.Body = g
	p.m.Functions = append(p.m.Functions, fn)
	return p.fields(m, func(f field) error {
		switch f.num {
		case functionName:
			return p.text(&fn.Name, f, "a function's name")
		case functionInput:
			return p.texts(&fn.Inputs, f, "a function's input")
		case functionOutput:
			return p.texts(&fn.Outputs, f, "a function's output")
		case functionNode:
			return p.node(g, m, f)
		case functionOpset:
			return p.opset(&fn.Opsets, m, f)
		case functionDomain:
			return p.text(&fn.Domain, f, "a function's domain")
		case functionDefaults:
			return p.attribute(&fn.Defaults, m, f, g, nil)
		case functionValueInfo:
			return p.valueInfo(&g.ValueInfos, m, f)
		case functionOverload:
			return p.text(&fn.Overload, f, "a function's overload")
		case functionMetadata:
			return p.pair(&g.Metadata, m, f)
		}
		return nil
	})
}

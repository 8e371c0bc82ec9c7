package onnx

import (
	"path"
	"slices"
	"strings"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/publish"
)

// Files returns the files of the changed model for a set of package publish: the model
// file, under the given name, is the last. Names of others are relative to its directory;
// only with KeepLocations may they have slashes in them.
// Errors are [formats.ErrUsage] for what was asked for in vain, [formats.ErrUnfit]
// for a model that gets too large for its file, and [formats.ErrInput].
func (e *Edit) Files(name string, opts FileOptions) ([]publish.File, error) {
	if opts.DataName == "" {
		opts.DataName = name + ".data"
	}
	if err := e.check(name, opts); err != nil {
		return nil, err
	}
	items := e.items()
	mode := opts.External
	for {
		data, changed := layout(e.m, items, mode, opts)
		model, err := e.model(items, changed)
		if err != nil {
			return nil, err
		}
		if model.size <= formats.MaxProtobufBytes {
			return append(data, model.file(name)), nil
		}
		if mode != ExternalAuto {
			err := formats.Unfitf(name, "", "the model file gets too large (got %d bytes, want at most %d)", model.size, formats.MaxProtobufBytes)
			err.Op = "writing"
			return nil, err.WithHint("external data has no such limit")
		}
		mode = ExternalAlways
	}
}

// check refuses what cannot be written.
func (e *Edit) check(name string, opts FileOptions) error {
	clean := path.Clean(opts.DataName)
	if err := checkLocation(opts.DataName); err != nil {
		e.fail("the data file's name %s: %v", formats.Quote(opts.DataName), err)
	}
	if name == "" || strings.ContainsAny(name, "/\\\x00") {
		e.fail("the model's name %s is not a plain file name", formats.Quote(name))
	}
	if clean == name {
		e.fail("the model and its data have the same name %s", formats.Quote(name))
	}
	if opts.KeepLocations {
		if opts.External == ExternalNever {
			e.fail("external data cannot both stay and go")
		}
		for _, x := range e.m.externals {
			if x.location == name {
				e.fail("the model's name %s is that of its external data", formats.Quote(name))
			}
		}
	}
	for g, names := range e.added {
		for _, t := range g.Initializers {
			if names[t.Name] {
				e.fail("initializer %s is there already", formats.Quote(t.Name))
			}
		}
		for _, name := range g.SparseNames {
			if names[name] {
				e.fail("initializer %s is there already", formats.Quote(name))
			}
		}
	}
	for g, list := range e.graphInputs {
		have := map[string]bool{}
		for _, v := range g.Inputs {
			have[v.Name] = true
		}
		for _, v := range list {
			if have[v.Name] {
				e.fail("input %s is there already", formats.Quote(v.Name))
			}
			have[v.Name] = true
		}
	}
	return e.err
}

// model returns the changed model file. In changed are the files of external data that
// get other bytes.
func (e *Edit) model(items []*item, changed map[*externalFile]bool) (content, error) {
	s := newSplicer(e.m)
	if err := s.top(e); err != nil {
		return content{}, err
	}
	for _, it := range items {
		if it.old == nil {
			s.addInitializer(it)
		} else if err := s.tensor(it, changed); err != nil {
			return content{}, err
		}
	}
	for _, f := range e.m.Functions {
		if err := s.functionInputs(f, e.functionInputs[f]); err != nil {
			return content{}, err
		}
	}
	for _, g := range e.m.allGraphs() {
		if err := s.graph(e, g); err != nil {
			return content{}, err
		}
	}
	return s.assemble()
}

// top edits the fields of the model itself.
func (s *splicer) top(e *Edit) error {
	if e.irVersion == nil && len(e.opsets) == 0 && len(e.metadata) == 0 {
		return nil
	}
	root := s.m.root
	opsets, metadata := map[string]int64{}, map[string]string{}
	var opsetOrder, metadataOrder []string
	for _, o := range e.opsets {
		d := canonicalDomain(o.Domain)
		if _, ok := opsets[d]; !ok {
			opsetOrder = append(opsetOrder, d)
		}
		opsets[d] = o.Version
	}
	for _, p := range e.metadata {
		if _, ok := metadata[p.Key]; !ok {
			metadataOrder = append(metadataOrder, p.Key)
		}
		metadata[p.Key] = p.Value
	}
	var version *field
	nextOpset, nextPair := 0, 0
	afterOpsets, afterMetadata := root.end, root.end
	err := s.s.fields(root, func(f field) error {
		var c content
		switch f.num {
		case modelIRVersion:
			version = &f
		case modelOpsetImport:
			old := s.m.Opsets[nextOpset]
			nextOpset++
			afterOpsets = f.end
			v, ok := opsets[canonicalDomain(old.Domain)]
			if ok && v != old.Version {
				c.message(modelOpsetImport, opsetMessage(Opset{old.Domain, v}))
				s.replace(root, f, c)
			}
			if ok {
				opsetOrder = slices.DeleteFunc(opsetOrder, func(d string) bool { return d == canonicalDomain(old.Domain) })
			}
		case modelMetadata:
			old := s.m.Metadata[nextPair]
			nextPair++
			afterMetadata = f.end
			v, ok := metadata[old.Key]
			if ok && v != old.Value {
				c.message(modelMetadata, pairMessage(Pair{old.Key, v}))
				s.replace(root, f, c)
			}
			if ok {
				metadataOrder = slices.DeleteFunc(metadataOrder, func(k string) bool { return k == old.Key })
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if e.irVersion != nil && *e.irVersion != s.m.IRVersion {
		var c content
		c.integer(modelIRVersion, *e.irVersion)
		if version == nil {
			s.insert(root, 0, c)
		} else {
			s.replace(root, *version, c) // the last, which counts
		}
	}
	var c content
	for _, d := range opsetOrder {
		c.message(modelOpsetImport, opsetMessage(Opset{d, opsets[d]}))
	}
	s.insert(root, afterOpsets, c)
	c = content{}
	for _, k := range metadataOrder {
		c.message(modelMetadata, pairMessage(Pair{k, metadata[k]}))
	}
	s.insert(root, afterMetadata, c)
	return nil
}

// canonicalDomain gives the default domain its shorter name.
func canonicalDomain(d string) string {
	if d == "ai.onnx" {
		return ""
	}
	return d
}

// graph edits a graph's nodes, inputs and value descriptions.
func (s *splicer) graph(e *Edit, g *Graph) error {
	nodeField, valueField := graphNode, graphValueInfo
	if g.Function != nil {
		nodeField, valueField = functionNode, functionValueInfo
	}
	for _, n := range g.Nodes {
		if err := s.node(n, e.inputs[n], e.outputs[n], e.appended[n]); err != nil {
			return err
		}
	}
	for _, n := range e.nodes[g] {
		var c content
		c.message(nodeField, nodeMessage(n.NewNode))
		if n.before != nil {
			s.insert(n.before.msg.parent, n.before.msg.tag, c)
		} else if len(g.Nodes) > 0 {
			last := g.Nodes[len(g.Nodes)-1].msg
			s.insert(last.parent, last.end, c)
		} else {
			s.insert(g.last(), g.last().end, c)
		}
	}
	for _, list := range []struct {
		num    number
		values []NewValueInfo
	}{{graphInput, e.graphInputs[g]}, {valueField, e.valueInfos[g]}} {
		if len(list.values) == 0 {
			continue
		}
		at, err := s.after(g.last(), list.num)
		if err != nil {
			return err
		}
		var c content
		for _, v := range list.values {
			c.message(list.num, valueMessage(v))
		}
		s.insert(g.last(), at, c)
	}
	return nil
}

// last is the last piece of a graph.
func (g *Graph) last() *message { return g.chunks[len(g.chunks)-1] }

// node edits a node's inputs and outputs.
func (s *splicer) node(n *Node, inputs, outputs map[int]string, appended []string) error {
	if len(inputs) == 0 && len(outputs) == 0 && len(appended) == 0 {
		return nil
	}
	at := n.msg.begin
	in, out := 0, 0
	err := s.s.fields(n.msg, func(f field) error {
		var name string
		var ok bool
		var old string
		switch f.num {
		case nodeInput:
			name, ok = inputs[in]
			old = n.Inputs[in]
			in++
			at = f.end
		case nodeOutput:
			name, ok = outputs[out]
			old = n.Outputs[out]
			out++
		}
		if ok && name != old {
			var c content
			c.text(f.num, name)
			s.replace(n.msg, f, c)
		}
		return nil
	})
	var c content
	for _, name := range appended {
		c.text(nodeInput, name)
	}
	s.insert(n.msg, at, c)
	return err
}

func (s *splicer) functionInputs(f *Function, names []string) error {
	if len(names) == 0 {
		return nil
	}
	msg := f.Body.last()
	at, err := s.after(msg, functionInput)
	if err != nil {
		return err
	}
	var c content
	for _, name := range names {
		c.text(functionInput, name)
	}
	s.insert(msg, at, c)
	return nil
}

// addInitializer adds a new initializer, after the others of its graph.
func (s *splicer) addInitializer(it *item) {
	var c content
	c.message(graphInitializer, tensorMessage(it.data, it.typ, it.external))
	g := it.graph
	if n := len(g.Initializers); n > 0 {
		last := g.Initializers[n-1].msg
		s.insert(last.parent, last.end, c)
		return
	}
	s.insert(g.last(), g.last().end, c)
}

package onnx

import (
	"path"
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/publish"
)

// ExternalMode says which tensors of an edited model lie outside the model file.
type ExternalMode uint8

const (
	// ExternalAuto keeps each tensor where it is, inside or outside. New initializers of
	// more than 1 KiB go outside when something else is there. All initializers of more
	// than 1 KiB do when the model file would get larger than protobuf allows.
	ExternalAuto ExternalMode = iota
	// ExternalAlways puts all initializers of more than 1 KiB outside.
	ExternalAlways
	// ExternalNever puts everything inside.
	ExternalNever
)

const (
	// smallTensor is the size up to which a tensor is not moved out of the model file: it
	// is the threshold of onnx.save_model.
	smallTensor = 1 << 10
	// dataAlign is what a tensor's place in a data file is a multiple of, so that it can be
	// mapped: docs/ExternalData.md.
	dataAlign = 4096
)

// FileOptions say how a model is laid out in files.
type FileOptions struct {
	External ExternalMode
	// DataName is the file for external data, relative to the model file; by default the
	// model's name with ".data" after it.
	DataName string
	// KeepLocations keeps the files of external data as they are, under their names, but
	// for the bytes of tensors that were edited and have their old size. Others, and new
	// ones, go to DataName; if that is one of the files, after its end. Without it,
	// DataName has all external data.
	KeepLocations bool
}

// place is where external data will lie.
type place struct {
	location       string
	offset, length int64
}

// item is a tensor of the changed model.
type item struct {
	old      *Tensor // nil for a new initializer
	graph    *Graph
	data     formats.Tensor
	typ      DataType
	dims     []int64
	edited   bool // old has other data, or there is no old
	external *place
}

// items lists the tensors of the changed model that have data: in the order of the
// external files, then of the model.
func (e *Edit) items() []*item {
	var all []*item
	add := func(t *Tensor) {
		it := &item{old: t, graph: t.Graph, data: t.Data, typ: t.DataType, dims: t.Dims}
		if data, ok := e.data[t]; ok {
			if !sameKind(t, data) {
				it.typ, _ = DataTypeOf(data.DType)
				it.dims = data.Shape
			}
			it.data, it.edited = data, true
			it.data.Name = t.Key
		}
		all = append(all, it)
	}
	for _, x := range e.m.externals {
		for _, t := range x.tensors {
			add(t)
		}
	}
	for _, t := range e.m.tensors {
		if t.HasData && t.External == nil {
			add(t)
		}
	}
	for _, g := range e.m.allGraphs() {
		for _, t := range e.initializers[g] {
			typ, _ := DataTypeOf(t.DType)
			all = append(all, &item{graph: g, data: t, typ: typ, dims: t.Shape, edited: true})
		}
	}
	return all
}

// outside says whether an item's data is to lie outside the model file.
func (it *item) outside(m *Model, mode ExternalMode) bool {
	initializer := it.old == nil || it.old.role == roleInitializer
	large := initializer && it.data.Size() > smallTensor
	was := it.old != nil && it.old.External != nil
	switch mode {
	case ExternalAlways:
		return was || large
	case ExternalNever:
		return false
	}
	return was || it.old == nil && large && len(m.externals) > 0
}

// layout gives the items that are to lie outside their places, and returns the files. Of
// those that stay, changed says which get other bytes.
func layout(m *Model, items []*item, mode ExternalMode, opts FileOptions) (files []publish.File, changed map[*externalFile]bool) {
	if !opts.KeepLocations {
		return packed(m, items, mode, opts.DataName), nil
	}
	return kept(m, items, mode, opts.DataName)
}

// packed puts everything into one file. Tensors that have one place keep having one.
func packed(m *Model, items []*item, mode ExternalMode, name string) []publish.File {
	var out content
	type spot struct {
		file        *externalFile
		off, length int64
	}
	shared := map[spot]*place{}
	for _, it := range items {
		it.external = nil
		if !it.outside(m, mode) {
			continue
		}
		if it.edited || it.old.External == nil {
			it.external = out.append(name, it.data)
			continue
		}
		e := it.old.External
		at := spot{e.file, e.Offset, e.Length}
		if shared[at] == nil {
			shared[at] = out.append(name, it.data)
		}
		it.external = shared[at]
	}
	if !slices.ContainsFunc(items, func(it *item) bool { return it.external != nil }) {
		return nil
	}
	return []publish.File{out.file(name)}
}

// append adds a tensor's data at an aligned place.
func (c *content) append(name string, t formats.Tensor) *place {
	if n := c.size % dataAlign; n > 0 && t.Size() > 0 {
		c.literal(make([]byte, dataAlign-n))
	}
	at := &place{name, c.size, t.Size()}
	c.tensor(t)
	return at
}

// kept leaves the files as they are, but for the bytes of edited tensors.
func kept(m *Model, items []*item, mode ExternalMode, name string) (files []publish.File, changed map[*externalFile]bool) {
	shared := map[*Tensor]bool{} // those that have not their bytes for themselves
	for _, x := range m.externals {
		for i := 1; i < len(x.tensors); i++ {
			if a, b := x.tensors[i-1], x.tensors[i]; sameRange(a, b) {
				shared[a], shared[b] = true, true
			}
		}
	}
	inPlace := map[*Tensor]formats.Tensor{}
	var moved []*item
	for _, it := range items {
		it.external = nil
		if !it.outside(m, mode) {
			continue
		}
		if it.old == nil || it.old.External == nil || it.edited && (shared[it.old] || it.data.Size() != it.old.External.Length) {
			moved = append(moved, it)
			continue
		}
		e := it.old.External
		it.external = &place{e.Location, e.Offset, e.Length}
		if it.edited {
			inPlace[it.old] = it.data
		}
	}
	changed = map[*externalFile]bool{}
	for _, x := range m.externals {
		var out content
		at := int64(0)
		for _, t := range x.tensors {
			if data, ok := inPlace[t]; ok && data.Size() > 0 {
				out.fileRange(x.file, at, t.External.Offset-at)
				out.tensor(data)
				at = t.External.Offset + t.External.Length
				changed[x] = true
			}
		}
		out.fileRange(x.file, at, x.file.Size()-at)
		if x.location == path.Clean(name) && len(moved) > 0 {
			changed[x] = true
			for _, it := range moved {
				it.external = out.append(name, it.data)
			}
			moved = nil
		}
		files = append(files, out.file(x.location))
	}
	if len(moved) > 0 {
		var out content
		for _, it := range moved {
			it.external = out.append(name, it.data)
		}
		files = append(files, out.file(name))
	}
	return files, changed
}

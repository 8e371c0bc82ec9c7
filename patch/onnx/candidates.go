package onnx

import (
	"slices"
	"strings"

	wire "github.com/seed-b982eded/graft/formats/onnx"
)

// candidates finds the layers that may agree with a module without a look at every one:
// models of experts have tens of thousands of layers, and adapters as many modules. Layers
// are kept by their position.
type candidates struct {
	layers []*Layer
	full   map[string][]int32 // by the path of an evidence
	suffix map[string][]int32 // by what it ends with, from one of its modules on
	flat   map[string][]int32 // by paths without dots
	tail   map[string][]int32 // by what those end with, behind an underscore
	// With underscores for the dots, from the first module without dots on:
	flatFull, flatSuffix map[string][]int32

	always []int32 // of a path too long to be kept so
	weight map[*wire.Tensor][]*Layer
}

// maxPathParts bounds what is kept of a path.
const maxPathParts = 64

// newCandidates prepares the search for modules.
func newCandidates(layers []*Layer) *candidates {
	c := &candidates{
		layers: layers, full: map[string][]int32{}, suffix: map[string][]int32{}, flat: map[string][]int32{}, tail: map[string][]int32{},
		weight: map[*wire.Tensor][]*Layer{},
	}
	for i, l := range layers {
		c.weight[l.Weight] = append(c.weight[l.Weight], l)
		for _, ev := range l.Evidence {
			c.add(int32(i), withoutSelf(ev.Path))
		}
	}
	return c
}

func (c *candidates) add(i int32, path string) {
	if tooLong(path) {
		c.always = append(c.always, i)
		return
	}
	put(c.full, path, i)
	for end := range ends(path, '.') {
		put(c.suffix, end, i)
	}
	if strings.Contains(path, ".") {
		return
	}
	name := attn(path)
	put(c.flat, name, i)
	for end := range ends(name, '_') {
		put(c.tail, end, i)
	}
}

// flatten keeps the paths with underscores for the dots too.
func (c *candidates) flatten() {
	c.flatFull, c.flatSuffix = map[string][]int32{}, map[string][]int32{}
	for i, l := range c.layers {
		for _, ev := range l.Evidence {
			path := withoutSelf(ev.Path)
			if tooLong(path) || !strings.Contains(path, ".") {
				continue
			}
			put(c.flatFull, underscored(path), int32(i))
			for end := range ends(path, '.') {
				if strings.Contains(end, ".") {
					put(c.flatSuffix, underscored(end), int32(i))
				}
			}
		}
	}
}

// put adds a layer once.
func put(in map[string][]int32, key string, i int32) {
	if list := in[key]; len(list) == 0 || list[len(list)-1] != i {
		in[key] = append(list, i)
	}
}

// of returns, in order, all layers that agree with a module, and few others.
func (c *candidates) of(module string) []*Layer {
	path := withoutSelf(module)
	if tooLong(path) {
		return c.layers
	}
	found := slices.Concat(c.always, c.suffix[path])
	for end := range ends(path, '.') {
		found = append(found, c.full[end]...)
		if strings.Contains(end, ".") {
			found = append(found, c.flat[underscored(end)]...)
		}
	}
	if strings.Contains(path, ".") {
		found = append(found, c.tail[underscored(path)]...)
	} else {
		if c.flatFull == nil {
			c.flatten()
		}
		name := attn(path)
		found = append(found, c.flatSuffix[name]...)
		for end := range ends(name, '_') {
			found = append(found, c.flatFull[end]...)
		}
	}
	slices.Sort(found)
	found = slices.Compact(found)
	out := make([]*Layer, len(found))
	for i, at := range found {
		out[i] = c.layers[at]
	}
	return out
}

// withWeight returns the layers that have a weight.
func (c *candidates) withWeight(t *wire.Tensor) []*Layer { return c.weight[t] }

func tooLong(path string) bool {
	return strings.Count(path, ".") >= maxPathParts || strings.Count(path, "_") >= 4*maxPathParts
}

func underscored(path string) string { return strings.ReplaceAll(path, ".", "_") }

// attn does to a name without dots what withoutSelf does to a path.
func attn(name string) string { return strings.ReplaceAll(name, "self_attn", "attn") }

// ends yields a string, and what is behind each of its separators.
func ends(s string, sep byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for {
			if !yield(s) {
				return
			}
			i := strings.IndexByte(s, sep)
			if i < 0 {
				return
			}
			s = s[i+1:]
		}
	}
}

package hf

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

// indexSuffix ends the name of a file that says which tensor lies in which shard.
const indexSuffix = ".safetensors.index.json"

// index is a parsed index file.
type index struct {
	doc    *strictjson.Object // the whole document
	shards []string           // distinct shard names, sorted
	shard  map[string]string  // tensor name to shard name
}

func parseIndex(data []byte, file string) (*index, error) {
	doc, err := strictjson.ParseObject(data, formats.MaxJSONDepth)
	if err != nil {
		return nil, formats.Rejectf(file, "", "%v", err)
	}
	weights, ok := doc.Get("weight_map").(*strictjson.Object)
	if !ok {
		return nil, formats.Rejectf(file, "", "weight_map must be an object (got %s)", strictjson.KindOf(doc.Get("weight_map")))
	}
	x := &index{doc: doc, shard: make(map[string]string, len(weights.Keys))}
	for _, name := range weights.Keys {
		shard, ok := weights.Values[name].(string)
		if !ok {
			return nil, formats.Rejectf(file, name, "weight_map must name a file (got %s)", strictjson.KindOf(weights.Values[name]))
		}
		if err := checkShardName(shard); err != nil {
			return nil, formats.Rejectf(file, name, "shard name %s: %v", formats.Quote(shard), err)
		}
		x.shard[name] = shard
	}
	for _, s := range x.shard {
		x.shards = append(x.shards, s)
	}
	slices.Sort(x.shards)
	x.shards = slices.Compact(x.shards)
	if len(x.shards) == 0 {
		return nil, formats.Rejectf(file, "", "weight_map names no file")
	}
	if len(x.shards) > formats.MaxShards {
		return nil, formats.Rejectf(file, "", "too many shards (got %d, want at most %d)", len(x.shards), formats.MaxShards)
	}
	return x, nil
}

// checkAgainst reports where index and files disagree, in both directions.
func (x *index) checkAgainst(shards []formats.Shard, file string) error {
	var problems formats.Problems
	found := make(map[string]string, len(x.shard))
	for _, s := range shards {
		for _, t := range s.Tensors {
			found[t.Name] = s.Name
			switch want, ok := x.shard[t.Name]; {
			case !ok:
				problems.Add(formats.Rejectf(file, t.Name, "it is in %s, but the index does not list it", formats.Quote(s.Name)))
			case want != s.Name:
				problems.Add(formats.Rejectf(file, t.Name, "it is in %s, but the index says %s", formats.Quote(s.Name), formats.Quote(want)))
			}
		}
	}
	weights := x.doc.Get("weight_map").(*strictjson.Object)
	for _, name := range weights.Keys {
		if _, ok := found[name]; !ok {
			problems.Add(formats.Rejectf(file, name, "the index says it is in %s, but it is not there", formats.Quote(x.shard[name])))
		}
	}
	return problems.Err()
}

// renderIndex returns the index of a sharded checkpoint. old is the index it had when
// it was read, nil if none: it is returned as it is when it is still right, and
// otherwise its other entries are kept.
func renderIndex(c *formats.Checkpoint, old []byte) ([]byte, error) {
	var x *index
	if old != nil {
		var err error
		if x, err = parseIndex(old, c.Path()); err != nil {
			return nil, err
		}
		if total, ok := x.totalSize(); ok && total == c.Size() && x.checkAgainst(c.Shards(), c.Path()) == nil {
			return old, nil
		}
	}
	doc, meta := &strictjson.Object{}, &strictjson.Object{}
	if x != nil {
		doc = x.doc
		if m, ok := doc.Get("metadata").(*strictjson.Object); ok {
			meta = m
		}
	}
	meta.Set("total_size", c.Size())
	doc.Set("metadata", meta)
	weights := &strictjson.Object{Values: map[string]any{}}
	for _, s := range c.Shards() {
		for _, t := range s.Tensors {
			weights.Keys = append(weights.Keys, t.Name)
			weights.Values[t.Name] = s.Name
		}
	}
	slices.Sort(weights.Keys)
	doc.Set("weight_map", weights)
	var out bytes.Buffer
	out.Write(strictjson.AppendIndented(nil, doc))
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// totalSize returns metadata.total_size where it is a whole number, also one that
// was written as a float, as some exporters do.
func (x *index) totalSize() (int64, bool) {
	meta, ok := x.doc.Get("metadata").(*strictjson.Object)
	if !ok {
		return 0, false
	}
	n, ok := meta.Get("total_size").(strictjson.Number)
	if !ok {
		return 0, false
	}
	if i, err := n.Int(); err == nil {
		return i, true
	}
	f, err := n.Float()
	return int64(f), err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53
}

func indexError(dir string, names []string) error {
	return formats.Rejectf(dir, "", "more than one set of weights: %s", fmt.Sprintf("%q", names)).WithHint("keep one of them in the directory, or name one file")
}

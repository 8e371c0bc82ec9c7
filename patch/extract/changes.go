package extract

import (
	"context"
	"slices"
	"strings"
	"unicode"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/patch"
)

// role is how a change is written down.
type role uint8

const (
	lowRank role = iota // factors of a weight
	biased              // a bias on B
	whole               // the tuned tensor itself
	left                // not at all: the reason says why
)

// change is a tensor that is not the same in both models.
type change struct {
	module, param string // as the tuned model has it
	site          patch.Site
	base, tuned   formats.Tensor // base is zero where it has none
	role          role
	reason        string // why it is saved whole
	head          string // of a tied embedding, the head that is the same weight
}

// pairing is what the tensors of two models have to do with one another.
type pairing struct {
	changes  []*change // in the base's order; new tensors last
	same     int
	baseOnly []string // tensors that the tuned model lacks
	excluded []string // tensors that Options.Exclude leaves as they are
	buffers  []string // that are computed, and only one model stores
}

// rename turns module paths of the base to those of the tuned model, one of which may have
// the body under a name.
type rename struct{ strip, add string }

func (r rename) of(module string) string {
	if hf.IsHead(module) {
		return module
	}
	if rest, ok := strings.CutPrefix(module, r.strip); ok {
		return r.add + rest
	}
	return module
}

func newRename(base, tuned *patch.Model) rename {
	best, most := rename{}, -1
	prefix := hf.FamilyOf(tuned.Config.ModelType).Prefix + "."
	for _, r := range []rename{{}, {add: prefix}, {strip: prefix}} {
		hits := 0
		for _, s := range base.Sites {
			if _, ok := tuned.Site(r.of(s.Module)); ok {
				hits++
			}
		}
		if hits > most {
			best, most = r, hits
		}
	}
	return best
}

// compare finds the tensors that differ, and decides what becomes of each.
func compare(ctx context.Context, base, tuned *patch.Model, opts *Options) (*pairing, error) {
	exclude, err := adapter.NewNameFilter("exclude", opts.Exclude)
	if err != nil {
		return nil, err
	}
	if a, b := base.Config.ModelType, tuned.Config.ModelType; a != b && a != "" && b != "" {
		return nil, unfit(tuned, "", "it is a %s, and the base is a %s", formats.Quote(b), formats.Quote(a))
	}
	names := newRename(base, tuned)
	p := &pairing{}
	var problems formats.Problems
	paired := map[string]bool{}
	for t := range base.Checkpoint.Tensors() {
		module, param := base.Parameter(t.Name)
		module = names.of(module)
		u, ok := tuned.Stored(module, param)
		if !ok {
			problems.Add(p.onlyBase(ctx, base, tuned, t, module))
			continue
		}
		paired[u.Name] = true
		if hit, err := exclude.Matches(module, u.Name); err != nil {
			return nil, err
		} else if hit {
			p.excluded = append(p.excluded, u.Name)
			continue
		}
		c := &change{module: module, param: param, base: t, tuned: u}
		if bm, _ := base.Parameter(t.Name); param == "weight" || param == "bias" {
			c.site, _ = base.Site(bm)
		}
		if c.site.Head && param == "weight" && base.Tied() {
			problems.Add(sameAsEmbedding(ctx, tuned, u, "it is tied to the input embedding in the base, and here it is another"))
			continue
		}
		same, err := c.same(ctx, base, tuned, opts.Progress)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, err
		case err != nil:
			problems.Add(err)
		case same:
			p.same++
		default:
			p.changes = append(p.changes, c)
		}
	}
	for t := range tuned.Checkpoint.Tensors() {
		if paired[t.Name] {
			continue
		}
		module, _ := tuned.Parameter(t.Name)
		if hit, err := exclude.Matches(module, t.Name); err != nil {
			return nil, err
		} else if hit {
			p.excluded = append(p.excluded, t.Name)
			continue
		}
		problems.Add(p.onlyTuned(ctx, base, tuned, t))
	}
	problems.Add(exclude.Unused("module or tensor"))
	if err := problems.Err(); err != nil {
		return nil, err
	}
	if len(paired) == 0 {
		return nil, unfit(tuned, "", "it has no tensor of %s: they are not of one model", formats.Quote(base.Checkpoint.Path()))
	}
	p.assign(base, tuned)
	return p, nil
}

func unfit(m *patch.Model, tensor, format string, args ...any) *formats.Error {
	return formats.Unfitf(m.Checkpoint.Path(), tensor, format, args...)
}

// inLayer reports whether a module is one of many alike: a path with a number in it.
func inLayer(module string) bool {
	for part := range strings.SplitSeq(module, ".") {
		if part != "" && strings.IndexFunc(part, func(r rune) bool { return !unicode.IsDigit(r) }) < 0 {
			return true
		}
	}
	return false
}

// isBuffer reports whether a tensor is one that older versions of transformers stored and
// that is computed from the config.
func isBuffer(t formats.Tensor) bool {
	for _, end := range []string{".rotary_emb.inv_freq", ".attn.masked_bias", ".attention.masked_bias", "embeddings.position_ids"} {
		if strings.HasSuffix(t.Name, end) {
			return true
		}
	}
	return (strings.HasSuffix(t.Name, ".attn.bias") || strings.HasSuffix(t.Name, ".attention.bias")) && len(t.Shape) == 4
}

// onlyBase notes a tensor that the tuned model lacks.
func (p *pairing) onlyBase(ctx context.Context, base, tuned *patch.Model, t formats.Tensor, module string) error {
	switch {
	case isBuffer(t):
		p.buffers = append(p.buffers, t.Name)
	case hf.IsOutputHead(module) && tuned.Tied():
		return sameAsEmbedding(ctx, base, t, "the tuned model's head is its input embedding, and the base's is another")
	case inLayer(module) && !hf.IsHead(module):
		return unfit(tuned, t.Name, "it is missing: the models have other layers")
	default:
		p.baseOnly = append(p.baseOnly, t.Name)
	}
	return nil
}

// onlyTuned takes a tensor that the base lacks, such as of a new head.
func (p *pairing) onlyTuned(ctx context.Context, base, tuned *patch.Model, t formats.Tensor) error {
	module, param := tuned.Parameter(t.Name)
	switch {
	case isBuffer(t):
		p.buffers = append(p.buffers, t.Name)
	case hf.IsOutputHead(module) && param == "weight" && base.Tied():
		return sameAsEmbedding(ctx, tuned, t, "the base's head is its input embedding (tie_word_embeddings), and the tuned model's is another")
	case inLayer(module) && !hf.IsHead(module):
		return unfit(tuned, t.Name, "the base has no such tensor: the models have other layers")
	default:
		p.changes = append(p.changes, &change{module: module, param: param, tuned: t, role: whole, reason: "new"})
	}
	return nil
}

// sameAsEmbedding reports whether a stored head is the input embedding.
func sameAsEmbedding(ctx context.Context, m *patch.Model, head formats.Tensor, otherwise string) error {
	for _, s := range m.Sites {
		if s.Kind == patch.Embedding && slices.Equal(s.Weight.Shape, head.Shape) && s.Weight.DType == head.DType {
			if same, err := sameBytes(ctx, m, s.Weight, m, head, nil); same || err != nil {
				return err
			}
		}
	}
	return unfit(m, head.Name, "%s", otherwise)
}

// same reports whether a tensor did not change, but for its type: where one of the models was
// only saved in a narrower type, rounding gives it.
func (c *change) same(ctx context.Context, base, tuned *patch.Model, progress func(int64)) (bool, error) {
	t, u := c.base, c.tuned
	if !slices.Equal(t.Shape, u.Shape) {
		if c.resized() {
			return false, nil
		}
		return false, unfit(tuned, u.Name, "its shape differs from the base's (got %v, want %v)", u.Shape, t.Shape)
	}
	if t.DType != u.DType {
		if !t.DType.IsFloat() || !u.DType.IsFloat() {
			return false, unfit(tuned, u.Name, "its type cannot be compared with the base's (got %s, want %s)", u.DType, t.DType)
		}
		narrow := u.DType
		if t.DType.Bits() < u.DType.Bits() {
			narrow = t.DType
		}
		t, u = patch.AsDType(t, narrow), patch.AsDType(u, narrow)
	}
	same, err := sameBytes(ctx, base, t, tuned, u, progress)
	if err != nil || same || t.DType.IsFloat() || c.site.Kind == patch.Other && base.Config.Quantization == "" { // such as a counter
		return same, err
	}
	e := unfit(tuned, u.Name, "it differs from the base's, and %s has no difference that an adapter could hold", u.DType)
	if base.Config.Quantization != "" {
		return false, e.WithHint("the base is quantised (%s): take the models before quantisation", base.Config.Quantization)
	}
	return false, e
}

// resized reports whether the vocabulary has another size in the tuned model.
func (c *change) resized() bool {
	t, u := c.base.Shape, c.tuned.Shape
	return (c.site.Kind == patch.Embedding || c.site.Head) && len(t) == len(u) && len(t) > 0 && slices.Equal(t[1:], u[1:])
}

// sameBytes compares the bytes of two tensors of the models that are named.
func sameBytes(ctx context.Context, x *patch.Model, t formats.Tensor, y *patch.Model, u formats.Tensor, progress func(int64)) (bool, error) {
	return formats.SameBytes(x.Checkpoint.Path(), t, y.Checkpoint.Path(), u, func(n int64) error {
		if progress != nil {
			progress(2 * n)
		}
		return ctx.Err()
	})
}

// assign gives every change its role.
func (p *pairing) assign(base, tuned *patch.Model) {
	at := map[string]*change{} // weights that may have factors, by module
	for _, c := range p.changes {
		if c.reason != "" {
			continue
		}
		c.role = whole
		last := c.module[strings.LastIndexByte(c.module, '.')+1:]
		switch rows, cols := c.base.Matrix(); {
		case c.resized() && !slices.Equal(c.base.Shape, c.tuned.Shape):
			c.reason = "vocabulary"
			if c.param == "weight" && base.TiedInput(c.site.Module) {
				c.head = tuned.Config.OutputHead()
			}
		case c.param == "bias":
			c.reason = "bias"
		case c.param != "weight" || c.site.Kind == patch.Other || min(rows, cols) < 2:
			c.reason = "no matrix"
		case c.site.Kind == patch.Conv && c.base.Shape[1] == 1:
			c.reason = "perhaps a convolution of groups"
		case c.site.Kind == patch.Linear && (last == "router" || last == "gate"), last == "embed_positions":
			c.reason = "PEFT may have no factors for it" // routers of experts, positions with an offset
		default:
			if base.TiedInput(c.site.Module) {
				c.head = tuned.Config.OutputHead()
				if !strings.HasSuffix(c.module, "embed_tokens") {
					c.reason = "tied to the head" // PEFT ties factors of this name alone
					break
				}
			}
			c.role = lowRank
			at[c.module] = c
		}
	}
	bias := false
	for _, c := range p.changes {
		switch w := at[c.module]; {
		case c.role != whole || w == nil || c.reason == "new":
		case c.param == "bias" && w.site.Kind != patch.Embedding:
			c.role, bias = biased, true
		default: // a module is saved whole or has factors
			w.role, w.reason = whole, "its "+c.param+" is saved too"
		}
	}
	for _, c := range at {
		switch {
		case c.role == lowRank && bias && c.site.Kind == patch.Embedding:
			// PEFT refuses such an adapter.
			c.role, c.reason = whole, "an embedding has no factors where B has biases"
		case c.role == lowRank && slices.ContainsFunc(p.changes, func(x *change) bool {
			return x.role == whole && strings.HasPrefix(c.module, x.module+".")
		}):
			c.role, c.reason = whole, "in a module that is saved whole"
		}
	}
}

// complete adds the tensors that did not change of modules that are saved whole: PEFT loads
// such a module with all that it has, or not at all.
func (r *Result) complete() {
	saved, have := map[string]bool{}, map[string]bool{}
	for _, c := range r.changes {
		have[c.tuned.Name] = true
		if c.role == whole {
			saved[c.module] = true
		}
	}
	names := newRename(r.base, r.tuned)
	stored := map[string]formats.Tensor{} // of the base, by the tuned model's names
	for t := range r.base.Checkpoint.Tensors() {
		module, param := r.base.Parameter(t.Name)
		stored[names.of(module)+"."+param] = t
	}
	for t := range r.tuned.Checkpoint.Tensors() {
		module, param := r.tuned.Parameter(t.Name)
		if have[t.Name] || !inSaved(module, saved) || isBuffer(t) {
			continue
		}
		if b, ok := stored[module+"."+param]; ok && slices.Equal(b.Shape, t.Shape) {
			r.changes = append(r.changes, &change{module: module, param: param, base: b, tuned: t, role: whole, reason: Unchanged})
			r.layers = append(r.layers, nil)
		}
	}
}

// Unchanged is the reason for which a tensor is saved that is the base's.
const Unchanged = "unchanged, but its module is saved whole"

// inSaved reports whether a module or one that holds it is among those that are saved whole.
func inSaved(module string, saved map[string]bool) bool {
	for path := module; path != ""; path = path[:max(0, strings.LastIndexByte(path, '.'))] {
		if saved[path] {
			return true
		}
	}
	return false
}

package extract

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/internal/parallel"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/lowrank"
)

// Module is what became of one tensor that differs.
type Module struct {
	Module string  `json:"module"`
	Param  string  `json:"parameter"`
	Tensor string  `json:"tensor"` // in the tuned model
	Kind   string  `json:"kind"`   // of the update: "LowRank", "BiasDelta", "Replace", or "" where the size left nothing for it
	Reason string  `json:"reason,omitempty"`
	Shape  []int64 `json:"shape"`
	Bytes  int64   `json:"bytes"`

	// Of low-rank updates, all relative to ‖ΔW‖ but Norm:
	Rank     int     `json:"rank,omitempty"`
	Norm     float64 `json:"norm,omitempty"`     // ‖ΔW‖, Frobenius
	Energy   float64 `json:"energy,omitempty"`   // share of ‖ΔW‖² that the factors have
	Residual float64 `json:"residual,omitempty"` // ‖ΔW − B·A‖, measured
	Noise    float64 `json:"noise,omitempty"`    // expected of the rounding of the tuned weights to their type alone
	Signal   int     `json:"signal_rank,omitempty"`
	Exact    bool    `json:"exact,omitempty"` // decomposed whole, not sketched

	// Merged says how the merged tensor differs from the tuned one; nil until [Check].
	Merged *Merged `json:"merged,omitempty"`
}

// Result of [Extract].
type Result struct {
	Adapter  *adapter.Adapter // without a config; what is in it reads from the tuned model and the store
	Modules  []Module
	Same     int      // tensors that did not change
	BaseOnly []string // tensors that the tuned model lacks
	Buffers  []string // computed tensors that only one of the models stores
	Excluded []string // tensors that Options.Exclude leaves as the base has them
	// Narrower says that the base has a tensor in a narrower type than the tuned model: no
	// merge into it gives the tuned model's numbers.
	Narrower bool
	// NewVocabulary says that the tuned model knows another number of tokens: the base must be
	// resized before it takes the adapter.
	NewVocabulary bool

	base, tuned *patch.Model
	changes     []*change
	layers      []*Layer // nil for other roles
}

const (
	// workBytes is how much of differences and sketches is in work at once.
	workBytes = 208 << 20
	// collectBytes is how much of that may wait for the collector when it is not needed any more.
	collectBytes = 64 << 20
)

// Extract finds the adapter that turns one model into the other. Models of different layers or
// types, and tensors that no adapter can hold, are [formats.ErrUnfit], all problems together;
// a Size that is too small is [formats.ErrUsage].
func Extract(ctx context.Context, base, tuned *patch.Model, opts Options) (*Result, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	p, err := compare(ctx, base, tuned, &opts)
	if err != nil {
		return nil, err
	}
	if len(p.changes) == 0 {
		return nil, unfit(tuned, "", "it is the same as the base: there is nothing to extract")
	}
	r := &Result{
		Same: p.same, BaseOnly: p.baseOnly, Buffers: p.buffers, Excluded: p.excluded,
		base: base, tuned: tuned, changes: p.changes, layers: make([]*Layer, len(p.changes)),
	}
	j := &job{opts: &opts, result: r}
	if opts.Size != 0 {
		err = j.spend(ctx)
	} else {
		err = j.layers(ctx, nil)
	}
	if err != nil {
		return nil, err
	}
	j.settle()
	if err := r.assemble(); err != nil {
		return nil, err
	}
	if len(r.Adapter.Entries) == 0 {
		return nil, unfit(tuned, "", "it differs from the base in the signs of zeros alone: there is nothing to extract")
	}
	return r, nil
}

// settle gives weights without factors their role, and returns what those that are saved whole
// take.
func (j *job) settle() (bytes int64) {
	for i, c := range j.result.changes {
		if c.role != lowRank || j.result.layers[i].Whole == "" {
			continue
		}
		c.role, c.reason = whole, j.result.layers[i].Whole
		if c.reason == signsOfZero && !j.opts.bits() {
			c.role = left
		} else {
			bytes += c.tuned.Size() * c.copies()
		}
	}
	return bytes
}

// job is an extraction in work.
type job struct {
	opts   *Options
	result *Result
}

// layers factorises the weights, several at once. ranks are those that are wanted, by index;
// nil where the options say.
func (j *job) layers(ctx context.Context, ranks map[int]int) error {
	var todo []int
	for i, c := range j.result.changes {
		if _, ok := ranks[i]; c.role == lowRank && (ranks == nil || ok) {
			todo = append(todo, i)
		}
	}
	need := func(n int) int64 { return j.need(j.result.changes[todo[n]], ranks[todo[n]]) }
	var dropped atomic.Int64
	return parallel.Within(ctx, len(todo), workBytes, need, func(n int) (err error) {
		i := todo[n]
		j.result.layers[i], err = j.layer(ctx, j.result.changes[i], ranks[i])
		// Left to itself the collector would let the heap grow to twice what is in use.
		if dropped.Add(need(n)) > collectBytes {
			dropped.Store(0)
			runtime.GC()
		}
		return err
	})
}

// need is about what a weight takes: the difference, where it is held, and sketches.
func (j *job) need(c *change, k int) int64 {
	rows, cols := c.base.Matrix()
	size := rows * cols * max(4, c.base.DType.Bits()/8)
	if size > heldBytes {
		size = 2 * blockBytes
	}
	wanted := min(max(int64(k), j.opts.Rank, firstRank), rows, cols)
	return size + 8*5*(rows+cols)*wanted
}

// layer loads a layer from the store, or makes it and saves it.
func (j *job) layer(ctx context.Context, c *change, k int) (*Layer, error) {
	key := fmt.Sprintf("%s\x00%d", c.tuned.Name, k)
	var l *Layer
	var err error
	if j.opts.Store != nil {
		if l, err = j.opts.Store.Load(key); err != nil {
			return nil, err
		}
	}
	if l == nil {
		if l, err = factorize(ctx, c, j.opts, k, j.result.base.Checkpoint.Path(), j.result.tuned.Checkpoint.Path()); err != nil {
			return nil, err
		}
		if j.opts.Store != nil {
			if l, err = j.opts.Store.Save(key, l); err != nil {
				return nil, err
			}
		}
	}
	if j.opts.Progress != nil {
		j.opts.Progress(c.base.Size() + c.tuned.Size())
	}
	return l, nil
}

// spend gives every weight factors of the rank that the size allows it.
func (j *job) spend(ctx context.Context) error {
	r := j.result
	left, all := j.opts.Size, int64(0)
	biases := false
	var at []int // low-rank changes
	var costs []int64
	for i, c := range r.changes {
		switch c.role {
		case whole:
			left -= c.tuned.Size() * c.copies()
		case biased:
			biases = true
		case lowRank:
			rows, cols := c.base.Matrix()
			at, costs = append(at, i), append(costs, (rows+cols)*j.opts.factorType(c.base.DType).Bits()/8*c.copies())
			all += costs[len(costs)-1]
		}
	}
	if biases {
		for _, i := range at {
			left -= r.changes[i].biasBytes(j.opts)
		}
	}
	if left < 0 {
		return tooSmall(j.opts.Size, j.opts.Size-left)
	}
	if len(at) == 0 {
		return nil
	}
	wanted := map[int]int{}
	for _, i := range at {
		wanted[i] = max(1, min(int(2*left/all)+8, r.changes[i].payingRank(j.opts)))
	}
	have, ranks := map[int]int{}, []int(nil)
	for len(wanted) > 0 {
		if err := j.layers(ctx, wanted); err != nil {
			return err
		}
		if left -= j.settle(); left < 0 {
			return tooSmall(j.opts.Size, j.opts.Size-left)
		}
		spectra := make([][]float64, len(at))
		for n, i := range at {
			if k, ok := wanted[i]; ok {
				have[i] = k
			}
			spectra[n] = r.layers[i].Spectrum
		}
		ranks = lowrank.Spend(costs, spectra, left)
		clear(wanted)
		for n, i := range at {
			// All that is known of it was worth its bytes, and there may be more.
			if limit := r.changes[i].payingRank(j.opts); ranks[n] == have[i] && have[i] < limit {
				wanted[i] = min(2*have[i], limit)
			}
		}
	}
	if slices.Max(ranks) == 0 && !slices.ContainsFunc(r.changes, func(c *change) bool { return c.role == whole }) {
		return formats.Usagef("%d bytes hold no rank of any module (want at least %d)", j.opts.Size, slices.Min(costs))
	}
	for n, i := range at {
		l := r.layers[i]
		if l.Whole != "" {
			continue
		}
		var err error
		if r.layers[i], err = l.truncated(withoutNoise(l.Spectrum[:ranks[n]], l.Stats.Norm, l.Signal)); err != nil {
			return err
		}
	}
	return nil
}

func tooSmall(size, want int64) error {
	return formats.Usagef("%d bytes are too few: what cannot have factors takes %d", size, want)
}

// copies is how often a change is written: twice where a head shares the weight.
func (c *change) copies() int64 {
	if c.head != "" {
		return 2
	}
	return 1
}

// biasBytes is what the bias on B takes.
func (c *change) biasBytes(opts *Options) int64 {
	out, _ := c.base.Matrix()
	if c.site.InOut {
		_, out = c.base.Matrix()
	}
	return out * opts.factorType(c.base.DType).Bits() / 8
}

// assemble makes the adapter and the report.
func (r *Result) assemble() error {
	r.complete()
	r.Adapter, r.Modules = &adapter.Adapter{}, nil
	factors := map[string]*Layer{} // by module, of those that get some
	for i, c := range r.changes {
		if c.role == lowRank && len(r.layers[i].Spectrum) > 0 {
			factors[c.module] = r.layers[i]
		}
	}
	biases := map[string]bool{} // modules whose B gets one
	for _, c := range r.changes {
		if c.role != biased {
			continue
		}
		if factors[c.module] == nil {
			c.role, c.reason = whole, "bias"
		} else {
			biases[c.module] = true
		}
	}
	for i, c := range r.changes {
		r.Narrower = r.Narrower || c.base.Data != nil && c.base.DType.Bits() < c.tuned.DType.Bits()
		m := Module{Module: c.module, Param: c.param, Tensor: c.tuned.Name, Shape: c.tuned.Shape, Reason: c.reason}
		entry := adapter.Entry{Module: c.module}
		switch c.role {
		case whole:
			if c.module == "" {
				return formats.Unfitf(r.tuned.Checkpoint.Path(), c.tuned.Name, "it belongs to no module that an adapter could save")
			}
			r.NewVocabulary = r.NewVocabulary || c.reason == "vocabulary"
			value := c.tuned
			value.Name = c.module + "." + c.param
			entry.Update = &adapter.Replace{Param: c.param, Value: value}
			m.Bytes = value.Size()
		case left:
			r.Modules = append(r.Modules, m)
			continue
		case biased:
			delta, err := r.biasDelta(c, factors[c.module].B.DType)
			if err != nil {
				return err
			}
			entry.Update = delta
			m.Bytes = delta.Vector.Size()
		default:
			l := r.layers[i]
			m.describe(l)
			if len(l.Spectrum) == 0 {
				m.Reason = "no bytes left for it"
				r.Modules = append(r.Modules, m)
				continue
			}
			low := &adapter.LowRank{A: l.A, B: l.B, Scale: 1, FanInFanOut: c.fanInFanOut(), Embedding: c.isEmbedding()}
			low.A.Name, low.B.Name = c.module+".lora_A.weight", c.module+".lora_B.weight"
			entry.Update = low
		}
		m.Kind = entry.Update.Kind()
		r.Modules = append(r.Modules, m)
		r.Adapter.Entries = append(r.Adapter.Entries, entry)
		if c.head != "" {
			r.Adapter.Entries = append(r.Adapter.Entries, c.headCopy(entry))
			r.Adapter.Tied = c.role == lowRank
		}
		if c.role == lowRank && len(biases) > 0 && !biases[c.module] {
			// PEFT gives every B a bias or none.
			r.Adapter.Entries = append(r.Adapter.Entries, adapter.Entry{Module: c.module, Update: zeroBias(entry.Update.(*adapter.LowRank))})
		}
	}
	return nil
}

// headCopy does to the head what an entry does to the embedding that is the same weight: PEFT
// has the two apart.
func (c *change) headCopy(e adapter.Entry) adapter.Entry {
	switch u := e.Update.(type) {
	case *adapter.LowRank:
		low := &adapter.LowRank{A: adapter.Transposed(u.B), B: adapter.Transposed(u.A), Scale: u.Scale, FanInFanOut: u.FanInFanOut}
		low.A.Name, low.B.Name = c.head+".lora_A.weight", c.head+".lora_B.weight"
		e.Update = low
	case *adapter.Replace:
		copied := *u
		copied.Value.Name = c.head + "." + u.Param
		e.Update = &copied
	}
	e.Module = c.head
	return e
}

func (m *Module) describe(l *Layer) {
	norm := l.Stats.Norm
	m.Rank, m.Norm, m.Signal, m.Exact = len(l.Spectrum), norm, l.Signal, l.Exact
	m.Noise = l.Stats.Noise / norm
	if m.Residual = 1; m.Rank > 0 {
		m.Residual = l.Residual / norm
		m.Energy = max(0, 1-m.Residual*m.Residual)
	}
	m.Bytes = l.bytes()
}

func (c *change) fanInFanOut() bool { return c.site.Kind == patch.Linear && c.site.InOut }
func (c *change) isEmbedding() bool { return c.site.Kind == patch.Embedding }

// biasDelta returns tuned − base of a bias, as the bias that B gets.
func (r *Result) biasDelta(c *change, dtype formats.DType) (*adapter.BiasDelta, error) {
	old, err := lowrank.Read(r.base.Checkpoint.Path(), c.base)
	if err != nil {
		return nil, err
	}
	delta, err := lowrank.Read(r.tuned.Checkpoint.Path(), c.tuned)
	if err != nil {
		return nil, err
	}
	delta.Sub(delta, old)
	t, err := patch.StoreFactor(c.module+".lora_B.bias", delta, 1, c.tuned.Shape, dtype)
	return &adapter.BiasDelta{Vector: t, Scale: 1}, err
}

func zeroBias(low *adapter.LowRank) *adapter.BiasDelta {
	t := formats.Tensor{Name: low.B.Name, DType: low.B.DType, Shape: low.B.Shape[:1]}
	t.Data = bytes.NewReader(make([]byte, t.Size()))
	return &adapter.BiasDelta{Vector: t, Scale: 1}
}

// Energy returns the share of ‖ΔW‖² over all weights with factors, or left without, that the
// adapter has, and the relative error that stays.
func (r *Result) Energy() (energy, residual float64) {
	all, left := 0.0, 0.0
	for _, m := range r.Modules {
		all = math.Hypot(all, m.Norm)
		left = math.Hypot(left, m.Norm*m.Residual)
	}
	if all == 0 {
		return 1, 0
	}
	return 1 - left/all*(left/all), left / all
}

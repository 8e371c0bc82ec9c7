package patch

import (
	"bytes"
	"sync"

	"github.com/seed-b982eded/graft/formats"
)

// Outcome says what merging did to a target.
type Outcome uint8

// Outcomes.
const (
	Changed   Outcome = iota // at least one element differs from the base
	ZeroDelta                // ΔW is zero in every element
	Lost                     // ΔW is not zero, and rounding to the base's dtype lost all of it
)

func (o Outcome) String() string {
	return [...]string{"changed", "zero delta", "lost to rounding"}[o]
}

// Observer watches one execution of a plan and accounts for every target. It is safe
// for concurrent use.
type Observer struct {
	p        *Plan
	detailed bool
	mu       sync.Mutex
	changed  map[string]bool        // by tensor
	stats    map[string]*Statistics // by tensor; detailed only
}

// Observer returns a fresh observer for one execution of the plan. A detailed one takes
// [Statistics], for which it makes every delta a second time.
func (p *Plan) Observer(detailed bool) *Observer {
	return &Observer{p: p, detailed: detailed, changed: map[string]bool{}, stats: map[string]*Statistics{}}
}

// Observe compares a block of a merged tensor with the base, until one has shown a
// difference. Whoever executes the plan hands it every block made, in whole rows;
// publish.BlockOptions.Observe is for that.
func (o *Observer) Observe(t formats.Tensor, off int64, block []byte) error {
	target, ok := o.p.byName[t.Name]
	if !ok {
		return nil
	}
	o.mu.Lock()
	known := o.changed[t.Name]
	o.mu.Unlock()
	if known && !o.detailed {
		return nil
	}
	changed := false
	var s Statistics
	_, cols := t.Matrix()
	rowBytes := max(1, cols*t.DType.Bits()/8)
	step := max(1, observeBytes/rowBytes) * rowBytes
	w := rowsMeasuredPool.Get().(*rowsMeasured)
	defer rowsMeasuredPool.Put(w)
	for len(block) > 0 && (o.detailed || !changed) {
		n := min(step, int64(len(block)))
		w.old = grown(w.old, n)
		if err := formats.ReadFullAt(target.Tensor.Data, w.old, off); err != nil {
			return &formats.Error{Class: formats.ErrInput, File: o.p.base.Path(), Tensor: t.Name, Err: err}
		}
		changed = changed || differInValue(block[:n], w.old, t.DType)
		if o.detailed {
			some, err := target.measure(o.p.cache, off, block[:n], w)
			if err != nil {
				return err
			}
			s.add(some)
		}
		block, off = block[n:], off+n
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changed[t.Name] = o.changed[t.Name] || changed
	if o.detailed {
		if o.stats[t.Name] == nil {
			o.stats[t.Name] = &Statistics{}
		}
		o.stats[t.Name].add(s)
	}
	return nil
}

// observeBytes is how much of a block is looked at at a time. Statistics take up to
// twelve times as much in float64.
const observeBytes = 128 << 10

// differInValue reports whether any element differs. Zeros are equal whatever their
// sign: adding a zero to −0 makes it +0, and that is no change worth the name.
func differInValue(x, y []byte, dtype formats.DType) bool {
	if bytes.Equal(x, y) {
		return false
	}
	size := int(dtype.Bits() / 8)
	for i := 0; i+size <= len(x); i += size {
		a, b := x[i:i+size], y[i:i+size]
		if !bytes.Equal(a, b) && !(isZero(a) && isZero(b)) {
			return true
		}
	}
	return false
}

// isZero reports whether an encoded float is zero of either sign.
func isZero(p []byte) bool {
	last := len(p) - 1
	for _, x := range p[:last] {
		if x != 0 {
			return false
		}
	}
	return p[last]&0x7f == 0
}

// Result is what became of one target.
type Result struct {
	*Target
	Outcome    Outcome
	Statistics *Statistics // of a detailed observer
}

// Results returns what became of each low-rank target after all blocks were observed,
// in the plan's order. A target of which no element changed is looked at again, to
// tell a zero delta from one that rounding lost.
func (o *Observer) Results() ([]Result, error) {
	var out []Result
	for _, t := range o.p.targets {
		if len(t.stages) == 0 || t.replaced != nil {
			continue // a saved value is copied: nothing of it can be lost
		}
		o.mu.Lock()
		changed := o.changed[t.Tensor.Name]
		o.mu.Unlock()
		r := Result{Target: t, Statistics: o.stats[t.Tensor.Name]}
		if r.Statistics != nil {
			r.Statistics.finish()
		}
		if !changed {
			zero, err := t.deltaIsZero()
			if err != nil {
				return nil, err
			}
			if r.Outcome = Lost; zero {
				r.Outcome = ZeroDelta
			}
		}
		out = append(out, r)
	}
	return out, nil
}

// CheckLost returns an [formats.ErrUnfit] that lists the targets whose whole change
// rounding lost.
func CheckLost(results []Result) error {
	var problems formats.Problems
	for _, r := range results {
		if r.Outcome == Lost {
			problems.Add(formats.Unfitf(r.stages[0][0].path, r.Tensor.Name, "the change is not zero, but none of it survives rounding to %s", r.Tensor.DType).
				WithHint("--allow-lost accepts that; a base of a wider dtype would keep it"))
		}
	}
	return problems.Err()
}

// zeroCheckBytes bounds the right factors that deltaIsZero holds.
const zeroCheckBytes = 16 << 20

// deltaIsZero reports whether every element of every low-rank ΔW, in float64, is zero.
func (t *Target) deltaIsZero() (bool, error) {
	rows, cols := t.Tensor.Matrix()
	parts := t.scaledParts()
	ranks := int64(1)
	for _, p := range parts {
		ranks += p.rank()
	}
	some := min(max(1, zeroCheckBytes/8/ranks), 4096)
	s := new(scratch[float64])
	for col := int64(0); col < cols; col += some {
		n := min(some, cols-col)
		f := factors[float64]{}
		for _, p := range parts {
			v, err := readRight(p, col, n, s)
			if err != nil {
				return false, err
			}
			f.right = append(f.right, v)
		}
		for row := int64(0); row < rows; row += normRows {
			some := min(normRows, rows-row)
			sums := make([]float64, some*n)
			u, err := updates(parts, f, row, some, s)
			if err != nil {
				return false, err
			}
			addProducts(sums, parts, u, int(n))
			for _, x := range sums {
				if x != 0 {
					return false, nil
				}
			}
		}
	}
	return true, nil
}

package patch

import (
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
	p       *Plan
	mu      sync.Mutex
	changed map[string]int64 // elements that differ, by tensor
}

// Observer returns a fresh observer for one execution of the plan.
func (p *Plan) Observer() *Observer { return &Observer{p: p, changed: map[string]int64{}} }

// Observe compares a block of a merged tensor with the base. Whoever executes the
// plan hands it every block made; safetensors.WriteOptions.Observe is for that.
func (o *Observer) Observe(t formats.Tensor, off int64, block []byte) error {
	target, ok := o.p.byName[t.Name]
	if !ok {
		return nil
	}
	old := make([]byte, len(block))
	if err := formats.ReadFullAt(target.Tensor.Data, old, off); err != nil {
		return &formats.Error{Class: formats.ErrInput, Tensor: t.Name, Detail: "reading the base", Err: err}
	}
	size := int(t.DType.Bits() / 8)
	var n int64
	for i := 0; i+size <= len(block); i += size {
		if string(block[i:i+size]) != string(old[i:i+size]) {
			n++
		}
	}
	o.mu.Lock()
	o.changed[t.Name] += n
	o.mu.Unlock()
	return nil
}

// Result is what became of one target.
type Result struct {
	*Target
	Outcome  Outcome
	Elements int64 // of the tensor
	Changed  int64 // elements that differ from the base
}

// Results returns what became of each low-rank target after all blocks were observed,
// in the plan's order. A target of which no element changed is looked at again, to
// tell a zero delta from one that rounding lost.
func (o *Observer) Results() ([]Result, error) {
	var out []Result
	for _, t := range o.p.targets {
		if len(t.parts) == 0 || t.replaced != nil {
			continue // a saved value is copied: nothing of it can be lost
		}
		o.mu.Lock()
		n := o.changed[t.Tensor.Name]
		o.mu.Unlock()
		r := Result{Target: t, Elements: t.Tensor.Elements(), Changed: n}
		if n == 0 {
			zero, err := t.deltaIsZero(o.p.cache)
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
			problems.Add(formats.Unfitf(r.parts[0].path, r.Tensor.Name, "the change is not zero, but none of it survives rounding to %s", r.Tensor.DType).
				WithHint("--allow-lost accepts that; a base of a wider dtype would keep it"))
		}
	}
	return problems.Err()
}

// deltaIsZero reports whether every element of ΔW, in float64, is zero.
func (t *Target) deltaIsZero(cache *factorCache) (bool, error) {
	rows, cols := t.Tensor.Matrix()
	for row := range rows {
		sum := make([]float64, cols)
		for _, p := range t.parts {
			if p.scale == 0 {
				continue
			}
			r, err := readRightOnce(cache, p, t.Tensor.DType)
			if err != nil {
				return false, err
			}
			l, err := readLeft[float64](p, row, 1)
			if err != nil {
				return false, err
			}
			for k, x := range l {
				if x == 0 {
					continue
				}
				for c := range sum {
					sum[c] += p.scale * x * r(k*int(cols)+c)
				}
			}
		}
		for _, x := range sum {
			if x != 0 {
				return false, nil
			}
		}
	}
	return true, nil
}

// readRightOnce returns access to a right factor in the type that the cache holds it in.
func readRightOnce(cache *factorCache, p *part, dtype formats.DType) (func(i int) float64, error) {
	if dtype == formats.F64 {
		v, err := right[float64](cache, p)
		return func(i int) float64 { return v[i] }, err
	}
	v, err := right[float32](cache, p)
	return func(i int) float64 { return float64(v[i]) }, err
}

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
	p       *Plan
	mu      sync.Mutex
	changed map[string]bool // by tensor
}

// Observer returns a fresh observer for one execution of the plan.
func (p *Plan) Observer() *Observer { return &Observer{p: p, changed: map[string]bool{}} }

// Observe compares a block of a merged tensor with the base, until one has shown a
// difference. Whoever executes the plan hands it every block made;
// safetensors.WriteOptions.Observe is for that.
func (o *Observer) Observe(t formats.Tensor, off int64, block []byte) error {
	target, ok := o.p.byName[t.Name]
	if !ok {
		return nil
	}
	o.mu.Lock()
	known := o.changed[t.Name]
	o.mu.Unlock()
	if known {
		return nil
	}
	old := make([]byte, len(block))
	if err := formats.ReadFullAt(target.Tensor.Data, old, off); err != nil {
		return &formats.Error{Class: formats.ErrInput, Tensor: t.Name, Detail: "reading the base", Err: err}
	}
	if !bytes.Equal(block, old) {
		o.mu.Lock()
		o.changed[t.Name] = true
		o.mu.Unlock()
	}
	return nil
}

// Result is what became of one target.
type Result struct {
	*Target
	Outcome Outcome
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
		r := Result{Target: t}
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

// deltaIsZero reports whether every element of every low-rank ΔW, in float64, is zero.
func (t *Target) deltaIsZero() (bool, error) {
	rows, cols := t.Tensor.Matrix()
	parts := t.scaledParts()
	rights := make([][]float64, len(parts))
	for i, p := range parts {
		var err error
		if rights[i], err = readRight[float64](p); err != nil {
			return false, err
		}
	}
	for row := int64(0); row < rows; row += normRows {
		n := min(normRows, rows-row)
		sums := make([]float64, n*cols)
		for i, p := range parts {
			l, err := readLeft[float64](p, row, n)
			if err != nil {
				return false, err
			}
			addProduct(sums, l, rights[i], int(p.rank()), int(cols), p.scale)
		}
		for _, x := range sums {
			if x != 0 {
				return false, nil
			}
		}
	}
	return true, nil
}

// addProduct adds scale · left·right to sums, row by row.
func addProduct(sums, left, right []float64, r, cols int, scale float64) {
	for i := range len(sums) / cols {
		row := sums[i*cols : (i+1)*cols]
		for k, x := range left[i*r : (i+1)*r] {
			if x == 0 {
				continue
			}
			for c := range row {
				row[c] += scale * x * right[k*cols+c]
			}
		}
	}
}

package diff

import (
	"bytes"
	"context"
	"math"
	"runtime"
	"sync"

	"github.com/seed-b982eded/graft/formats"
)

// Values says how far the elements of two tensors of one shape are apart.
type Values struct {
	Elements  int64 `json:"elements"`
	Differing int64 `json:"differing"` // by bits; between two types by value
	// NotFinite are the elements that differ where one of the two is infinite or NaN. They
	// are in no other number.
	NotFinite int64 `json:"not_finite,omitempty"`
	// ULPs is how many steps of their type the elements that differ are apart, in powers of
	// two; nil between two types.
	ULPs     []ULPs `json:"ulps,omitempty"`
	MaxULPs  uint64 `json:"max_ulps,omitempty"`
	MaxAbs   Number `json:"max_abs"`
	NormA    Number `json:"norm_a"`
	NormB    Number `json:"norm_b"`
	Distance Number `json:"distance"` // ‖B − A‖, Frobenius
	Relative Number `json:"relative"` // ‖B − A‖/‖A‖
	Cosine   Number `json:"cosine"`
}

// ULPs counts the elements whose distance in ulps is in a range. From 0 to 0 are those that
// differ in the sign of zero alone.
type ULPs struct {
	From  uint64 `json:"from"`
	To    uint64 `json:"to"`
	Count int64  `json:"elements"`
}

// blockBytes is how much of each side a worker holds.
const blockBytes = 1 << 20

// pair is a tensor on both sides, of one shape, with elements that can be compared.
type pair struct {
	a, b         formats.Tensor
	fileA, fileB string
	step         int64 // elements of a block
	prepare      sync.Once
	unprepared   error

	mu     sync.Mutex
	counts counts
	sums   []moments // of each block
	same   []bool    // blocks that are bit-equal, and not in sums yet
}

// newPair returns nil where elements of the two types have nothing to be compared by.
func newPair(a, b formats.Tensor, fileA, fileB string) *pair {
	if a.DType != b.DType && !(a.DType.IsFloat() && b.DType.IsFloat()) {
		return nil
	}
	p := &pair{a: a, b: b, fileA: fileA, fileB: fileB}
	elements := func(t formats.Tensor) int64 { return formats.BlockStep(t, blockBytes) * 8 / t.DType.Bits() }
	_, grainA := a.Data.(formats.Grainer)
	_, grainB := b.Data.(formats.Grainer)
	switch p.step = min(elements(a), elements(b)); {
	case grainA:
		p.step = elements(a)
	case grainB:
		p.step = elements(b)
	}
	if a.DType.Bits()%8 != 0 { // whole bytes
		p.step = p.step / 8 * 8
	}
	p.step = max(p.step, 8)
	n := (a.Elements() + p.step - 1) / p.step
	p.sums, p.same = make([]moments, n), make([]bool, n)
	return p
}

// values is the result, when all blocks are done.
func (p *pair) values() *Values {
	c := &p.counts
	v := &Values{Elements: p.a.Elements(), Differing: c.differing, NotFinite: c.notFinite, MaxULPs: c.maxULPs, MaxAbs: Number(c.maxAbs)}
	for k, n := range c.ulps {
		if n > 0 {
			v.ULPs = append(v.ULPs, ulpsOf(k, n))
		}
	}
	m := p.moments()
	v.set(&m)
	if !p.a.DType.IsFloat() {
		none := Number(math.NaN())
		v.MaxAbs, v.NormA, v.NormB, v.Distance, v.Relative, v.Cosine = none, none, none, none, none, none
	}
	return v
}

func (p *pair) moments() moments {
	var m moments
	for _, s := range p.sums {
		m.add(s)
	}
	return m
}

func (v *Values) set(m *moments) {
	a, b, d := m.norms()
	v.NormA, v.NormB, v.Distance = Number(a), Number(b), Number(d)
	v.Relative, v.Cosine = Number(m.relative()), Number(m.cosine())
}

func ulpsOf(k int, count int64) ULPs {
	if k == 0 {
		return ULPs{Count: count}
	}
	return ULPs{From: 1 << (k - 1), To: 1<<(k-1)<<1 - 1, Count: count}
}

// engine compares many pairs with several workers.
type engine struct {
	pairs    []*pair
	progress func(int64)

	mu     sync.Mutex
	pair   int
	block  int
	again  bool // blocks that are bit-equal, of tensors that are not
	failed error
}

// comparePairs reads every element of all pairs, and those of tensors that are not
// bit-equal where they are a second time: norms are only needed there.
func comparePairs(ctx context.Context, pairs []*pair, progress func(int64)) error {
	for _, again := range []bool{false, true} {
		e := &engine{pairs: pairs, progress: progress, again: again}
		var wg sync.WaitGroup
		for range runtime.GOMAXPROCS(0) {
			wg.Go(func() { e.work(ctx) })
		}
		wg.Wait()
		if e.failed != nil {
			return e.failed
		}
	}
	return nil
}

// next hands out the blocks, tensor by tensor.
func (e *engine) next() (p *pair, block int, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.failed == nil && e.pair < len(e.pairs) {
		p = e.pairs[e.pair]
		if e.block == len(p.sums) || e.again && p.counts.differing == 0 {
			e.pair, e.block = e.pair+1, 0
			continue
		}
		block = e.block
		e.block++
		if !e.again || p.same[block] && p.a.DType.IsFloat() {
			return p, block, true
		}
	}
	return nil, 0, false
}

func (e *engine) work(ctx context.Context) {
	var x, y []byte
	var w comparer
	for {
		p, i, ok := e.next()
		if !ok {
			return
		}
		err := ctx.Err()
		if err == nil {
			x, y, err = p.compare(ctx, i, x, y, &w, e.again)
		}
		if err != nil {
			e.mu.Lock()
			if e.failed == nil {
				e.failed = err
			}
			e.mu.Unlock()
			return
		}
		if e.progress != nil && !e.again {
			e.progress(int64(len(x) + len(y)))
		}
	}
}

// compare does one block. x and y are memory to use, which it returns.
func (p *pair) compare(ctx context.Context, i int, x, y []byte, w *comparer, again bool) (_, _ []byte, err error) {
	p.prepare.Do(func() {
		for _, t := range []formats.Tensor{p.a, p.b} {
			if d, ok := t.Data.(formats.Preparer); ok && p.unprepared == nil {
				p.unprepared = d.Prepare(ctx)
			}
		}
	})
	if p.unprepared != nil {
		return x, y, p.unprepared
	}
	first := int64(i) * p.step
	n := min(p.step, p.a.Elements()-first)
	if x, err = readBlock(p.a, p.fileA, x, first, n); err != nil {
		return x, y, err
	}
	if again {
		p.sums[i] = w.same(x, p.a.DType)
		return x, y, nil
	}
	if y, err = readBlock(p.b, p.fileB, y, first, n); err != nil {
		return x, y, err
	}
	if p.a.DType == p.b.DType && bytes.Equal(x, y) {
		p.same[i] = true
		return x, y, nil
	}
	m, c := w.block(x, y, p.a.DType, p.b.DType)
	p.sums[i] = m
	p.mu.Lock()
	p.counts.add(&c)
	p.mu.Unlock()
	return x, y, nil
}

// readBlock reads elements into buf, or into new memory where that is too small.
func readBlock(t formats.Tensor, file string, buf []byte, first, n int64) ([]byte, error) {
	bits := t.DType.Bits()
	size := n * bits / 8
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if err := formats.ReadFullAt(t.Data, buf, first*bits/8); err != nil {
		return buf, formats.ReadError(file, t.Name, err)
	}
	return buf, nil
}

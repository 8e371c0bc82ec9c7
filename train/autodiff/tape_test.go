package autodiff

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// program is a small transformer layer that uses all operations, with two leaves to
// train and the rest frozen.
type program struct {
	tape              Tape
	rotary            *Rotary
	table, norm       *Value
	q, k, v, gate, up *Value
	down, bias, head  *Value
	a, b              *Value
	tokens, targets   []int32
	spans             []Span
	seqs              []Seq
}

func newProgram() *program {
	const dim, vocab, hidden = 24, 211, 67
	rng := rand.New(rand.NewPCG(1, 9))
	random := func(rows, cols int) *Value {
		data := NewBuffer(rows * cols)
		for i := range data {
			data[i] = float32(rng.NormFloat64()) * 0.2
		}
		return Frozen(rows, cols, data)
	}
	trained := func(rows, cols int) *Value {
		return Trainable(rows, cols, random(rows, cols).Data, NewBuffer(rows*cols))
	}
	p := &program{
		rotary: NewRotary([]float32{1, 0.25, 0.03}, 1), table: random(vocab, dim), norm: random(1, dim),
		q: random(dim, dim), k: random(12, dim), v: random(12, dim),
		gate: random(hidden, dim), up: random(hidden, dim), down: random(dim, hidden),
		bias: random(1, dim), head: random(vocab, dim),
		a: trained(3, dim), b: trained(dim, 3),
		seqs: []Seq{{71, 71}, {5, 5}, {66, 66}},
	}
	for _, s := range p.seqs {
		p.spans = append(p.spans, Span{p.rotary, 0, s.Queries})
		for range s.Queries {
			p.tokens = append(p.tokens, int32(rng.IntN(vocab)))
			p.targets = append(p.targets, int32(rng.IntN(vocab)))
		}
	}
	p.targets[3] = Ignored
	return p
}

func (p *program) loss() float64 {
	t := &p.tape
	h := t.Rows(p.table, p.tokens)
	h = t.Scope(h, func(h *Value) *Value {
		x := t.RMSNorm(h, p.norm, RMS{Eps: 1e-5})
		q, k, v := t.Linear(x, p.q, nil), t.Linear(x, p.k, nil), t.Linear(x, p.v, nil)
		t.LoRA(q, t.Dropout(x, 0.1, 5), p.a, p.b, 2)
		t.Rotate(q, 6, p.spans)
		t.Rotate(k, 6, p.spans)
		y := t.Attention(q, k, v, Heads{Query: 4, KeyValue: 2, Dim: 6}, p.seqs)
		t.Add(y, h)
		y2 := t.Linear(t.SwiGLU(t.Linear(y, p.gate, nil), t.Linear(y, p.up, nil)), p.down, p.bias)
		t.Scale(y2, 0.5)
		t.Add(y2, y)
		return y2
	})
	loss, _ := t.CrossEntropy(t.Linear(h, p.head, nil), p.targets, 0.01)
	return loss
}

func (p *program) step() float64 {
	p.tape.Reset()
	loss := p.loss()
	p.tape.Backward()
	return loss
}

func TestSameBitsForAnyGOMAXPROCS(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var loss float64
	var ga, gb []float32
	for _, n := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(n)
		for range 3 {
			p := newProgram()
			l := p.step()
			if ga == nil {
				loss, ga, gb = l, p.a.Grad(), p.b.Grad()
			}
			if l != loss || !slices.Equal(p.a.Grad(), ga) || !slices.Equal(p.b.Grad(), gb) {
				t.Fatalf("GOMAXPROCS=%d gives other bits", n)
			}
		}
	}
	if slices.Max(ga) == 0 || slices.Max(gb) == 0 {
		t.Error("no gradient at all")
	}
}

func TestFrozenLeavesHaveNoGradient(t *testing.T) {
	p := newProgram()
	p.step()
	for i, v := range []*Value{p.table, p.norm, p.q, p.k, p.v, p.gate, p.up, p.down, p.bias, p.head} {
		if v.Grad() != nil || v.NeedsGrad() {
			t.Errorf("frozen leaf %d has a gradient", i)
		}
	}
}

func TestNothingIsRecordedBelowTheFirstFactor(t *testing.T) {
	var tape Tape
	x := tape.Linear(Frozen(2, 3, make([]float32, 6)), Frozen(5, 3, make([]float32, 15)), nil)
	if len(tape.ops) != 0 || x.NeedsGrad() {
		t.Error("an operation on frozen values was recorded")
	}
}

func TestSecondStepTakesNoNewBuffers(t *testing.T) {
	p := newProgram()
	p.step()
	buffers := len(p.tape.arena.all)
	p.step()
	if n := len(p.tape.arena.all); n != buffers {
		t.Errorf("%d buffers after the second step, %d after the first", n, buffers)
	}
	// What is left are closures, values and goroutines: a dozen small ones for each of the
	// 18 operations.
	if n := testing.AllocsPerRun(5, func() { p.step() }); n > 20*18 {
		t.Errorf("%v allocations a step", n)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 10 {
		p.step()
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / 10; n > 32<<10 {
		t.Errorf("%d bytes a step", n)
	}
}

// Buffers come with what was last in them, and no operation may read that.
func TestUsedBuffersGiveTheSameBits(t *testing.T) {
	want := newProgram()
	wantLoss := want.step()
	p := newProgram()
	p.step()
	clear(p.a.Grad())
	clear(p.b.Grad())
	p.tape.Reset()
	for _, b := range p.tape.arena.all {
		for i := range b.data {
			b.data[i] = float32(math.NaN())
		}
	}
	if loss := p.step(); loss != wantLoss || !slices.Equal(p.a.Grad(), want.a.Grad()) || !slices.Equal(p.b.Grad(), want.b.Grad()) {
		t.Error("other bits in the second step")
	}
}

// The gradient of the logits lies in their place unless something else reads them.
func TestCrossEntropyNeedsOneMatrix(t *testing.T) {
	leaf := func() *Value {
		v := Trainable(3, 5, NewBuffer(15), NewBuffer(15))
		for i := range v.Data {
			v.Data[i] = float32(i%7) / 3
		}
		return v
	}
	labels := []int32{4, Ignored, 1}
	run := func(also func(t *Tape, logits *Value)) (grad []float32, inPlace bool) {
		var tape Tape
		x := leaf()
		logits := copied(&tape, x)
		also(&tape, logits)
		tape.CrossEntropy(logits, labels, 0.5)
		tape.Backward()
		return x.Grad(), logits.gradBuf == nil
	}
	want, inPlace := run(func(*Tape, *Value) {})
	if !inPlace {
		t.Error("the logits' gradient has a buffer of its own")
	}
	// An activation whose result is not used reads the logits in its derivative.
	got, inPlace := run(func(t *Tape, logits *Value) { t.Activate(logits, Tanh) })
	if inPlace || !slices.Equal(got, want) {
		t.Errorf("in place: %v; got %v, want %v", inPlace, got, want)
	}
	// So does a second loss, which adds.
	got, _ = run(func(t *Tape, logits *Value) { t.CrossEntropy(logits, labels, 0.5) })
	for i, g := range got {
		if g != 2*want[i] {
			t.Errorf("two losses give %v, want twice %v", got, want)
			break
		}
	}
}

func TestArenaFollowsShapes(t *testing.T) {
	var tape Tape
	big := Frozen(300, 70, make([]float32, 21000))
	small := Frozen(3, 70, make([]float32, 210))
	tape.SwiGLU(big, big)
	tape.Reset()
	tape.SwiGLU(small, small)
	tape.Reset()
	if n := len(tape.arena.all); n != 1 {
		t.Errorf("%d buffers are kept, want that of the last step", n)
	}
}

// What was split does not take memory until its gradient does.
func TestSplitFreesWhatItSplits(t *testing.T) {
	var tape Tape
	x := copied(&tape, Trainable(9, 40, NewBuffer(360), NewBuffer(360)))
	buf := x.buf
	parts := tape.Split(x, 17, 23)
	if buf.busy {
		t.Error("the buffer is not free")
	}
	again := copied(&tape, Frozen(9, 40, NewBuffer(360)))
	if again.buf != buf {
		t.Error("the buffer is not used again")
	}
	tape.AddGrad(parts[1], make([]float32, 9*23))
	tape.Backward()
	if !buf.busy {
		t.Error("Backward gave another value's buffer back")
	}
}

func TestSizeClasses(t *testing.T) {
	for n := range 100_000 {
		c := sizeClass(n)
		if c < n || c%lane != 0 || c > max(lane, n+n/7+lane) || sizeClass(c) != c {
			t.Fatalf("class of %d is %d", n, c)
		}
	}
}

func TestEvaluationFreesLayers(t *testing.T) {
	p := newProgram()
	want := p.step()
	p.tape.NoGrad = true
	p.tape.Reset()
	if got := p.loss(); got != want {
		t.Errorf("loss without gradients is %v, with %v", got, want)
	}
	busy := 0
	for _, b := range p.tape.arena.all {
		if b.busy {
			busy++
		}
	}
	// The embedding, the layer's result, the logits and two vectors of the loss.
	if busy != 5 || len(p.tape.ops) != 0 {
		t.Errorf("%d buffers are busy and %d operations recorded", busy, len(p.tape.ops))
	}
}

func TestProgrammingErrorsPanic(t *testing.T) {
	leaf := func(rows, cols int) *Value { return Trainable(rows, cols, NewBuffer(rows*cols), NewBuffer(rows*cols)) }
	for name, f := range map[string]func(t *Tape){
		"size":         func(*Tape) { Frozen(2, 3, make([]float32, 5)) },
		"gradient":     func(*Tape) { Trainable(1, 3, make([]float32, 3), make([]float32, 2)) },
		"linear":       func(t *Tape) { t.Linear(leaf(2, 3), leaf(2, 4), nil) },
		"bias":         func(t *Tape) { t.Linear(leaf(2, 3), leaf(4, 3), leaf(1, 3)) },
		"add":          func(t *Tape) { t.Add(copied(t, leaf(2, 3)), leaf(3, 2)) },
		"leaf changed": func(t *Tape) { t.Scale(leaf(2, 3), 2) },
		"kept changed": func(t *Tape) { v := copied(t, leaf(2, 3)); t.SwiGLU(v, v); t.Scale(v, 2) },
		"positions":    func(t *Tape) { t.Rotate(copied(t, leaf(2, 4)), 4, []Span{{NewRotary([]float32{1, 0.25}, 1), 0, 1}}) },
		"short heads":  func(t *Tape) { t.Rotate(copied(t, leaf(2, 4)), 2, []Span{{NewRotary([]float32{1, 0.25}, 1), 0, 2}}) },
		"head norm":    func(t *Tape) { t.RMSNorm(leaf(2, 4), leaf(1, 3), RMS{}) },
		"split":        func(t *Tape) { t.Split(copied(t, leaf(2, 4)), 2, 1) },
		"split leaf":   func(t *Tape) { t.Split(leaf(2, 4), 2, 2) },
		"keys": func(t *Tape) {
			t.Attention(leaf(2, 4), leaf(1, 4), leaf(1, 4), Heads{Query: 1, KeyValue: 1, Dim: 4}, []Seq{{2, 1}})
		},
		"groups": func(t *Tape) {
			t.Attention(leaf(2, 12), leaf(2, 8), leaf(2, 8), Heads{Query: 3, KeyValue: 2, Dim: 4}, []Seq{{2, 2}})
		},
		"labels":    func(t *Tape) { t.CrossEntropy(leaf(2, 3), []int32{1}, 1) },
		"dropout":   func(t *Tape) { t.Dropout(leaf(2, 3), 1, 0) },
		"seed size": func(t *Tape) { t.AddGrad(leaf(2, 3), make([]float32, 5)) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f(new(Tape))
		})
	}
}

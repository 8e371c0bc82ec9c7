package patch

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/patch/kernel"
)

// constant is the data of a tensor whose elements are all one byte over, and counts how
// often its first is read.
type constant struct {
	value byte
	size  int64
	reads atomic.Int64
	fail  atomic.Bool
}

var errBroken = errors.New("broken disk")

func (c *constant) ReadAt(p []byte, off int64) (int, error) {
	if c.fail.Load() {
		return 0, errBroken
	}
	if off == 0 {
		c.reads.Add(1)
	}
	n := min(int64(len(p)), c.size-off)
	for i := range p[:n] {
		p[i] = c.value
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// constantPart is an update of rank 1 of a weight of so many columns.
func constantPart(value byte, cols int64, inOut bool) *part {
	tensor := func(name string, shape ...int64) formats.Tensor {
		return formats.Tensor{Name: name, DType: formats.F32, Shape: shape, Data: &constant{value: value, size: 4 * shape[0] * shape[1]}}
	}
	p := &part{path: "adapter", a: tensor("a", 1, cols), b: tensor("b", 4, 1), scale: 1, inOut: inOut}
	if inOut {
		p.a, p.b = tensor("a", 1, 4), tensor("b", cols, 1)
	}
	return p
}

func (p *part) rightData() *constant {
	if p.inOut {
		return p.b.Data.(*constant)
	}
	return p.a.Data.(*constant)
}

// stagesOf makes stages of one to three updates of various sizes, and a last one that
// is larger than the budget alone.
func stagesOf(n int, budget int64) [][]*part {
	var stages [][]*part
	for i := range n {
		var stage []*part
		for j := range 1 + i%3 {
			stage = append(stage, constantPart(byte(i+1), budget/4/int64(6+i%5), j%2 == 1))
		}
		stages = append(stages, stage)
	}
	return append(stages, []*part{constantPart(byte(n+1), budget, false)})
}

// TestFactorBudget has many goroutines ask for factors of more stages than there is room
// for: all get theirs, whole and unharmed, and never are more in use at once.
func TestFactorBudget(t *testing.T) {
	const budget = 4 << 10
	for _, run := range []struct {
		name string
		test func(*testing.T, [][]*part)
	}{
		{"float32", func(t *testing.T, s [][]*part) { testFactorBudget[float32](t, budget, s) }},
		{"float64", func(t *testing.T, s [][]*part) { testFactorBudget[float64](t, budget, s) }},
	} {
		t.Run(run.name, func(t *testing.T) { run.test(t, stagesOf(20, budget)) })
	}
}

func testFactorBudget[T kernel.Number](t *testing.T, budget int64, stages [][]*part) {
	c := newFactorCache(budget)
	var mu sync.Mutex
	users, inUse := map[*part]int{}, int64(0)
	use := func(stage []*part, by int) {
		mu.Lock()
		defer mu.Unlock()
		before := users[stage[0]]
		users[stage[0]] += by
		if before == 0 || before+by == 0 {
			inUse += int64(by) * factorBytes[T](stage)
		}
		if inUse > budget && inUse > factorBytes[T](stage) {
			t.Errorf("%d bytes in use, of a budget of %d", inUse, budget)
		}
	}
	var wg sync.WaitGroup
	for worker := range 32 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 100 {
				stage := stages[rng.IntN(len(stages))]
				err := withFactors(c, stage, func(f factors[T]) error {
					use(stage, 1)
					defer use(stage, -1)
					return checkConstant(stage, f)
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if c.bytes > budget && len(c.stages) > 1 || c.idle.Len() != len(c.stages) {
		t.Errorf("at the end: %d bytes of %d stages, %d idle", c.bytes, len(c.stages), c.idle.Len())
	}
}

// checkConstant checks that every element of the factors is what its stage's data say.
func checkConstant[T kernel.Number](stage []*part, f factors[T]) error {
	for i, p := range stage {
		want := []T{0}
		x := p.rightData().value
		decode(want, []byte{x, x, x, x}, formats.F32)
		if int64(len(f.right[i])) != p.rightCols() {
			return fmt.Errorf("%d elements, want %d", len(f.right[i]), p.rightCols())
		}
		for _, got := range f.right[i] {
			if got != want[0] {
				return fmt.Errorf("got %v, want %v", got, want[0])
			}
		}
	}
	return nil
}

// TestFactorsAreReadOnce asks for a stage block after block, and for others in between as
// long as there is room.
func TestFactorsAreReadOnce(t *testing.T) {
	c := newFactorCache(1 << 10)
	big, small := []*part{constantPart(1, 1<<20, false)}, []*part{constantPart(2, 100, false), constantPart(3, 100, true)}
	ask := func(stage []*part) {
		t.Helper()
		if err := withFactors(c, stage, func(f factors[float32]) error { return checkConstant(stage, f) }); err != nil {
			t.Fatal(err)
		}
	}
	reads := func(stage []*part, want int64) {
		t.Helper()
		for _, p := range stage {
			if got := p.rightData().reads.Load(); got != want {
				t.Errorf("read %d times, want %d", got, want)
			}
		}
	}
	for range 3 {
		ask(small)
	}
	reads(small, 1)
	for range 3 {
		ask(big) // more than the budget, and kept all the same
	}
	reads(big, 1)
	ask(small) // made room for it
	reads(small, 2)
	ask(big)
	reads(big, 2)
}

// TestFactorsAreReleased has readers, and those who use what was read, fail and panic:
// others must not wait for them for ever.
func TestFactorsAreReleased(t *testing.T) {
	const budget = 1 << 10
	c := newFactorCache(budget)
	bad, good := []*part{constantPart(1, budget/4, false)}, []*part{constantPart(2, budget/4, true)}
	bad[0].rightData().fail.Store(true)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				if err := withFactors(c, bad, func(factors[float32]) error { return nil }); !errors.Is(err, errBroken) {
					t.Errorf("got %v, want the reader's error", err)
				}
				stop := errors.New("stop")
				if err := withFactors(c, good, func(factors[float32]) error { return stop }); err != stop {
					t.Errorf("got %v, want the user's error", err)
				}
			}
			defer func() { recover() }()
			withFactors(c, good, func(factors[float32]) error { panic("a worker's") })
		})
	}
	wg.Wait()
	bad[0].rightData().fail.Store(false)
	if err := withFactors(c, bad, func(f factors[float32]) error { return checkConstant(bad, f) }); err != nil {
		t.Errorf("after the reader recovered: %v", err)
	}
}

// TestReadRightInPanels compares columns read alone with those of the whole factor,
// stored either way and larger than what is decoded at once.
func TestReadRightInPanels(t *testing.T) {
	const r, cols = 37, 5003
	values := make([]float32, r*cols)
	turned := make([]float32, r*cols)
	for i := range values {
		values[i] = float32(i)
		turned[i%cols*r+i/cols] = float32(i)
	}
	other := formats.FromFloat32s("other", []int64{r, 1}, make([]float32, r))
	for _, p := range []*part{
		{a: formats.FromFloat32s("a", []int64{r, cols}, values), b: other},
		{a: other, b: formats.FromFloat32s("b", []int64{cols, r}, turned), inOut: true},
	} {
		for _, n := range []int64{1, 1000, cols} {
			s := new(scratch[float64])
			for first := int64(0); first < cols; first += n {
				some := min(n, cols-first)
				v, err := readRight(p, first, some, s)
				if err != nil {
					t.Fatal(err)
				}
				for i, got := range v {
					if want := float64(values[int64(i)/some*cols+first+int64(i)%some]); got != want {
						t.Fatalf("inOut %v, columns %d to %d, element %d: got %v, want %v", p.inOut, first, first+some, i, got, want)
					}
				}
				if n == 1 && first == 50 {
					first = cols - 2
				}
			}
		}
	}
}

// TestRowsAtOnce looks at the pieces that blocks are cut into: all workers' together stay
// in the bound, to a group of rows, and for rank 2000 none is a small rest, with which kernels
// would be slow.
func TestRowsAtOnce(t *testing.T) {
	workers := int64(runtime.GOMAXPROCS(0))
	for _, rank := range []int64{1, 64, 2000, 100_000, 1 << 20} {
		for _, rows := range []int64{0, 1, 5, 95, 256, 5000} {
			step := rowsAtOnce[float32]([]*part{{a: formats.Tensor{Shape: []int64{rank, 8}}}}, rows)
			if step < 1 || step > 12 && (step-12)*rank*4*workers > maxLeft {
				t.Errorf("rank %d: %d of %d rows", rank, step, rows)
			}
			if rest := rows % step; rank == 2000 && rows == 256 && step < rows && rest > 0 && rest < step/2 {
				t.Errorf("rank %d: pieces of %d rows leave %d of %d", rank, step, rest, rows)
			}
		}
	}
}

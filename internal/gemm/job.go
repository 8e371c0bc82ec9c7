package gemm

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// call is one product with checked arguments.
type call[T number] struct {
	m, n, k     int
	alpha, beta T
	a, b        source[T]
	c           []T
	ldc         int
}

// machine computes products of one type. Its memory is reused from call to call.
type machine[T number] struct {
	engine *engine[T]
	jobs   sync.Pool // of *job[T]
	hands  sync.Pool // of *hand[T]
}

var (
	float32s = machine[float32]{engine: engines32()[0]}
	float64s = machine[float64]{engine: engines64()[0]}
)

// grain is how many multiplications are worth a goroutine.
const grain = 1 << 20

func (mach *machine[T]) multiply(c call[T]) {
	if c.alpha == 0 || c.k == 0 {
		c.scale(0, c.m, 0, c.n)
		return
	}
	j, _ := mach.jobs.Get().(*job[T])
	if j == nil {
		j = &job[T]{mach: mach}
		j.wake.L = &j.mu
		j.assist = func() {
			j.work()
			j.release()
		}
	}
	workers := min(runtime.GOMAXPROCS(0), max(1, int(float64(c.m)*float64(c.n)*float64(c.k)/grain)))
	j.plan = makePlan(mach.engine, c, workers)
	workers = min(workers, j.tasks)
	j.next.Store(0)
	j.done.Store(0)
	j.holders.Store(int32(workers))
	j.packed = grown(j.packed, j.packedB())
	for range workers - 1 {
		go j.assist()
	}
	j.work()
	j.await(int64(j.tasks))
	j.release()
}

// job is a product on its way. Its tasks have numbers, which its workers draw one after
// another. They are dealt out in phases; those of one are done before the next begins.
// So a worker that comes late, or never, delays nobody.
type job[T number] struct {
	plan[T]
	mach       *machine[T]
	packed     []T // b, as the plan lays it out
	next, done atomic.Int64
	holders    atomic.Int32
	assist     func()

	mu      sync.Mutex
	wake    sync.Cond
	waiting atomic.Int32
}

// release gives the job back once nobody holds it.
func (j *job[T]) release() {
	if j.holders.Add(-1) == 0 {
		j.plan = plan[T]{} // the operands are the caller's
		j.mach.jobs.Put(j)
	}
}

// await returns when n tasks are done. It spins for about as long as a thread takes to
// sleep and wake up.
func (j *job[T]) await(n int64) {
	for range 64 {
		if j.done.Load() >= n {
			return
		}
		runtime.Gosched()
	}
	j.mu.Lock()
	j.waiting.Add(1)
	for j.done.Load() < n {
		j.wake.Wait()
	}
	j.waiting.Add(-1)
	j.mu.Unlock()
}

func (j *job[T]) finish() {
	j.done.Add(1)
	if j.waiting.Load() > 0 {
		j.mu.Lock()
		j.wake.Broadcast()
		j.mu.Unlock()
	}
}

// hand is the memory of a worker.
type hand[T number] struct {
	rows   []T // a packed block of a
	panel  []T // a packed panel of b
	buf    []T // one that is yet to be packed
	corner []T // a tile that hangs over the edge of C
}

// work draws tasks until there are no more.
func (j *job[T]) work() {
	h, _ := j.mach.hands.Get().(*hand[T])
	if h == nil {
		h = new(hand[T])
	}
	h.rows = grown(h.rows, j.blockRows*depth+slack*(j.blockRows/j.shape.rows+8))
	h.panel = grown(h.panel, j.shape.cols*depth)
	h.buf = grown(h.buf, j.shape.cols*depth)
	h.corner = grown(h.corner, j.shape.rows*j.shape.cols)

	task := int(j.next.Add(1)) - 1
	first := 0 // of the phase
	phase := func(n int, do func(h *hand[T], part part, i int), part part) {
		for ; task < first+n; task = int(j.next.Add(1)) - 1 {
			j.await(int64(first))
			do(h, part, task-first)
			j.finish()
		}
		first += n
	}
	for part := range j.parts {
		phase(j.packings(part), j.pack, part)
		phase(j.blocks(part), j.compute, part)
	}
	j.mach.hands.Put(h)
}

// grown returns memory for n elements, buf's if it is enough.
func grown[T number](buf []T, n int) []T {
	if cap(buf) < n {
		return make([]T, n)
	}
	return buf[:n]
}

// scale multiplies a part of c by beta. Zero replaces what is there, be it NaN.
func (c *call[T]) scale(i, iEnd, j, jEnd int) {
	if c.beta == 1 {
		return
	}
	for ; i < iEnd; i++ {
		row := c.c[i*c.ldc+j : i*c.ldc+jEnd]
		if c.beta == 0 {
			clear(row)
			continue
		}
		for x := range row {
			row[x] *= c.beta
		}
	}
}

package gemm

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
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
	engine  *engine[T]
	jobs    sync.Pool // of *job[T]
	hands   sync.Pool // of *hand[T]
	current atomic.Pointer[job[T]]
	idle    atomic.Int32 // helpers that look for a job
}

var (
	float32s = machine[float32]{engine: engines32()[0]}
	float64s = machine[float64]{engine: engines64()[0]}
)

const (
	// grain is how many multiplications are worth a goroutine.
	grain = 1 << 20
	// patience is how long a helper looks for the next job, and how long a worker waits for
	// the last tasks of others. To start a goroutine on a processor that sleeps takes about
	// as long, which is much for a small product.
	patience = 100 * time.Microsecond
)

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
			mach.help()
		}
	}
	workers := min(runtime.GOMAXPROCS(0), max(1, int(float64(c.m)*float64(c.n)*float64(c.k)/grain)))
	j.plan = makePlan(mach.engine, c, workers)
	j.packed = grown(j.packed, j.packedB())
	j.next.Store(0)
	j.done.Store(0)
	helpers := max(0, min(workers, j.tasks)-1-int(mach.idle.Load()))
	j.holders.Store(int32(1 + helpers))
	if workers > 1 {
		mach.current.Store(j)
	}
	for range helpers {
		go j.assist()
	}
	if helpers > 0 {
		// The helper begins here, as its memory is at hand, and another processor, which
		// would be slow to take what is next here, takes over this goroutine.
		runtime.Gosched()
	}
	j.work()
	j.await(int64(j.tasks))
	mach.current.CompareAndSwap(j, nil)
	j.release()
}

// help works on what jobs there are until there have been none for a while.
func (mach *machine[T]) help() {
	mach.idle.Add(1)
	for began := time.Now(); time.Since(began) < patience; runtime.Gosched() {
		j := mach.current.Load()
		if j == nil || !j.join() {
			continue
		}
		mach.idle.Add(-1)
		if j.work() > 0 {
			began = time.Now()
		}
		j.release()
		mach.idle.Add(1)
	}
	mach.idle.Add(-1)
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

// join makes the caller a holder, if there is one yet: without, the job is nobody's.
func (j *job[T]) join() bool {
	for {
		n := j.holders.Load()
		if n == 0 {
			return false
		}
		if j.holders.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release gives the job back once nobody holds it.
func (j *job[T]) release() {
	if j.holders.Add(-1) == 0 {
		j.plan = plan[T]{} // the operands are the caller's
		j.mach.jobs.Put(j)
	}
}

// await returns when n tasks are done. It is as patient as a helper before it sleeps.
func (j *job[T]) await(n int64) {
	if j.done.Load() >= n {
		return
	}
	for began := time.Now(); time.Since(began) < patience; runtime.Gosched() {
		if j.done.Load() >= n {
			return
		}
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

// work draws tasks until there are no more, and returns how many it did.
func (j *job[T]) work() (did int) {
	if j.next.Load() >= int64(j.tasks) {
		return 0
	}
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
			did++
		}
		first += n
	}
	for part := range j.parts {
		phase(j.packings(part), j.pack, part)
		phase(j.blocks(part), j.compute, part)
	}
	j.mach.hands.Put(h)
	return did
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

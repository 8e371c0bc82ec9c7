package autodiff

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// parallel runs tasks 0…n−1 on up to GOMAXPROCS goroutines. Which one runs a task
// differs from run to run, so tasks write to places of their own and what a task
// computes depends on its number alone. worker is below workers(n).
func parallel(n int, task func(worker, i int)) {
	crew := workers(n)
	if crew == 1 {
		for i := range n {
			task(0, i)
		}
		return
	}
	var next atomic.Int64
	work := func(worker int) {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			task(worker, i)
		}
	}
	var wg sync.WaitGroup
	for w := 1; w < crew; w++ {
		wg.Go(func() { work(w) })
	}
	work(0)
	wg.Wait()
}

// workers returns how many goroutines parallel uses for n tasks.
func workers(n int) int { return max(1, min(runtime.GOMAXPROCS(0), n)) }

// grain is about how many elements a task of a cheap element-wise operation covers:
// long against the start of a goroutine, short against a matrix.
const grain = 8192

// eachRows splits rows of cols elements into ranges [lo, hi) of a length that
// depends on cols alone.
func eachRows(rows, cols int, f func(lo, hi int)) {
	step := max(1, grain/max(1, cols))
	parallel((rows+step-1)/step, func(_, i int) {
		f(i*step, min((i+1)*step, rows))
	})
}

// eachColumns splits columns into ranges [lo, hi), for sums down a matrix.
func eachColumns(cols int, f func(lo, hi int)) {
	const step = 64
	parallel((cols+step-1)/step, func(_, i int) {
		f(i*step, min((i+1)*step, cols))
	})
}

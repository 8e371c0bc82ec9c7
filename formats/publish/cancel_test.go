package publish

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/seed-b982eded/graft/internal/fault"
)

// checkCancelled checks what a cancelled run left, and that the next one succeeds.
func checkCancelled(t testing.TB, y *yard, what, before string, opts Options, err error) {
	t.Helper()
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", what, err)
		}
		y.checkUntouched(t, what, before, err)
		if err := y.job(opts).run(t.Context()); err != nil {
			t.Errorf("%s: the next run: %v", what, err)
		}
	}
	y.checkComplete(t, what)
}

// TestCancelledAtEveryOperation cancels before the first operation on a file, the
// second, and so on.
func TestCancelledAtEveryOperation(t *testing.T) {
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) { cancelledAtEveryOperation(t, newYard(t, layout)) })
	}
}

func cancelledAtEveryOperation(t *testing.T, y *yard) {
	for _, opts := range []Options{{ID: "plan"}, {ID: "plan", Force: true, Resume: true}} {
		cancelled := 0
		for n := 1; ; n++ {
			y.reset(t, opts.Force)
			before := y.state(t)
			ctx, cancel := context.WithCancel(t.Context())
			f := &nth{n: n, err: context.Canceled}
			restore := fault.Set(func(op fault.Op, path string) error {
				if f.hook(op, path) != nil {
					cancel()
				}
				return nil
			})
			err := y.job(opts).run(ctx)
			restore()
			cancel()
			if f.op == "" {
				t.Logf("%d moments, %d of them in time", n-1, cancelled)
				break
			}
			if err != nil {
				cancelled++
			}
			checkCancelled(t, y, fmt.Sprintf("operation %d (%s of %s)", n, f.op, f.path), before, opts, err)
		}
	}
}

// TestCancelledAtRandom cancels at random moments, and looks for goroutines that stay.
func TestCancelledAtRandom(t *testing.T) {
	y := newYard(t, Beside)
	opts := Options{ID: "plan", Resume: true}
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	goroutines := runtime.NumGoroutine()
	began := time.Now()
	j := y.job(opts)
	j.pause = time.Millisecond
	if err := j.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	whole := time.Since(began)
	cancelled := 0
	for i := range 50 {
		y.reset(t, false)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.Int64N(int64(whole))))
		err := j.run(ctx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			cancelled++
			y.checkUntouched(t, fmt.Sprintf("seed %d, run %d", seed, i), "", err)
			err = y.job(opts).run(t.Context())
		}
		if err != nil {
			t.Errorf("seed %d, run %d: %v", seed, i, err)
		}
		y.checkComplete(t, fmt.Sprintf("seed %d, run %d", seed, i))
	}
	t.Logf("%d of 50 in time", cancelled)
	for range 100 {
		if runtime.NumGoroutine() <= goroutines {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d goroutines stayed", runtime.NumGoroutine()-goroutines)
}

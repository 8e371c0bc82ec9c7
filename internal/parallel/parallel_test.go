package parallel_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/seed-b982eded/graft/internal/parallel"
)

func TestEach(t *testing.T) {
	for _, workers := range []int{0, 1, 3, 100} {
		var done [50]atomic.Int32
		err := parallel.Each(t.Context(), len(done), workers, func(i int) error {
			done[i].Add(1)
			return nil
		})
		for i := range done {
			if n := done[i].Load(); n != 1 || err != nil {
				t.Errorf("%d workers: %d was done %d times: %v", workers, i, n, err)
			}
		}
	}
}

// Of those that fail the first counts, whoever is faster, and those behind are not begun.
func TestFailure(t *testing.T) {
	release := make(chan struct{})
	var begun atomic.Int32
	err := parallel.Each(t.Context(), 1000, 2, func(i int) error {
		begun.Add(1)
		switch i {
		case 3:
			<-release
		case 4:
			defer close(release)
		default:
			return nil
		}
		return fmt.Errorf("at %d", i)
	})
	if err == nil || err.Error() != "at 3" || begun.Load() > 6 {
		t.Errorf("got %v after %d", err, begun.Load())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := parallel.Each(ctx, 5, 0, func(int) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestWithin(t *testing.T) {
	needs := []int64{3, 5, 2, 20, 1, 9, 4, 4, 10}
	var used, alone atomic.Int64
	err := parallel.Within(t.Context(), len(needs), 10, func(i int) int64 { return needs[i] }, func(i int) error {
		now := used.Add(needs[i])
		if now > 10 && now != needs[i] {
			alone.Add(1)
		}
		used.Add(-needs[i])
		return nil
	})
	if err != nil || alone.Load() != 0 {
		t.Errorf("%v; %d times more was in use than there is room for", err, alone.Load())
	}
}

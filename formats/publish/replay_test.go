package publish

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// TestReplayShowsTheSame compares what Replay shows with what Write did.
func TestReplayShowsTheSame(t *testing.T) {
	s := mixed(t)
	for _, workers := range []int{1, 3} {
		for _, block := range []int64{0, 500, 4096} {
			var mu sync.Mutex
			var blocks []string
			opts := BlockOptions{Workers: workers, BlockBytes: block, Observe: func(x formats.Tensor, off int64, block []byte) error {
				mu.Lock()
				defer mu.Unlock()
				blocks = append(blocks, fmt.Sprintf("%s at %d: %x", x.Name, off, block))
				return nil
			}}
			path := mustWrite(t, s, opts)
			want := slices.Sorted(slices.Values(blocks))
			blocks = nil
			unreadable := slices.Clone(s)
			for i, p := range s {
				if g, ok := p.Tensor.Data.(*grained); ok { // the data is not asked
					unreadable[i].Tensor.Data = &grained{rows: g.rows, cols: g.cols, width: g.width, size: g.size, t: t}
				}
			}
			if err := Replay(t.Context(), path, unreadable, opts); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(slices.Sorted(slices.Values(blocks)), want) || len(want) < 6 {
				t.Errorf("%d workers, blocks of %d: shown %d blocks, want %d", workers, block, len(blocks), len(want))
			}
		}
	}
}

func TestReplayFails(t *testing.T) {
	s := mixed(t)
	path := mustWrite(t, s, BlockOptions{})
	stop := errors.New("stop")
	opts := BlockOptions{Observe: func(formats.Tensor, int64, []byte) error { return stop }}
	if err := Replay(t.Context(), path, s, opts); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if err := Replay(t.Context(), filepath.Join(t.TempDir(), "none"), s, BlockOptions{}); err != nil {
		t.Errorf("nobody looks: %v", err)
	}
	opts.Observe = func(formats.Tensor, int64, []byte) error { return nil }
	checkError(t, Replay(t.Context(), filepath.Join(t.TempDir(), "none"), s, opts), formats.ErrOutput, "no such file")
	if err := os.Truncate(path, 2000); err != nil {
		t.Fatal(err)
	}
	checkError(t, Replay(t.Context(), path, s, opts), formats.ErrOutput, "reading it back: unexpected EOF")
}

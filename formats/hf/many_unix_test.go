//go:build unix

package hf

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// TestManyShardsFewDescriptors opens, copies and reads ten thousand shards in a process
// that may have 256 files open.
func TestManyShardsFewDescriptors(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Skip(err)
	}
	inMemory(t)
	const n = 10_000
	parent, dir := place(t, manyShards(t, n))
	low := limit
	low.Cur = 256
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Skip(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	c := mustOpen(t, dir)
	if c.Len() != n {
		t.Fatalf("got %d tensors", c.Len())
	}
	out := filepath.Join(parent, "out")
	most, calls := 0, 0
	opts := WriteOptions{NoSync: true}
	opts.Workers = 1
	opts.Progress = func(int64) {
		if calls++; calls%50 != 0 {
			return
		}
		if entries, err := os.ReadDir("/proc/self/fd"); err == nil {
			most = max(most, len(entries))
		}
	}
	if err := Write(t.Context(), c, out, opts); err != nil {
		t.Fatal(err)
	}
	if most > 120 {
		t.Errorf("%d files were open together", most)
	}
	t.Logf("at most %d files were open together", most)
	copied := mustOpen(t, out)
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 16 { // both models, by many readers
		wg.Go(func() {
			for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
				for _, ckpt := range []*formats.Checkpoint{c, copied} {
					x := ckpt.Shards()[i].Tensors[0]
					data, err := x.ReadAll()
					if err != nil || data[0] != byte(i) || data[1] != byte(i>>8) {
						t.Errorf("%s: %v, %v", x.Name, data, err)
					}
				}
			}
		})
	}
	wg.Wait()
}

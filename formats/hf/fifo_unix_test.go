//go:build unix

package hf

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/seed-b982eded/graft/formats"
)

// TestNeverWaits puts FIFOs, which block whoever opens them, wherever a file is read.
func TestNeverWaits(t *testing.T) {
	one := map[string]string{"model.safetensors": weights(t, "a"), "config.json": "{}"}
	for _, c := range []struct {
		files map[string]string
		fifo  string
		want  string
	}{
		{one, "model.safetensors", "not a regular file"},
		{one, "config.json", "not a regular file"},
		{sharded(t), shard2, "not a regular file"},
		{sharded(t), index0, "not a regular file"},
		{cache(t), "refs/main", ""},
		{cache(t), "blobs/aaaa", "not a regular file"},
		{cache(t), "blobs/cccc", "not a regular file"},
	} {
		dir := tree(t, c.files)
		path := filepath.Join(dir, c.fifo)
		os.Remove(path)
		if err := syscall.Mkfifo(path, 0o666); err != nil {
			t.Skip(err)
		}
		done := make(chan error, 1)
		go func() {
			ckpt, err := Open(dir)
			if err == nil {
				ckpt.Close()
			}
			done <- err
		}()
		select {
		case err := <-done:
			if c.want != "" {
				checkError(t, err, formats.ErrInput, c.want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: it hangs", c.fifo)
		}
	}
}

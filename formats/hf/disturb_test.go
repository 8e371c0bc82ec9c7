package hf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/publish"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/internal/fault"
)

// bigModel is a model of four shards with tensors of some kilobytes. Those that begin
// with "m" are made by made.
func bigModel(t testing.TB) map[string]string {
	files := map[string]string{"config.json": `{"model_type": "llama"}`, "sub/code.py": "x = 1\n"}
	index := map[string]string{}
	total := 0
	for i, names := range [][]string{{"m0", "k0", "m1"}, {"m2", "m3"}, {"k1", "k2", "k3"}, {"k4", "m4"}} {
		var s formats.Shard
		file := fmt.Sprintf("model-%05d-of-00004.safetensors", i+1)
		for j, n := range names {
			x := make([]byte, 7000+1000*i+10*j)
			for k := range x {
				x[k] = byte(k*(3+i) + k>>7 + j)
			}
			total += len(x)
			index[n] = file
			s.Tensors = append(s.Tensors, formats.Tensor{Name: n, DType: formats.U8, Shape: []int64{int64(len(x))}, Data: strings.NewReader(string(x))})
		}
		path := filepath.Join(t.TempDir(), "w")
		if err := safetensors.Write(t.Context(), path, s, safetensors.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		files[file] = load(t, path)
	}
	files[index0] = indexText(total, index)
	return files
}

// made are bytes that are computed: those of another reader, inverted.
type made struct{ io.ReaderAt }

func (m made) ReadAt(p []byte, off int64) (int, error) {
	n, err := m.ReaderAt.ReadAt(p, off)
	for i := range p[:n] {
		p[i] ^= 0xff
	}
	return n, err
}

// rewrite opens the model at parent/model and writes it to parent/out, with what is to be
// made.
func rewrite(t testing.TB, parent string, opts WriteOptions) error {
	c, err := Open(filepath.Join(parent, "model"))
	if err != nil {
		return err
	}
	defer c.Close()
	opts.BlockBytes = 2000
	return Write(t.Context(), c.MapTensors(func(x formats.Tensor) formats.Tensor {
		if strings.HasPrefix(x.Name, "m") {
			x.Data = made{x.Data}
		}
		return x
	}), filepath.Join(parent, "out"), opts)
}

// inMemory puts the test's temporary files into memory where there is a place for that.
// Many runs that sync would wear a disk out, and take minutes.
func inMemory(t testing.TB) {
	if dir, err := os.MkdirTemp("/dev/shm", ""); err == nil {
		os.Remove(dir)
		t.Setenv("TMPDIR", "/dev/shm")
	}
}

// TestEveryOperationFails lets the first operation of opening and writing a model fail,
// then the second, until none is left: the error says whose fault it is, and nothing is
// left. What more there is to disturb is formats/publish's to test.
func TestEveryOperationFails(t *testing.T) {
	inMemory(t)
	parent, _ := place(t, bigModel(t))
	before := everything(t, parent)
	for n := 1; ; n++ {
		var mu sync.Mutex
		count, failed, op := 0, "", fault.Op("")
		restore := fault.Set(func(o fault.Op, path string) error {
			mu.Lock()
			defer mu.Unlock()
			if count++; count == n {
				failed, op = path, o
				return syscall.EIO
			}
			return nil
		})
		err := rewrite(t, parent, WriteOptions{})
		restore()
		if failed == "" {
			if err != nil || n < 50 {
				t.Errorf("after %d operations: %v", n-1, err)
			}
			return
		}
		class := formats.ErrOutput
		if strings.HasPrefix(failed, filepath.Join(parent, "model")) {
			class = formats.ErrInput
		}
		var e *formats.Error
		if !errors.As(err, &e) || e.Class != class || !errors.Is(err, syscall.EIO) || strings.Contains(err.Error(), ".graft-") {
			t.Errorf("operation %d (%s of %s): got %v, want the class %v", n, op, failed, err, class)
		}
		if after := everything(t, parent); after != before {
			t.Errorf("operation %d (%s of %s): before\n%safter\n%s", n, op, failed, before, after)
		}
	}
}

// TestResume fails after each shard, and goes on from it: only the others are written.
func TestResume(t *testing.T) {
	inMemory(t)
	parent, _ := place(t, bigModel(t))
	out := filepath.Join(parent, "out")
	if err := rewrite(t, parent, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	want := everything(t, out)
	stop := errors.New("stop")
	for n := 1; n <= 4; n++ {
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
		shards := 0
		opts := WriteOptions{Resume: true, ID: "plan", File: func(r publish.FileResult) error {
			if strings.HasPrefix(r.Name, "model-") {
				shards++
			}
			if shards == n {
				return stop
			}
			return nil
		}}
		opts.Workers = 1 // one file at a time: then it is certain how many are finished
		err := rewrite(t, parent, opts)
		var r *publish.ResumableError
		if !errors.As(err, &r) || !errors.Is(err, stop) || r.Finished != n || r.Shards != 4 {
			t.Fatalf("got %v", err)
		}
		var mu sync.Mutex
		written := map[string]bool{}
		restore := fault.Set(func(op fault.Op, path string) error {
			mu.Lock()
			defer mu.Unlock()
			if op == fault.OpWrite && strings.HasPrefix(filepath.Base(path), "model-") {
				written[path] = true
			}
			return nil
		})
		err = rewrite(t, parent, WriteOptions{Resume: true, ID: "plan"})
		restore()
		if err != nil || len(written) != 4-n {
			t.Errorf("resumed after %d: %d shards written, %v", n, len(written), err)
		}
		if got := everything(t, out); got != want {
			t.Errorf("resumed after %d: got\n%swant\n%s", n, got, want)
		}
	}
}

package hf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/internal/fault"
)

// What follows are the means to disturb Write at any of its steps and to look at what is
// left.

// slow reports whether to take the time for all of it.
func slow() bool { return os.Getenv("GRAFT_SLOW") != "" }

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
type made struct {
	io.ReaderAt
	pause time.Duration
}

func (m made) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(m.pause)
	n, err := m.ReaderAt.ReadAt(p, off)
	for i := range p[:n] {
		p[i] ^= 0xff
	}
	return n, err
}

// job is one call of Write: bigModel with what is to be made, from parent/model to
// parent/out.
type job struct {
	parent string
	pause  time.Duration // for each block that is made
	opts   WriteOptions
}

func (j job) out() string { return filepath.Join(j.parent, "out") }

func (j job) run(ctx context.Context) (err error) {
	c, err := Open(filepath.Join(j.parent, "model"))
	if err != nil {
		return err
	}
	defer c.Close()
	return Write(ctx, c.MapTensors(func(x formats.Tensor) formats.Tensor {
		if strings.HasPrefix(x.Name, "m") {
			x.Data = made{x.Data, j.pause}
		}
		return x
	}), j.out(), j.opts)
}

// yard is a place for jobs, with the result that an undisturbed one has.
type yard struct {
	parent string
	want   string // everything in a complete output
	old    map[string]string
}

// inMemory puts the test's temporary files into memory where there is a place for that.
// Thousands of runs that sync would wear a disk out, and take minutes.
func inMemory(t testing.TB) {
	if dir, err := os.MkdirTemp("/dev/shm", ""); err == nil {
		os.Remove(dir)
		t.Setenv("TMPDIR", "/dev/shm")
	}
}

func newYard(t testing.TB) *yard {
	t.Helper()
	inMemory(t)
	y := &yard{old: map[string]string{"out/model.safetensors": "old weights", "out/sub/x": "old"}}
	y.parent, _ = place(t, bigModel(t))
	j := y.job(WriteOptions{NoSync: true})
	if err := j.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	y.want = everything(t, j.out())
	y.reset(t, false)
	return y
}

func (y *yard) job(opts WriteOptions) job {
	opts.BlockBytes = 2000
	return job{parent: y.parent, opts: opts}
}

// reset removes all but the model, and puts the old output in place if there shall be one.
func (y *yard) reset(t testing.TB, old bool) {
	t.Helper()
	entries, err := os.ReadDir(y.parent)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "model" {
			if err := os.RemoveAll(filepath.Join(y.parent, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	if old {
		grow(t, y.parent, y.old)
	}
}

// state describes the output; empty if there is none.
func (y *yard) state(t testing.TB) string {
	t.Helper()
	out := filepath.Join(y.parent, "out")
	if _, err := os.Lstat(out); err != nil {
		return ""
	}
	return everything(t, out)
}

// beside returns what lies beside the model and the output.
func (y *yard) beside(t testing.TB) []string {
	t.Helper()
	entries, err := os.ReadDir(y.parent)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != "model" && e.Name() != "out" {
			names = append(names, e.Name())
		}
	}
	return names
}

// checkComplete checks that the output is what an undisturbed run makes, and alone.
func (y *yard) checkComplete(t testing.TB, what string) {
	t.Helper()
	if got := y.state(t); got != y.want {
		t.Errorf("%s: the output is\n%swant\n%s", what, got, y.want)
	}
	if names := y.beside(t); len(names) > 0 {
		t.Errorf("%s: beside it are %q", what, names)
	}
}

// checkUntouched checks that a failed run left the output as it was, and beside it only
// what the error says.
func (y *yard) checkUntouched(t testing.TB, what, before string, err error) {
	t.Helper()
	if got := y.state(t); got != before {
		t.Errorf("%s: after %v the output is\n%swant\n%s", what, err, got, before)
	}
	names := y.beside(t)
	var r *ResumableError
	if !errors.As(err, &r) {
		if len(names) > 0 {
			t.Errorf("%s: %v left %q", what, err, names)
		}
		return
	}
	if !slices.Equal(names, []string{filepath.Base(r.Dir)}) || r.Finished == 0 || r.Shards != 4 {
		t.Errorf("%s: %+v is said to stay, and there is %q", what, r, names)
		return
	}
	entries, err := os.ReadDir(r.Dir)
	if err != nil || len(entries) != r.Finished+1 || entries[0].Name() != journalName {
		t.Errorf("%s: %d finished shards, and there is %v, %v", what, r.Finished, entries, err)
	}
}

// nth lets the n-th operation that choose picks fail; every one from there on if forever.
type nth struct {
	n       int
	err     error
	forever bool
	choose  func(op fault.Op, path string) bool

	mu    sync.Mutex
	count int
	op    fault.Op // that failed first
	path  string
}

func (f *nth) hook(op fault.Op, path string) error {
	if f.choose != nil && !f.choose(op, path) {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	if f.count < f.n || f.count > f.n && !f.forever {
		return nil
	}
	if f.count == f.n {
		f.op, f.path = op, path
	}
	return f.err
}

// takesRoom reports whether a full disk fails an operation.
func takesRoom(op fault.Op, _ string) bool {
	return op == fault.OpCreate || op == fault.OpWrite || op == fault.OpTruncate || op == fault.OpMkdir
}

// kinds of disturbance, for tables.
var disturbances = []struct {
	name    string
	err     error
	forever bool
	choose  func(op fault.Op, path string) bool
}{
	{"an I/O error", syscall.EIO, false, nil},
	{"a disk that is full", syscall.ENOSPC, true, takesRoom},
	{"a disk that is full once", syscall.ENOSPC, false, takesRoom},
}

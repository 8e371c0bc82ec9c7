package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
	"github.com/seed-b982eded/graft/internal/filecopy"
)

// What follows are the means to disturb Write at any of its steps and to look at what is
// left.

// slow reports whether to take the time for all of it.
func slow() bool { return os.Getenv("GRAFT_SLOW") != "" }

// weightFiles are the tensors of four files, of some kilobytes each. Those that begin with
// "m" are made, the others are copied.
var weightFiles = [][]string{{"m0", "k0", "m1"}, {"m2", "m3"}, {"k1", "k2", "k3"}, {"k4", "m4"}}

func sizeOfTensor(file, i int) int64 { return int64(7000 + 1000*file + 10*i) }

// inputs are the files that jobs read: the data of each weight file, and two others.
func inputs() map[string]string {
	files := map[string]string{"model/config.json": `{"model_type": "llama"}`, "model/code.py": "x = 1\n"}
	for i, names := range weightFiles {
		var data []byte
		for j := range names {
			data = append(data, pattern(int(sizeOfTensor(i, j)), byte(3*i+j))...)
		}
		files[fmt.Sprintf("model/w%d", i+1)] = string(data)
	}
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

// job is one call of Write: from parent/model to parent/out.
type job struct {
	parent string
	layout Layout
	pause  time.Duration // for each block that is made
	opts   Options
}

func (j job) out() string { return filepath.Join(j.parent, "out") }

func (j job) run(ctx context.Context) (err error) {
	var open []io.Closer
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	set, err := j.set(func(name string) (*filecopy.Source, error) {
		src, err := openSource(filepath.Join(j.parent, "model", name))
		if err == nil {
			open = append(open, src)
		}
		return src, err
	})
	if err != nil {
		return err
	}
	return Write(ctx, set, j.out(), j.opts)
}

// set returns the files of a layout: a directory has all, one file is the first of
// weights, and the files beside one another are those of weights, with a list of them as
// the last.
func (j job) set(open func(name string) (*filecopy.Source, error)) (Set, error) {
	set := Set{Path: filepath.Join(j.parent, "model"), Layout: j.layout}
	if j.layout == Directory {
		for name, from := range map[string]string{"config.json": "config.json", "sub/code.py": "code.py"} {
			src, err := open(from)
			if err != nil {
				return set, err
			}
			data := formats.Tensor{DType: formats.U8, Shape: []int64{src.Size()}, Data: struct{ io.ReaderAt }{src}}
			set.Files = append(set.Files, fileOf(name, false, Part{Tensor: data}))
		}
		slices.SortFunc(set.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	}
	for i := range weightFiles {
		src, err := open(fmt.Sprintf("w%d", i+1))
		if err != nil {
			return set, err
		}
		name := fmt.Sprintf("w%d", i+1)
		if j.layout == Beside {
			name = "out." + name
		}
		set.Files = append(set.Files, fileOf(name, true, j.parts(i, src)...))
		if j.layout == OneFile {
			return set, nil
		}
	}
	set.Files = append(set.Files, fileOf("index", false, Part{Literal: []byte("w1 w2 w3 w4")}))
	return set, nil
}

func (j job) parts(file int, src *filecopy.Source) []Part {
	var list []formats.Tensor
	var off int64
	for i, name := range weightFiles[file] {
		n := sizeOfTensor(file, i)
		x := formats.Tensor{Name: name, DType: formats.U8, Shape: []int64{n}, Data: fileData{src, off, n}}
		if strings.HasPrefix(name, "m") {
			x.Data = made{x.Data, j.pause}
		}
		list = append(list, x)
		off += n
	}
	return parts(list...)
}

func fileOf(name string, weights bool, parts ...Part) File {
	return File{Name: name, Size: sizeOf(parts), Weights: weights, Parts: func() ([]Part, error) { return parts, nil }}
}

// layouts are those that can be resumed.
var layouts = map[string]Layout{"directory": Directory, "beside": Beside}

// yard is a place for jobs, with the result that an undisturbed one has.
type yard struct {
	parent string
	layout Layout
	want   string // a complete output, as state describes it
	old    map[string]string
}

// tempInMemory puts the test's temporary files into memory where there is a place for that.
// Thousands of runs that sync would wear a disk out, and take minutes.
func tempInMemory(t testing.TB) {
	if dir, err := os.MkdirTemp("/dev/shm", ""); err == nil {
		os.Remove(dir)
		t.Setenv("TMPDIR", "/dev/shm")
	}
}

func newYard(t testing.TB, layout Layout) *yard {
	t.Helper()
	tempInMemory(t)
	y := &yard{layout: layout, parent: t.TempDir(), old: map[Layout]map[string]string{
		Directory: {"out/w1": "old weights", "out/sub/x": "old"},
		OneFile:   {"out": "old"},
		Beside:    {"out": "old", "out.w1": "old weights", "out.w4": "more of them"},
	}[layout]}
	grow(t, y.parent, inputs())
	if err := y.job(Options{NoSync: true}).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	y.want = y.state(t)
	y.reset(t, false)
	return y
}

func (y *yard) job(opts Options) job {
	opts.BlockBytes = 2000
	return job{parent: y.parent, layout: y.layout, opts: opts}
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

// isOutput reports whether a name beside the model is the output's or part of it.
func isOutput(name string) bool { return name == "out" || strings.HasPrefix(name, "out.") }

// state describes the output; empty if there is none.
func (y *yard) state(t testing.TB) string {
	t.Helper()
	var all strings.Builder
	entries, err := os.ReadDir(y.parent)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if isOutput(e.Name()) {
			fmt.Fprintf(&all, "%s: %s", e.Name(), everything(t, filepath.Join(y.parent, e.Name())))
		}
	}
	return all.String()
}

// absent reports whether the output's own name is.
func (y *yard) absent() bool {
	_, err := os.Lstat(filepath.Join(y.parent, "out"))
	return errors.Is(err, fs.ErrNotExist)
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
		if e.Name() != "model" && !isOutput(e.Name()) {
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
	return op == fault.OpCreate || op == fault.OpWrite || op == fault.OpTruncate || op == fault.OpMkdir || op == fault.OpLink
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

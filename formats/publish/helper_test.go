package publish

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
	"github.com/seed-b982eded/graft/internal/filecopy"
)

// grow writes files below a directory, given as path → content. A content that starts
// with "->" is a link's target.
func grow(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(files[name], "->"); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(files[name]), 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func load(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// everything describes everything below a directory: names, kinds, contents.
func everything(t testing.TB, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&out, "%s %s", rel, d.Type())
		switch {
		case d.Type().IsRegular():
			fmt.Fprintf(&out, " %x", sha256.Sum256([]byte(load(t, path))))
		case d.Type()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			fmt.Fprintf(&out, " %s", target)
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// checkError checks an error's class, that it is one line, and what it says.
func checkError(t testing.TB, err, class error, want ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", want)
		return
	}
	var e *formats.Error
	if !errors.As(err, &e) || !errors.Is(err, class) {
		t.Errorf("got %v (%T), want the class %v", err, err, class)
	}
	if strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 2000 {
		t.Errorf("not one plain line: %q", err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %q, want it to say %q", err, w)
		}
	}
}

// checkGoroutines fails if f leaves goroutines behind.
func checkGoroutines(t testing.TB, f func()) {
	t.Helper()
	before := runtime.NumGoroutine()
	f()
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d goroutines were left behind", runtime.NumGoroutine()-before)
}

// pattern returns n bytes that differ from place to place.
func pattern(n int, seed byte) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i*7+i>>8) ^ seed
	}
	return out
}

func inMemory(name string, d formats.DType, data []byte, shape ...int64) formats.Tensor {
	return formats.Tensor{Name: name, DType: d, Shape: shape, Data: bytes.NewReader(data)}
}

// openSource opens a file as an input, which stays open for a while.
func openSource(path string) (*filecopy.Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, formats.Rejectf(path, "", "no such file")
	}
	src := filecopy.NewSource(path, info, func() (*os.File, error) {
		f, err := fault.Open(path)
		if err != nil {
			return nil, &formats.Error{Class: formats.ErrInput, File: path, Err: formats.Cause(err)}
		}
		return f, nil
	})
	if err := formats.ReadFullAt(src, make([]byte, 1), 0); err != nil {
		src.Close()
		return nil, formats.ReadError(path, "", err)
	}
	return src, nil
}

// fileData is a range of an input, as a tensor's data.
type fileData struct {
	*filecopy.Source
	off, n int64
}

func (d fileData) ReadAt(p []byte, off int64) (int, error) { return d.Source.ReadAt(p, d.off+off) }

func (d fileData) FileRange() (f formats.SourceFile, off, n int64, ok bool) {
	return d.Source, d.off, d.n, true
}

// inFiles returns the tensors as they lie in a file, one after another.
func inFiles(t testing.TB, tensors ...formats.Tensor) (in []formats.Tensor, path string) {
	t.Helper()
	path = mustWrite(t, parts(tensors...), BlockOptions{})
	src, err := openSource(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	off := int64(len(header))
	for _, x := range tensors {
		x.Data = fileData{src, off, x.Size()}
		off += x.Size()
		in = append(in, x)
	}
	return in, path
}

// header begins the files of tests.
const header = "some header"

func parts(tensors ...formats.Tensor) []Part {
	list := []Part{{Literal: []byte(header)}}
	for _, x := range tensors {
		list = append(list, Part{Tensor: x})
	}
	return list
}

func mustWrite(t testing.TB, list []Part, opts BlockOptions) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out")
	if err := WriteFile(t.Context(), path, list, opts); err != nil {
		t.Fatal(err)
	}
	return path
}

// grained is data that may only be read in whole pieces.
type grained struct {
	data       []byte
	rows, cols int64 // of the grain
	width      int64 // bytes of a row
	size       int64 // bytes of an element
	t          testing.TB
}

func (g *grained) Grain() (rows, cols int64) { return g.rows, g.cols }

func (g *grained) ReadAt(p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	piece := g.cols * g.size
	if g.rows > 1 || piece == g.width {
		piece = g.rows * g.width
	}
	if off%piece != 0 || end%piece != 0 && end != int64(len(g.data)) {
		g.t.Errorf("bytes [%d, %d) were asked for, want multiples of %d", off, end, piece)
	}
	return copy(p, g.data[off:]), nil
}

// failing is data that cannot be read from some offset on.
type failing struct {
	io.ReaderAt
	from int64
	err  error
}

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

// readerFunc is an io.ReaderAt made of a function.
type readerFunc func(p []byte, off int64) (int, error)

func (f readerFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

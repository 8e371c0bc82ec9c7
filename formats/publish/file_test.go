package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// mixed is a shard of pieces of a file and of tensors that have to be made, in an order
// that the file does not have, so that a copy which runs on where it should not shows.
func mixed(t testing.TB) []Part {
	t.Helper()
	var in []formats.Tensor
	for i, n := range []int{1000, 0, 333, 70_001, 64} {
		in = append(in, inMemory(fmt.Sprintf("f%d", i), formats.U8, pattern(n, byte(i)), int64(n)))
	}
	f, _ := inFiles(t, in...)
	made := func(name string, d formats.DType, rows, cols, grainRows, grainCols int64) formats.Tensor {
		size := d.Bits() / 8
		g := &grained{data: pattern(int(rows*cols*size), byte(rows)), rows: grainRows, cols: grainCols, width: cols * size, size: size, t: t}
		return formats.Tensor{Name: name, DType: d, Shape: []int64{rows, cols}, Data: g}
	}
	list := parts(
		f[0],
		made("rows", formats.F32, 37, 101, 1, 101),
		f[1], // empty
		f[2], // follows f0 in its file, but not here
		made("tiles", formats.BF16, 36, 50, 4, 50),
		made("elements", formats.F64, 5, 1001, 1, 1),
		f[4], f[3], // the other way round
		inMemory("loose", formats.U8, pattern(12_345, 9), 12_345),
		inMemory("none", formats.F32, nil, 0, 7),
		renamed(f[0], "f0 again"),
		made("quarter rows", formats.F16, 3, 4000, 1, 1000),
		made("one", formats.F32, 1, 1, 1, 1),
	)
	return slices.Insert(list, 5, Part{Literal: []byte("between")}, Part{}, Part{Literal: []byte{0}})
}

func renamed(x formats.Tensor, name string) formats.Tensor {
	x.Name = name
	return x
}

func TestWriteDoesNotDependOnOptions(t *testing.T) {
	s := mixed(t)
	var want []byte
	for _, p := range s {
		raw := p.Literal
		if p.Tensor.Data != nil {
			var err error
			if raw, err = p.Tensor.ReadAll(); err != nil {
				t.Fatal(err)
			}
		}
		want = append(want, raw...)
	}
	for _, workers := range []int{0, 1, 2, 7} {
		for _, block := range []int64{0, 1, 7, 777, 4096, 1 << 20, 1 << 50} {
			var progress atomic.Int64
			path := mustWrite(t, s, BlockOptions{Workers: workers, BlockBytes: block, Progress: func(n int64) { progress.Add(n) }})
			if got := load(t, path); got != string(want) {
				t.Errorf("%d workers, blocks of %d: the file differs", workers, block)
			}
			if progress.Load() != int64(len(want)) {
				t.Errorf("%d workers, blocks of %d: progress of %d bytes, want %d", workers, block, progress.Load(), len(want))
			}
		}
	}
}

// TestObserve expects each byte of a made tensor once, and none of a copied one.
func TestObserve(t *testing.T) {
	s := mixed(t)
	var mu sync.Mutex
	seen := map[string][]byte{}
	var tensors []formats.Tensor
	for _, p := range s {
		if x := p.Tensor; x.Data != nil {
			tensors = append(tensors, x)
			seen[x.Name] = make([]byte, x.Size())
		}
	}
	mustWrite(t, s, BlockOptions{Workers: 3, BlockBytes: 500, Observe: func(x formats.Tensor, off int64, block []byte) error {
		mu.Lock()
		defer mu.Unlock()
		for i, b := range block {
			seen[x.Name][off+int64(i)] += b
		}
		return nil
	}})
	for _, x := range tensors {
		want := make([]byte, x.Size())
		if _, inFile := x.Data.(formats.FileRanger); !inFile {
			if _, err := x.Data.ReadAt(want, 0); err != nil && x.Size() > 0 {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(seen[x.Name], want) {
			t.Errorf("%s was not observed once", x.Name)
		}
	}
	stop := errors.New("stop")
	checkGoroutines(t, func() {
		err := WriteFile(t.Context(), filepath.Join(t.TempDir(), "x"), s, BlockOptions{Observe: func(formats.Tensor, int64, []byte) error { return stop }})
		if !errors.Is(err, stop) {
			t.Errorf("got %v, want the observer's error", err)
		}
	})
}

// prepared counts preparations and refuses reads before the first.
type prepared struct {
	grained
	times atomic.Int32
	err   error
}

func (p *prepared) Prepare(context.Context) error {
	p.times.Add(1)
	return p.err
}

func (p *prepared) ReadAt(b []byte, off int64) (int, error) {
	if p.times.Load() == 0 {
		return 0, errors.New("read before it was prepared")
	}
	return p.grained.ReadAt(b, off)
}

func TestPrepareOnceBeforeTheFirstRead(t *testing.T) {
	p := &prepared{grained: grained{data: pattern(4000, 1), rows: 1, cols: 40, width: 40, size: 1, t: t}}
	s := parts(
		formats.Tensor{Name: "p", DType: formats.U8, Shape: []int64{100, 40}, Data: p},
		inMemory("q", formats.U8, pattern(100, 2), 100),
	)
	want := header + string(p.data) + string(pattern(100, 2))
	if got := load(t, mustWrite(t, s, BlockOptions{Workers: 4, BlockBytes: 80})); got != want || p.times.Load() != 1 {
		t.Errorf("prepared %d times, and the file is right: %v", p.times.Load(), got == want)
	}
	p.err = errors.New("no memory")
	err := WriteFile(t.Context(), filepath.Join(t.TempDir(), "x"), s, BlockOptions{})
	checkError(t, err, formats.ErrInput, `tensor "p"`, "no memory")
}

// TestFirstErrorOfSeveral has failures in three tensors; the one that comes first in the
// file is reported, whoever meets his first.
func TestFirstErrorOfSeveral(t *testing.T) {
	bad := func(name string, from int64) formats.Tensor {
		x := inMemory(name, formats.U8, pattern(10_000, 1), 10_000)
		x.Data = &failing{ReaderAt: x.Data, from: from, err: errors.New("broken " + name)}
		return x
	}
	s := parts(inMemory("a", formats.U8, pattern(5000, 1), 5000), bad("b", 9_000), bad("c", 0), bad("d", 10))
	dir := t.TempDir()
	for _, workers := range []int{1, 2, 7} {
		for range 50 {
			checkGoroutines(t, func() {
				err := WriteFile(t.Context(), filepath.Join(dir, "x"), s, BlockOptions{Workers: workers, BlockBytes: 100})
				checkError(t, err, formats.ErrInput, `tensor "b": reading: broken b`)
			})
		}
	}
}

// TestEarlierErrorThatComesLater lets the first tensor fail only when a later one has.
func TestEarlierErrorThatComesLater(t *testing.T) {
	failed := make(chan struct{})
	first, second := inMemory("first", formats.U8, nil, 100), inMemory("second", formats.U8, nil, 100)
	first.Data = readerFunc(func([]byte, int64) (int, error) { <-failed; return 0, errors.New("broken") })
	second.Data = readerFunc(func([]byte, int64) (int, error) { defer close(failed); return 0, errors.New("broken") })
	err := WriteFile(t.Context(), filepath.Join(t.TempDir(), "x"), parts(first, second), BlockOptions{Workers: 2})
	checkError(t, err, formats.ErrInput, `tensor "first"`)
}

// TestSourceCutShort truncates the file that tensors are copied from.
func TestSourceCutShort(t *testing.T) {
	for _, workers := range []int{1, 3} {
		in, path := inFiles(t, inMemory("a", formats.U8, pattern(50_000, 1), 50_000), inMemory("b", formats.U8, pattern(50_000, 2), 50_000))
		if err := os.Truncate(path, 60_000); err != nil {
			t.Fatal(err)
		}
		checkGoroutines(t, func() {
			err := WriteFile(t.Context(), filepath.Join(t.TempDir(), "x"), parts(in...), BlockOptions{Workers: workers})
			checkError(t, err, formats.ErrInput, formats.Quote(path), "unexpected EOF")
			if want := `tensor "a"`; err != nil && bytes.Contains([]byte(err.Error()), []byte(want)) {
				t.Errorf("got %v: the bytes of a are all there", err)
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	checkGoroutines(t, func() {
		if err := WriteFile(ctx, filepath.Join(dir, "x"), mixed(t), BlockOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled before: got %v", err)
		}
	})
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	blocks := atomic.Int32{}
	checkGoroutines(t, func() {
		s := parts(inMemory("a", formats.U8, pattern(100_000, 1), 100_000))
		err := WriteFile(ctx, filepath.Join(dir, "y"), s, BlockOptions{Workers: 2, BlockBytes: 10, Observe: func(formats.Tensor, int64, []byte) error {
			if blocks.Add(1) == 5 {
				cancel()
			}
			return nil
		}})
		// How soon the workers hear of it is the scheduler's affair; there are 10,000 blocks.
		if !errors.Is(err, context.Canceled) || blocks.Load() > 5000 {
			t.Errorf("cancelled on the way: got %v after %d blocks", err, blocks.Load())
		}
	})
}

func TestUnwritable(t *testing.T) {
	dir := t.TempDir()
	s := parts(inMemory("a", formats.U8, []byte{1}, 1))
	for _, path := range []string{filepath.Join(dir, "none", "x"), dir} {
		checkError(t, WriteFile(t.Context(), path, s, BlockOptions{}), formats.ErrOutput, "writing "+formats.Quote(path))
	}
}

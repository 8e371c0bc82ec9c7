package ortadapter

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/internal/fault"
)

// zeros is data of any size.
type zeros struct{}

func (zeros) ReadAt(p []byte, off int64) (int, error) { clear(p); return len(p), nil }

func TestWriteParametersRefuses(t *testing.T) {
	w := func(d formats.DType, shape ...int64) formats.Tensor {
		return formats.Tensor{Name: "w", DType: d, Shape: shape, Data: zeros{}}
	}
	named := func(name string) formats.Tensor {
		x := w(formats.F32, 1)
		x.Name = name
		return x
	}
	for _, c := range []struct {
		params []formats.Tensor
		want   string
	}{
		{[]formats.Tensor{w(formats.Bool, 1)}, `parameter "w": ONNX Runtime takes no BOOL in an adapter`},
		{[]formats.Tensor{w(formats.C64, 1)}, "takes no C64"},
		{[]formats.Tensor{w(formats.F4, 2)}, "takes no F4"},
		{[]formats.Tensor{w(formats.F32)}, "it must have 1 to 64 dimensions (got 0)"},
		{[]formats.Tensor{w(formats.F32, make([]int64, 65)...)}, "it must have 1 to 64 dimensions (got 65)"},
		{[]formats.Tensor{w(formats.F32, -1)}, "negative dimension"},
		{[]formats.Tensor{w(formats.F32, 1<<62, 4)}, "overflows"},
		{[]formats.Tensor{w(formats.F32, 1), w(formats.F16, 1)}, `parameter "w": it would be there twice`},
		{[]formats.Tensor{named("")}, "the name is empty"},
		{[]formats.Tensor{named("a\nb")}, `name "a\nb" has a control character`},
		{[]formats.Tensor{named("\xff")}, "is not UTF-8"},
		{[]formats.Tensor{named(strings.Repeat("x", 4097))}, "is too long (got 4097 bytes"},
		{[]formats.Tensor{w(formats.U8, 1<<31)}, "too large: an adapter file holds less than 2 GiB"},
		{[]formats.Tensor{w(formats.F64, 1<<50)}, "too large"},
		{[]formats.Tensor{w(formats.U8, 1<<30), {Name: "v", DType: formats.U8, Shape: []int64{1 << 30}, Data: zeros{}}}, `too large: an adapter file holds less than 2 GiB (the parameters up to "v" take 2147483904 bytes)`},
	} {
		dir := t.TempDir()
		err := WriteParameters(t.Context(), filepath.Join(dir, "out"), c.params, WriteOptions{})
		checkError(t, err, formats.ErrOutput, c.want, "out")
		checkEmpty(t, dir)
	}
}

func checkEmpty(t testing.TB, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
		t.Errorf("%v is left, %v", left, err)
	}
}

// TestMemoryIsConstant writes two factors of 64 MiB that have to be turned and scaled.
func TestMemoryIsConstant(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 128 MiB")
	}
	u := &adapter.LowRank{
		A:     formats.Tensor{Name: "a", DType: formats.F32, Shape: []int64{16, 1 << 20}, Data: zeros{}},
		B:     formats.Tensor{Name: "b", DType: formats.F32, Shape: []int64{1 << 20, 16}, Data: zeros{}},
		Scale: 0.3,
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2)) // each worker holds a block
	a := &adapter.Adapter{Path: "p", Entries: []adapter.Entry{{Module: "m", Update: u}}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := Write(t.Context(), a, filepath.Join(t.TempDir(), "out"), WriteOptions{NoSync: true}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.HeapSys - before.HeapSys; got > 32<<20 && after.HeapSys > before.HeapSys {
		t.Errorf("the heap grew by %d bytes", got)
	}
}

// TestFaults lets every operation of a write fail once: nothing is left.
func TestFaults(t *testing.T) {
	bad := errors.New("bad")
	params := []formats.Tensor{inMemory("a", formats.F32, pattern(12), 3), inMemory("b", formats.I8, pattern(5), 5)}
	for n := 1; ; n++ {
		dir := t.TempDir()
		var count atomic.Int64
		restore := fault.Set(func(op fault.Op, path string) error {
			if count.Add(1) == int64(n) {
				return bad
			}
			return nil
		})
		err := WriteParameters(t.Context(), filepath.Join(dir, "out"), params, WriteOptions{})
		restore()
		if err == nil {
			if n < 8 {
				t.Errorf("only %d operations", n)
			}
			return
		}
		checkError(t, err, formats.ErrOutput, "bad", "out")
		checkEmpty(t, dir)
	}
}

func TestSourceFails(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	short := inMemory("a", formats.F32, pattern(11), 3)
	checkError(t, WriteParameters(t.Context(), out, []formats.Tensor{short}, WriteOptions{}), formats.ErrInput, `tensor "a"`, "unexpected EOF")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := WriteParameters(ctx, out, []formats.Tensor{inMemory("a", formats.F32, pattern(12), 3)}, WriteOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	checkEmpty(t, dir)
}

func TestForce(t *testing.T) {
	out := save(t, []byte("old"))
	params := []formats.Tensor{inMemory("a", formats.F32, pattern(12), 3)}
	checkError(t, WriteParameters(t.Context(), out, params, WriteOptions{}), formats.ErrOutput, "it exists")
	if string(load(t, out)) != "old" {
		t.Error("it was changed")
	}
	if err := WriteParameters(t.Context(), out, params, WriteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, out)
}

package diff_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/patch/diff"
)

// checkpoint is one of tensors in memory.
func checkpoint(t *testing.T, name string, tensors ...formats.Tensor) *formats.Checkpoint {
	t.Helper()
	c, err := formats.NewCheckpoint(name, formats.SingleFile, []formats.Shard{{Tensors: tensors}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tensor(name string, d formats.DType, raw []byte, shape ...int64) formats.Tensor {
	return formats.Tensor{Name: name, DType: d, Shape: shape, Data: bytes.NewReader(raw)}
}

// TestManyBlocks: blocks that are bit-equal count for the norm where another block of their
// tensor is not. All sums are of whole numbers and exact.
func TestManyBlocks(t *testing.T) {
	const n = 1_000_003 // some blocks of 1 MiB, and the last not whole
	x := make([]float32, n)
	var norm float64
	for i := range x {
		x[i] = float32(i%7 - 3)
		norm += float64(x[i]) * float64(x[i])
	}
	a := formats.FromFloat32s("w", []int64{n}, x)
	x[600_003] += 4 // from 2, as 600003 % 7 = 5
	b := formats.FromFloat32s("w", []int64{n}, x)
	var read atomic.Int64
	r, err := diff.Checkpoints(t.Context(), checkpoint(t, "a", a), checkpoint(t, "b", b), diff.Options{Progress: func(n int64) { read.Add(n) }})
	if err != nil {
		t.Fatal(err)
	}
	want := &diff.Values{
		Elements: n, Differing: 1, ULPs: []diff.ULPs{{From: 1 << 23, To: 1<<24 - 1, Count: 1}}, MaxULPs: 3 << 22, MaxAbs: 4,
		NormA: diff.Number(math.Sqrt(norm)), NormB: diff.Number(math.Sqrt(norm - 4 + 36)), Distance: 4,
	}
	got := *r.Tensors[0].Values
	if got.Cosine >= 1 || got.Relative != want.Distance/want.NormA {
		t.Errorf("cosine %v, relative %v", got.Cosine, got.Relative)
	}
	got.Cosine, got.Relative = 0, 0
	if d := cmp.Diff(want, &got); d != "" {
		t.Errorf("(- want, + got):\n%s", d)
	}
	if read.Load() != 2*4*n {
		t.Errorf("progress says %d bytes, want %d", read.Load(), 2*4*n)
	}
}

// TestPackedTypes: elements that share bytes are counted one by one.
func TestPackedTypes(t *testing.T) {
	f4 := [2][]byte{{0x21, 0x43, 0x65}, {0x31, 0x43, 0x56}} // low half first
	f6 := [2][]byte{{0, 0, 0, 0, 0, 0}, {0x40, 0, 0x04, 0, 0, 0x80}}
	var c [2]*formats.Checkpoint
	for i := range c {
		c[i] = checkpoint(t, "c", tensor("f4", formats.F4, f4[i], 6), tensor("f6", formats.F6E2M3, f6[i], 8), tensor("f8", formats.F8E4M3, f4[i], 3), tensor("c64", formats.C64, make([]byte, 8), 1))
	}
	r, err := diff.Checkpoints(t.Context(), c[0], c[1], diff.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, x := range r.Tensors {
		got[x.Name] = x.Values.Differing
		if !math.IsNaN(float64(x.Values.Relative)) {
			t.Errorf("%s: relative %v", x.Name, x.Values.Relative)
		}
	}
	// Bits 6, 18 and 47: elements 1, 3 and 7 of 6 bits.
	if d := cmp.Diff(map[string]int64{"f4": 3, "f6": 3, "f8": 2}, got); d != "" {
		t.Errorf("(- want, + got):\n%s", d)
	}
	if !r.Differs(1e9) {
		t.Error("bits that differ count whatever the tolerance")
	}
}

// grainy is data that can only be read in whole rows, after it was prepared once.
type grainy struct {
	io.ReaderAt
	t        *testing.T
	row      int64
	prepared atomic.Int64
}

func (g *grainy) Grain() (rows, cols int64) { return 1, g.row / 4 }
func (g *grainy) Prepare(context.Context) error {
	g.prepared.Add(1)
	return nil
}
func (g *grainy) ReadAt(p []byte, off int64) (int, error) {
	if g.prepared.Load() != 1 || off%g.row != 0 || int64(len(p))%g.row != 0 {
		g.t.Errorf("%d bytes from %d on, prepared %d times", len(p), off, g.prepared.Load())
	}
	return g.ReaderAt.ReadAt(p, off)
}

func TestLazyTensors(t *testing.T) {
	const rows, cols = 900, 777
	raw := make([]byte, rows*cols*4)
	narrow := tensor("w", formats.BF16, make([]byte, rows*cols*2), rows, cols)
	for _, order := range []string{"lazy first", "lazy second"} {
		lazy := tensor("w", formats.F32, nil, rows, cols)
		g := &grainy{ReaderAt: bytes.NewReader(raw), t: t, row: cols * 4}
		lazy.Data = g
		a, b := checkpoint(t, "a", lazy), checkpoint(t, "b", narrow)
		if order == "lazy second" {
			a, b = b, a
		}
		r, err := diff.Checkpoints(t.Context(), a, b, diff.Options{})
		if err != nil || r.Tensors[0].Values.Differing != 0 || g.prepared.Load() != 1 {
			t.Errorf("%s: %+v, %v", order, r, err)
		}
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errors.New("the disk is gone") }

func TestFailures(t *testing.T) {
	good := formats.FromFloat32s("w", []int64{2}, []float32{1, 2})
	bad := good
	bad.Data = broken{}
	_, err := diff.Checkpoints(t.Context(), checkpoint(t, "a", good), checkpoint(t, "b", bad), diff.Options{})
	if !errors.Is(err, formats.ErrInput) || err.Error() != `reading "b": tensor "w": the disk is gone` {
		t.Errorf("a disk that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := diff.Checkpoints(ctx, checkpoint(t, "a", good), checkpoint(t, "b", good), diff.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	nan := formats.FromFloat32s("A", []int64{1, 2}, []float32{1, float32(math.NaN())})
	low := func(a formats.Tensor) *adapter.Adapter {
		return &adapter.Adapter{Path: "ad", Entries: []adapter.Entry{{Module: "m", Update: &adapter.LowRank{A: a, B: formats.FromFloat32s("B", []int64{3, 1}, []float32{1, 1, 1}), Scale: 1}}}}
	}
	if _, err := diff.Adapters(t.Context(), low(formats.FromFloat32s("A", []int64{1, 2}, []float32{1, 2})), low(nan), diff.Options{}); !errors.Is(err, formats.ErrUnfit) || !strings.Contains(err.Error(), `reading "ad": tensor "A": `) {
		t.Errorf("NaN in a factor: %v", err)
	}
	huge := low(formats.FromFloat32s("A", []int64{1, 2}, []float32{1, 2}))
	huge.Entries[0].Update.(*adapter.LowRank).Scale = 1e308
	if _, err := diff.Adapters(t.Context(), huge, huge, diff.Options{}); err != nil && !errors.Is(err, formats.ErrUnfit) {
		t.Errorf("a scale near the end of float64: %v", err)
	}
}

// TestFresh: adapters that add nothing are the same, whatever their other factor is.
func TestFresh(t *testing.T) {
	fresh := func(x float32) *adapter.Adapter {
		return &adapter.Adapter{Path: "ad", Entries: []adapter.Entry{{Module: "m", Update: &adapter.LowRank{
			A: formats.FromFloat32s("A", []int64{1, 2}, []float32{1, x}), B: formats.FromFloat32s("B", []int64{3, 1}, []float32{0, 0, 0}), Scale: 2,
		}}}}
	}
	r, err := diff.Adapters(t.Context(), fresh(1), fresh(5), diff.Options{})
	if err != nil || r.Modules[0].What != diff.Equal || r.Differs(-1) || r.Scale != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestScaleInFactor: an adapter whose scale, a power of two, is in its factor is the same.
func TestScaleInFactor(t *testing.T) {
	with := func(scale float64, b ...float32) *adapter.Adapter {
		return &adapter.Adapter{Path: "ad", Entries: []adapter.Entry{{Module: "m", Update: &adapter.LowRank{
			A: formats.FromFloat32s("A", []int64{1, 2}, []float32{1.1, 0.3}), B: formats.FromFloat32s("B", []int64{3, 1}, b), Scale: scale,
		}}}}
	}
	r, err := diff.Adapters(t.Context(), with(4, 0.1, 0.2, 0.3), with(0.5, 0.8, 1.6, 2.4), diff.Options{})
	if err != nil || r.Modules[0].What != diff.Equal || r.Modules[0].Distance != 0 || r.Differs(-1) {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = diff.Adapters(t.Context(), with(4, 0.1, 0.2, 0.3), with(-0.5, 0.8, 1.6, 2.4), diff.Options{})
	if err != nil || r.Modules[0].What != diff.Scaled || math.Abs(float64(*r.Modules[0].Scale)+1) > 1e-14 || !r.Differs(1.9) || r.Differs(2.1) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestOnly(t *testing.T) {
	r := models(t, "a.safetensors", "b.safetensors", diff.Options{Only: []string{`random\..*`, "steps.f32", "steps", "shape"}})
	var names []string
	for _, x := range r.Tensors {
		names = append(names, x.Name)
	}
	want := "random.bf16 random.f16 random.f32 random.f64 shape steps.bf16 steps.f16 steps.f32 steps.f64"
	if got := strings.Join(sorted(names), " "); got != want || len(r.OnlyA)+len(r.OnlyB) > 0 {
		t.Errorf("got %s; only in A %q, in B %q", got, r.OnlyA, r.OnlyB)
	}
	r = adapters(t, "first", "near", diff.Options{Only: []string{"q_proj"}})
	if len(r.Modules) != 1 || r.Modules[0].Module != "model.layers.0.q_proj" || len(r.Config) > 0 {
		t.Errorf("%+v", r)
	}
	c := checkpoint(t, "a", formats.FromFloat32s("w", []int64{1}, []float32{1}))
	for _, only := range []string{"v", "("} {
		if _, err := diff.Checkpoints(t.Context(), c, c, diff.Options{Only: []string{only}}); !errors.Is(err, formats.ErrUsage) {
			t.Errorf("only %q: %v", only, err)
		}
	}
}

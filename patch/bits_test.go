package patch_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/kernel"
)

// goldenBits are SHA-256 sums of merged files by dtype and rounding. They are the same for
// every processor, engine, number of workers and block size; a new one is a change of
// the arithmetic, which users will see.
var goldenBits = map[string]string{
	"F64 once":       "852696e82f49bc31f66a87827b6a9c2ab6556795975023c4400094e3d36e8b92",
	"F64 peft":       "e08834bf59fcc10fbf902298046a825401f0204cbc42ff5bb36de94a8e75578f",
	"F64 peft-safe":  "e08834bf59fcc10fbf902298046a825401f0204cbc42ff5bb36de94a8e75578f",
	"F32 once":       "32f6f7bb78d19283354feaf47ea9db6f73d07e1fc53785b912464c04331f6ef3",
	"F32 peft":       "5166c0e999264909c6d5f50531ae55dcf1e45663eea99b199fa6715c7c796c05",
	"F32 peft-safe":  "5166c0e999264909c6d5f50531ae55dcf1e45663eea99b199fa6715c7c796c05",
	"BF16 once":      "ede81dbe35d05df4a67a9a219562c5819d17d28f513eefda7b446a2580ea17ec",
	"BF16 peft":      "3bc7aced9ae29d3267336c103ded7d2a6f340efb7b4ffd0ad19af03635170edd",
	"BF16 peft-safe": "0b624c2e69062809b3a70dd30d7ce7409a8f7087680dc8318af9a40810e64487",
	"F16 once":       "ef43615dd53e437df596fcd216b83c1cdaff52ec8f1d6a35e1e8b13cac42c0d9",
	"F16 peft":       "c74bd8f2b7fc21827993fd81f4cf82347d6177da6a3d47ec12a7347df08e7098",
	"F16 peft-safe":  "8156ea5184b194c8519a525a1d8628354c213b06c5dd77616cf88dea19208d8f",
}

// engines are what kernel.Engine can answer, and the settings of GODEBUG that take faster
// ones away. Without fma also math.FMA is computed in software.
var engines = []struct{ name, off string }{
	{"avx512", ""},
	{"avx2", "cpu.avx512f=off"},
	{"go", "cpu.fma=off"},
}

// expectEngine is set for processes that TestSameBits starts.
const expectEngine = "GRAFT_TEST_ENGINE"

// TestSameBits merges with the engine that runs here, and in processes of their own with
// those that it hides. Another architecture's binary compares that one.
func TestSameBits(t *testing.T) {
	if want := os.Getenv(expectEngine); want != "" && want != kernel.Engine() {
		t.Fatalf("the engine is %s, want %s", kernel.Engine(), want)
	}
	testSameBits(t)
	if os.Getenv(expectEngine) != "" {
		return
	}
	hidden := false
	for _, e := range engines {
		if e.name == kernel.Engine() {
			hidden = true
			continue
		}
		t.Run(e.name, func(t *testing.T) {
			if !hidden {
				t.Skipf("not compared: a processor without it, another architecture (%s), or built without assembly", runtime.GOARCH)
			}
			cmd := exec.Command(os.Args[0], "-test.run=^TestSameBits$", "-test.v", "-test.short")
			cmd.Env = append(os.Environ(), "GODEBUG="+e.off, expectEngine+"="+e.name)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "engine "+e.name+" on") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func testSameBits(t *testing.T) {
	t.Logf("engine %s on %s", kernel.Engine(), runtime.GOARCH)
	type setting struct {
		procs, workers int
		block          int64
	}
	settings := []setting{{1, 1, 0}, {2, 2, 1}, {7, 7, 5000}}
	if !testing.Short() {
		settings = nil
		for i, workers := range []int{1, 2, 7} {
			for j, block := range []int64{1, 5000, 0} { // a row each, some rows, whole tensors
				settings = append(settings, setting{[]int{1, 2, 7}[(i+j)%3], workers, block})
			}
		}
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, d := range []formats.DType{formats.F64, formats.F32, formats.BF16, formats.F16} {
		for _, rounding := range []patch.Rounding{patch.RoundOnce, patch.RoundPEFT, patch.RoundPEFTSafe} {
			name := fmt.Sprintf("%s %s", d, rounding)
			for _, s := range settings {
				runtime.GOMAXPROCS(s.procs)
				if got := mergedBits(t, d, rounding, s.workers, s.block); got != goldenBits[name] {
					t.Errorf("%s, %d processors, %d workers, blocks of %d: got %s, want %s", name, s.procs, s.workers, s.block, got, goldenBits[name])
					break
				}
			}
		}
	}
}

// mergedBits writes everything that merging knows to one file and returns its sum. The
// plan is a new one, so that nothing is cached.
func mergedBits(t *testing.T, d formats.DType, rounding patch.Rounding, workers int, block int64) string {
	t.Helper()
	base, weighted := everyKind(t, d, rounding)
	p, err := patch.NewPlanRounding(base, rounding, weighted...)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Targets()) != len(base.Shards()[0].Tensors) {
		t.Fatalf("%d targets of %d tensors", len(p.Targets()), len(base.Shards()[0].Tensors))
	}
	path := filepath.Join(t.TempDir(), "model.safetensors")
	if err := safetensors.Write(context.Background(), path, p.Merge().Shards()[0], safetensors.WriteOptions{Workers: workers, BlockBytes: block}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// everyKind is a base with every kind of layer, and two adapters on it. Numbers come
// from integers alone, so that no library's idea of a logarithm is in them.
func everyKind(t *testing.T, d formats.DType, rounding patch.Rounding) (*formats.Checkpoint, []patch.Weighted) {
	t.Helper()
	seed := uint64(0)
	draw := func(d formats.DType, size float64, shape ...int64) formats.Tensor {
		seed++
		return drawn(d, size, seed, shape...)
	}
	var tensors []formats.Tensor
	base := func(module string, shape ...int64) {
		w := draw(d, 0.05, shape...)
		w.Name = module + ".weight"
		tensors = append(tensors, w)
	}
	linear := func(factor formats.DType, module string, scale float64, rank, out, in int64) adapter.Entry {
		return lora(module, scale, draw(factor, 0.1, rank, in), draw(factor, 0.1, out, rank))
	}
	conv := func(factor formats.DType, module string, scale float64, rank, out, in int64) adapter.Entry {
		return lora(module, scale, draw(factor, 0.1, rank, in, 3, 3), draw(factor, 0.1, out, rank, 1, 1))
	}
	embedding := func(e adapter.Entry) adapter.Entry {
		e.Update.(*adapter.LowRank).Embedding = true
		return e
	}
	dora := func(e adapter.Entry, shape ...int64) adapter.Entry {
		m := draw(formats.F32, 0.2, shape...)
		m.Name = e.Module + ".lora_magnitude_vector"
		e.Keys = append(e.Keys, m.Name)
		e.Update = &adapter.Magnitude{Inner: e.Update.(*adapter.LowRank), Vector: m}
		return e
	}

	base("wide", 13, 1063) // more than a tile of columns
	base("high", 301, 17)
	base("deep", 9, 61) // rank 300
	base("scalar", 1, 1)
	base("h.0.attn.c_attn", 37, 111) // (in, out)
	base("wte", 83, 33)
	base("conv", 11, 5, 3, 3)
	base("dora", 29, 71)
	base("h.0.mlp.c_fc", 47, 59) // DoRA by column
	base("dora_conv", 7, 6, 3, 3)
	base("odd_embed", 53, 19) // DoRA

	first := []adapter.Entry{
		linear(formats.BF16, "wide", 2, 16, 13, 1063),
		linear(formats.F32, "high", 1.0/3, 5, 301, 17),
		linear(formats.F16, "deep", 0.7, 300, 9, 61),
		linear(formats.F64, "scalar", -1.5, 1, 1, 1),
		linear(formats.F32, "h.0.attn.c_attn", 2, 7, 111, 37),
		embedding(linear(formats.F32, "wte", 0.5, 4, 33, 83)),
		conv(formats.F32, "conv", 2, 3, 11, 5),
		dora(linear(formats.F32, "dora", 2, 8, 29, 71), 29),
		dora(linear(formats.BF16, "h.0.mlp.c_fc", 2, 8, 59, 47), 59),
		dora(conv(formats.F32, "dora_conv", 1.1, 2, 7, 6), 1, 7, 1, 1),
		dora(embedding(linear(formats.F32, "odd_embed", 0.9, 3, 19, 53)), 19),
	}
	second := []adapter.Entry{
		linear(formats.F32, "wide", 0.1, 65, 13, 1063),
		linear(formats.F16, "high", -0.25, 1, 301, 17),
		linear(formats.F32, "h.0.attn.c_attn", 3, 2, 111, 37),
		embedding(linear(formats.BF16, "wte", 0.3, 9, 33, 83)),
		conv(formats.F16, "conv", 1, 1, 11, 5),
	}
	if rounding != patch.RoundOnce { // one rounding takes no second update beside a magnitude
		second = append(second,
			linear(formats.F32, "dora", 0.3, 2, 29, 71),
			dora(linear(formats.F32, "h.0.mlp.c_fc", 1, 3, 59, 47), 59),
		)
	}
	return fakeBase(t, `{"model_type":"gpt2","architectures":["GPT2Model"]}`, tensors...),
		[]patch.Weighted{weigh(1, first...), weigh(0.75, second[:5]...), weigh(1, second[5:]...)}
}

// drawn is a tensor of numbers up to size in magnitude, among them zeros of both signs,
// numbers of few bits, whose sums fall on ties, and tiny ones.
func drawn(d formats.DType, size float64, seed uint64, shape ...int64) formats.Tensor {
	n := int64(1)
	for _, x := range shape {
		n *= x
	}
	rng := rand.New(rand.NewPCG(seed, 77))
	v := make([]float64, n)
	for i := range v {
		x := float64(int64(rng.Uint64())) * 0x1p-63
		switch rng.IntN(16) {
		case 0:
			x *= 0
		case 1, 2:
			x = float64(int8(rng.Uint32())) * 0x1p-7
		case 3:
			x *= 0x1p-30
		case 4:
			x *= 0x1p-135 // beside others it is nothing; alone it is no normal float32
		}
		v[i] = x * size
	}
	raw := make([]byte, n*d.Bits()/8)
	if d == formats.F64 {
		formats.EncodeFloat64(raw, v)
	} else {
		narrow := make([]float32, n)
		for i, x := range v {
			narrow[i] = float32(x)
		}
		formats.EncodeFloat32(raw, narrow, d)
	}
	return formats.Tensor{DType: d, Shape: shape, Data: bytes.NewReader(raw)}
}

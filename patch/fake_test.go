package patch_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// fakeBase is a checkpoint in memory with the given config.json.
func fakeBase(t testing.TB, config string, tensors ...formats.Tensor) *formats.Checkpoint {
	t.Helper()
	side := []formats.SideFile{{Name: "config.json", Size: int64(len(config)), Data: strings.NewReader(config)}}
	if config == "" {
		side = nil
	}
	c, err := formats.NewCheckpoint("the base", formats.Directory, []formats.Shard{{Name: "model.safetensors", Tensors: tensors}}, side)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// typed is a tensor of any float type with the given values.
func typed(name string, d formats.DType, shape []int64, values ...float32) formats.Tensor {
	raw := make([]byte, int64(len(values))*d.Bits()/8)
	formats.EncodeFloat32(raw, values, d)
	return formats.Tensor{Name: name, DType: d, Shape: shape, Data: bytes.NewReader(raw)}
}

// whole is a tensor of small whole numbers, with which the tests' sums are exact.
func whole(name string, d formats.DType, seed uint64, shape ...int64) formats.Tensor {
	n := int64(1)
	for _, x := range shape {
		n *= x
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(rng.IntN(7) - 3)
	}
	return typed(name, d, shape, values...)
}

// lora is an entry with the given factors.
func lora(module string, scale float64, a, b formats.Tensor) adapter.Entry {
	a.Name, b.Name = module+".lora_A.weight", module+".lora_B.weight"
	return adapter.Entry{Module: module, Keys: []string{a.Name, b.Name}, Update: &adapter.LowRank{A: a, B: b, Scale: scale}}
}

// wholeLora is an entry with factors of small whole numbers.
func wholeLora(module string, scale float64, r, in, out int64) adapter.Entry {
	return lora(module, scale, whole("", formats.F32, uint64(r+in), r, in), whole("", formats.F32, uint64(r+out), out, r))
}

func fakeAdapter(entries ...adapter.Entry) *adapter.Adapter {
	return &adapter.Adapter{Path: "the adapter", Dialect: "peft", Entries: entries}
}

func floatsOf(t testing.TB, x formats.Tensor) []float64 {
	t.Helper()
	raw, err := x.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float64, x.Elements())
	formats.DecodeFloat64(out, raw, x.DType)
	return out
}

// checkClass checks an error's class and what it says; hints count as said.
func checkClass(t testing.TB, err, class error, want ...string) {
	t.Helper()
	var e *formats.Error
	if !errors.As(err, &e) || !errors.Is(err, class) {
		t.Errorf("got %v, want the class %v and %q", err, class, want)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error()+"\nhint: "+e.Hint, w) {
			t.Errorf("got %v (hint: %s), want it to say %q", err, e.Hint, w)
		}
	}
}

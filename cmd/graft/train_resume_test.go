package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/train"
)

// TestKept: which checkpoints stay is Hugging Face's rotate_checkpoints, but for those that
// Ctrl-C left at a step in between, which go.
func TestKept(t *testing.T) {
	best := func(n int) *int { return &n }
	for _, c := range []struct {
		every, limit int
		best         *int
		steps, want  []int
	}{
		{10, 0, nil, []int{10, 20, 30}, []int{10, 20, 30}},
		{10, 2, nil, []int{10, 20, 30, 40}, []int{30, 40}},
		{10, 2, best(10), []int{10, 20, 30, 40}, []int{10, 40}},
		{10, 1, best(10), []int{10, 20, 30}, []int{10, 30}}, // the newest and the best always
		{10, 1, best(30), []int{10, 20, 30}, []int{30}},
		{10, 2, best(15), []int{10, 15, 20, 30}, []int{20, 30}},
		{10, 0, nil, []int{10, 17, 20}, []int{10, 20}},
		{0, 0, nil, []int{17}, nil},
	} {
		k := &checkpoints{every: c.every, limit: c.limit, steps: c.steps}
		if got := k.kept(c.best); !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %v", c, got)
		}
		if len(c.steps) != len(k.steps) {
			t.Errorf("%+v: changed the list", c)
		}
	}
}

func TestStepsIn(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"checkpoint-20", "checkpoint-3", ".checkpoint-30.graft-0a1b"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if steps, alone := stepsIn(dir); !alone || !slices.Equal(steps, []int{3, 20}) {
		t.Errorf("got %v, alone %v", steps, alone)
	}
	for _, name := range []string{"checkpoint-0", "checkpoint-x", "adapter_config.json", "checkpoint-99999999999"} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o777); err != nil {
			t.Fatal(err)
		}
		if steps, alone := stepsIn(dir); alone || len(steps) != 2 {
			t.Errorf("with %s: got %v, alone %v", name, steps, alone)
		}
		os.Remove(path)
	}
}

// TestSnapshotFiles: what is written is read back bit by bit, for each optimizer.
func TestSnapshotFiles(t *testing.T) {
	step, other := 7, 5
	params := []train.Values{{Name: "b.lora_A.weight", Data: []float32{1, 2.5, -3}}, {Name: "a.bias", Data: []float32{1e-40}}}
	for name, s := range map[string]train.Snapshot{
		"adamw": {Moments: []train.Moments{{Name: "b.lora_A.weight", First: []float32{1, 2, 3}, Second: []float32{4, 5, 6}}, {Name: "a.bias", First: []float32{7}, Second: []float32{8}}}},
		"momentum": {Moments: []train.Moments{{Name: "b.lora_A.weight", First: []float32{1, 2, 3}}, {Name: "a.bias", First: []float32{7}}},
			Best: []train.Values{{Name: "b.lora_A.weight", Data: []float32{9, 9, 9}}, {Name: "a.bias", Data: []float32{9}}}},
		"sgd": {Moments: []train.Moments{{Name: "b.lora_A.weight"}, {Name: "a.bias"}}},
	} {
		s.Params, s.Pending = params, train.Pending{Steps: 2, Loss: 1.25, LearningRate: 1e-3, GradNorm: 0.1}
		s.State.GlobalStep, s.State.BestGlobalStep = 7, &step
		if s.Best != nil {
			s.State.BestGlobalStep = &other
		}
		dir := t.TempDir()
		f, err := os.Create(filepath.Join(dir, stateFile))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.State.Write(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if err := writeResume(dir, s, &trainFingerprint{}); err != nil {
			t.Fatal(err)
		}
		facts, err := readFacts(dir)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readSnapshot(dir, facts)
		if err != nil {
			t.Fatal(err)
		}
		if got.Pending != s.Pending || got.State.GlobalStep != 7 {
			t.Errorf("%s: got %+v", name, got)
		}
		best := s.Best
		if best == nil {
			best = s.Params
		}
		for _, c := range []struct{ got, want []train.Values }{{got.Params, s.Params}, {got.Best, best}} {
			for _, want := range c.want {
				i := slices.IndexFunc(c.got, func(v train.Values) bool { return v.Name == want.Name })
				if len(c.got) != 2 || i < 0 || !slices.Equal(c.got[i].Data, want.Data) {
					t.Errorf("%s: values %v, want %v", name, c.got, c.want)
				}
			}
		}
		for _, want := range s.Moments {
			i := slices.IndexFunc(got.Moments, func(m train.Moments) bool { return m.Name == want.Name })
			if len(got.Moments) != 2 || i < 0 || !slices.Equal(got.Moments[i].First, want.First) || !slices.Equal(got.Moments[i].Second, want.Second) {
				t.Errorf("%s: moments %v, want %v", name, got.Moments, s.Moments)
			}
		}
	}
}

package models

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/formats/peft"
)

// adapterRuns are runs of PEFT with adapters of every kind, made by testdata/gen/adapters.py.
var adapterRuns = []string{
	"dora-llama", "dora-gpt2", "dora-bert", "dora-embeddings",
	"embeddings-mistral", "embeddings-gpt2", "embeddings-bert", "embeddings-tied",
	"biases-qwen2", "biases-bert", "bias-deltas-qwen2", "bias-deltas-gpt2",
	"saved-llama", "saved-tied", "saved-apart",
}

const adapterDir = "../../testdata/models/adapters"

func openAdapterRun(t testing.TB, name string) *taskRun {
	t.Helper()
	dir := filepath.Join(adapterDir, name)
	text, err := os.ReadFile(filepath.Join(dir, "run.json"))
	if err != nil {
		t.Fatal(err)
	}
	var where struct{ Base string }
	r := &taskRun{}
	for _, into := range []any{&where, &r.taskPlan} {
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	if r.base, err = hf.Open(filepath.Join("../../testdata/models", where.Base)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.base.Close() })
	if r.init, err = peft.Read(filepath.Join(dir, "init")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.init.Close() })
	r.golden = goldenAt(t, filepath.Join(dir, "golden.safetensors"))
	return r
}

// adapterBound is in units of the outputs' root mean square. The reference is made in
// float64, but for what transformers makes in float32: of that float32 is within 5e-6
// here, and what is wrong moves the outputs by a hundred times as much.
const adapterBound = 1e-5

func TestAdaptersMatchPEFT(t *testing.T) {
	for _, name := range adapterRuns {
		t.Run(name, func(t *testing.T) {
			r := openAdapterRun(t, name)
			m, outputs, err := r.load(r.base)
			if err != nil {
				t.Fatal(err)
			}
			first := r.batch(t, 0)
			check := func(outputs func(Batch) ([]float32, error), what string) {
				t.Helper()
				got, err := outputs(first)
				if err != nil {
					t.Fatal(err)
				}
				off := r.compare(first, got, goldenFloats(t, r.golden, what))
				t.Logf("%s is off by %.1e of the rms", what, off)
				if !(off <= adapterBound) {
					t.Errorf("%s is off by %g of the rms", what, off)
				}
			}
			check(outputs, "base")
			attached, attachedOutputs, err := r.load(r.base)
			if err != nil {
				t.Fatal(err)
			}
			if err := attached.Attach(r.init, 1); err != nil {
				t.Fatal(err)
			}
			check(attachedOutputs, "adapter")
			if err := m.Train(r.init, TrainOptions{}); err != nil {
				t.Fatal(err)
			}
			check(outputs, "adapter")
			trained := 0
			for x := range r.golden.Tensors() {
				if strings.HasPrefix(x.Name, "grad.") {
					trained++
				}
			}
			if n := len(m.Params()); n != trained {
				t.Errorf("%d parameters are trained, PEFT trains %d", n, trained)
			}
			r.train(t, m)

			// What is saved is what was trained, read again by way of PEFT's files.
			out, err := m.Export()
			if err != nil {
				t.Fatal(err)
			}
			want, err := outputs(first)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := peft.Write(dir, out); err != nil {
				t.Fatal(err)
			}
			again, err := peft.Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			fresh, freshOutputs, err := r.load(r.base)
			if err != nil {
				t.Fatal(err)
			}
			if err := fresh.Attach(again, 1); err != nil {
				t.Fatal(err)
			}
			got, err := freshOutputs(first)
			if err != nil {
				t.Fatal(err)
			}
			// Norms of factors that are trained are made in the same way as of others.
			if d := largestDifference(got, want); d != 0 {
				t.Errorf("the exported adapter gives outputs that are off by %g", d)
			}
			checkKeys(t, filepath.Join(adapterDir, name, "init"), dir)
		})
	}
}

// checkKeys compares the names and shapes in two adapters' files.
func checkKeys(t *testing.T, want, got string) {
	t.Helper()
	shapes := func(dir string) map[string]string {
		out := map[string]string{}
		for x := range goldenAt(t, filepath.Join(dir, peft.WeightsName)).Tensors() {
			// PEFT writes these besides, and no program reads them.
			if !strings.HasSuffix(x.Name, ".modules_to_save.bias") && !strings.HasSuffix(x.Name, ".original_module.bias") {
				text, _ := json.Marshal(x.Shape)
				out[x.Name] = string(text)
			}
		}
		return out
	}
	a, b := shapes(want), shapes(got)
	for name, shape := range a {
		if b[name] != shape {
			t.Errorf("%s is %s, PEFT has %s", name, b[name], shape)
		}
	}
	if len(a) != len(b) {
		t.Errorf("%d tensors, PEFT has %d", len(b), len(a))
	}
}

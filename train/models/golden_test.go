package models

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/formats/safetensors"
)

const (
	tinyLlama = "../../testdata/tiny-llama"
	// oddLlama has everything that tiny-llama has not: biases on the attention, a tied
	// head, names without "model.", head_dim unlike hidden/heads, one key-value head, a
	// rotary base and a norm epsilon that matter, and a config of transformers 5.
	oddLlama = "../../testdata/odd-llama"
	// mlpBias is untied, with biases in the MLP, in F32.
	mlpBias = "../../testdata/odd-llama/mlp-bias"
)

// references are runs of PyTorch and PEFT, with every number kept.
var references = []struct{ model, name string }{
	{tinyLlama, "qv-r8"}, {tinyLlama, "all-r4-rslora"}, {oddLlama, "mixed-r5"}, {oddLlama, "regex-r3-rslora"},
}

func loadModel(t testing.TB, dir string) *decoder {
	t.Helper()
	ckpt, err := hf.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	m, err := Load(ckpt)
	if err != nil {
		t.Fatal(err)
	}
	return m.(*decoder)
}

func readAdapter(t testing.TB, model, reference, which string) *adapter.Adapter {
	t.Helper()
	ad, err := peft.Read(filepath.Join(model, "reference", reference, which))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ad.Close() })
	return ad
}

// golden opens a file of reference numbers.
func golden(t testing.TB, model string, file ...string) *formats.Checkpoint {
	t.Helper()
	return goldenAt(t, filepath.Join(append([]string{model, "reference"}, file...)...))
}

func goldenAt(t testing.TB, path string) *formats.Checkpoint {
	t.Helper()
	c, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func goldenFloats(t testing.TB, c *formats.Checkpoint, name string) []float32 {
	t.Helper()
	x, ok := c.Tensor(name)
	if !ok {
		t.Fatalf("no %s", name)
	}
	data, err := x.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func goldenIDs(t testing.TB, c *formats.Checkpoint, name string) (ids []int32, shape []int64) {
	t.Helper()
	x, ok := c.Tensor(name)
	if !ok || x.DType != formats.I64 {
		t.Fatalf("no I64 %s", name)
	}
	raw, err := x.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(raw); i += 8 {
		ids = append(ids, int32(raw[i])|int32(raw[i+1])<<8|int32(raw[i+2])<<16|int32(raw[i+3])<<24)
	}
	return ids, x.Shape
}

// trainingBatch makes a step's batch from the reference's batches of tokens+1 and, where
// there are any, its labels.
func trainingBatch(t testing.TB, inputs *formats.Checkpoint, step int) Batch {
	t.Helper()
	ids, shape := goldenIDs(t, inputs, "batches")
	rows, cols := int(shape[1]), int(shape[2])-1
	b := Batch{Rows: rows, Cols: cols}
	for r := range rows {
		line := ids[(step*rows+r)*(cols+1):][:cols+1]
		b.IDs = append(b.IDs, line[:cols]...)
		b.Labels = append(b.Labels, line[1:]...)
	}
	if _, ok := inputs.Tensor("labels"); ok {
		labels, _ := goldenIDs(t, inputs, "labels")
		b.Labels = labels[step*rows*cols:][:rows*cols]
	}
	return b
}

func largestDifference(a, b []float32) (worst float64) {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	for i := range a {
		d := math.Abs(float64(a[i]) - float64(b[i]))
		if !(d <= worst) {
			worst = d
		}
	}
	return worst
}

func frobenius(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var diff, norm float64
	for i := range want {
		d := float64(got[i]) - float64(want[i])
		diff += d * d
		norm += float64(want[i]) * float64(want[i])
	}
	return math.Sqrt(diff / norm)
}

// The bounds are those within which PyTorch's own float32 is of float64, a few times
// over, and far below what any mistake makes: each option moves the logits by over 1e-2.
const (
	logitBound  = 1e-4 // absolute
	lossBound   = 1e-5 // relative
	matrixBound = 5e-4 // relative, Frobenius
)

func checkLogits(t *testing.T, m *decoder, ids []int32, shape []int64, want []float32) {
	t.Helper()
	got, err := m.Logits(Batch{Rows: int(shape[0]), Cols: int(shape[1]), IDs: ids})
	if err != nil {
		t.Fatal(err)
	}
	worst := largestDifference(got, want)
	t.Logf("largest difference of logits %.2e", worst)
	if !(worst <= logitBound) {
		t.Errorf("logits are off by %g", worst)
	}
}

func TestLogitsMatchPyTorch(t *testing.T) {
	for _, ref := range references {
		t.Run(ref.name, func(t *testing.T) {
			m := loadModel(t, ref.model)
			ids, shape := goldenIDs(t, golden(t, ref.model, ref.name, "inputs.safetensors"), "logit_ids")
			want := golden(t, ref.model, ref.name, "logits.safetensors")
			checkLogits(t, m, ids, shape, goldenFloats(t, want, "base"))
			// A quarter and three quarters of an adapter are the adapter.
			trained := readAdapter(t, ref.model, ref.name, "trained")
			for _, weight := range []float64{0.25, 0.75} {
				if err := m.Attach(trained, weight); err != nil {
					t.Fatal(err)
				}
			}
			checkLogits(t, m, ids, shape, goldenFloats(t, want, "adapter"))
		})
	}
	t.Run("mlp-bias", func(t *testing.T) {
		ids, shape := goldenIDs(t, golden(t, mlpBias, "inputs.safetensors"), "logit_ids")
		checkLogits(t, loadModel(t, mlpBias), ids, shape, goldenFloats(t, golden(t, mlpBias, "logits.safetensors"), "base"))
	})
}

// trainingPlan is the reference's train.json.
type trainingPlan struct {
	Loss        []float64
	LR          float64
	WeightDecay float64 `json:"weight_decay"`
	Betas       [2]float64
	Eps         float64
}

// adamW is torch.optim.AdamW's step for one element after another: decoupled decay, then
// the moments with bias correction.
type adamW struct {
	trainingPlan
	step int
	m, v [][]float64
}

func (o *adamW) update(params []Param) {
	o.step++
	if o.m == nil {
		for _, p := range params {
			o.m, o.v = append(o.m, make([]float64, len(p.Data))), append(o.v, make([]float64, len(p.Data)))
		}
	}
	c1, c2 := 1-math.Pow(o.Betas[0], float64(o.step)), 1-math.Pow(o.Betas[1], float64(o.step))
	for n, p := range params {
		for i, g := range p.Grad {
			x, g := float64(p.Data[i])*(1-o.LR*o.WeightDecay), float64(g)
			o.m[n][i] += (1 - o.Betas[0]) * (g - o.m[n][i])
			o.v[n][i] = o.Betas[1]*o.v[n][i] + (1-o.Betas[1])*g*g
			p.Data[i] = float32(x - o.LR/c1*o.m[n][i]/(math.Sqrt(o.v[n][i])/math.Sqrt(c2)+o.Eps))
		}
	}
}

func TestTrainingMatchesPyTorch(t *testing.T) {
	for _, ref := range references {
		t.Run(ref.name, func(t *testing.T) {
			m := loadModel(t, ref.model)
			init := readAdapter(t, ref.model, ref.name, "init")
			if err := m.Train(init, TrainOptions{}); err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(filepath.Join(ref.model, "reference", ref.name, "train.json"))
			if err != nil {
				t.Fatal(err)
			}
			var optim adamW
			if err := json.Unmarshal(raw, &optim.trainingPlan); err != nil {
				t.Fatal(err)
			}
			inputs := golden(t, ref.model, ref.name, "inputs.safetensors")
			grads := golden(t, ref.model, ref.name, "grads_step3.safetensors")
			var worstLoss, worstGrad, worstFactor float64
			for step, want := range optim.Loss {
				b := trainingBatch(t, inputs, step)
				counted := 0
				for _, label := range b.Labels {
					if label != Ignored {
						counted++
					}
				}
				for _, p := range m.Params() {
					clear(p.Grad)
				}
				sum, n, err := m.LossGrad(b, 1/float32(counted))
				if err != nil {
					t.Fatal(err)
				}
				if n != counted {
					t.Fatalf("counted %d labels, want %d", n, counted)
				}
				worstLoss = max(worstLoss, math.Abs(sum/float64(n)-want)/want)
				if step == 3 {
					for _, p := range m.Params() {
						d := frobenius(p.Grad, goldenFloats(t, grads, "base_model.model."+p.Name))
						worstGrad = max(worstGrad, d)
						if !(d <= matrixBound) {
							t.Errorf("gradient of %s is off by %g", p.Name, d)
						}
					}
				}
				optim.update(m.Params())
			}
			trained := golden(t, ref.model, ref.name, "trained", "adapter_model.safetensors")
			for _, p := range m.Params() {
				d := frobenius(p.Data, goldenFloats(t, trained, "base_model.model."+p.Name))
				worstFactor = max(worstFactor, d)
				if !(d <= matrixBound) {
					t.Errorf("%s is off by %g after training", p.Name, d)
				}
			}
			t.Logf("largest relative differences: loss %.1e, gradient at step 3 %.1e, factor after 10 steps %.1e", worstLoss, worstGrad, worstFactor)
			if !(worstLoss <= lossBound) {
				t.Errorf("losses are off by %g", worstLoss)
			}
		})
	}
}

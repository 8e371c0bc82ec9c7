package models

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/hf"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/patch"
)

// decoders is a directory of tiny models, one of each family and option, with what
// transformers and PEFT compute with them (testdata/gen/decoders.py).
const decoders = "../../testdata/models"

// decoderNames returns the decoders of that directory.
func decoderNames(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(decoders, "*", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var cfg struct {
			Kind string `json:"model_type"`
		}
		if err := json.Unmarshal(text, &cfg); err != nil {
			t.Fatal(err)
		}
		if _, ok := families[cfg.Kind]; ok {
			names = append(names, filepath.Base(filepath.Dir(path)))
		}
	}
	if len(names) < 14 {
		t.Fatalf("there are %d models only: %v", len(names), names)
	}
	return names
}

// openReference opens what transformers and PEFT compute with a model.
func openReference(t *testing.T, name string) *formats.Checkpoint {
	t.Helper()
	return openFile(t, filepath.Join(decoders, name, "reference.safetensors"))
}

func openFile(t *testing.T, path string) *formats.Checkpoint {
	t.Helper()
	c, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func openDecoder(t *testing.T, name string) *formats.Checkpoint {
	t.Helper()
	c, err := hf.Open(filepath.Join(decoders, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func decoderAdapter(t *testing.T, name string) *adapter.Adapter {
	t.Helper()
	ad, err := peft.Read(filepath.Join(decoders, name, "adapter"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ad.Close() })
	return ad
}

// decoderIDs returns one of the batches of tokens that all models share.
func decoderIDs(t *testing.T, which string) (ids []int32, shape []int64) {
	t.Helper()
	return goldenIDs(t, openFile(t, filepath.Join(decoders, "inputs.safetensors")), which)
}

func rms(x []float32) float64 {
	var sum float64
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return math.Sqrt(sum / float64(len(x)))
}

// offBy returns the largest difference of a model's logits in units of their rms.
func offBy(t *testing.T, m Model, which string, want []float32) float64 {
	t.Helper()
	ids, shape := decoderIDs(t, which)
	got, err := m.Logits(Batch{Rows: int(shape[0]), Cols: int(shape[1]), IDs: ids})
	if err != nil {
		t.Fatal(err)
	}
	return largestDifference(got, want) / rms(want)
}

// The bounds of the decoders: PyTorch's float32 is as far from its float64, a few times over.
const (
	decoderLogits   = 1e-4 // of the logits' rms
	decoderGradient = 5e-4 // relative, Frobenius
	decoderLoss     = 1e-4 // absolute
	// mutated is what a change of any option must be worth, in units of the rms.
	mutated = 100 * decoderLogits
)

func TestDecodersMatchTransformers(t *testing.T) {
	for _, name := range decoderNames(t) {
		t.Run(name, func(t *testing.T) {
			want := openReference(t, name)
			m, err := Load(openDecoder(t, name))
			if err != nil {
				t.Fatal(err)
			}
			base := offBy(t, m, "long_ids", goldenFloats(t, want, "base"))
			if err := m.Attach(decoderAdapter(t, name), 1); err != nil {
				t.Fatal(err)
			}
			with := offBy(t, m, "long_ids", goldenFloats(t, want, "adapter"))
			short := offBy(t, m, "short_ids", goldenFloats(t, want, "short"))
			t.Logf("logits are off by %.1e, with the adapter %.1e, in short %.1e of their rms", base, with, short)
			if !(max(base, with, short) <= decoderLogits) {
				t.Errorf("logits are off by %g, with the adapter %g, in short %g of their rms", base, with, short)
			}
		})
	}
}

func TestDecodersTrainLikePEFT(t *testing.T) {
	ids, shape := decoderIDs(t, "batches")
	rows, cols := int(shape[1]), int(shape[2])-1
	for _, name := range decoderNames(t) {
		t.Run(name, func(t *testing.T) {
			want := openReference(t, name)
			m, err := Load(openDecoder(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Train(decoderAdapter(t, name), TrainOptions{}); err != nil {
				t.Fatal(err)
			}
			losses := goldenFloats(t, want, "loss")
			optim := adamW{trainingPlan: trainingPlan{LR: 4e-3, WeightDecay: 0.01, Betas: [2]float64{0.9, 0.999}, Eps: 1e-8}}
			var worstLoss, worstGrad float64
			for step, loss := range losses {
				b := Batch{Rows: rows, Cols: cols}
				for r := range rows {
					line := ids[(step%int(shape[0])*rows+r)*(cols+1):][:cols+1]
					b.IDs = append(b.IDs, line[:cols]...)
					b.Labels = append(b.Labels, line[1:]...)
				}
				for _, p := range m.Params() {
					clear(p.Grad)
				}
				sum, n, err := m.LossGrad(b, 1/float32(len(b.Labels)))
				if err != nil {
					t.Fatal(err)
				}
				worstLoss = max(worstLoss, math.Abs(sum/float64(n)-float64(loss)))
				if step == 0 {
					for _, p := range m.Params() {
						d := frobenius(p.Grad, goldenFloats(t, want, "grad."+p.Name))
						worstGrad = max(worstGrad, d)
						if !(d <= decoderGradient) {
							t.Errorf("gradient of %s is off by %g", p.Name, d)
						}
					}
				}
				optim.update(m.Params())
			}
			t.Logf("%d losses are off by %.1e, %d gradients by %.1e", len(losses), worstLoss, len(m.Params()), worstGrad)
			if !(worstLoss <= decoderLoss) || len(losses) != 20 {
				t.Errorf("%d losses are off by %g", len(losses), worstLoss)
			}
		})
	}
}

// A session's scores are those of the full forward, however the tokens are fed: across
// windows, and where the angles of all keys change with the length.
func TestDecoderSessions(t *testing.T) {
	ids, _ := decoderIDs(t, "long_ids")
	for _, name := range decoderNames(t) {
		t.Run(name, func(t *testing.T) {
			m, err := Load(openDecoder(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Attach(decoderAdapter(t, name), 1); err != nil {
				t.Fatal(err)
			}
			s := m.NewSession()
			var worst float64
			for _, size := range []int{5, 1, 1, 8, 1, 1, 1, 13, 1, 1, 30, 1, 1} {
				got, err := s.Step(ids[s.Len() : s.Len()+size])
				if err != nil {
					t.Fatal(err)
				}
				// A sequence of its own, for what is turned by the length is turned by this one's.
				all, err := m.Logits(Batch{Rows: 1, Cols: s.Len(), IDs: ids[:s.Len()]})
				if err != nil {
					t.Fatal(err)
				}
				want := all[(s.Len()-1)*m.Vocabulary():]
				worst = max(worst, largestDifference(got, want)/rms(want))
			}
			t.Logf("largest difference %.1e of the rms", worst)
			if !(worst < 2e-5) {
				t.Errorf("scores of single steps are off by %g of their rms", worst)
			}
		})
	}
}

// A layer that slides keeps no more than its window, twice over.
func TestSessionForgetsWhatNoTokenSees(t *testing.T) {
	m, err := Load(openDecoder(t, "qwen2"))
	if err != nil {
		t.Fatal(err)
	}
	ids, _ := decoderIDs(t, "long_ids")
	s := m.NewSession().(*decoderSession)
	for _, id := range ids {
		if _, err := s.Step([]int32{id}); err != nil {
			t.Fatal(err)
		}
	}
	const cols, window = 10, 9
	for i, l := range s.cache.layers {
		for _, b := range []rowBuffer{l.keys, l.values} {
			if rows := len(b.data) / cols; i > 0 && rows > 2*window || i == 0 && rows < len(ids) {
				t.Errorf("layer %d keeps room for %d rows", i, rows)
			}
		}
	}
}

// Rows of different lengths are the same rows alone, also where the length decides.
func TestDecoderRowsDoNotMix(t *testing.T) {
	ids, _ := decoderIDs(t, "long_ids")
	for _, name := range decoderNames(t) {
		t.Run(name, func(t *testing.T) {
			m, err := Load(openDecoder(t, name))
			if err != nil {
				t.Fatal(err)
			}
			lens := []int{60, 10, 37}
			b := Batch{Rows: 3, Cols: 60, Lens: lens}
			for r := range lens {
				b.IDs = append(b.IDs, ids[r:r+60]...)
			}
			all, err := m.Logits(b)
			if err != nil {
				t.Fatal(err)
			}
			for r, n := range lens {
				alone, err := m.Logits(Batch{Rows: 1, Cols: n, IDs: ids[r : r+n]})
				if err != nil {
					t.Fatal(err)
				}
				if d := largestDifference(all[r*60*m.Vocabulary():][:len(alone)], alone) / rms(alone); !(d < 2e-5) {
					t.Errorf("row %d of %d tokens is off by %g of its rms", r, n, d)
				}
			}
		})
	}
}

// all-linear is what PEFT chose when it made the adapter.
func TestAllLinearOfDecoders(t *testing.T) {
	for _, name := range decoderNames(t) {
		t.Run(name, func(t *testing.T) {
			model, err := patch.NewModel(openDecoder(t, name))
			if err != nil {
				t.Fatal(err)
			}
			sites, err := patch.Select(model, adapter.Selection{AllLinear: true})
			if err != nil {
				t.Fatal(err)
			}
			var got, want []string
			for _, s := range sites {
				got = append(got, s.Module)
			}
			for _, e := range decoderAdapter(t, name).Entries {
				want = append(want, e.Module)
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("all-linear selects\n%v\nPEFT\n%v", got, want)
			}
			if i := slices.IndexFunc(want, func(m string) bool { return strings.Contains(m, "norm") || strings.Contains(m, "lm_head") }); i >= 0 {
				t.Errorf("PEFT selected %s", want[i])
			}
		})
	}
}

func TestDecodersGiveTheSameBitsForAnyGOMAXPROCS(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	ids, _ := decoderIDs(t, "long_ids")
	b := Batch{Rows: 2, Cols: 37, IDs: ids[:74], Labels: ids[1:75], Lens: []int{37, 21}, Seed: 3}
	for _, name := range decoderNames(t) {
		var sum float64
		var want []float32
		for _, n := range []int{1, 2, 7} {
			runtime.GOMAXPROCS(n)
			m, err := Load(openDecoder(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Train(decoderAdapter(t, name), TrainOptions{Dropout: 0.1}); err != nil {
				t.Fatal(err)
			}
			got, _, err := m.LossGrad(b, 0.01)
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				sum, want = got, grads(m)
			}
			if got != sum || !slices.Equal(grads(m), want) {
				t.Errorf("%s: GOMAXPROCS=%d gives other bits", name, n)
			}
		}
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
	"github.com/seed-b982eded/graft/formats/open"
	"github.com/seed-b982eded/graft/formats/peft"
	"github.com/seed-b982eded/graft/formats/safetensors"
	"github.com/seed-b982eded/graft/patch"
	"github.com/seed-b982eded/graft/patch/lowrank"
	"github.com/seed-b982eded/graft/train"
	"github.com/seed-b982eded/graft/train/models"
)

const initData = "../../testdata/init"

// startRun is one of PEFT's runs from factors that came out of the base, see testdata/gen/inits.py.
type startRun struct {
	t      *testing.T
	base   *formats.Checkpoint
	golden *formats.Checkpoint
	fresh  *adapter.Adapter
}

func openStartRun(t *testing.T, name string) *startRun {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(initData, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Base   string
		Config map[string]any
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	kind := doc.Config["init_lora_weights"].(string)
	delete(doc.Config, "init_lora_weights")
	doc.Config["peft_type"] = "LORA"
	text, err := json.Marshal(doc.Config)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := peft.ParseConfig(text, "config")
	if err != nil {
		t.Fatal(err)
	}
	cfg.InitWeights = kind
	r := &startRun{t: t}
	if r.base, err = open.Checkpoint(filepath.Join("../../testdata/models", doc.Base)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.base.Close() })
	if r.golden, err = safetensors.Open(filepath.Join(initData, name+".safetensors")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.golden.Close() })
	m, err := patch.NewModel(r.base)
	if err != nil {
		t.Fatal(err)
	}
	if r.fresh, err = newAdapter(context.Background(), &console{quiet: true}, m, cfg, 0); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *startRun) model() models.Model {
	r.t.Helper()
	m, err := models.Load(r.base)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// ids reads tokens, as many of each row as a model has positions, modulo its vocabulary.
func (r *startRun) ids(m models.Model, name string) (ids []int32, cols int) {
	r.t.Helper()
	inputs, err := safetensors.Open("../../testdata/models/inputs.safetensors")
	if err != nil {
		r.t.Fatal(err)
	}
	defer inputs.Close()
	x, _ := inputs.Tensor(name)
	raw, err := x.ReadAll()
	if err != nil {
		r.t.Fatal(err)
	}
	all := int(x.Shape[len(x.Shape)-1])
	cols = min(all, m.MaxPositions())
	for row := 0; row < len(raw)/8; row += all {
		for i := range cols {
			ids = append(ids, int32(raw[8*(row+i)])%int32(m.Vocabulary()))
		}
	}
	return ids, cols
}

func (r *startRun) numbers(name string) []float64 {
	r.t.Helper()
	x, ok := r.golden.Tensor(name)
	if !ok {
		r.t.Fatalf("no %s", name)
	}
	m, err := lowrank.Read("", x)
	if err != nil {
		r.t.Fatal(err)
	}
	return m.RawMatrix().Data
}

// logits of long_ids.
func (r *startRun) logits(m models.Model) []float32 {
	r.t.Helper()
	ids, cols := r.ids(m, "long_ids")
	y, err := m.Logits(models.Batch{Rows: 1, Cols: cols, IDs: ids})
	if err != nil {
		r.t.Fatal(err)
	}
	return slices.Clone(y)
}

func relativeTo[T float32 | float64](got []float32, want []T) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var diff, norm float64
	for i, w := range want {
		diff += (float64(got[i]) - float64(w)) * (float64(got[i]) - float64(w))
		norm += float64(w) * float64(w)
	}
	return math.Sqrt(diff / norm)
}

// train runs PEFT's 20 steps.
func (r *startRun) train(m models.Model) (losses []float64) {
	r.t.Helper()
	optimizer, err := train.NewAdamW(m.Params(), nil, train.AdamWConfig{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 0.01})
	if err != nil {
		r.t.Fatal(err)
	}
	ids, cols := r.ids(m, "batches") // 5 batches of 2 rows
	for step := range 20 {
		b := models.Batch{Rows: 2, Cols: cols - 1}
		for row := range 2 {
			line := ids[(step%5*2+row)*cols:][:cols]
			b.IDs, b.Labels = append(b.IDs, line[:cols-1]...), append(b.Labels, line[1:]...)
		}
		for _, p := range m.Params() {
			clear(p.Grad)
		}
		sum, n, err := m.LossGrad(b, 1/float32(len(b.Labels)))
		if err != nil {
			r.t.Fatal(err)
		}
		losses = append(losses, sum/float64(n))
		optimizer.Step(4e-3)
	}
	return losses
}

// Training from factors that came out of the base is PEFT's, step by step, and what is saved for the
// unchanged base is the model that was trained. Losses are off by what float32 gathers in 20 steps: PEFT's numbers are
// float64's but for the first factors.
func TestTrainsFromThePrincipalPart(t *testing.T) {
	for _, name := range []string{"pissa", "pissa-rslora", "pissa-patterns", "olora", "olora-patterns"} {
		t.Run(name, func(t *testing.T) {
			r := openStartRun(t, name)
			m := r.model()
			before := r.logits(m)
			from, err := beginTraining(m, r.fresh, models.TrainOptions{}, true)
			if err != nil {
				t.Fatal(err)
			}
			if off := relativeTo(r.logits(m), before); !(off < 1e-5) {
				t.Errorf("before the first step logits are off by %g", off)
			}
			export := func() *adapter.Adapter {
				a, err := m.Export()
				if err != nil {
					t.Fatal(err)
				}
				if a, err = from.finished(a); err != nil {
					t.Fatal(err)
				}
				return a
			}
			untrained := r.model()
			if err := untrained.Attach(export(), 1); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(r.logits(untrained), before) {
				t.Error("what is saved before the first step changes the base")
			}

			worst := 0.0
			want := r.numbers("loss")
			for step, loss := range r.train(m) {
				worst = max(worst, math.Abs(loss-want[step]))
			}
			trained := r.logits(m)
			offPEFT := relativeTo(trained, r.numbers("trained"))

			dir := t.TempDir()
			if err := peft.Write(dir, export()); err != nil {
				t.Fatal(err)
			}
			saved, err := peft.Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer saved.Close()
			again := r.model()
			if err := again.Attach(saved, 1); err != nil {
				t.Fatal(err)
			}
			offSaved := relativeTo(r.logits(again), trained)
			t.Logf("losses are off by %.1e, logits by %.1e from PEFT's; what is saved by %.1e", worst, offPEFT, offSaved)
			if !(worst <= 5e-6) || !(offPEFT <= 2e-5) || !(offSaved <= 5e-6) {
				t.Errorf("losses are off by %g, logits by %g from PEFT's; what is saved by %g", worst, offPEFT, offSaved)
			}

			first := map[string]*adapter.LowRank{}
			for _, e := range r.fresh.Entries {
				first[e.Module] = e.Update.(*adapter.LowRank)
			}
			for _, e := range saved.Entries {
				u := e.Update.(*adapter.LowRank)
				if was := first[e.Module]; u.Rank() != 2*was.Rank() || math.Abs(u.Scale-was.Scale) > 1e-15*was.Scale {
					t.Errorf("%s is saved with rank %d and scale %g, was trained with %d and %g", e.Module, u.Rank(), u.Scale, was.Rank(), was.Scale)
				}
			}
			if !bytes.Contains(saved.Config, []byte(`"init_lora_weights": true`)) {
				t.Error("the config does not say that the base is what it was")
			}
		})
	}
}

// Factors in 16 bits lose of what was learned what they lose of any adapter's: the update is no
// difference of two large products.
func TestFinishedKeepsDigits(t *testing.T) {
	r := openStartRun(t, "pissa")
	m := r.model()
	from, err := beginTraining(m, r.fresh, models.TrainOptions{}, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() { // a step that is small beside the factors
		for i := range p.Data {
			p.Data[i] += 1e-4 * float32(i%7-3)
		}
	}
	trained, err := m.Export()
	if err != nil {
		t.Fatal(err)
	}
	saved, err := from.finished(trained)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range saved.Entries {
		u := e.Update.(*adapter.LowRank)
		exact, err1 := lowrank.FromUpdate("", u)
		now, err2 := lowrank.FromUpdate("", trained.Entries[i].Update.(*adapter.LowRank))
		was, err3 := lowrank.FromUpdate("", r.fresh.Entries[i].Update.(*adapter.LowRank))
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		learned := lowrank.Difference(now, was)
		size := lowrank.Norm(learned)
		if off := lowrank.Distance(exact, learned); !(off <= 1e-6*size) {
			t.Errorf("%s: the update is off by %g of it", e.Module, off/size)
		}
		narrow := *u
		narrow.A, narrow.B = adapter.Scaled(u.A, 1, formats.BF16), adapter.Scaled(u.B, 1, formats.BF16)
		rounded, err := lowrank.FromUpdate("", &narrow)
		if err != nil {
			t.Fatal(err)
		}
		// Two factors with 8 bits each.
		if off := lowrank.Distance(rounded, learned); !(off <= 0x1p-7*size) {
			t.Errorf("%s: in BF16 the update is off by %g of it", e.Module, off/size)
		}
	}
}

// Embeddings keep their rank, for nothing was taken out of them, and get patterns of their own; ranks and scales that
// patterns give are those of the config that is written.
func TestFinishedKeepsRanksOfEmbeddings(t *testing.T) {
	factors := func(module string, r, out, in int64, scale float64, embedding bool) adapter.Entry {
		ones := func(n int64) []float32 {
			v := make([]float32, n)
			for i := range v {
				v[i] = float32(i + 1)
			}
			return v
		}
		return adapter.Entry{Module: module, Update: &adapter.LowRank{
			A: formats.FromFloat32s("a", []int64{r, in}, ones(r*in)), B: formats.FromFloat32s("b", []int64{out, r}, ones(out*r)), Scale: scale, Embedding: embedding,
		}}
	}
	for _, rs := range []bool{false, true} {
		cfg := &peft.Config{R: 3, Alpha: 5, UseRSLoRA: rs, InitWeights: "true", RankPattern: []adapter.Pattern{{Key: "up", Value: 4}}, AlphaPattern: []adapter.Pattern{{Key: "up", Value: 7}}}
		cfg.Selection.TargetModules = []string{"q", "up", "embed_tokens"}
		scaling, err := cfg.Scaling()
		if err != nil {
			t.Fatal(err)
		}
		a := &adapter.Adapter{Config: cfg.Encode(), Selection: &cfg.Selection}
		from := &startingPoint{initial: map[string]*adapter.LowRank{}}
		for _, m := range []struct {
			name    string
			out, in int64
		}{{"m.0.q", 6, 5}, {"m.0.up", 7, 8}, {"m.embed_tokens", 5, 11}} {
			r, scale, _ := scaling.Of(m.name)
			e := factors(m.name, r, m.out, m.in, scale, strings.Contains(m.name, "embed"))
			if a.Entries = append(a.Entries, e); !strings.Contains(m.name, "embed") {
				from.initial[m.name] = e.Update.(*adapter.LowRank)
			}
		}
		saved, err := from.finished(a)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := peft.Write(dir, saved); err != nil {
			t.Fatal(err)
		}
		for i, want := range []int64{6, 8, 3} {
			u, was := saved.Entries[i].Update.(*adapter.LowRank), a.Entries[i].Update.(*adapter.LowRank)
			if u.Rank() != want || math.Abs(u.Scale-was.Scale) > 1e-15*was.Scale {
				t.Errorf("rank-stabilised %v: %s has rank %d and scale %g, want %d and %g", rs, saved.Entries[i].Module, u.Rank(), u.Scale, want, was.Scale)
			}
		}
	}
}

// What cannot be saved in the end is refused at the start.
func TestBeginTrainingRefuses(t *testing.T) {
	r := openStartRun(t, "pissa")
	for _, c := range []struct {
		edit func(a *adapter.Adapter)
		want string
	}{
		{func(a *adapter.Adapter) {
			u := a.Entries[1].Update.(*adapter.LowRank)
			a.Entries[1].Update = &adapter.Magnitude{Inner: u, Vector: formats.FromFloat32s("m", u.B.Shape[:1], make([]float32, u.B.Shape[0]))}
		}, "factors that are taken out of the base cannot be trained beside updates of kind Magnitude"},
		{func(a *adapter.Adapter) {
			a.Config = bytes.Replace(a.Config, []byte(`"r": 3`), []byte(fmt.Sprintf(`"r": %d`, formats.MaxAdapterRank)), 1)
		}, "r must be a whole number from 1 to"},
	} {
		a := *r.fresh
		a.Entries = slices.Clone(a.Entries)
		c.edit(&a)
		if _, err := beginTraining(r.model(), &a, models.TrainOptions{}, true); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

package models

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

func smallModel(t *testing.T) *decoder {
	t.Helper()
	m, err := Load(smallCheckpoint(t, smallConfig(nil), smallWeights(nil), nil, true))
	if err != nil {
		t.Fatal(err)
	}
	return m.(*decoder)
}

// tensor makes a tensor of small numbers in memory.
func tensor(name string, shape ...int64) formats.Tensor {
	t := formats.Tensor{Name: name, DType: formats.F32, Shape: shape}
	values := make([]float32, t.Elements())
	for i := range values {
		values[i] = float32(i%7-3) / 20
	}
	raw := make([]byte, 4*len(values))
	formats.EncodeFloat32(raw, values, formats.F32)
	t.Data = bytes.NewReader(raw)
	return t
}

func pair(module string, in, rank, out int64) adapter.Entry {
	return adapter.Entry{
		Module: module, Keys: []string{module + ".a", module + ".b"},
		Update: &adapter.LowRank{A: tensor("A", rank, in), B: tensor("B", out, rank), Scale: 1.5},
	}
}

func of(entries ...adapter.Entry) *adapter.Adapter {
	return &adapter.Adapter{Path: "ad", Dialect: "peft", Entries: entries, Config: []byte("{}")}
}

const (
	qProj = "model.layers.1.self_attn.q_proj"
	upper = "model.layers.0.mlp.up_proj"
)

// otherUpdate is a kind of update that the model does not know.
type otherUpdate struct{ adapter.LowRank }

func (*otherUpdate) Kind() string { return "Hadamard" }

func TestAttachRefusals(t *testing.T) {
	with := func(e adapter.Entry, change func(*adapter.LowRank)) adapter.Entry {
		change(e.Update.(*adapter.LowRank))
		return e
	}
	for name, c := range map[string]struct {
		ad    *adapter.Adapter
		train bool
		want  string
	}{
		"no module": {of(pair("model.layers.1.self_attn.q_prof", 12, 2, 24)), false, `module "model.layers.1.self_attn.q_prof" is not in the model`},
		"norm":      {of(pair("model.norm", 12, 2, 12)), false, "low-rank updates lie on linear layers and embeddings only, and it is neither"},
		"embedding": {of(pair("model.embed_tokens", 12, 2, 23)), false, "factors are not those of an embedding (A is [2 12], B is [23 2])"},
		"embedding's shape": {of(with(pair("model.embed_tokens", 12, 2, 23), func(u *adapter.LowRank) { u.Embedding = true })), false,
			"factors do not fit the embedding (got A [2 12] and B [23 2], want [r 23] and [12 r])"},
		"magnitude": {of(adapter.Entry{Module: qProj, Update: &adapter.Magnitude{Inner: pair(qProj, 12, 2, 24).Update.(*adapter.LowRank), Vector: tensor("m", 23)}}), false,
			"magnitude and B disagree on the outputs (magnitude is [23], B is [24 2])"},
		"lonely bias": {of(adapter.Entry{Module: qProj, Update: &adapter.BiasDelta{Vector: tensor("x", 24), Scale: 1}}), false, "has a bias of B and no factors"},
		"bias": {of(pair(qProj, 12, 2, 24), adapter.Entry{Module: qProj, Update: &adapter.BiasDelta{Vector: tensor("x", 12), Scale: 1}}), false,
			"the bias of B does not fit the layer (got [12], want [24])"},
		"two biases": {of(pair(qProj, 12, 2, 24), adapter.Entry{Module: qProj, Update: &adapter.BiasDelta{Vector: tensor("x", 24), Scale: 1}},
			adapter.Entry{Module: qProj, Update: &adapter.BiasDelta{Vector: tensor("y", 24), Scale: 1}}), false, "has two biases of B"},
		"as embedding": {of(with(pair(qProj, 12, 2, 24), func(u *adapter.LowRank) { u.Embedding = true })), false,
			"factors are not those of a linear layer"},
		"convolution": {of(with(pair(qProj, 12, 2, 24), func(u *adapter.LowRank) { u.A = tensor("A", 2, 3, 2, 2) })), false,
			"factors are not those of a linear layer (A is [2 3 2 2], B is [24 2])"},
		"in":     {of(pair(qProj, 13, 2, 24)), false, "factors do not fit the layer (got A [2 13] and B [24 2], want [r 12] and [24 r])"},
		"out":    {of(pair(qProj, 12, 2, 12)), false, "factors do not fit the layer"},
		"rank 0": {of(pair(qProj, 12, 0, 24)), false, "factors of rank 0"},
		"ranks": {of(with(pair(qProj, 12, 2, 24), func(u *adapter.LowRank) { u.B = tensor("B", 24, 3) })), false,
			"A and B disagree on the rank"},
		"dtype": {of(with(pair(qProj, 12, 2, 24), func(u *adapter.LowRank) { u.B.DType = formats.I32 })), false,
			`cannot compute with "B" (got I32`},
		"scale": {of(with(pair(qProj, 12, 2, 24), func(u *adapter.LowRank) { u.Scale = math.Inf(1) })), false, "the scale is not a finite"},
		"twice": {of(pair(qProj, 12, 2, 24), pair(qProj, 12, 2, 24)), false, "has two factor pairs"},
		"kind": {of(adapter.Entry{Module: qProj, Update: &otherUpdate{}}), false,
			`module "` + qProj + `": a Hadamard update is not implemented for training and running`},
		"train nothing": {of(), true, "no factors to train"},
		"replace shape": {of(adapter.Entry{Module: "lm_head", Update: &adapter.Replace{Param: "weight", Value: tensor("x", 12, 23)}}), false,
			"weight does not fit (got [12 23], want 23×12)"},
		"replace nothing": {of(adapter.Entry{Module: "lm_head", Update: &adapter.Replace{Param: "bias", Value: tensor("x", 23)}}), false,
			`or it has no parameter "bias"`},
		"replace twice": {of(
			adapter.Entry{Module: "model.norm", Update: &adapter.Replace{Param: "weight", Value: tensor("x", 12)}},
			adapter.Entry{Module: "model.norm", Update: &adapter.Replace{Param: "weight", Value: tensor("y", 12)}}), false, "weight is replaced twice"},
	} {
		t.Run(name, func(t *testing.T) {
			m := smallModel(t)
			var err error
			if c.train {
				err = m.Train(c.ad, TrainOptions{})
			} else {
				err = m.Attach(c.ad, 1)
			}
			checkError(t, err, formats.ErrUnfit, c.want)
			if m.size.Attached != 0 || len(m.Params()) != 0 || len(m.blocks[1].q.branches) != 0 {
				t.Error("part of a refused adapter is on the model")
			}
		})
	}
	broken := pair(qProj, 12, 2, 24)
	broken.Update.(*adapter.LowRank).B.Data = bytes.NewReader(nil)
	checkError(t, smallModel(t).Attach(of(broken), 1), formats.ErrInput, `reading "ad": tensor "B": unexpected EOF`)
	replace := of(adapter.Entry{Module: "norm", Update: &adapter.Replace{Param: "weight", Value: tensor("x", 12)}})
	checkError(t, smallModel(t).Attach(replace, 0.5), formats.ErrUnfit, "a replaced parameter cannot be weighted (got a weight of 0.5)")
	dora := of(adapter.Entry{Module: qProj, Update: &adapter.Magnitude{Inner: pair(qProj, 12, 2, 24).Update.(*adapter.LowRank), Vector: tensor("m", 24)}})
	checkError(t, smallModel(t).Attach(dora, 0.5), formats.ErrUnfit, "an update with a magnitude cannot be weighted (got weight 0.5, want 1)")
	checkError(t, smallModel(t).Attach(of(), math.NaN()), formats.ErrUsage, "finite number")
}

func TestUsageOfTraining(t *testing.T) {
	m := smallModel(t)
	_, _, err := m.LossGrad(Batch{}, 1)
	checkError(t, err, formats.ErrUsage, "training no adapter")
	_, err = m.Export()
	checkError(t, err, formats.ErrUsage, "training no adapter")
	checkError(t, m.Train(of(pair(qProj, 12, 2, 24)), TrainOptions{Dropout: 1}), formats.ErrUsage, "dropout")
	if err := m.Train(of(pair(qProj, 12, 2, 24)), TrainOptions{}); err != nil {
		t.Fatal(err)
	}
	checkError(t, m.Train(of(pair(qProj, 12, 2, 24)), TrainOptions{}), formats.ErrUsage, "training an adapter already")
}

func TestParamsAndExport(t *testing.T) {
	m := smallModel(t)
	// Order and names are the adapter's, whatever the model's; paths may lack the prefix.
	ad := of(pair(qProj, 12, 2, 24), pair("layers.0.mlp.up_proj", 12, 3, 19))
	ad.Entries[1].Update.(*adapter.LowRank).FanInFanOut = true
	if err := m.Train(ad, TrainOptions{}); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range m.Params() {
		names = append(names, p.Name)
		if len(p.Data) != p.Rows*p.Cols || len(p.Grad) != len(p.Data) {
			t.Errorf("%s is %d×%d with %d elements", p.Name, p.Rows, p.Cols, len(p.Data))
		}
	}
	want := []string{qProj + ".lora_A.weight", qProj + ".lora_B.weight", upper + ".lora_A.weight", upper + ".lora_B.weight"}
	if !slices.Equal(names, want) {
		t.Errorf("parameters are %v", names)
	}
	if s := m.Size(); s.Trainable != 2*(12+24)+3*(12+19) || s.Attached != s.Trainable {
		t.Errorf("size is %+v", s)
	}

	m.Params()[3].Data[5] = 42
	out, err := m.Export()
	if err != nil {
		t.Fatal(err)
	}
	m.Params()[3].Data[5] = 43
	u := out.Entries[1].Update.(*adapter.LowRank)
	b, err := u.B.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	if b[5] != 42 || b[0] != -0.15 || u.B.Name != "B" || u.Scale != 1.5 || !u.FanInFanOut {
		t.Errorf("exported %+v with %v", u, b[:6])
	}
	if out.Entries[1].Module != "layers.0.mlp.up_proj" || out.Entries[1].Keys[0] != "layers.0.mlp.up_proj.a" || out.Dialect != "peft" || string(out.Config) != "{}" {
		t.Errorf("exported %+v", out.Entries[1])
	}
	if old, _ := ad.Entries[1].Update.(*adapter.LowRank).B.Float32s(); old[5] == 42 {
		t.Error("Export changed the adapter that Train was given")
	}
}

// Replaced parameters must do what a checkpoint with those parameters does.
func TestReplace(t *testing.T) {
	m := smallModel(t)
	b := Batch{Rows: 1, Cols: 4, IDs: []int32{3, 1, 4, 1}}
	before, err := m.Logits(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Attach(of(
		adapter.Entry{Module: "lm_head", Update: &adapter.Replace{Param: "weight", Value: tensor("h", 23, 12)}},
		adapter.Entry{Module: "model.layers.0.input_layernorm", Update: &adapter.Replace{Param: "weight", Value: tensor("n", 12)}},
	), 1); err != nil {
		t.Fatal(err)
	}
	after, err := m.Logits(b)
	if err != nil {
		t.Fatal(err)
	}
	other := smallModel(t)
	head, _ := tensor("h", 23, 12).Float32s()
	norm, _ := tensor("n", 12).Float32s()
	copy(other.head.weight.Data, head)
	copy(other.blocks[0].attentionIn.Data, norm)
	want, err := other.Logits(b)
	if err != nil {
		t.Fatal(err)
	}
	if largestDifference(after, want) != 0 || largestDifference(after, before) == 0 {
		t.Error("replaced parameters are not used")
	}
	if m.Size().Attached != 23*12+12 {
		t.Errorf("size is %+v", m.Size())
	}
}

// Every linear layer takes factors: logits equal those of a base with W + s·B·A.
func TestFactorsOnEveryLayer(t *testing.T) {
	m, merged := smallModel(t), smallModel(t)
	b := Batch{Rows: 1, Cols: 4, IDs: []int32{3, 1, 4, 1}}
	for _, l := range m.Modules() {
		e := pair(l.Path, int64(l.In), 2, int64(l.Out))
		if err := m.Attach(of(e), 0.5); err != nil {
			t.Fatal(err)
		}
		u := e.Update.(*adapter.LowRank)
		fa, _ := u.A.Float32s()
		fb, _ := u.B.Float32s()
		w := merged.byPath[l.Path].weight.Data
		for o := range l.Out {
			for i := range l.In {
				w[o*l.In+i] += 0.75 * (fb[2*o]*fa[i] + fb[2*o+1]*fa[l.In+i])
			}
		}
		got, err := m.Logits(b)
		if err != nil {
			t.Fatal(err)
		}
		want, err := merged.Logits(b)
		if err != nil {
			t.Fatal(err)
		}
		if worst := largestDifference(got, want); !(worst < 2e-6) {
			t.Errorf("up to %s: logits are off by %g", l.Path, worst)
		}
	}
}

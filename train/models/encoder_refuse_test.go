package models

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/adapter"
)

// unread returns a fixture with a changed config whose weights must not be read, as they are
// not where something is refused.
func unread(t *testing.T, model string, config map[string]any, rename func(name string) string) *formats.Checkpoint {
	t.Helper()
	return changed(t, model, config, func(x formats.Tensor) (formats.Tensor, bool) {
		x.Data = noReads{t}
		if rename != nil {
			x.Name = rename(x.Name)
		}
		return x, x.Name != ""
	})
}

func without(end string) func(name string) string {
	return func(name string) string {
		if strings.HasSuffix(name, end) {
			return ""
		}
		return name
	}
}

func TestTaskRefusals(t *testing.T) {
	lm := func(c *formats.Checkpoint) error { _, err := Load(c); return err }
	classes := func(c *formats.Checkpoint) error { _, err := LoadClassifier(c, ClassifierOptions{}); return err }
	fresh := func(c *formats.Checkpoint) error {
		_, err := LoadClassifier(c, ClassifierOptions{Outputs: 5})
		return err
	}
	embed := func(c *formats.Checkpoint) error {
		_, err := LoadEmbedder(c, EmbedderOptions{SentenceConfig: SentenceConfig{Pooling: MeanPooling}})
		return err
	}
	for name, c := range map[string]struct {
		load   func(c *formats.Checkpoint) error
		model  string
		config map[string]any
		rename func(string) string
		want   string
	}{
		"gpt2 activation":    {lm, "gpt2", map[string]any{"activation_function": "silu"}, nil, `activation_function "silu" is not implemented (want "gelu", "gelu_new", "relu" or "tanh")`},
		"gpt2 cross":         {lm, "gpt2", map[string]any{"add_cross_attention": true}, nil, "add_cross_attention true is not implemented"},
		"gpt2 quantized":     {lm, "gpt2", map[string]any{"quantization_config": map[string]any{"quant_method": "fp8"}}, nil, "quantization_config an object is not implemented"},
		"gpt2 heads":         {lm, "gpt2", map[string]any{"n_head": 3}, nil, "n_head must divide n_embd (got 3 and 20)"},
		"gpt2 layers":        {lm, "gpt2", map[string]any{"n_layer": 1 << 29}, nil, "536870912 layers, but there are 30 tensors"},
		"gpt2 class":         {lm, "gpt2", map[string]any{"architectures": []string{"GPT2DoubleHeadsModel"}}, nil, `architectures ["GPT2DoubleHeadsModel"] is not implemented (want GPT2LMHeadModel or GPT2Model)`},
		"gpt2 orientation":   {lm, "gpt2", map[string]any{"n_inner": 81}, nil, "shape does not fit config.json (got [20 80], want [20 81])"},
		"gpt2 untied":        {lm, "gpt2", map[string]any{"tie_word_embeddings": false}, nil, `tensor "lm_head.weight": is missing`},
		"bert writes":        {lm, "bert", nil, nil, `model_type "bert" is an encoder: it writes no text`},
		"llama classifies":   {classes, "mistral", nil, nil, `model_type "mistral" cannot classify (known: bert, distilbert, gpt2, roberta)`},
		"gpt2 embeds":        {embed, "gpt2", nil, nil, `model_type "gpt2" cannot embed texts (known: bert, distilbert, roberta)`},
		"relative positions": {classes, "bert", map[string]any{"position_embedding_type": "relative_key"}, nil, `position_embedding_type "relative_key" is not implemented (want "absolute")`},
		"decoder":            {embed, "bert", map[string]any{"is_decoder": true}, nil, "is_decoder true is not implemented"},
		"bert activation":    {embed, "bert", map[string]any{"hidden_act": "gelu_fast"}, nil, `hidden_act "gelu_fast" is not implemented`},
		"bert heads":         {fresh, "bert", map[string]any{"num_attention_heads": 3}, nil, "must be a multiple of the number of heads (got 20 and 3)"},
		"roberta positions":  {classes, "roberta", map[string]any{"pad_token_id": 18}, nil, "leaves no position behind pad_token_id (got 19 and 18)"},
		"another class":      {classes, "bert", map[string]any{"architectures": []string{"BertForTokenClassification"}}, nil, `architectures ["BertForTokenClassification"] is not implemented (want BertForSequenceClassification)`},
		"own code":           {fresh, "bert", map[string]any{"architectures": []string{"MyBert"}}, nil, `architectures ["MyBert"] is not implemented`},
		"no head":            {classes, "bert-old", map[string]any{"architectures": nil}, nil, `tensor "classifier.weight": is missing`},
		"labels":             {classes, "bert", map[string]any{"id2label": map[string]any{"0": "a", "2": "b"}}, nil, "id2label has no name for output 1 of 2"},
		"fewer labels":       {classes, "bert", map[string]any{"id2label": map[string]any{"0": "a", "1": "b"}}, nil, `tensor "classifier.weight": shape does not fit config.json (got [3 20], want [2 20])`},
		"problem":            {classes, "bert", map[string]any{"problem_type": "ranking"}, nil, `problem_type "ranking" is not implemented (want single_label_classification, multi_label_classification or regression)`},
		"missing":            {embed, "bert", nil, without("layer.1.output.dense.bias"), `tensor "bert.encoder.layer.1.output.dense.bias": is missing`},
		"left over":          {embed, "bert", map[string]any{"num_hidden_layers": 1}, nil, `tensor "bert.encoder.layer.1.attention.output.LayerNorm.bias": the model that config.json describes has no such parameter`},
		"no pooler":          {classes, "bert", nil, without("pooler.dense.bias"), `tensor "bert.pooler.dense.bias": is missing`},
	} {
		t.Run(name, func(t *testing.T) {
			checkError(t, c.load(unread(t, c.model, c.config, c.rename)), formats.ErrInput, c.want)
		})
	}
	for want, opts := range map[string]ClassifierOptions{
		"outputs of a classifier (got -1":      {Outputs: -1},
		"outputs of a classifier (got 1048577": {Outputs: 1<<20 + 1},
	} {
		_, err := LoadClassifier(unread(t, "bert", nil, nil), opts)
		checkError(t, err, formats.ErrUsage, want)
	}
	for want, opts := range map[string]EmbedderOptions{
		`loss of embeddings (got "triplet", want contrastive or cosine)`: {Loss: "triplet"},
		"scale of similarities (got -1":                                  {Scale: -1, SentenceConfig: SentenceConfig{Pooling: MeanPooling}},
		`pooling (got "", want mean, cls or max)`:                        {},
	} {
		_, err := LoadEmbedder(unread(t, "bert", nil, nil), opts)
		checkError(t, err, formats.ErrUsage, want)
	}
}

func TestSentenceConfigRefusals(t *testing.T) {
	const pooling = `[{"path":"","type":"a.Transformer"},{"path":"1_Pooling","type":"a.Pooling"}]`
	for want, c := range map[string][2]string{
		"modules.json: not a list of modules":                                   {`{}`, `{}`},
		`module 2, "a.Dense" at "2_Dense", is not implemented`:                  {pooling[:len(pooling)-1] + `,{"path":"2_Dense","type":"a.Dense"}]`, `{}`},
		`module 0, "a.WordEmbeddings" at "", is not implemented`:                {`[{"path":"","type":"a.WordEmbeddings"}]`, `{}`},
		"modules.json: no module Pooling":                                       {`[{"path":"","type":"a.Transformer"}]`, `{}`},
		"pooling_mode_lasttoken is not implemented":                             {pooling, `{"pooling_mode_lasttoken":true}`},
		"several poolings side by side":                                         {pooling, `{"pooling_mode_cls_token":true,"pooling_mode_max_tokens":true}`},
		`1_Pooling/config.json: pooling_mode "weightedmean" is not implemented`: {pooling, `{"pooling_mode":"weightedmean"}`},
		"1_Pooling/config.json: must be an object":                              {pooling, `[]`},
	} {
		ckpt := changed(t, "minilm", nil, func(x formats.Tensor) (formats.Tensor, bool) { return x, true })
		for name, text := range map[string]string{"modules.json": c[0], "1_Pooling/config.json": c[1]} {
			ckpt = ckpt.WithSideFile(formats.SideFile{Name: name, Size: int64(len(text)), Data: strings.NewReader(text)})
		}
		_, err := ReadSentenceConfig(ckpt)
		checkError(t, err, formats.ErrInput, want)
	}
}

func TestSentenceConfig(t *testing.T) {
	r := openRun(t, "minilm", "pairs")
	got, err := ReadSentenceConfig(r.base)
	if want := (SentenceConfig{MeanPooling, true, 15}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	m, err := LoadEmbedder(r.base, EmbedderOptions{SentenceConfig: got})
	if err != nil || m.MaxPositions() != 15 || m.Dim() != 20 {
		t.Errorf("%v: %d positions", err, m.MaxPositions())
	}
	// A directory of transformers alone.
	if got, err = ReadSentenceConfig(openRun(t, "bert", "classes").base); err != nil || got != (SentenceConfig{Pooling: MeanPooling}) {
		t.Errorf("got %+v, %v", got, err)
	}
	newest := `{"embedding_dimension":20,"pooling_mode":"cls","include_prompt":true}`
	ckpt := r.base.WithSideFile(formats.SideFile{Name: "1_Pooling/config.json", Size: int64(len(newest)), Data: strings.NewReader(newest)})
	if got, err = ReadSentenceConfig(ckpt); err != nil || got.Pooling != FirstPooling {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestTaskBatchRefusals(t *testing.T) {
	load := func(model, run string) Adaptable {
		m, _, err := openRun(t, model, run).load(openRun(t, model, run).base)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	ids := []int32{1, 2, 3, 4}
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		model, run string
		b          Batch
		want       string
	}{
		"empty row":     {"bert", "classes", Batch{Rows: 2, Cols: 2, IDs: ids, Lens: []int{2, 0}, Labels: []int32{0, 0}}, "row 1 of a batch has no tokens"},
		"type":          {"bert", "classes", Batch{Rows: 2, Cols: 2, IDs: ids, Types: []int32{0, 0, 0, 3}, Labels: []int32{0, 0}}, "row 1 of a batch, token 1: type 3, but the model has 3"},
		"types":         {"bert", "classes", Batch{Rows: 2, Cols: 2, IDs: ids, Types: ids[:3], Labels: []int32{0, 0}}, "a batch of 2×2 has 3 token types"},
		"classes":       {"bert", "classes", Batch{Rows: 2, Cols: 2, IDs: ids, Labels: []int32{0}}, "a batch of 2 rows has 1 classes"},
		"class":         {"bert", "classes", Batch{Rows: 2, Cols: 2, IDs: ids, Labels: []int32{0, 3}}, "row 1 of a batch: class 3 of 3"},
		"too long":      {"roberta", "regression", Batch{Rows: 1, Cols: 17, IDs: make([]int32, 17)}, "row 0 of a batch: 17 tokens, but the model has 16 positions"},
		"targets":       {"distilbert", "regression", Batch{Rows: 2, Cols: 2, IDs: ids, Targets: []float32{1, 2, 3}}, "a batch of 2 rows with 2 outputs each has 3 targets"},
		"target":        {"distilbert", "regression", Batch{Rows: 2, Cols: 2, IDs: ids, Targets: []float32{1, 2, 3, nan}}, "row 1 of a batch: a target of NaN"},
		"share":         {"bert-old", "multi-label", Batch{Rows: 1, Cols: 4, IDs: ids, Targets: []float32{1, 2, 0, 0}}, "row 0 of a batch: a target of 2"},
		"labels beside": {"bert-old", "multi-label", Batch{Rows: 1, Cols: 4, IDs: ids, Targets: make([]float32, 4), Labels: []int32{1}}, "learns from targets"},
		"single texts":  {"minilm", "pairs", Batch{Rows: 2, Cols: 2, IDs: ids}, "a batch of 2 rows with 0 texts an example (want pairs)"},
		"odd":           {"minilm", "pairs", Batch{Rows: 4, Cols: 1, IDs: ids, Texts: 3}, "a batch of 4 rows with 3 texts an example"},
		"similarities":  {"minilm", "cosine", Batch{Rows: 2, Cols: 2, IDs: ids, Texts: 2}, "a batch of 1 pairs has 0 similarities"},
		"similarity":    {"minilm", "cosine", Batch{Rows: 2, Cols: 2, IDs: ids, Texts: 2, Targets: []float32{nan}}, "pair 0 of a batch: a similarity of NaN"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := load(c.model, c.run).Loss(c.b)
			checkError(t, err, formats.ErrUsage, c.want)
		})
	}
	_, _, err := load("bert", "classes").LossGrad(Batch{}, 1)
	checkError(t, err, formats.ErrUsage, "training no adapter")
}

func TestNewHead(t *testing.T) {
	r := openRun(t, "bert-old", "multi-label")
	load := func(seed uint64) *Classifier {
		m, err := LoadClassifier(r.base, ClassifierOptions{Outputs: 3, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	one, again, other := load(1), load(1), load(2)
	w := one.head.outer.weight.Data
	if !slices.Equal(w, again.head.outer.weight.Data) || slices.Equal(w, other.head.outer.weight.Data) {
		t.Error("a head does not depend on its seed alone")
	}
	var squares float64
	for _, x := range w {
		squares += float64(x) * float64(x)
	}
	// 60 numbers of σ 0.02: five deviations of their variance are 0.9 of it.
	if v := squares / 60 / 0.0004; v < 0.1 || v > 1.9 || slices.Max(one.head.outer.bias.Data) != 0 {
		t.Errorf("a new head has %g of the variance", v)
	}
	if one.Problem() != SingleLabel || one.Outputs() != 3 || one.Labels() != nil {
		t.Errorf("%s, %d outputs, labels %v", one.Problem(), one.Outputs(), one.Labels())
	}
	own, err := LoadClassifier(openRun(t, "roberta", "regression").base, ClassifierOptions{})
	if err != nil || own.Problem() != Regression || !slices.Equal(own.Labels(), []string{"LABEL_0"}) {
		t.Errorf("%v: %v", err, own.Labels())
	}
}

// A body without a pooler gets one, which is saved with the head.
func TestWithHead(t *testing.T) {
	base := changed(t, "bert-old", nil, func(x formats.Tensor) (formats.Tensor, bool) {
		return x, !strings.HasPrefix(x.Name, "pooler")
	})
	m, err := LoadClassifier(base, ClassifierOptions{Outputs: 3})
	if err != nil {
		t.Fatal(err)
	}
	if names := m.HeadModules(); !slices.Equal(names, []string{"classifier", "pooler"}) {
		t.Errorf("modules to save are %v", names)
	}
	ad, err := m.WithHead(of(pair("encoder.layer.0.attention.self.query", 20, 3, 20)))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Train(ad, TrainOptions{}); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range m.Params() {
		names = append(names, p.Name)
	}
	const query = "bert.encoder.layer.0.attention.self.query"
	want := []string{query + ".lora_A.weight", query + ".lora_B.weight",
		"bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"}
	if !slices.Equal(names, want) {
		t.Errorf("parameters are %v", names)
	}
	if _, _, err := m.LossGrad(Batch{Rows: 1, Cols: 2, IDs: []int32{4, 5}, Labels: []int32{1}}, 1); err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		if slices.Max(p.Grad) == slices.Min(p.Grad) {
			t.Errorf("%s has no gradient", p.Name)
		}
	}
	out, err := m.Export()
	if err != nil || HeadOutputs(out) != 3 || HeadOutputs(of()) != 0 {
		t.Errorf("%v: a head of %d outputs", err, HeadOutputs(out))
	}
	if s := m.Size(); s.Trainable != 2*3*20+20*20+20+3*20+3 {
		t.Errorf("size is %+v", s)
	}
	_, err = m.WithHead(of(pair("classifier", 20, 3, 3)))
	checkError(t, err, formats.ErrUnfit, `module "classifier" is trained whole and cannot have factors`)
	if same, err := m.WithHead(out); err != nil || len(same.Entries) != len(out.Entries) {
		t.Errorf("a head that is there already was added: %v", err)
	}
}

// Any parameter may be trained whole: gradients are those of differences.
func TestTrainWholeParameters(t *testing.T) {
	m := smallModel(t)
	if err := m.Train(of(
		pair(qProj, 12, 2, 24),
		adapter.Entry{Module: "lm_head", Update: &adapter.Replace{Param: "weight", Value: tensor("h", 23, 12)}},
		adapter.Entry{Module: "model.layers.1.input_layernorm", Update: &adapter.Replace{Param: "weight", Value: tensor("n", 12)}},
		adapter.Entry{Module: "model.embed_tokens", Update: &adapter.Replace{Param: "weight", Value: tensor("e", 23, 12)}},
	), TrainOptions{}); err != nil {
		t.Fatal(err)
	}
	b := Batch{Rows: 1, Cols: 4, IDs: []int32{3, 1, 4, 1}, Labels: []int32{1, 4, 1, 5}}
	if _, _, err := m.LossGrad(b, 1); err != nil {
		t.Fatal(err)
	}
	loss := func() float64 {
		sum, _, err := m.Loss(b)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	for _, p := range m.Params() {
		// Along the gradient itself, where the loss moves most.
		var norm float64
		for _, g := range p.Grad {
			norm += float64(g) * float64(g)
		}
		norm = math.Sqrt(norm)
		old := slices.Clone(p.Data)
		move := func(h float64) float64 {
			for i, g := range p.Grad {
				p.Data[i] = old[i] + float32(h*float64(g)/norm)
			}
			return loss()
		}
		const h = 1e-2
		slope := (move(h) - move(-h)) / (2 * h)
		copy(p.Data, old)
		// Differences of float32 losses: 1e-6 over the step, and h² of the curvature.
		if !(math.Abs(slope-norm) < 2e-3*norm+1e-4) {
			t.Errorf("%s: the slope along the gradient is %g, want its length %g", p.Name, slope, norm)
		}
	}
}

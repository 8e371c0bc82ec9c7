package train

import (
	"bytes"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

func TestMetricsLines(t *testing.T) {
	points := []Point{
		{Step: 0, Eval: true, Loss: 3, Seconds: 0.5},
		{Step: 10, Epoch: 0.5, Tokens: 5120, Loss: 2.5, LearningRate: 2e-4, GradNorm: 1.25, Seconds: 2},
		{Step: 10, Eval: true, Loss: 800},
	}
	for _, c := range []struct {
		times bool
		want  string
	}{
		{false, `{"step":0,"eval_loss":3,"eval_perplexity":20.085536923187668}
{"step":10,"loss":2.5,"learning_rate":0.0002,"grad_norm":1.25,"tokens":5120,"epoch":0.5}
{"step":10,"eval_loss":800,"eval_perplexity":null}
`},
		{true, `{"step":0,"eval_loss":3,"eval_perplexity":20.085536923187668,"seconds":0.5}
{"step":10,"loss":2.5,"learning_rate":0.0002,"grad_norm":1.25,"tokens":5120,"epoch":0.5,"seconds":2}
{"step":10,"eval_loss":800,"eval_perplexity":null,"seconds":0}
`},
	} {
		var buf bytes.Buffer
		w := NewMetricsWriter(&buf, c.times)
		for _, p := range points {
			if err := w.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		if buf.String() != c.want {
			t.Errorf("times %v: got\n%s\nwant\n%s", c.times, buf.String(), c.want)
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space") }

func TestFailedWritesAreOutputErrors(t *testing.T) {
	for name, err := range map[string]error{
		"metrics": NewMetricsWriter(fullDisk{}, false).Write(Point{}),
		"state":   TrainerState{}.Write(fullDisk{}),
		"curve":   Curve(fullDisk{}, []Point{{Step: 1, Loss: 1}}),
	} {
		if !errors.Is(err, formats.ErrOutput) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// hf_trainer_state.json is as the Trainer saved it.
func TestReadHuggingFacesState(t *testing.T) {
	text, err := os.ReadFile("testdata/hf_trainer_state.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ReadTrainerState("trainer_state.json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if s.GlobalStep != 5 || s.MaxSteps != 5 || s.NumTrainEpochs != 3 || len(s.LogHistory) != 2 {
		t.Fatalf("got %+v", s)
	}
	if p := s.LogHistory[1]; p.Step != 4 || p.Epoch != 2 || p.Eval || p.Loss == 0 || p.LearningRate == 0 || p.GradNorm == 0 {
		t.Errorf("point %+v", p)
	}

	// What is written has exactly its keys, but for what the callbacks keep.
	var buf bytes.Buffer
	if err := s.Write(&buf); err != nil {
		t.Fatal(err)
	}
	if got, want := topKeys(buf.String()), topKeys(string(text)); got != want {
		t.Errorf("keys\n%s\nwant\n%s", got, want)
	}
}

// topKeys lists the keys at two spaces, one a line.
func topKeys(text string) string {
	var keys []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, `  "`) {
			key, _, _ := strings.Cut(line[3:], `"`)
			keys = append(keys, key)
		}
	}
	return strings.Join(keys, "\n")
}

func TestReadStateRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{``, `reading "s.json": not a trainer state: unexpected end of JSON input`},
		{`[]`, `reading "s.json": not a trainer state: json: cannot unmarshal array into Go value of type train.TrainerState`},
		{`{}`, `reading "s.json": not a trainer state: global_step is missing, or a count is negative`},
		{`{"global_step":-3}`, `reading "s.json": not a trainer state: global_step is missing, or a count is negative`},
		{`{"global_step":1,"num_input_tokens_seen":-1}`, `reading "s.json": not a trainer state: global_step is missing, or a count is negative`},
		{`{"global_step":"x"}`, `reading "s.json": not a trainer state: field "global_step" holds a string`},
	} {
		_, err := ReadTrainerState("s.json", strings.NewReader(c.text))
		if !errors.Is(err, formats.ErrInput) || err.Error() != c.want {
			t.Errorf("%s: got\n%v\nwant\n%s", c.text, err, c.want)
		}
	}
}

func TestCurveIsDeterministic(t *testing.T) {
	var points []Point
	for i := range 3000 {
		points = append(points, Point{Step: i + 1, Loss: 2 + math.Sin(float64(i*i))/4 + 3*math.Exp(-float64(i)/500)})
		if i%300 == 0 {
			points = append(points, Point{Step: i + 1, Eval: true, Loss: 2 + 3*math.Exp(-float64(i)/500)})
		}
	}
	var one, two bytes.Buffer
	if err := errors.Join(Curve(&one, points), Curve(&two, points)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("two curves of the same points differ")
	}
	svg := one.String()
	for _, want := range []string{">step<", ">loss (nats per token)<", ">training<", ">training, smoothed<", ">held out<", ">3000<", "sans-serif"} {
		if !strings.Contains(svg, want) {
			t.Errorf("the curve lacks %s", want)
		}
	}
	if len(svg) > 100_000 {
		t.Errorf("%d bytes for 3000 points", len(svg))
	}
}

func TestCurveTakesAnything(t *testing.T) {
	for name, points := range map[string][]Point{
		"one point":       {{Step: 1, Loss: 2.5}},
		"one evaluation":  {{Step: 0, Eval: true, Loss: 2.5}},
		"loss of 0":       {{Step: 1}, {Step: 2}},
		"all alike":       {{Step: 1, Loss: 1e-12}, {Step: 9, Loss: 1e-12}},
		"far steps":       {{Step: math.MaxInt - 1, Loss: 1}, {Step: math.MaxInt, Loss: 2}},
		"negative steps":  {{Step: -5, Loss: 1}, {Step: 5, Loss: 2}},
		"negative losses": {{Step: 1, Loss: -3}, {Step: 2, Loss: -1}},
		"wide":            {{Step: 1, Loss: 1e100}, {Step: 2, Loss: -1e100}, {Step: 3, Loss: 1e-300}},
	} {
		var buf bytes.Buffer
		if err := Curve(&buf, points); err != nil || !strings.HasSuffix(strings.TrimSpace(buf.String()), "</svg>") {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(buf.String(), "NaN") || strings.Contains(buf.String(), "Inf") {
			t.Errorf("%s: a coordinate is not finite", name)
		}
	}
	for name, points := range map[string][]Point{
		"none": nil, "NaN": {{Loss: math.NaN()}}, "infinite": {{Eval: true, Loss: math.Inf(1)}}, "huge": {{Loss: 1e101}},
	} {
		var buf bytes.Buffer
		if err := Curve(&buf, points); !errors.Is(err, formats.ErrUsage) || buf.Len() > 0 {
			t.Errorf("%s: %v, %d bytes", name, err, buf.Len())
		}
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		ticks     ticks
		low, high float64
		want      string
	}{
		{ticks{most: 8, whole: true}, 0, 1, "0 1"},
		{ticks{most: 8, whole: true}, 0, 200, "0 50 100 150 200"},
		{ticks{most: 10, whole: true}, 0, 200, "0 20 40 60 80 100 120 140 160 180 200"},
		{ticks{most: 8}, 0.31, 2.8, "0.5 1.0 1.5 2.0 2.5"},
		{ticks{most: 8}, -0.1, 0.1, "-0.10 -0.05 0.00 0.05 0.10"},
		{ticks{most: 4}, 1e-9, 4e-9, "1e-09 2e-09 3e-09 4e-09"},
		{ticks{most: 4}, 0, 4e8, "0 1e+08 2e+08 3e+08 4e+08"},
	} {
		var labels []string
		for _, mark := range c.ticks.Ticks(c.low, c.high) {
			labels = append(labels, mark.Label)
		}
		if got := strings.Join(labels, " "); got != c.want {
			t.Errorf("%v…%v: got %s, want %s", c.low, c.high, got, c.want)
		}
	}
}

func TestFootprint(t *testing.T) {
	f := OptimizerFootprint(1_000, 250_000)
	if f.Bytes != 8_000 || f.FullBytes != 2_000_000 || f.Times() != 250 {
		t.Errorf("got %+v, %v times", f, f.Times())
	}
	if OptimizerFootprint(0, 5).Times() != 0 {
		t.Error("nothing trained is not 0 times")
	}
}

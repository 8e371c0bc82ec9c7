package models

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// A session's scores are those of the full forward, however the tokens are fed.
func TestSessionMatchesLogits(t *testing.T) {
	m := trainedTiny(t, TrainOptions{Dropout: 0.5})
	const n = 150
	b := repeated(t, 1, n)
	want, err := m.Logits(b)
	if err != nil {
		t.Fatal(err)
	}
	vocabulary := m.Vocabulary()
	s := m.NewSession()
	var worst float64
	for _, size := range []int{67, 1, 1, 70, 1, 2, 8} {
		scores, err := s.Step(b.IDs[s.Len() : s.Len()+size])
		if err != nil {
			t.Fatal(err)
		}
		worst = max(worst, largestDifference(scores, want[(s.Len()-1)*vocabulary:s.Len()*vocabulary]))
	}
	t.Logf("largest difference %.1e", worst)
	if s.Len() != n || !(worst < 5e-5) {
		t.Errorf("after %d tokens the scores were off by up to %g", s.Len(), worst)
	}
}

func TestSessionLimits(t *testing.T) {
	m := smallModel(t)
	s := m.NewSession()
	_, err := s.Step(nil)
	checkError(t, err, formats.ErrUsage, "needs a token")
	_, err = s.Step([]int32{23})
	checkError(t, err, formats.ErrUsage, "token 23 is not in a vocabulary of 23")
	_, err = s.Step(make([]int32, 41))
	checkError(t, err, formats.ErrUsage, "41 tokens, but the model has 40 positions")
	if _, err := s.Step(make([]int32, 40)); err != nil || s.Len() != 40 {
		t.Error(err)
	}
}

func TestGenerate(t *testing.T) {
	m := loadModel(t, tinyLlama)
	ctx := context.Background()
	prompt := repeated(t, 1, 12).IDs
	run := func(opts GenerateOptions) ([]int32, StopReason) {
		t.Helper()
		var out []int32
		why, err := Generate(ctx, m, prompt, opts, func(id int32) error { out = append(out, id); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return out, why
	}
	greedy, why := run(GenerateOptions{MaxTokens: 20, EndTokens: []int32{}})
	if len(greedy) != 20 || why != StopMaxTokens {
		t.Fatalf("got %d tokens, %s", len(greedy), why)
	}
	// Greedy tokens are the best ones of the full forward, one after the other.
	all := append(slices.Clone(prompt), greedy...)
	scores, err := m.Logits(Batch{Rows: 1, Cols: len(all), IDs: all})
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range greedy {
		at := (len(prompt) + i - 1) * m.Vocabulary()
		if want := best(scores[at : at+m.Vocabulary()]); id != want {
			t.Errorf("token %d is %d, want %d", i, id, want)
		}
	}
	// The end token itself is not part of the text.
	short, why := run(GenerateOptions{MaxTokens: 20, EndTokens: []int32{greedy[7]}})
	if n := slices.Index(greedy, greedy[7]); len(short) != n || why != StopEnd {
		t.Errorf("got %v, %s", short, why)
	}
	a, _ := run(GenerateOptions{MaxTokens: 30, Temperature: 1.3, TopK: 40, Seed: 1})
	b, _ := run(GenerateOptions{MaxTokens: 30, Temperature: 1.3, TopK: 40, Seed: 1})
	c, _ := run(GenerateOptions{MaxTokens: 30, Temperature: 1.3, TopK: 40, Seed: 2})
	if !slices.Equal(a, b) || slices.Equal(a, c) {
		t.Errorf("seeds 1, 1, 2 gave %v, %v, %v", a, b, c)
	}
	long, why := run(GenerateOptions{MaxTokens: 1000, EndTokens: []int32{}})
	if len(long) != m.MaxPositions()-len(prompt)+1 || why != StopContext {
		t.Errorf("got %d tokens, %s", len(long), why)
	}
}

func TestGenerateStops(t *testing.T) {
	m := smallModel(t)
	failure := errors.New("full disk")
	if _, err := Generate(context.Background(), m, []int32{1}, GenerateOptions{MaxTokens: 3}, func(int32) error { return failure }); err != failure {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Generate(ctx, m, []int32{1}, GenerateOptions{MaxTokens: 3}, nil); err != context.Canceled {
		t.Errorf("error %v", err)
	}
	_, err := Generate(context.Background(), m, nil, GenerateOptions{MaxTokens: 3}, nil)
	checkError(t, err, formats.ErrUsage, "needs a token")
	_, err = Generate(context.Background(), m, []int32{1}, GenerateOptions{Temperature: -1}, nil)
	checkError(t, err, formats.ErrUsage, "temperature")
	_, err = Generate(context.Background(), m, []int32{1}, GenerateOptions{TopK: -1}, nil)
	checkError(t, err, formats.ErrUsage, "top-k")
	m.norm.Data[0] = float32(math.NaN())
	_, err = Generate(context.Background(), m, []int32{1}, GenerateOptions{MaxTokens: 3}, nil)
	checkError(t, err, formats.ErrInput, "not numbers")
}

func TestSampler(t *testing.T) {
	scores := []float32{0, 2, 1, 2, -5}
	count := func(temperature float64, topK int) []int {
		s, err := NewSampler(temperature, topK, 11)
		if err != nil {
			t.Fatal(err)
		}
		n := make([]int, len(scores))
		for range 20000 {
			n[s.Next(scores)]++
		}
		return n
	}
	for _, c := range []struct {
		temperature float64
		topK        int
		want        []float64
	}{
		{0, 0, []float64{0, 1, 0, 0, 0}},
		{5, 1, []float64{0, 1, 0, 0, 0}},
		{1, 2, []float64{0, 0.5, 0, 0.5, 0}},
		{0.5, 3, []float64{0, 0.4683, 0.0634, 0.4683, 0}},
		{2, 0, []float64{0.1400, 0.3807, 0.2309, 0.3807, 0.0115}},
	} {
		var sum float64
		for _, w := range c.want {
			sum += w
		}
		for i, n := range count(c.temperature, c.topK) {
			p := c.want[i] / sum
			// Five standard deviations.
			if got := float64(n) / 20000; math.Abs(got-p) > 5*math.Sqrt(p*(1-p)/20000) {
				t.Errorf("temperature %g, top %d: token %d came in %.4f of the draws, want %.4f", c.temperature, c.topK, i, got, p)
			}
		}
	}
}

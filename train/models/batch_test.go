package models

import (
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

func trainedTiny(t testing.TB, opts TrainOptions) *decoder {
	t.Helper()
	m := loadModel(t, tinyLlama)
	if err := m.Train(readAdapter(t, tinyLlama, "all-r4-rslora", "trained"), opts); err != nil {
		t.Fatal(err)
	}
	return m
}

func grads(m Model) (all []float32) {
	for _, p := range m.Params() {
		all = append(all, p.Grad...)
	}
	return all
}

// Rows padded on the right are the same rows alone.
func TestPadding(t *testing.T) {
	m := trainedTiny(t, TrainOptions{})
	source := repeated(t, 3, 70)
	lens := []int{70, 1, 33}
	padded := Batch{Rows: 3, Cols: 70, IDs: slices.Clone(source.IDs), Labels: slices.Clone(source.Labels), Lens: lens}
	var want float64
	var labels int
	var logits []float32
	for r, n := range lens {
		at := r * 70
		one := Batch{Rows: 1, Cols: n, IDs: source.IDs[at : at+n], Labels: slices.Clone(source.Labels[at : at+n])}
		if n > 5 {
			one.Labels[3] = Ignored
			padded.Labels[at+3] = Ignored
		}
		for i := at + n; i < at+70; i++ {
			padded.IDs[i], padded.Labels[i] = -7, -7 // never looked at
		}
		sum, k, err := m.LossGrad(one, 0.5)
		if err != nil {
			t.Fatal(err)
		}
		want, labels = want+sum, labels+k
		x, err := m.Logits(one)
		if err != nil {
			t.Fatal(err)
		}
		logits = append(logits, x...)
		logits = append(logits, make([]float32, (70-n)*m.Vocabulary())...)
	}
	alone := grads(m)
	for _, p := range m.Params() {
		clear(p.Grad)
	}
	got, k, err := m.LossGrad(padded, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(got-want) > 1e-7*want || k != labels || k != 102 {
		t.Errorf("loss %v of %d labels, want %v of %d", got, k, want, labels)
	}
	if d := frobenius(grads(m), alone); !(d < 1e-5) {
		t.Errorf("gradients are off by %g", d)
	}
	again, k, err := m.Loss(padded)
	if err != nil || again != got || k != labels {
		t.Errorf("Loss returned %v, %d, %v", again, k, err)
	}
	x, err := m.Logits(padded)
	if err != nil {
		t.Fatal(err)
	}
	if worst := largestDifference(x, logits); !(worst < 1e-5) {
		t.Errorf("logits are off by %g", worst)
	}
}

func TestGradientScaleAndAccumulation(t *testing.T) {
	m := trainedTiny(t, TrainOptions{})
	b := repeated(t, 2, 19)
	if _, _, err := m.LossGrad(b, 1); err != nil {
		t.Fatal(err)
	}
	once := grads(m)
	if _, _, err := m.LossGrad(b, 0.5); err != nil {
		t.Fatal(err)
	}
	want := make([]float32, len(once))
	for i, g := range once {
		want[i] = 1.5 * g
	}
	if d := frobenius(grads(m), want); !(d < 1e-6) {
		t.Errorf("gradients are off by %g", d)
	}
}

func TestSameBitsForAnyGOMAXPROCS(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	b := repeated(t, 3, 70)
	b.Lens = []int{70, 31, 66}
	b.Seed = 5
	var sum float64
	var want []float32
	for _, n := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(n)
		m := trainedTiny(t, TrainOptions{Dropout: 0.1})
		got, _, err := m.LossGrad(b, 0.01)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			sum, want = got, grads(m)
		}
		if got != sum || !slices.Equal(grads(m), want) {
			t.Errorf("GOMAXPROCS=%d gives other bits", n)
		}
	}
}

func TestDropoutSeeds(t *testing.T) {
	m := trainedTiny(t, TrainOptions{Dropout: 0.3})
	b := repeated(t, 2, 19)
	loss := func(seed uint64) float64 {
		b.Seed = seed
		sum, _, err := m.LossGrad(b, 1)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	one, two, again := loss(1), loss(2), loss(1)
	plain, _, err := m.Loss(b)
	if err != nil {
		t.Fatal(err)
	}
	if one != again || one == two || one == plain {
		t.Errorf("losses with seeds 1, 2, 1 are %v, %v, %v, and without dropout %v", one, two, again, plain)
	}
}

// Steps of one shape take no new memory but for small things that do not grow with the
// batch.
func TestStepsReuseMemory(t *testing.T) {
	m := trainedTiny(t, TrainOptions{})
	b := repeated(t, 2, 64)
	step := func() {
		if _, _, err := m.LossGrad(b, 1); err != nil {
			t.Fatal(err)
		}
	}
	step()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	step()
	runtime.ReadMemStats(&after)
	// The activations are 7 MB.
	if n := after.TotalAlloc - before.TotalAlloc; n > 512<<10 {
		t.Errorf("a step allocated %d bytes", n)
	}
}

func TestBatchRefusals(t *testing.T) {
	m := smallModel(t)
	if err := m.Train(of(pair(qProj, 12, 2, 24)), TrainOptions{}); err != nil {
		t.Fatal(err)
	}
	ids, labels := []int32{1, 2, 3, 4}, []int32{2, 3, 4, Ignored}
	for name, c := range map[string]struct {
		b    Batch
		want string
	}{
		"ids":      {Batch{Rows: 2, Cols: 3, IDs: ids, Labels: labels}, "a batch of 2×3 has 4 ids"},
		"labels":   {Batch{Rows: 2, Cols: 2, IDs: ids, Labels: labels[:3]}, "a batch of 2×2 has 3 labels"},
		"lens":     {Batch{Rows: 2, Cols: 2, IDs: ids, Labels: labels, Lens: []int{2}}, "a batch of 2 rows has 1 lengths"},
		"length":   {Batch{Rows: 2, Cols: 2, IDs: ids, Labels: labels, Lens: []int{2, 3}}, "row 1 of a batch: a length of 3 in 2 columns"},
		"id":       {Batch{Rows: 2, Cols: 2, IDs: []int32{1, 2, 3, 23}, Labels: labels}, "row 1 of a batch, token 1: token 23 is not in a vocabulary of 23"},
		"label":    {Batch{Rows: 2, Cols: 2, IDs: ids, Labels: []int32{2, -1, 4, 5}}, "row 0 of a batch, label 1: token -1"},
		"too long": {Batch{Rows: 1, Cols: 41, IDs: make([]int32, 41), Labels: make([]int32, 41)}, "row 0 of a batch: 41 tokens, but the model has 40 positions"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := m.LossGrad(c.b, 1)
			checkError(t, err, formats.ErrUsage, c.want)
			_, _, err = m.Loss(c.b)
			checkError(t, err, formats.ErrUsage, c.want)
		})
	}
	none := Batch{Rows: 1, Cols: 2, IDs: ids[:2], Labels: []int32{Ignored, Ignored}}
	if sum, n, err := m.LossGrad(none, 1); sum != 0 || n != 0 || err != nil {
		t.Errorf("a batch without labels gave %v, %d, %v", sum, n, err)
	}
	if x, err := m.Logits(Batch{Rows: 1, Cols: 2, IDs: ids[:2], Lens: []int{0}}); err != nil || len(x) != 2*23 || slices.Max(x) != 0 {
		t.Errorf("a batch of padding gave %v, %v", x, err)
	}
}

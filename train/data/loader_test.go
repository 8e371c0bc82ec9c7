package data

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/train/models"
)

func numbered(n int) *Set {
	s := &Set{}
	for i := range n {
		s.Examples = append(s.Examples, Example{Origin: Origin{File: "d", Line: i + 1}, IDs: []int32{int32(i), int32(i)}})
	}
	return s
}

func newLoader(t *testing.T, s *Set, opt LoaderOptions) *Loader {
	t.Helper()
	l, err := NewLoader(s, opt)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// lines returns the lines of an epoch, batch by batch.
func lines(l *Loader, epoch int) (all [][]int) {
	for i := range l.Batches() {
		var batch []int
		for _, o := range l.At(epoch, i).Origins {
			batch = append(batch, o.Line)
		}
		all = append(all, batch)
	}
	return all
}

func TestStack(t *testing.T) {
	set := &Set{Examples: []Example{
		{Origin: Origin{File: "d", Line: 4}, IDs: ids(1, 10, 11, 2)},
		{Origin: Origin{File: "d", Line: 7}, IDs: ids(1, 20, 21, 22, 23, 2), Context: 3},
		{Origin: Origin{File: "e", Line: 1}, IDs: ids(30, 31), Context: 1},
	}}
	got := newLoader(t, set, LoaderOptions{Rows: 3, Pad: 9}).At(0, 0)
	x := int32(models.Ignored)
	want := Batch{
		Batch: models.Batch{
			Rows: 3, Cols: 6,
			IDs: ids(
				1, 10, 11, 2, 9, 9,
				1, 20, 21, 22, 23, 2,
				30, 31, 9, 9, 9, 9),
			Labels: ids(
				10, 11, 2, x, x, x,
				x, x, 22, 23, 2, x,
				31, x, x, x, x, x),
			Lens: []int{4, 6, 2},
			Seed: got.Seed,
		},
		Origins: []Origin{{File: "d", Line: 4}, {File: "d", Line: 7}, {File: "e", Line: 1}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// The order is a promise: a change breaks every run that is to be resumed.
func TestOrderIsFixed(t *testing.T) {
	l := newLoader(t, numbered(10), LoaderOptions{Rows: 4, Shuffle: true, Seed: 42})
	for _, c := range []struct {
		epoch int
		want  string
	}{
		{0, "[[5 2 4 10] [8 1 9 7] [6 3]]"},
		{1, "[[4 1 10 7] [2 8 9 6] [5 3]]"},
		{0, "[[5 2 4 10] [8 1 9 7] [6 3]]"},
	} {
		if got := fmt.Sprint(lines(l, c.epoch)); got != c.want {
			t.Errorf("epoch %d: got %s, want %s", c.epoch, got, c.want)
		}
	}
	if got := fmt.Sprint(lines(newLoader(t, numbered(10), LoaderOptions{Rows: 4, Shuffle: true, Seed: 43}), 0)); got != "[[3 7 5 10] [8 4 1 9] [2 6]]" {
		t.Errorf("seed 43: got %s", got)
	}
	if got := l.At(3, 1).Seed; got != 0x2d833f4cdb7541f8 {
		t.Errorf("seed of a batch: got %#x", got)
	}
}

func TestUnshuffledOrderIsTheSets(t *testing.T) {
	l := newLoader(t, numbered(5), LoaderOptions{Rows: 2, Seed: 42})
	for epoch := range 2 {
		if got := fmt.Sprint(lines(l, epoch)); got != "[[1 2] [3 4] [5]]" {
			t.Errorf("epoch %d: got %s", epoch, got)
		}
	}
}

func TestEveryExampleOnceAnEpoch(t *testing.T) {
	const n = 101
	l := newLoader(t, numbered(n), LoaderOptions{Rows: 7, Shuffle: true, Seed: 5})
	seen := map[string]bool{}
	for epoch := range 4 {
		all := slices.Concat(lines(l, epoch)...)
		seen[fmt.Sprint(all)] = true
		slices.Sort(all)
		for i, line := range all {
			if line != i+1 {
				t.Fatalf("epoch %d: got %v", epoch, all)
			}
		}
		if len(all) != n {
			t.Fatalf("epoch %d: %d examples", epoch, len(all))
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d orders in 4 epochs", len(seen))
	}
}

// Every place must be equally likely for every example.
func TestPermutationIsUniform(t *testing.T) {
	const n, rounds = 5, 20_000
	var count [n][n]int
	for seed := range rounds {
		for at, example := range permutation(newPCG(uint64(seed), streamShuffle, 0), n) {
			count[at][example]++
		}
	}
	for at := range count {
		for example, c := range count[at] {
			if c < rounds/n*95/100 || c > rounds/n*105/100 {
				t.Errorf("place %d, example %d: %d of %d", at, example, c, rounds)
			}
		}
	}
}

// Above half of the range about every second draw is rejected.
func TestBelow(t *testing.T) {
	const n = 1<<63 + 1
	src := newPCG(1, streamShuffle, 0)
	upper := 0
	for range 1000 {
		x := below(src, n)
		if x >= n {
			t.Fatalf("%d is not below %d", x, uint64(n))
		}
		if x >= n/2 {
			upper++
		}
	}
	if upper < 420 || upper > 580 {
		t.Errorf("%d of 1000 in the upper half", upper)
	}
}

func TestLoaderIsSafeForConcurrentUse(t *testing.T) {
	l := newLoader(t, numbered(20), LoaderOptions{Rows: 3, Shuffle: true, Seed: 1})
	want := make([]Batch, 4)
	for epoch := range want {
		want[epoch] = l.At(epoch, 2)
	}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			if epoch := i % 4; !reflect.DeepEqual(l.At(epoch, 2), want[epoch]) {
				t.Errorf("epoch %d differs", epoch)
			}
		})
	}
	wg.Wait()
}

func TestNewLoaderRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		set *Set
		opt LoaderOptions
	}{
		"no rows":      {numbered(3), LoaderOptions{}},
		"negative pad": {numbered(3), LoaderOptions{Rows: 1, Pad: -1}},
		"empty":        {&Set{}, LoaderOptions{Rows: 1}},
	} {
		if _, err := NewLoader(c.set, c.opt); !errors.Is(err, formats.ErrUsage) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestSplit(t *testing.T) {
	set := numbered(10)
	set.Examples = slices.Insert(set.Examples, 3, set.Examples[3]) // two pieces of line 4
	train, held, err := set.Split(0.3, 8)
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	split := map[int]int{}
	for i, part := range []*Set{train, held} {
		last := 0
		for _, e := range part.Examples {
			if e.Line < last {
				t.Errorf("part %d is out of order at line %d", i, e.Line)
			}
			last = e.Line
			all = append(all, e.Line)
			if was, ok := split[e.Line]; ok && was != i {
				t.Errorf("line %d is in both parts", e.Line)
			}
			split[e.Line] = i
		}
	}
	if len(all) != 11 || len(split) != 10 {
		t.Errorf("got %v", all)
	}
	records := 0
	for _, part := range split {
		records += part
	}
	if records != 3 {
		t.Errorf("held out %d of 10 records, want 3", records)
	}
	if got := fmt.Sprint(heldLines(held)); got != "[4 4 5 10]" {
		t.Errorf("the choice of seed 8 changed: got %s", got)
	}
	if _, other, _ := set.Split(0.3, 9); fmt.Sprint(heldLines(other)) == fmt.Sprint(heldLines(held)) {
		t.Error("seed 9 chose as seed 8")
	}
	// A share that rounds to none still holds one out.
	if _, held, err := numbered(3).Split(0.01, 1); err != nil || len(held.Examples) != 1 {
		t.Errorf("got %v, %v", held, err)
	}
}

func heldLines(s *Set) (lines []int) {
	for _, e := range s.Examples {
		lines = append(lines, e.Line)
	}
	return lines
}

func TestSplitRefuses(t *testing.T) {
	for _, c := range []struct {
		n     int
		share float64
	}{{10, 0}, {10, 1}, {10, -1}, {1, 0.5}, {10, 0.99}} {
		if _, _, err := numbered(c.n).Split(c.share, 1); !errors.Is(err, formats.ErrUsage) {
			t.Errorf("%v: got %v", c, err)
		}
	}
}

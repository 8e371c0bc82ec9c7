package data

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// lengths makes a set of examples of given lengths.
func lengths(n ...int) *Set {
	s := &Set{}
	for i, length := range n {
		s.Examples = append(s.Examples, Example{Origin: Origin{File: "d", Line: i + 1}, IDs: make([]int32, length)})
	}
	return s
}

func TestPack(t *testing.T) {
	packs, err := pack(lengths(3, 7, 2, 10, 5, 4, 3, 2), 10)
	// 10 | 7+3 | 5+4 | 3+2+2: the first 3 goes where it leaves least room.
	want := [][]int32{{0, 1}, {2, 6, 7}, {3}, {4, 5}}
	if err != nil || !reflect.DeepEqual(packs, want) {
		t.Errorf("got %v, %v, want %v", packs, err, want)
	}
	for name, c := range map[string]struct {
		set   *Set
		limit int
	}{"too long": {lengths(3, 11), 10}, "limit": {lengths(2), 1}, "task": {&Set{Task: Regression, Examples: lengths(3).Examples}, 10}} {
		if _, err := pack(c.set, c.limit); !errors.Is(err, formats.ErrUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every example is in one pack, no pack is too long, and there are no more than first fit
// needs at worst: 11/9 of the best, and one.
func TestPacksHoldEveryExampleOnce(t *testing.T) {
	src := newPCG(7, streamShuffle, 0)
	const n, limit = 3000, 500
	set, total := &Set{}, 0
	for i := range n {
		length := 2 + int(below(src, limit/2-1))
		total += length
		set.Examples = append(set.Examples, Example{Origin: Origin{File: "d", Line: i + 1}, IDs: make([]int32, length)})
	}
	l := newLoader(t, set, LoaderOptions{Rows: 4, PackLength: limit, Shuffle: true, Seed: 3})
	seen := make([]int, n)
	for i := range l.Batches() {
		b := l.At(1, i)
		tokens := 0
		for r, o := range b.Origins {
			seen[o.Line-1]++
			tokens += b.Lens[r]
		}
		if tokens > 4*limit {
			t.Fatalf("batch %d has %d tokens", i, tokens)
		}
	}
	if slices.Min(seen) != 1 || slices.Max(seen) != 1 {
		t.Error("not every example comes once")
	}
	if best := total/limit + 1; len(l.packs) > best*11/9+1 {
		t.Errorf("%d packs, where %d might do", len(l.packs), best)
	}
}

func TestGroupByLength(t *testing.T) {
	var n []int
	src := newPCG(1, streamShuffle, 0)
	for range 1003 {
		n = append(n, 1+int(below(src, 1000)))
	}
	waste := func(group bool) (padding int, lines []int) {
		l := newLoader(t, lengths(n...), LoaderOptions{Rows: 4, Shuffle: true, GroupByLength: group, Seed: 5})
		for i := range l.Batches() {
			b := l.At(2, i)
			for r, o := range b.Origins {
				padding += b.Cols - b.Lens[r]
				lines = append(lines, o.Line)
			}
		}
		return padding, lines
	}
	padding, order := waste(true)
	plain, _ := waste(false)
	if padding > plain/10 {
		t.Errorf("padding %d, without grouping %d", padding, plain)
	}
	slices.Sort(order)
	if order = slices.Compact(order); len(order) != 1003 || order[1002] != 1003 {
		t.Error("not every example comes once")
	}
	// The order is a promise, as that of shuffling is.
	l := newLoader(t, lengths(1, 9, 2, 8, 3, 7, 4), LoaderOptions{Rows: 2, Shuffle: true, GroupByLength: true, Seed: 42})
	if got := fmt.Sprint(lines(l, 0)); got != "[[6 7] [2 4] [5 3] [1]]" {
		t.Errorf("got %s", got)
	}
	if _, err := NewLoader(lengths(1), LoaderOptions{Rows: 1, GroupByLength: true}); !errors.Is(err, formats.ErrUsage) {
		t.Errorf("without shuffling: %v", err)
	}
}

func TestSplitCount(t *testing.T) {
	train, held, err := numbered(10).SplitCount(3, 8)
	if err != nil || len(train.Examples) != 7 || len(held.Examples) != 3 {
		t.Errorf("got %v, %v, %v", train, held, err)
	}
	_, share, _ := numbered(10).Split(0.3, 8)
	if !reflect.DeepEqual(held, share) {
		t.Error("3 of 10 is another choice than 0.3")
	}
	for _, n := range []int{0, -1, 10, 11} {
		if _, _, err := numbered(10).SplitCount(n, 1); !errors.Is(err, formats.ErrUsage) {
			t.Errorf("%d: %v", n, err)
		}
	}
}

package data

import (
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/seed-b982eded/graft/formats"
)

// maxPackLength bounds a pack: it is one row of a batch.
const maxPackLength = 1 << 24

// pack puts the examples of a set together into packs of at most limit tokens, longest
// example first, each into the pack that it leaves the least room in. The packs are in
// order of their first examples, and so are the examples in each.
func pack(set *Set, limit int) ([][]int32, error) {
	if set.Task != LanguageModel {
		return nil, formats.Usagef("only examples of language models are packed")
	}
	if limit < 2 || limit > maxPackLength {
		return nil, formats.Usagef("length of packs (got %d, want 2 to %d)", limit, maxPackLength)
	}
	order := make([]int32, len(set.Examples))
	for i := range order {
		order[i] = int32(i)
	}
	size := func(i int32) int { return len(set.Examples[i].IDs) }
	slices.SortStableFunc(order, func(a, b int32) int { return size(b) - size(a) })
	if longest := size(order[0]); longest > limit {
		o := set.Examples[order[0]].Origin
		return nil, formats.Usagef("length of packs (got %d, want at least the %d tokens of %v)", limit, longest, o)
	}
	var packs [][]int32
	room := newRoom(limit)
	for _, i := range order {
		need := size(i)
		p, left := room.take(need)
		if p < 0 {
			p, left = int32(len(packs)), limit
			packs = append(packs, nil)
		}
		packs[p] = append(packs[p], i)
		room.put(p, left-need)
	}
	for _, p := range packs {
		slices.Sort(p)
	}
	slices.SortFunc(packs, func(a, b []int32) int { return int(a[0] - b[0]) })
	return packs, nil
}

// room keeps packs by the tokens that still fit into them.
type room struct {
	packs  [][]int32 // by room
	filled []uint64  // one bit a size that some pack has
}

func newRoom(limit int) *room {
	return &room{packs: make([][]int32, limit+1), filled: make([]uint64, limit/64+1)}
}

func (r *room) put(pack int32, left int) {
	r.packs[left] = append(r.packs[left], pack)
	r.filled[left/64] |= 1 << (left % 64)
}

// take removes a pack with the least room for need tokens, or gives −1.
func (r *room) take(need int) (pack int32, left int) {
	word := need / 64
	mask := ^uint64(0) << (need % 64)
	for ; word < len(r.filled); word, mask = word+1, ^uint64(0) {
		if set := r.filled[word] & mask; set != 0 {
			left = word*64 + bits.TrailingZeros64(set)
			last := len(r.packs[left]) - 1
			pack = r.packs[left][last]
			if r.packs[left] = r.packs[left][:last]; last == 0 {
				r.filled[word] &^= 1 << (left % 64)
			}
			return pack, left
		}
	}
	return -1, 0
}

// groupBatches is how many batches are sorted by length together: few enough that the
// order stays random, and enough that the lengths in a batch are close.
const groupBatches = 50

// groupByLength sorts runs of a random order by length, and then mixes the batches of it
// again, as otherwise each run would begin with its longest. A last batch that is not full
// stays last.
func groupByLength(order []int32, rows int, size func(int32) int, src *rand.PCG) []int32 {
	run := rows * groupBatches
	for from := 0; from < len(order); from += run {
		slices.SortStableFunc(order[from:min(from+run, len(order))], func(a, b int32) int { return size(b) - size(a) })
	}
	full := len(order) / rows
	mixed := make([]int32, 0, len(order))
	for _, i := range permutation(src, full) {
		mixed = append(mixed, order[int(i)*rows:(int(i)+1)*rows]...)
	}
	return append(mixed, order[full*rows:]...)
}

package autodiff

import "math/bits"

// lane is the unit of buffer sizes in elements: 64 bytes, so that every buffer
// begins on a 16-byte boundary whatever size class Go's allocator picks.
const lane = 16

// NewBuffer returns n zeros that begin on a 16-byte boundary, for leaves of any size.
func NewBuffer(n int) []float32 {
	return make([]float32, roundUp(n, lane))[:n:n]
}

func roundUp(n, unit int) int { return (max(n, 1) + unit - 1) / unit * unit }

// arena hands out buffers and takes them back. Sizes are rounded up to classes, an
// eighth of a power of two apart, so that batches of slightly different lengths
// share buffers and at most an eighth is wasted.
type arena struct {
	all  []*buffer
	free map[int][]*buffer // by class
	now  int               // counts buffers handed out, ever
	mark int               // now at the last reset
}

type buffer struct {
	data []float32 // of the class's full length
	at   int       // arena.now when it was last handed out
	busy bool
}

func sizeClass(n int) int {
	n = roundUp(n, lane)
	if step := 1 << bits.Len(uint(n-1)) / 16; step > lane {
		return roundUp(n, step)
	}
	return n
}

// get returns n elements of any content.
func (a *arena) get(n int) (*buffer, []float32) {
	class := sizeClass(n)
	var b *buffer
	if list := a.free[class]; len(list) > 0 {
		b = list[len(list)-1]
		a.free[class] = list[:len(list)-1]
	} else {
		b = &buffer{data: make([]float32, class)}
		a.all = append(a.all, b)
	}
	b.at, b.busy = a.now, true
	a.now++
	return b, b.data[:n:n]
}

// put takes a buffer back; nil and a buffer that is back already are ignored.
func (a *arena) put(b *buffer) {
	if b == nil || !b.busy {
		return
	}
	b.busy = false
	if a.free == nil {
		a.free = map[int][]*buffer{}
	}
	class := len(b.data)
	a.free[class] = append(a.free[class], b)
}

// putSince takes back all buffers handed out since a.now was mark, but one.
func (a *arena) putSince(mark int, but *buffer) {
	for _, b := range a.all {
		if b.busy && b.at >= mark && b != but {
			a.put(b)
		}
	}
}

// reset takes all buffers back and leaves those to the garbage collector that were
// not used since the last reset, so that memory follows the shapes of the last step.
func (a *arena) reset() {
	kept := a.all[:0]
	for _, list := range a.free {
		clear(list)
	}
	for class, list := range a.free {
		a.free[class] = list[:0]
	}
	for _, b := range a.all {
		if b.at < a.mark {
			continue
		}
		kept = append(kept, b)
		b.busy = true
		a.put(b)
	}
	clear(a.all[len(kept):])
	a.all, a.mark = kept, a.now
}

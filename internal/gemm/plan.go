package gemm

// A product is computed in parts: some columns of C and a span of steps. Per part b is
// packed, then blocks of C are computed. Which blocks there are depends on the number of
// workers; what is added to an element of C, and in which order, does not.
type part struct{ j, jEnd, p, pEnd int }

const (
	// packedMost is about how many elements of b are packed at once.
	packedMost = 1 << 20
	// blockMost is about how many rows a block has: with depth steps its rows of a stay in
	// a second-level cache.
	blockMost = 96
	// packPanels is how many panels of b a task packs.
	packPanels = 8
	// alongRowsMost is how many steps there are at most for tiles to go along the rows of C.
	// With so few, reading C takes as long as multiplying.
	alongRowsMost = 64
	// alongRowsB is about how many elements of b they pass for each: what stays in a
	// second-level cache.
	alongRowsB = 1 << 16
	// blocksEach is how many blocks a worker gets of a part, so that none waits long for the
	// last of another.
	blocksEach = 6
)

// plan says how a product is computed.
type plan[T number] struct {
	call[T]
	engine *engine[T]
	shape  *shape[T]
	// An operand is packed unless so few tiles use it that it is as well read in place.
	packA, packB bool
	// Where the rows of C are one block, its tasks pack the panels of b as they need them.
	packOnTheWay bool

	// Where there are few steps to all of C, tiles go along its rows rather than down its
	// columns.
	alongRows bool

	partCols, partSteps  int
	blockRows, blockCols int
	tasks                int
}

func makePlan[T number](e *engine[T], c call[T], workers int) plan[T] {
	s := &e.wide
	if c.n <= e.narrow.cols {
		s = &e.narrow
	}
	pl := plan[T]{call: c, engine: e, shape: s}
	pl.packB = c.b.trans || c.b.encoded != nil || c.m > 4*s.rows

	// As many blocks as keep the workers busy to the end, but no smaller ones than need be.
	most := max(1, blockMost/s.rows)
	pl.blockRows = most * s.rows
	if workers > 1 && c.m > pl.blockRows {
		pl.blockRows = min(most, max(4, c.m/s.rows/(blocksEach*workers))) * s.rows
	}
	pl.packOnTheWay = pl.packB && c.m <= pl.blockRows

	// Long spans make few phases.
	pl.partSteps, pl.partCols = roundUp(c.k, depth), roundUp(c.n, s.cols)
	if pl.packB && !pl.packOnTheWay {
		pl.partSteps = max(depth, min(pl.partSteps, packedMost/min(pl.partCols, 2048)/depth*depth))
		pl.partCols = min(pl.partCols, packedMost/pl.partSteps/s.cols*s.cols)
	}
	panels := ceil(min(c.n, pl.partCols), s.cols)
	across := 1
	if workers > 1 {
		across = ceil(blocksEach*workers, ceil(c.m, pl.blockRows))
	}
	pl.blockCols = ceil(panels, max(1, min(across, panels/4))) * s.cols
	if c.k <= alongRowsMost && pl.packB && !pl.packOnTheWay {
		pl.alongRows = true
		pl.blockCols = min(pl.blockCols, alongRowsB/c.k/s.cols*s.cols)
		// Low blocks cost nothing here: each row of tiles passes all of b anyway.
		pl.blockRows = min(pl.blockRows, max(1, c.m/s.rows/(4*blocksEach*workers))*s.rows)
	}
	pl.packA = pl.blockCols > 4*s.cols && !pl.alongRows

	for part := range pl.parts {
		pl.tasks += pl.packings(part) + pl.blocks(part)
	}
	return pl
}

// parts yields the parts, the steps of a sum in order.
func (pl *plan[T]) parts(yield func(part) bool) {
	for j := 0; j < pl.n; j += pl.partCols {
		for p := 0; p < pl.k; p += pl.partSteps {
			if !yield(part{j, min(j+pl.partCols, pl.n), p, min(p+pl.partSteps, pl.k)}) {
				return
			}
		}
	}
}

// packings returns how many tasks pack b for a part.
func (pl *plan[T]) packings(at part) int {
	if !pl.packB || pl.packOnTheWay {
		return 0
	}
	return ceil(at.pEnd-at.p, depth) * ceil(at.jEnd-at.j, packPanels*pl.shape.cols)
}

// blocks returns how many blocks a part has.
func (pl *plan[T]) blocks(at part) int {
	return ceil(pl.m, pl.blockRows) * ceil(at.jEnd-at.j, pl.blockCols)
}

// packedB returns how many elements the packed columns of b need.
func (pl *plan[T]) packedB() int {
	if !pl.packB || pl.packOnTheWay {
		return 0
	}
	return roundUp(min(pl.n, pl.partCols), pl.shape.cols) * min(pl.k, pl.partSteps)
}

// panelOfB returns where the packed panel of k steps begins that column j and step p begin.
// The panels of a part lie side by side for each depth steps.
func (pl *plan[T]) panelOfB(at part, j, p, k int) int {
	return (p-at.p)*roundUp(at.jEnd-at.j, pl.shape.cols) + (j-at.j)*k
}

func ceil(n, by int) int { return (n + by - 1) / by }

func roundUp(n, to int) int { return ceil(n, to) * to }

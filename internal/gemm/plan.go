package gemm

// A product is computed in parts: some rows and columns of C and a span of steps. Per part
// the operands are packed, then blocks of C are computed. Which blocks there are depends on
// the number of workers; what is added to an element of C, and in which order, does not.
type part struct{ i, iEnd, j, jEnd, p, pEnd int }

const (
	// packed is about how many elements of an operand are packed at once.
	packed = 1 << 20
	// blockRows is about how many rows a block has. A block of a with depth steps stays
	// in a second-level cache.
	blockRows = 96
	// packPanels is how many panels of b a task packs.
	packPanels = 8
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

	partRows, partCols, partSteps int
	blockRows, blockCols          int
	tasks                         int
}

func makePlan[T number](e *engine[T], c call[T], workers int) plan[T] {
	s := &e.wide
	if c.n <= e.narrow.cols {
		s = &e.narrow
	}
	pl := plan[T]{call: c, engine: e, shape: s}
	pl.packA = c.n > 4*s.cols
	pl.packB = c.b.trans || c.b.encoded != nil || c.m > 4*s.rows
	pl.blockRows = max(1, blockRows/s.rows) * s.rows
	pl.packOnTheWay = pl.packB && c.m <= pl.blockRows

	// Long spans make few phases, and wide parts pack a seldom.
	cols := roundUp(min(c.n, 2048), s.cols)
	pl.partSteps = roundUp(c.k, depth)
	if pl.packB && !pl.packOnTheWay {
		pl.partSteps = min(pl.partSteps, packed/cols/depth*depth)
	}
	if pl.packA {
		pl.partSteps = min(pl.partSteps, packed/min(c.m, 1024)/depth*depth)
	}
	pl.partSteps = max(pl.partSteps, depth)
	pl.partCols = roundUp(c.n, s.cols)
	if pl.packB && !pl.packOnTheWay {
		pl.partCols = min(pl.partCols, packed/pl.partSteps/s.cols*s.cols)
	}
	pl.partRows = roundUp(c.m, pl.blockRows)
	if pl.packA {
		pl.partRows = min(pl.partRows, max(1, packed/pl.partSteps/pl.blockRows)*pl.blockRows)
	}
	rows := min(c.m, pl.partRows)

	// As many blocks as keep the workers busy to the end, but no smaller ones than need be.
	panels := ceil(min(c.n, pl.partCols), s.cols)
	across := 1
	if pl.packOnTheWay || workers > 1 {
		across = ceil(8*workers, ceil(rows, pl.blockRows))
	}
	pl.blockCols = ceil(panels, max(1, min(across, panels/4))) * s.cols

	for part := range pl.parts {
		pl.tasks += pl.packings(part) + pl.blocks(part)
	}
	return pl
}

// parts yields the parts in order: b is packed once, and the steps of a sum are in order.
func (pl *plan[T]) parts(yield func(part) bool) {
	for j := 0; j < pl.n; j += pl.partCols {
		for p := 0; p < pl.k; p += pl.partSteps {
			for i := 0; i < pl.m; i += pl.partRows {
				at := part{
					i: i, iEnd: min(i+pl.partRows, pl.m),
					j: j, jEnd: min(j+pl.partCols, pl.n),
					p: p, pEnd: min(p+pl.partSteps, pl.k),
				}
				if !yield(at) {
					return
				}
			}
		}
	}
}

// packings returns how many tasks pack the operands of a part: first those of b.
func (pl *plan[T]) packings(at part) int { return pl.packingsOfB(at) + pl.packingsOfA(at) }

func (pl *plan[T]) packingsOfB(at part) int {
	cols, spans := at.jEnd-at.j, ceil(at.pEnd-at.p, depth)
	switch {
	case at.i > 0: // it is packed still
		return 0
	case pl.packB && !pl.packOnTheWay:
		return spans * ceil(cols, packPanels*pl.shape.cols)
	}
	return 0
}

func (pl *plan[T]) packingsOfA(at part) int {
	if !pl.packA || at.j > 0 && pl.partRows >= pl.m && pl.partSteps >= pl.k { // or packed still
		return 0
	}
	return ceil(at.pEnd-at.p, depth) * pl.blocksDown(at)
}

// blocks returns how many blocks a part has.
func (pl *plan[T]) blocks(at part) int {
	return pl.blocksDown(at) * ceil(at.jEnd-at.j, pl.blockCols)
}

// blocksDown returns how many rows of blocks a part has. What would be less than a tile at
// the end belongs to the last block.
func (pl *plan[T]) blocksDown(at part) int {
	rows := at.iEnd - at.i
	return max(1, (rows+pl.blockRows-pl.shape.rows)/pl.blockRows)
}

// rows returns the rows of the i-th row of blocks.
func (pl *plan[T]) rows(at part, i int) (from, to int) {
	from = at.i + i*pl.blockRows
	if i == pl.blocksDown(at)-1 {
		return from, at.iEnd
	}
	return from, from + pl.blockRows
}

func ceil(n, by int) int { return (n + by - 1) / by }

func roundUp(n, to int) int { return ceil(n, to) * to }

// The packed operands of a part lie side by side for each depth steps, panel by panel.

// aRoom returns how many elements the packed rows of a need.
func (pl *plan[T]) aRoom() int {
	if !pl.packA {
		return 0
	}
	return pl.aDepth() * ceil(min(pl.k, pl.partSteps), depth)
}

// aDepth returns how many elements depth steps of the rows of a part need, with room
// behind each panel for what an engine writes there.
func (pl *plan[T]) aDepth() int {
	rows := min(pl.m, pl.partRows)
	return depth*rows + slack*(rows/pl.shape.rows+8)
}

// aAt returns where the panel begins that row i of a part, a multiple of a tile's rows, and
// step p begin.
func (pl *plan[T]) aAt(at part, i, p, k int) int {
	return (p-at.p)/depth*pl.aDepth() + (i-at.i)/pl.shape.rows*(pl.shape.rows*k+slack)
}

// bRoom returns how many elements the packed columns of b need.
func (pl *plan[T]) bRoom() int {
	if !pl.packB || pl.packOnTheWay {
		return 0
	}
	return roundUp(min(pl.n, pl.partCols), pl.shape.cols) * min(pl.k, pl.partSteps)
}

// bAt returns where the panel begins that column j and step p begin, of k steps.
func (pl *plan[T]) bAt(at part, j, p, k int) int {
	return (p-at.p)*roundUp(at.jEnd-at.j, pl.shape.cols) + (j-at.j)*k
}

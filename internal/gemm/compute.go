package gemm

// pack does the i-th packing of a part.
func (j *job[T]) pack(h *hand[T], at part, i int) {
	if n := j.packingsOfB(at); i >= n {
		j.packRows(at, i-n)
		return
	}
	s := j.shape
	chunks := ceil(at.jEnd-at.j, packPanels*s.cols)
	p := at.p + i/chunks*depth
	k := min(depth, at.pEnd-p)
	col := at.j + i%chunks*packPanels*s.cols
	for end := min(col+packPanels*s.cols, at.jEnd); col < end; col += s.cols {
		to := j.bAt(at, col, p, k)
		j.b.packB(j.engine, j.bBuf[to:to+s.cols*k], h.buf, p, k, col, min(s.cols, at.jEnd-col), s.cols)
	}
}

// packRows packs the rows of a that a row of blocks has, for depth steps.
func (j *job[T]) packRows(at part, i int) {
	down := j.blocksDown(at)
	p := at.p + i/down*depth
	k := min(depth, at.pEnd-p)
	row, end := j.rows(at, i%down)
	to := j.aAt(at, row, p, k)
	for row < end {
		height := j.shape.height(end - row)
		room := height*k + slack
		j.a.packA(j.engine, j.aBuf[to:to+room], p, k, row, height)
		to += room
		row += height
	}
}

// compute adds to the i-th block of a part.
func (j *job[T]) compute(h *hand[T], at part, i int) {
	across := ceil(at.jEnd-at.j, j.blockCols)
	row, rowEnd := j.rows(at, i/across)
	col := at.j + i%across*j.blockCols
	colEnd := min(col+j.blockCols, at.jEnd)
	if at.p == 0 && j.beta != 0 {
		j.scale(row, rowEnd, col, colEnd)
	}
	s := j.shape
	for p := at.p; p < at.pEnd; p += depth {
		k := min(depth, at.pEnd-p)
		for c := col; c < colEnd; c += s.cols {
			width := min(s.cols, colEnd-c)
			var b []T
			step := s.cols
			switch {
			case j.packOnTheWay, !j.packB && width < s.cols:
				j.b.packB(j.engine, h.panel[:s.cols*k], h.buf, p, k, c, width, s.cols)
				b = h.panel
			case j.packB:
				b = j.bBuf[j.bAt(at, c, p, k):]
			default:
				b, step = j.b.plain[p*j.b.ld+c:], j.b.ld
			}
			j.column(h, at, row, rowEnd, p, k, c, width, &b[0], step)
		}
	}
}

// column adds the product of rows of a with a panel of b to c.
func (j *job[T]) column(h *hand[T], at part, row, end, p, k, col, width int, b *T, bStep int) {
	s := j.shape
	add := p > 0 || j.beta != 0
	var panel int
	if j.packA {
		panel = j.aAt(at, row, p, k)
	}
	for row < end {
		height, groups := s.groups(end - row)
		var a []T
		var aRow, aStep, aGroup int
		switch {
		case j.packA:
			a, aRow, aStep, aGroup = j.aBuf[panel:], 1, height, height*k+slack
			panel += groups * aGroup
		case j.a.trans:
			a, aRow, aStep, aGroup = j.a.plain[p*j.a.ld+row:], 1, j.a.ld, height
		default:
			a, aRow, aStep, aGroup = j.a.plain[row*j.a.ld+p:], j.a.ld, 1, height*j.a.ld
		}
		tile := s.tiles[height-1]
		out := j.c[row*j.ldc+col:]
		row += height * groups
		if width == s.cols {
			tile(k, groups, &a[0], aRow, aStep, aGroup, b, bStep, &out[0], j.ldc, j.alpha, add)
			continue
		}
		for g := range groups {
			corner := out[g*height*j.ldc:]
			for i := 0; add && i < height; i++ {
				copy(h.corner[i*s.cols:i*s.cols+width], corner[i*j.ldc:])
			}
			tile(k, 1, &a[g*aGroup], aRow, aStep, aGroup, b, bStep, &h.corner[0], s.cols, j.alpha, add)
			for i := range height {
				copy(corner[i*j.ldc:], h.corner[i*s.cols:i*s.cols+width])
			}
		}
	}
}

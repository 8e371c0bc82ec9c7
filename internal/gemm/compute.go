package gemm

// pack packs the i-th panels of b of a part.
func (j *job[T]) pack(h *hand[T], at part, i int) {
	s := j.shape
	chunks := ceil(at.jEnd-at.j, packPanels*s.cols)
	p := at.p + i/chunks*depth
	k := min(depth, at.pEnd-p)
	col := at.j + i%chunks*packPanels*s.cols
	for end := min(col+packPanels*s.cols, at.jEnd); col < end; col += s.cols {
		to := j.panelOfB(at, col, p, k)
		j.b.packB(j.engine, j.packed[to:to+s.cols*k], h.buf, p, k, col, min(s.cols, at.jEnd-col), s.cols)
	}
}

// compute adds to the i-th block of a part.
func (j *job[T]) compute(h *hand[T], at part, i int) {
	across := ceil(at.jEnd-at.j, j.blockCols)
	row := i / across * j.blockRows
	rowEnd := min(row+j.blockRows, j.m)
	col := at.j + i%across*j.blockCols
	colEnd := min(col+j.blockCols, at.jEnd)
	if at.p == 0 && j.beta != 0 {
		j.scale(row, rowEnd, col, colEnd)
	}
	for p := at.p; p < at.pEnd; p += depth {
		k := min(depth, at.pEnd-p)
		if j.alongRows {
			j.rows(h, at, row, rowEnd, p, k, col, colEnd)
			continue
		}
		if j.packA {
			j.packRows(h.rows, p, k, row, rowEnd)
		}
		for c := col; c < colEnd; c += j.shape.cols {
			width := min(j.shape.cols, colEnd-c)
			b, bStep := j.panel(h, at, p, k, c, width)
			j.column(h, row, rowEnd, p, k, c, width, b, bStep)
		}
	}
}

// panel returns the panel of columns [col, col+width) and steps [p, p+k) of b, and how far
// apart its steps are.
func (j *job[T]) panel(h *hand[T], at part, p, k, col, width int) ([]T, int) {
	cols := j.shape.cols
	switch {
	case j.packOnTheWay, !j.packB && width < cols:
		j.b.packB(j.engine, h.panel[:cols*k], h.buf, p, k, col, width, cols)
		return h.panel, cols
	case j.packB:
		return j.packed[j.panelOfB(at, col, p, k):], cols
	}
	return j.b.plain[p*j.b.ld+col:], j.b.ld
}

// packRows packs rows [row, end) and steps [p, p+k) of a, panel by panel.
func (j *job[T]) packRows(dst []T, p, k, row, end int) {
	for row < end {
		height, groups := j.shape.groups(end - row)
		room := height*k + slack
		if j.a.trans {
			// Step by step, as a row of a has the elements of all panels.
			for q := range k {
				j.engine.interleave(dst[q*height:groups*room], room, j.a.plain[(p+q)*j.a.ld+row:], height, groups, height, fetch*j.a.ld)
			}
		} else {
			for g := range groups {
				j.engine.transpose(dst[g*room:(g+1)*room], height, j.a.plain[(row+g*height)*j.a.ld+p:], j.a.ld, height, k)
			}
		}
		dst = dst[groups*room:]
		row += groups * height
	}
}

// column adds the product of rows of a with a panel of b to c.
func (j *job[T]) column(h *hand[T], row, end, p, k, col, width int, b []T, bStep int) {
	s := j.shape
	add := p > 0 || j.beta != 0
	panel := 0
	for row < end {
		height, groups := s.groups(end - row)
		a, aRow, aStep := j.a.at(row, p)
		aGroup := height * aRow
		if j.packA {
			a, aRow, aStep, aGroup = h.rows[panel:], 1, height, height*k+slack
			panel += groups * aGroup
		}
		out := j.c[row*j.ldc+col:]
		row += height * groups
		if width == s.cols {
			s.tiles[height-1](k, groups, &a[0], aRow, aStep, aGroup, &b[0], bStep, 0, &out[0], j.ldc, height*j.ldc, j.alpha, add)
			continue
		}
		for g := range groups {
			j.edge(h, height, width, k, a[g*aGroup:], aRow, aStep, b, bStep, out[g*height*j.ldc:], add)
		}
	}
}

// rows adds the product of rows of a with all panels of b to c, a few rows at a time: c, of
// which there is most where k is small, is passed through once and in the order in which
// it lies.
func (j *job[T]) rows(h *hand[T], at part, row, end, p, k, col, colEnd int) {
	s := j.shape
	add := p > 0 || j.beta != 0
	panels, width := (colEnd-col)/s.cols, (colEnd-col)%s.cols
	last := colEnd - width
	b, bStep := j.panel(h, at, p, k, col, s.cols)
	bGroup := k * s.cols
	var edge []T
	if width > 0 {
		edge, _ = j.panel(h, at, p, k, last, width)
	}
	for row < end {
		height := s.height(end - row)
		a, aRow, aStep := j.a.at(row, p)
		if panels > 0 {
			s.tiles[height-1](k, panels, &a[0], aRow, aStep, 0, &b[0], bStep, bGroup, &j.c[row*j.ldc+col], j.ldc, s.cols, j.alpha, add)
		}
		if width > 0 {
			j.edge(h, height, width, k, a, aRow, aStep, edge, s.cols, j.c[row*j.ldc+last:], add)
		}
		row += height
	}
}

// edge adds the product of height rows of a with a panel of b that hangs over the edge of
// c to the width columns there.
func (j *job[T]) edge(h *hand[T], height, width, k int, a []T, aRow, aStep int, b []T, bStep int, c []T, add bool) {
	cols := j.shape.cols
	for i := 0; add && i < height; i++ {
		copy(h.corner[i*cols:i*cols+width], c[i*j.ldc:])
	}
	j.shape.tiles[height-1](k, 1, &a[0], aRow, aStep, 0, &b[0], bStep, 0, &h.corner[0], cols, 0, j.alpha, add)
	for i := range height {
		copy(c[i*j.ldc:], h.corner[i*cols:i*cols+width])
	}
}

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
	s := j.shape
	for p := at.p; p < at.pEnd; p += depth {
		k := min(depth, at.pEnd-p)
		if j.packA {
			j.packRows(h.rows, p, k, row, rowEnd)
		}
		for c := col; c < colEnd; c += s.cols {
			width := min(s.cols, colEnd-c)
			var b []T
			step := s.cols
			switch {
			case j.packOnTheWay, !j.packB && width < s.cols:
				j.b.packB(j.engine, h.panel[:s.cols*k], h.buf, p, k, c, width, s.cols)
				b = h.panel
			case j.packB:
				b = j.packed[j.panelOfB(at, c, p, k):]
			default:
				b, step = j.b.plain[p*j.b.ld+c:], j.b.ld
			}
			j.column(h, row, rowEnd, p, k, c, width, &b[0], step)
		}
	}
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
func (j *job[T]) column(h *hand[T], row, end, p, k, col, width int, b *T, bStep int) {
	s := j.shape
	add := p > 0 || j.beta != 0
	panel := 0
	for row < end {
		height, groups := s.groups(end - row)
		var a []T
		var aRow, aStep, aGroup int
		switch {
		case j.packA:
			a, aRow, aStep, aGroup = h.rows[panel:], 1, height, height*k+slack
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
			edge := out[g*height*j.ldc:]
			for i := 0; add && i < height; i++ {
				copy(h.corner[i*s.cols:i*s.cols+width], edge[i*j.ldc:])
			}
			tile(k, 1, &a[g*aGroup], aRow, aStep, aGroup, b, bStep, &h.corner[0], s.cols, j.alpha, add)
			for i := range height {
				copy(edge[i*j.ldc:], h.corner[i*s.cols:i*s.cols+width])
			}
		}
	}
}

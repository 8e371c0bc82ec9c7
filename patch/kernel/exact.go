package kernel

// AddProduct adds scale · left·right to sums, row by row, in float64: the exact delta, to
// compare rounded results with.
func AddProduct[T Number](sums []float64, left, right []T, r, cols int, scale float64) {
	product, _, width := ops[float64]()
	rows := len(sums) / cols
	buf := pool64.Get().(*buffers[float64])
	defer pool64.Put(buf)
	tile := tileFor([]Update[float64]{{R: r}})
	buf.sum = grown(buf.sum, rowGroup*tile)
	buf.left, buf.right = grown(buf.left, 1), grown(buf.right, 1)
	buf.left[0], buf.right[0] = grown(buf.left[0], rows*r), grown(buf.right[0], tile*r)
	wide := make([]float64, max(rows*r, tile*r))
	for i, x := range left[:rows*r] {
		wide[i] = float64(x)
	}
	packLeft(buf.left[0], wide, rows, r)
	for c := 0; c < cols; c += tile {
		n := min(tile, cols-c)
		for k := range r {
			for i, x := range right[k*cols+c : k*cols+c+n] {
				wide[k*n+i] = float64(x)
			}
		}
		packRight(buf.right[0], wide, n, n, r, width)
		for row := 0; row < rows; row += rowGroup {
			group := min(rowGroup, rows-row)
			product(buf.sum, buf.left[0][row*r:], buf.right[0], tile, group, (n+width-1)/width, r, scale, false)
			for i := range group {
				out := sums[(row+i)*cols+c:][:n]
				for j, x := range buf.sum[i*tile:][:n] {
					out[j] += x
				}
			}
		}
	}
}

package formats

// BlockStep returns how many bytes of a tensor to read at a time: a multiple of its
// grain, and at most limit where the grain allows that. It is at least 1.
func BlockStep(t Tensor, limit int64) int64 {
	rows, cols := t.Matrix()
	g, ok := t.Data.(Grainer)
	if !ok || rows == 0 || cols == 0 {
		return max(1, limit)
	}
	grainRows, grainCols := g.Grain()
	rowBytes := t.Size() / rows
	if rowBytes > limit && grainRows == 1 && grainCols < cols {
		// A row alone is too large: cut it, at places that every row shares.
		piece := grainCols * t.DType.Bits() / 8
		if n := limit / piece * piece; n > 0 && rowBytes%n == 0 {
			return n
		}
	}
	return max(1, limit/(rowBytes*grainRows)) * grainRows * rowBytes
}

package kernel

import "sync"

// Columns are worked on in tiles: a tile's sums stay in the first-level cache, and the
// piece of the right factor that it needs in the second. That piece is packed into
// panels as wide as an engine's registers: the rows of a factor are often a power of two
// apart, so that what a panel needs of them would fall on few sets of a cache.
const (
	maxTile    = 1024
	minTile    = 64        // a multiple of every engine's panel
	rightBytes = 128 << 10 // of a right factor in a tile
	rowGroup   = 6         // rows that share a pass over a panel
)

func tileFor[T Number](updates []Update[T]) int {
	var x T
	size, r := 4, 1
	if _, ok := any(x).(float64); ok {
		size = 8
	}
	for _, u := range updates {
		r = max(r, u.R)
	}
	return min(maxTile, max(minTile, rightBytes/size/r&^(minTile-1)))
}

// buffers are what products needs for a call and keeps for the next one.
type buffers[T Number] struct {
	sum         []T
	left, right [][]T // of each update
}

var pool32, pool64 = sync.Pool{New: func() any { return new(buffers[float32]) }}, sync.Pool{New: func() any { return new(buffers[float64]) }}

func poolOf[T Number]() *sync.Pool {
	var x T
	if _, ok := any(x).(float64); ok {
		return &pool64
	}
	return &pool32
}

// grown returns a slice of length n, of the old one's memory where it is large enough.
func grown[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// products computes Δ = Σ scale · left·right for rows × cols elements and hands it out in
// pieces of a row: f may change delta and must not keep it.
func products[T Number](updates []Update[T], rows, cols int, f func(row, col int, delta []T)) {
	product, _, width := ops[T]()
	pool := poolOf[T]()
	buf := pool.Get().(*buffers[T])
	defer pool.Put(buf)
	tile := tileFor(updates)
	buf.sum = grown(buf.sum, rowGroup*tile)
	buf.left, buf.right = grown(buf.left, len(updates)), grown(buf.right, len(updates))
	for j, u := range updates {
		buf.left[j] = grown(buf.left[j], rows*u.R)
		packLeft(buf.left[j], u.Left, rows, u.R)
		buf.right[j] = grown(buf.right[j], tile*u.R)
	}
	for c := 0; c < cols; c += tile {
		n := min(tile, cols-c)
		panels := (n + width - 1) / width
		for j, u := range updates {
			packRight(buf.right[j], u.Right[c:], cols, n, u.R, width)
		}
		for row := 0; row < rows; row += rowGroup {
			group := min(rowGroup, rows-row)
			for j, u := range updates {
				product(buf.sum, buf.left[j][row*u.R:], buf.right[j], tile, group, panels, u.R, u.Scale, j > 0)
			}
			for i := range group {
				f(row+i, c, buf.sum[i*tile:i*tile+n])
			}
		}
	}
}

// packLeft lays out rows of r coefficients so that those of a group of rows for one k lie
// together: group after group, each as (r, rows of the group).
func packLeft[T Number](dst, left []T, rows, r int) {
	for row := 0; row < rows; row += rowGroup {
		group := min(rowGroup, rows-row)
		out := dst[row*r : (row+group)*r]
		for i := range group {
			for k, x := range left[(row+i)*r : (row+i+1)*r] {
				out[k*group+i] = x
			}
		}
	}
}

// packRight lays out the first n columns of a factor of r rows, stride apart, in panels:
// each as (r, width), the last one filled up with zeros.
func packRight[T Number](dst, right []T, stride, n, r, width int) {
	for c := 0; c < n; c += width {
		m := min(width, n-c)
		for k := range r {
			out := dst[c*r+k*width : c*r+(k+1)*width]
			copy(out, right[k*stride+c:k*stride+c+m])
			clear(out[m:])
		}
	}
}
